"""How `sac` and `hybrid-sac` decide: a symbol from the posterior, then a control that knows it.

The prior is asked only where a symbol is chosen, and with a vocabulary of one word never.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from cepcli.agents.config import PosteriorConfig
from cepcli.agents.hybrid_sac import HybridSAC
from cepcli.agents.networks import diverged
from cepcli.agents.posterior_q import Choice, choose
from cepcli.envs.episodes import ControlTracker
from cepcli.prior.base import Prior, PriorAnswer
from cepcli.types import TextState


class Describer(Protocol):
    """Turns observations into the text that the prior reads.

    Attributes:
        sha256: says which text for which observation.
    """

    @property
    def sha256(self) -> str:
        """See `Describer`."""
        ...

    def text(self, observation: Float[ndarray, " features"]) -> str:
        """The description of a state."""
        ...


class Undescribed:
    """No words for any state: enough for a prior that reads none."""

    sha256 = ""

    def text(self, observation: Float[ndarray, " features"]) -> str:
        """Nothing."""
        return ""


class ControlPolicy:
    """Decides from a prior over symbols and a learner's values of them.

    Args:
        config: how prior and values become a posterior.
        prior: asked where a symbol is chosen.
        describer: φ, from observations to the prior's text.
        learner: values symbols, gives controls.
        symbolic: whether there are symbols to choose among; plain `sac` has none.
    """

    def __init__(
        self,
        config: PosteriorConfig,
        prior: Prior,
        describer: Describer,
        learner: HybridSAC,
        *,
        symbolic: bool,
    ) -> None:
        self._config = config
        self._prior = prior
        self._describer = describer
        self._learner = learner
        self._symbolic = symbolic

    def state(self, tracker: ControlTracker) -> TextState:
        """Where an episode stands, as the prior reads it."""
        spec = tracker.env.control_spec
        text = self._describer.text(tracker.observation)
        return TextState(tracker.goal, text, tuple(spec.actions))

    def choose(
        self,
        trackers: Sequence[ControlTracker],
        tau: float,
        generators: Sequence[torch.Generator],
        *,
        greedy: bool = False,
    ) -> list[tuple[TextState, Choice] | None]:
        """Choose symbols where none is held, asking the prior once for all; None where one is."""
        if not self._symbolic:
            for tracker in trackers:
                tracker.symbol = 0
        due = [tracker for tracker in trackers if tracker.symbol is None]
        states = [self.state(tracker) for tracker in due]
        answers = iter(zip(states, self._prior.log_probs(states) if due else [], strict=True))
        chosen: list[tuple[TextState, Choice] | None] = []
        for tracker, generator in zip(trackers, generators, strict=True):
            if tracker.symbol is not None:
                chosen.append(None)
                continue
            state, answer = next(answers)
            decision = self._decide(tracker, answer, tau, generator, greedy=greedy)
            tracker.choose(decision.action)
            chosen.append((state, decision))
        return chosen

    def _decide(
        self,
        tracker: ControlTracker,
        answer: PriorAnswer,
        tau: float,
        generator: torch.Generator,
        *,
        greedy: bool,
    ) -> Choice:
        noise = None if greedy else generator
        values = self._learner.symbol_values(tracker.observation, tracker.nominals(), noise)
        if not values.isfinite().all():
            raise diverged("values of the primitives", "sac.learning_rate")
        return choose(self._config, answer, None, values.double(), tau, generator, greedy=greedy)

    def nominals(self, tracker: ControlTracker) -> Float[ndarray, "symbols controls"] | None:
        """What the symbols suggest here; None without symbols."""
        return tracker.nominals() if self._symbolic else None

    def control(
        self, tracker: ControlTracker, noise: torch.Generator | None
    ) -> Float[ndarray, " controls"]:
        """The control under the symbol held; the mean one without noise.

        Raises:
            ConfigError: if the learner's numbers are not finite any more.
        """
        assert tracker.symbol is not None, "a symbol is chosen first"
        nominals = self.nominals(tracker)
        nominal = None if nominals is None else nominals[tracker.symbol]
        found = self._learner.control(tracker.observation, tracker.symbol, nominal, noise)
        if not np.isfinite(found).all():
            raise diverged("controls", "sac.learning_rate")
        return found
