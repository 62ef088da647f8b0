"""Held-out episodes side by side, so that one call to whoever decides is about a state of each."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from cepcli.envs.base import SymbolicEnv
from cepcli.envs.control import ControlEnv
from cepcli.envs.control_episodes import ControlTracker
from cepcli.envs.episodes import EpisodeTracker
from cepcli.errors import EnvError
from cepcli.seeding import stream_seed, torch_generator

#: Follows the episodes of an environment of text or of control.
Tracker = EpisodeTracker | ControlTracker


class Lane(NamedTuple):
    """One running episode: its number, where it stands, and a generator of its own."""

    episode: int
    tracker: Tracker
    noise: torch.Generator


def play_lanes(
    envs: Sequence[SymbolicEnv] | Sequence[ControlEnv],
    episodes: int,
    seed: int,
    act: Callable[[list[Lane]], Sequence[Any]],
    before_round: Callable[[int], None] = lambda done: None,
) -> list[Tracker]:
    """Play `episodes` episodes, as many at once as there are environments; where each ended.

    Every call plays the same ones with the same noise: an episode has its own seeds, and neither
    lanes nor the other episodes matter to it.

    Args:
        envs: the environments, one a lane.
        episodes: how many.
        seed: of the run that is evaluated.
        act: the actions of the running lanes, in their order.
        before_round: told how many episodes have ended; what it raises ends all of them.
    """
    waiting, idle = list(range(episodes)), list(envs)
    running: list[Lane] = []
    done: dict[int, Tracker] = {}
    while waiting or running:
        while waiting and idle:
            running.append(_started(waiting.pop(0), idle.pop(), seed))
        before_round(len(done))
        ended = []
        for lane, action in zip(running, act(running), strict=True):
            _, terminated, truncated = lane.tracker.step(action)
            if terminated or truncated:
                ended.append(lane)
        for lane in ended:
            done[lane.episode] = lane.tracker
            idle.append(lane.tracker.env)
        running = [lane for lane in running if lane not in ended]
    return [done[episode] for episode in range(episodes)]


def _started(episode: int, env: SymbolicEnv | ControlEnv, seed: int) -> Lane:
    stream = f"eval/{episode}"
    first = stream_seed(seed, stream) % 2**31
    controlled = isinstance(env, ControlEnv)
    tracker = ControlTracker(env, first) if controlled else EpisodeTracker(env, first)
    return Lane(episode, tracker, torch_generator(seed, stream))


def stopped_in_evaluation(step: int, error: EnvError) -> EnvError:
    """What a training run says of an environment that failed in its evaluation at that step."""
    kept = "The checkpoint holds the state before it; `cep runs resume` tries it again."
    return EnvError(
        f"Training stopped in the evaluation at step {step}: {error.message}",
        f"{kept} {error.hint}".rstrip(),
    )
