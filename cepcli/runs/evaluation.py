"""Evaluation: whole episodes on held-out instances, without learning and without side effects."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cepcli.agents.control_policy import ControlPolicy
from cepcli.agents.policy import Decision, Policy
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.envs.control_episodes import ControlTracker
from cepcli.envs.episodes import EpisodeTracker
from cepcli.envs.parallel_episodes import Lane, play_lanes
from cepcli.runs.parts import Parts
from cepcli.types import TextState

#: Told before every round how many episodes have ended and how many queries there were.
OnRound = Callable[[int, int], None]
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
        """As in `summary.json`: success rate (or None), mean return and length, and the cost."""
        return {
            "episodes": self.episodes,
            "success_rate": None if self.successes is None else float(np.mean(self.successes)),
            "return_mean": float(np.mean(self.returns)),
            "length_mean": float(np.mean(self.lengths)),
            "decisions": self.decisions,
            **self.telemetry.cost(),
        }


def unwatched(episode: int, state: TextState, decision: Decision) -> None:
    """Nobody looks on."""


def unheard(done: int, queries: int) -> None:
    """Nobody asks how far it is."""


def evaluate(
    parts: Parts,
    episodes: int,
    tau: float,
    check_interrupt: Callable[[], None] = lambda: None,
    watch: Watch = unwatched,
    on_round: OnRound = unheard,
) -> Evaluation:
    """Play `episodes` held-out episodes; every call plays the same ones with the same noise.

    Episodes run side by side in `eval_lanes` environments, so that one call to the LLM scores a
    state of each. An episode has its own seeds: neither lanes nor the other episodes matter to it.
    What the prior costs meanwhile is counted apart from what it costs in training.
    """
    telemetry = CacheTelemetry(parts.config.cache.hit_rate_decay)
    policy = parts.eval_policy(telemetry)
    decisions = 0

    def act(lanes: list[Lane]) -> list[Any]:
        nonlocal decisions
        if isinstance(policy, ControlPolicy):
            actions, chosen = _controls(parts, policy, tau, lanes, watch)
        else:
            actions, chosen = _commands(parts, policy, tau, lanes, watch), len(lanes)
        decisions += chosen
        return actions

    def before_round(done: int) -> None:
        check_interrupt()
        on_round(done, telemetry.queries)

    trackers = play_lanes(parts.eval_envs, episodes, parts.config.seed, act, before_round)
    return Evaluation(
        episodes,
        [tracker.success for tracker in trackers] if parts.tracker.solvable else None,
        [tracker.episode_return for tracker in trackers],
        [len(tracker.actions) for tracker in trackers],
        decisions,
        telemetry,
    )


def _commands(
    parts: Parts, policy: Policy, tau: float, running: list[Lane], watch: Watch
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
    parts: Parts, policy: ControlPolicy, tau: float, running: list[Lane], watch: Watch
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
