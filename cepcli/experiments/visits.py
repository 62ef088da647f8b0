"""Where a finished run goes on held-out instances, asking for every decision."""

from collections import deque
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from cepcli.agents.control_policy import Describer
from cepcli.agents.posterior_q import Choice
from cepcli.errors import ConfigError
from cepcli.listener import Notify
from cepcli.posterior import kl_divergence, log_posterior, span
from cepcli.runs.engine import finished_run
from cepcli.runs.online import OnlineRun
from cepcli.types import TextState
from cepcli.workspace.artifacts import Workspace


class Visit(NamedTuple):
    """One decision on a held-out instance.

    Attributes:
        episode: its number.
        state: as the prior reads it.
        observation: what was described so; None in a world of text.
        scores: the fresh prior's, one per action.
        log_prior: the same as log-probabilities.
        q_values: Q as the posterior took it; zeros where nothing values actions.
    """

    episode: int
    state: TextState
    observation: Float[ndarray, " features"] | None
    scores: Float[ndarray, " actions"]
    log_prior: Float[ndarray, " actions"]
    q_values: Float[ndarray, " actions"]

    def errors(self, log_cached: Float[ndarray, " actions"], tau: float) -> "PriorErrors":
        """What another prior of the state would do to the posterior at this Q."""
        cached, fresh = torch.from_numpy(log_cached), torch.from_numpy(self.log_prior)
        q_values = torch.from_numpy(self.q_values)
        posteriors = (log_posterior(prior, q_values, tau) for prior in (cached, fresh))
        return PriorErrors(
            gap=float((cached - fresh).abs().max()),
            span=float(span(cached, fresh)),
            kl=float(kl_divergence(cached, fresh)),
            posterior_kl=float(kl_divergence(*posteriors)),
        )


class PriorErrors(NamedTuple):
    """How far a cached prior is from the fresh one.

    Attributes:
        gap: ‖log p̂ − log p‖∞.
        span: of log p̂ − log p.
        kl: KL(p̂‖p), nats.
        posterior_kl: KL(π̂‖π), nats.
    """

    gap: float
    span: float
    kl: float
    posterior_kl: float


class Visits(NamedTuple):
    """The decisions, the temperature at which they were taken, and the run's parts."""

    decisions: list[Visit]
    temperature: float
    parts: OnlineRun


class _Recording:
    """A describer that remembers what it described."""

    def __init__(self, inner: Describer) -> None:
        self.inner = inner
        self.described: deque[ndarray] = deque()

    @property
    def sha256(self) -> str:
        return self.inner.sha256

    def text(self, observation: Float[ndarray, " features"]) -> str:
        self.described.append(np.array(observation))
        return self.inner.text(observation)


def heldout_visits(workspace: Workspace, run: str, episodes: int, notify: Notify) -> Visits:
    """Play held-out episodes with a finished run; every prior is the LLM's own answer.

    Raises:
        ArtifactError: if the run is not finished, or a record alone.
        ConfigError: if it asks no LLM, or shuffles what that says.
    """
    parts, progress = finished_run(workspace, run, notify)
    if parts.cache is None or parts.config.shuffled_prior:
        why = "shuffles its prior" if parts.config.shuffled_prior else "asks no LLM"
        raise ConfigError(
            f"The run `{run}` {why}, so there is no fresh prior to compare with.",
            f"Name a run with a --prior of its own: cep runs list{workspace.option}",
        )
    recording = None if parts.describer is None else _Recording(parts.describer)
    if recording is not None:
        parts.describer = recording
    parts.switch_cache_off()
    found: list[Visit] = []

    def watch(episode: int, state: TextState, decision: Choice) -> None:
        observation = recording.described.popleft() if recording is not None else None
        q_values = decision.q_values or [0.0] * len(state.actions)
        answer = decision.answer
        found.append(
            Visit(episode, state, observation, answer.scores, answer.log_prior, np.array(q_values))
        )

    tau = parts.temperature(progress)
    notify(f"Playing {episodes} held-out episodes with `{run}`, asking for every decision")
    parts.evaluate(progress, episodes, watch=watch)
    if recording is not None:
        parts.describer = recording.inner
    return Visits(found, tau, parts)
