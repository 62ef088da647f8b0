"""Evaluation: whole episodes on held-out instances, without learning and without side effects."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from cepcli.agents.control_policy import ControlPolicy
from cepcli.agents.parts import Parts, Tracker
from cepcli.agents.policy import Decision, Policy
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.rl.control_episodes import ControlTracker
from cepcli.rl.episodes import EpisodeTracker
from cepcli.seeding import stream_seed, torch_generator
from cepcli.types import TextState

#: Told every decision: number of the episode, where it was taken, and what it was made from.
Watch = Callable[[int, TextState, Decision], None]


class Evaluation(NamedTuple):
    """Results over episodes, and what the prior cost meanwhile.

    Attributes:
        episodes: how many.
        successes: whether each was solved; None in a world where nothing can be.
        returns: of each, undiscounted.
        lengths: of each, in steps.
        decisions: symbolic actions chosen, over all.
        telemetry: how the prior was answered.
    """

    episodes: int
    successes: list[bool] | None
    returns: list[float]
    lengths: list[int]
    decisions: int
    telemetry: CacheTelemetry

    @property
    def scores(self) -> Sequence[float]:
        """What to compare episodes by: their success, or their return where there is none."""
        return self.returns if self.successes is None else self.successes

    def summary(self) -> dict[str, Any]:
        """As in `summary.json`: success rate (or None), mean return and length, queries."""
        return {
            "episodes": self.episodes,
            "success_rate": None if self.successes is None else float(np.mean(self.successes)),
            "return_mean": float(np.mean(self.returns)),
            "length_mean": float(np.mean(self.lengths)),
            "queries": self.telemetry.summary()["queries"]["total"],
        }


def unwatched(episode: int, state: TextState, decision: Decision) -> None:
    """Nobody looks on."""


def evaluate(
    parts: Parts,
    episodes: int,
    tau: float,
    check_interrupt: Callable[[], None] = lambda: None,
    watch: Watch = unwatched,
) -> Evaluation:
    """Play `episodes` held-out episodes; every call plays the same ones with the same noise.

    Episodes run side by side in `eval_lanes` environments, so that one call to the LLM scores a
    state of each. An episode has its own seeds: neither lanes nor the other episodes matter to it.
    """
    telemetry = CacheTelemetry(parts.config.cache.hit_rate_decay)
    policy = parts.eval_policy(telemetry)
    start = type(parts.tracker)
    waiting = list(range(episodes))
    idle = list(parts.eval_envs)
    running: list[_Lane] = []
    done: dict[int, Tracker] = {}
    decisions = 0
    while waiting or running:
        while waiting and idle:
            running.append(_started(start, waiting.pop(0), idle.pop(), parts.config.seed))
        check_interrupt()
        ended, chosen = _step_all(parts, policy, tau, running, watch)
        decisions += chosen
        for lane in ended:
            done[lane.episode] = lane.tracker
            idle.append(lane.tracker.env)
        running = [lane for lane in running if lane not in ended]
    trackers = [done[episode] for episode in range(episodes)]
    return Evaluation(
        episodes,
        [tracker.success for tracker in trackers] if parts.tracker.solvable else None,
        [tracker.episode_return for tracker in trackers],
        [len(tracker.actions) for tracker in trackers],
        decisions,
        telemetry,
    )


class _Lane(NamedTuple):
    """One running evaluation episode."""

    episode: int
    tracker: Tracker
    noise: torch.Generator


def _started(start: Callable[[Any, int], Tracker], episode: int, env: Any, seed: int) -> _Lane:
    stream = f"eval/{episode}"
    tracker = start(env, stream_seed(seed, stream) % 2**31)
    return _Lane(episode, tracker, torch_generator(seed, stream))


def _step_all(
    parts: Parts, policy: Policy | ControlPolicy, tau: float, running: list[_Lane], watch: Watch
) -> tuple[list[_Lane], int]:
    """One step in every lane: the lanes whose episode ended, and how many decisions were taken."""
    if isinstance(policy, ControlPolicy):
        actions, chosen = _controls(parts, policy, tau, running, watch)
    else:
        actions, chosen = _commands(parts, policy, tau, running, watch), len(running)
    ended = []
    for lane, action in zip(running, actions, strict=True):
        _, terminated, truncated = lane.tracker.step(action)
        if terminated or truncated:
            ended.append(lane)
    return ended, chosen


def _commands(
    parts: Parts, policy: Policy, tau: float, running: list[_Lane], watch: Watch
) -> list[Any]:
    trackers = [lane.tracker for lane in running if isinstance(lane.tracker, EpisodeTracker)]
    if parts.config.agent == "expert":
        return [tracker.env.expert_action() for tracker in trackers]
    states = [tracker.state for tracker in trackers]
    noise = [lane.noise for lane in running]
    decisions = policy.decide_many(states, tau, noise, greedy=parts.config.eval_greedy)
    for lane, state, decision in zip(running, states, decisions, strict=True):
        watch(lane.episode, state, decision)
    return [s.actions[d.action] for s, d in zip(states, decisions, strict=True)]


def _controls(
    parts: Parts, policy: ControlPolicy, tau: float, running: list[_Lane], watch: Watch
) -> tuple[list[Any], int]:
    """The mean controls, and how many symbols were chosen for them."""
    trackers = [lane.tracker for lane in running if isinstance(lane.tracker, ControlTracker)]
    for tracker in trackers:
        if tracker.held >= parts.config.sac.symbol_steps:
            tracker.release()
    noise = [lane.noise for lane in running]
    chosen = policy.choose(trackers, tau, noise, greedy=parts.config.eval_greedy)
    for lane, choice in zip(running, chosen, strict=True):
        if choice is not None:
            watch(lane.episode, *choice)
    controls = [policy.control(tracker, None) for tracker in trackers]
    return controls, sum(decision is not None for decision in chosen)
