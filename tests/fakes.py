"""Stand-ins for the LLM: scores derived from a hash, with a log of what was asked."""

import hashlib
from collections.abc import Sequence

import numpy as np

from cepcli.prior.base import (
    ActionScores,
    Completion,
    Namespace,
    Prior,
    PriorAnswer,
    PriorShape,
    Prompt,
    Scorer,
    ScorerFingerprint,
)
from cepcli.types import TextState

FINGERPRINT = ScorerFingerprint("fake", "hash", "1", "", "test-1", "float64")
NAMESPACE = Namespace(FINGERPRINT, "length", "encoder-1", "test")


def hash_unit(*parts: str) -> float:
    """A number in [0, 1) that depends on `parts` only."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class FakeScorer(Scorer):
    """Log-likelihoods in (−10, 0] from a hash of prompt and action; every call is logged."""

    def __init__(
        self, fingerprint: ScorerFingerprint = FINGERPRINT, seconds: float = 0.25, salt: str = ""
    ) -> None:
        self._fingerprint = fingerprint
        self._seconds = seconds
        self._salt = salt
        self.calls: list[list[tuple[Prompt, tuple[str, ...]]]] = []
        self.lines: list[tuple[Prompt, int]] = []

    @property
    def fingerprint(self) -> ScorerFingerprint:
        return self._fingerprint

    def score(
        self, prompts: Sequence[Prompt], action_sets: Sequence[Sequence[str]]
    ) -> list[ActionScores]:
        self.calls.append([(p, tuple(a)) for p, a in zip(prompts, action_sets, strict=True)])
        return [self._one(p, a) for p, a in zip(prompts, action_sets, strict=True)]

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def complete(self, prompts: Sequence[Prompt], most_tokens: int) -> list[Completion]:
        self.lines += [(prompt, most_tokens) for prompt in prompts]
        seconds = self._seconds
        return [
            Completion(f"thought {hash_unit(self._salt, *prompt):.6f}", 7.0, seconds, seconds)
            for prompt in prompts
        ]

    def _one(self, prompt: Prompt, actions: Sequence[str]) -> ActionScores:
        scores = [-10 * hash_unit(self._salt, *prompt, action) for action in actions]
        lengths = np.array([len(action.split()) for action in actions], np.int64)
        seconds = self._seconds
        return ActionScores(np.array(scores), lengths, 20.0 + lengths.sum(), seconds, seconds)


class FakePrior(Prior):
    """Normalised scores in (−`spread`, 0] from a hash of goal, text and action."""

    def __init__(self, shape: PriorShape | None = None, spread: float = 5.0) -> None:
        self._shape = shape or PriorShape()
        self._spread = spread
        self.calls: list[list[TextState]] = []

    @property
    def shape(self) -> PriorShape:
        return self._shape

    @property
    def asked(self) -> list[TextState]:
        """Every state asked so far, over all calls."""
        return [state for call in self.calls for state in call]

    def scores(self, state: TextState) -> np.ndarray:
        return np.array(
            [-self._spread * hash_unit(state.goal, state.text, a) for a in state.actions]
        )

    def log_probs(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        self.calls.append(list(states))
        answers = []
        for state in states:
            scores = self.scores(state)
            log_prior = self._shape.log_prior(scores)
            answers.append(PriorAnswer(log_prior, scores, "miss", 10.0 + len(scores), 0.5, 0.25))
        return answers
