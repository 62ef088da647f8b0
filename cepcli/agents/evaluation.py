"""Evaluation: whole episodes on held-out instances, without learning and without side effects."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from cepcli.agents.parts import Parts
from cepcli.agents.policy import Policy
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.envs.base import SymbolicEnv
from cepcli.rl.episodes import EpisodeTracker
from cepcli.seeding import stream_seed, torch_generator


class Evaluation(NamedTuple):
    """Results over episodes, and what the prior cost meanwhile."""

    episodes: int
    successes: list[bool]
    returns: list[float]
    lengths: list[int]
    telemetry: CacheTelemetry

    def summary(self) -> dict[str, Any]:
        """As in `summary.json`: success rate, mean return and length, queries."""
        return {
            "episodes": self.episodes,
            "success_rate": float(np.mean(self.successes)),
            "return_mean": float(np.mean(self.returns)),
            "length_mean": float(np.mean(self.lengths)),
            "queries": self.telemetry.summary()["queries"]["total"],
        }


def evaluate(
    parts: Parts, episodes: int, tau: float, check_interrupt: Callable[[], None] = lambda: None
) -> Evaluation:
    """Play `episodes` held-out episodes; every call plays the same ones with the same noise.

    Episodes run side by side in `eval_lanes` environments, so that one call to the LLM scores a
    state of each. An episode has its own seeds: neither lanes nor the other episodes matter to it.
    """
    telemetry = CacheTelemetry(parts.config.cache.hit_rate_decay)
    policy = parts.eval_policy(telemetry)
    waiting = list(range(episodes))
    idle = list(parts.eval_envs)
    running: list[_Lane] = []
    done: dict[int, EpisodeTracker] = {}
    while waiting or running:
        while waiting and idle:
            running.append(_Lane.start(waiting.pop(0), idle.pop(), parts.config.seed))
        check_interrupt()
        ended = _step_all(parts, policy, tau, running)
        for lane in ended:
            done[lane.episode] = lane.tracker
            idle.append(lane.tracker.env)
        running = [lane for lane in running if lane not in ended]
    trackers = [done[episode] for episode in range(episodes)]
    return Evaluation(
        episodes,
        [tracker.success for tracker in trackers],
        [tracker.episode_return for tracker in trackers],
        [len(tracker.actions) for tracker in trackers],
        telemetry,
    )


class _Lane(NamedTuple):
    """One running evaluation episode."""

    episode: int
    tracker: EpisodeTracker
    noise: torch.Generator

    @classmethod
    def start(cls, episode: int, env: SymbolicEnv, seed: int) -> "_Lane":
        stream = f"eval/{episode}"
        tracker = EpisodeTracker(env, stream_seed(seed, stream) % 2**31)
        return cls(episode, tracker, torch_generator(seed, stream))


def _step_all(parts: Parts, policy: Policy, tau: float, running: list[_Lane]) -> list[_Lane]:
    """One decision in every lane; returns the lanes whose episode ended."""
    if parts.config.agent == "expert":
        actions = [lane.tracker.env.expert_action() for lane in running]
    else:
        states = [lane.tracker.state for lane in running]
        noise = [lane.noise for lane in running]
        decisions = policy.decide_many(states, tau, noise, greedy=parts.config.eval_greedy)
        actions = [s.actions[d.action] for s, d in zip(states, decisions, strict=True)]
    ended = []
    for lane, action in zip(running, actions, strict=True):
        _, terminated, truncated = lane.tracker.step(action)
        if terminated or truncated:
            ended.append(lane)
    return ended
