"""Held-out episodes with what an offline run has learned: the same ones as `cep eval` plays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from cepcli.cache.telemetry import CacheTelemetry
from cepcli.envs.control import ControlEnv
from cepcli.errors import ConfigError
from cepcli.offline.parts import ControlParts, Parts, TextParts
from cepcli.offline.text_batches import TextStates
from cepcli.rl.control_episodes import ControlTracker
from cepcli.rl.episodes import EpisodeTracker
from cepcli.seeding import stream_seed

_NO_HITS = 0.99  # decay of a running hit rate that nobody reads


class Played(NamedTuple):
    """How held-out episodes went, and what the prior cost meanwhile."""

    returns: list[float]
    lengths: list[int]
    successes: list[bool] | None
    normalised: list[float] | None
    telemetry: CacheTelemetry

    def summary(self) -> dict[str, Any]:
        """As in `summary.json`."""
        return {
            "episodes": len(self.returns),
            "success_rate": None if self.successes is None else float(np.mean(self.successes)),
            "return_mean": float(np.mean(self.returns)),
            "normalised_score": None
            if self.normalised is None
            else float(np.mean(self.normalised)),
            "length_mean": float(np.mean(self.lengths)),
            "queries": self.telemetry.queries,
        }


#: Of a run that evaluates nowhere.
NOTHING_PLAYED: dict[str, Any] = {
    "episodes": 0, "success_rate": None, "return_mean": None, "normalised_score": None,
    "length_mean": None, "queries": 0,
}  # fmt: skip


def play(
    parts: Parts, env: Any, episodes: int, check_interrupt: Callable[[], None] = lambda: None
) -> Played:
    """Play `episodes` held-out episodes; every call plays the same ones, without noise.

    Raises:
        ConfigError: if what was learned is no finite numbers any more.
    """
    telemetry = CacheTelemetry(_NO_HITS)
    returns, lengths, successes = [], [], []
    for episode in range(episodes):
        seed = stream_seed(parts.config.seed, f"eval/{episode}") % 2**31
        if isinstance(parts, ControlParts):
            tracker: Any = _controlled(parts, env, seed, check_interrupt)
        else:
            tracker = _spoken(parts, env, seed, telemetry, check_interrupt)
        returns.append(tracker.episode_return)
        lengths.append(len(tracker.actions))
        successes.append(tracker.success)
    solvable = not isinstance(env, ControlEnv) or env.control_spec.solvable
    found = parts.data.normalised(np.array(returns))
    scores = None if found is None else found.tolist()
    return Played(returns, lengths, successes if solvable else None, scores, telemetry)


def _controlled(
    parts: ControlParts, env: ControlEnv, seed: int, check_interrupt: Callable[[], None]
) -> ControlTracker:
    tracker, ended = ControlTracker(env, seed), False
    while not ended:
        check_interrupt()
        observation = parts.batches.standardised(tracker.observation)
        control = parts.learner.control(observation)
        if not np.isfinite(control).all():
            raise diverged("controls")
        _, terminated, truncated = tracker.step(control)
        ended = terminated or truncated
    return tracker


def _spoken(
    parts: TextParts,
    env: Any,
    seed: int,
    telemetry: CacheTelemetry,
    check_interrupt: Callable[[], None],
) -> EpisodeTracker:
    tracker, ended = EpisodeTracker(env, seed), False
    while not ended:
        check_interrupt()
        scores = parts.learner.scores(_read(parts, tracker, telemetry))[0]
        if scores.isnan().any():
            raise diverged("values")
        action = tracker.state.actions[int(scores.argmax())]
        _, terminated, truncated = tracker.step(action)
        ended = terminated or truncated
    return tracker


def _read(parts: TextParts, tracker: EpisodeTracker, telemetry: CacheTelemetry) -> TextStates:
    """The state as the networks take it, with the prior where one is asked."""
    state = tracker.state
    log_prior = np.full(len(state.actions), -np.log(len(state.actions)))
    if parts.prior is not None:
        [answer] = parts.prior.log_probs([state])
        telemetry.record(answer)
        log_prior = answer.log_prior
    device = parts.config.device

    def embedded(*texts: str) -> torch.Tensor:
        return torch.from_numpy(parts.encoder.encode_many(texts)).to(device)

    return TextStates(
        embedded(state.goal),
        embedded(state.text),
        embedded(*state.actions)[None],
        torch.from_numpy(log_prior.astype(np.float32))[None].to(device),
    )


def diverged(what: str) -> ConfigError:
    """What there is to say of a learner whose numbers are not finite."""
    return ConfigError(
        f"The learner diverged: its {what} are no finite numbers.",
        "Learn again with smaller rates: control.critic_rate and control.actor_rate, or "
        "text.learning_rate.",
    )
