"""Held-out episodes with what an offline run has learned: the same ones as `cep eval` plays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from cepcli.cache.telemetry import COSTS, CacheTelemetry
from cepcli.datasets.text_batches import TextStates
from cepcli.envs.control_episodes import ControlTracker
from cepcli.envs.episodes import EpisodeTracker
from cepcli.envs.parallel_episodes import Lane, play_lanes
from cepcli.errors import ConfigError
from cepcli.runs.offline_parts import ControlParts, EvalEnvs, Parts, TextParts
from cepcli.types import TextState

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
            **self.telemetry.cost(),
        }


#: Of a run that evaluates nowhere.
NOTHING_PLAYED: dict[str, Any] = {
    "episodes": 0, "success_rate": None, "return_mean": None, "normalised_score": None,
    "length_mean": None, **dict.fromkeys(COSTS, 0),
}  # fmt: skip


def play(
    parts: Parts,
    envs: EvalEnvs,
    episodes: int,
    before_round: Callable[[int], None] = lambda done: None,
) -> Played:
    """Play `episodes` held-out episodes, side by side in `envs`; every call plays the same ones.

    Raises:
        ConfigError: if what was learned is no finite numbers any more.
    """
    telemetry = CacheTelemetry(_NO_HITS)

    def act(lanes: list[Lane]) -> list[Any]:
        if isinstance(parts, ControlParts):
            return _controls(parts, lanes)
        return _commands(parts, lanes, telemetry)

    trackers = play_lanes(envs, episodes, parts.config.seed, act, before_round)
    returns = [tracker.episode_return for tracker in trackers]
    found = parts.data.normalised(np.array(returns))
    return Played(
        returns,
        [len(tracker.actions) for tracker in trackers],
        [tracker.success for tracker in trackers] if trackers[0].solvable else None,
        None if found is None else found.tolist(),
        telemetry,
    )


def _controls(parts: ControlParts, lanes: list[Lane]) -> list[Float[ndarray, " controls"]]:
    controls = []
    for lane in lanes:
        assert isinstance(lane.tracker, ControlTracker)
        control = parts.learner.control(parts.batches.standardised(lane.tracker.observation))
        if not np.isfinite(control).all():
            raise diverged("controls")
        controls.append(control)
    return controls


def _commands(parts: TextParts, lanes: list[Lane], telemetry: CacheTelemetry) -> list[str]:
    """The best action of each lane; the prior is asked about all of them at once."""
    states = [lane.tracker.state for lane in lanes if isinstance(lane.tracker, EpisodeTracker)]
    log_priors = [np.full(len(state.actions), -np.log(len(state.actions))) for state in states]
    if parts.prior is not None:
        answers = parts.prior.log_probs(states)
        for answer in answers:
            telemetry.record(answer)
        log_priors = [answer.log_prior for answer in answers]
    return [
        state.actions[_best(parts, state, log_prior)]
        for state, log_prior in zip(states, log_priors, strict=True)
    ]


def _best(parts: TextParts, state: TextState, log_prior: Float[ndarray, " actions"]) -> int:
    """The action of the highest score; of one state at a time, so that no lane changes another."""
    device = parts.config.device

    def embedded(*texts: str) -> torch.Tensor:
        return torch.from_numpy(parts.encoder.encode_many(texts)).to(device)

    scores = parts.learner.scores(
        TextStates(
            embedded(state.goal),
            embedded(state.text),
            embedded(*state.actions)[None],
            torch.from_numpy(log_prior.astype(np.float32))[None].to(device),
        )
    )[0]
    if scores.isnan().any():
        raise diverged("values")
    return int(scores.argmax())


def diverged(what: str) -> ConfigError:
    """What there is to say of a learner whose numbers are not finite."""
    return ConfigError(
        f"The learner diverged: its {what} are no finite numbers.",
        "Learn again with smaller rates: control.critic_rate and control.actor_rate, or "
        "text.learning_rate.",
    )
