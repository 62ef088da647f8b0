"""Evaluation: whole episodes on held-out instances, without learning and without side effects."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from cepcli.agents.parts import Parts
from cepcli.cache.telemetry import CacheTelemetry
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
    """Play `episodes` held-out episodes; every call plays the same ones with the same noise."""
    config = parts.config
    telemetry = CacheTelemetry(config.cache.hit_rate_decay)
    policy = parts.eval_policy(telemetry)
    noise = torch_generator(config.seed, "eval-acting")
    tracker = EpisodeTracker(parts.eval_env, stream_seed(config.seed, "eval-env") % 2**31)
    result = Evaluation(episodes, [], [], [], telemetry)
    for episode in range(episodes):
        if episode:
            tracker.next_episode()
        done = False
        while not done:
            check_interrupt()
            if config.agent == "expert":
                action = tracker.env.expert_action()
            else:
                decision = policy.decide(tracker.state, tau, noise, greedy=config.eval_greedy)
                action = tracker.state.actions[decision.action]
            _, terminated, truncated = tracker.step(action)
            done = terminated or truncated
        result.successes.append(tracker.success)
        result.returns.append(tracker.episode_return)
        result.lengths.append(len(tracker.actions))
    return result
