"""What a prior is, and what a scorer is: the two interfaces between the LLM and everything else.

A `Scorer` turns (prompt, actions) into raw log-likelihoods; a `Prior` turns states into
log-probabilities over their admissible actions. Wrappers are of the kind they wrap:
`JournaledScorer(scorer, journal)` is a `Scorer`, `CachedPrior(prior, cache)` is a `Prior`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from typing_extensions import override

from cepcli.errors import PriorError
from cepcli.types import TextState

#: The tokens scored are those of prompt and action as one text, special ones where the tokenizer
#: adds them. Named in every fingerprint, so that answers under another rule are not reused.
WHOLE_TEXT = "whole-text-1"

#: How a decision was answered. "free" is a prior that asks no LLM (the uniform one).
AnswerKind = Literal["exact", "semantic", "partial", "miss", "audit", "free"]


class Prompt(NamedTuple):
    """A rendered prompt: the part that is the same all run long, and the part of this state."""

    prefix: str
    state: str


@dataclass(frozen=True, slots=True)
class ScorerFingerprint:
    """What determines a raw score: two scorers with the same fingerprint give the same answers.

    Attributes:
        backend: "hf", "server", or what stands for a language model in an own loop.
        model: its name; `revision`: what tells its weights from others of that name.
        adapter_sha256: of the adapter that was merged, or "".
        template: version of the prompt template.
        dtype: precision of the computation.
        tokens: which tokens are scored, `WHOLE_TEXT` for a language model.
    """

    backend: str
    model: str
    revision: str
    adapter_sha256: str
    template: str
    dtype: str
    tokens: str = ""

    def __str__(self) -> str:
        """One line with every field, for error messages and as a database key."""
        return " ".join(f"{key}={value or '-'}" for key, value in asdict(self).items())


@dataclass(frozen=True, slots=True)
class Namespace:
    """What a cache's entries belong to; a cache never opens under another one."""

    scorer: ScorerFingerprint
    normalisation: str
    key_encoder_sha256: str
    env_family: str

    def __str__(self) -> str:
        """One line with every field, for error messages."""
        return (
            f"{self.scorer} normalisation={self.normalisation} "
            f"key_encoder={self.key_encoder_sha256 or '-'} env_family={self.env_family}"
        )


@dataclass(frozen=True, slots=True)
class ActionScores:
    """A scorer's answer for one state.

    Attributes:
        log_likelihood: float64 [actions], summed token log-likelihood of each action, nats.
        lengths: int64 [actions], tokens of each action.
        tokens: tokens the LLM evaluated for this answer (shared prefixes counted once).
        seconds: what the LLM took when it gave this answer, though that was perhaps earlier.
        live_seconds: what was spent on it just now; 0 when it came from the journal.
    """

    log_likelihood: np.ndarray
    lengths: np.ndarray
    tokens: float
    seconds: float
    live_seconds: float


@dataclass(frozen=True, slots=True)
class Completion:
    """What a language model wrote after a prompt, up to the end of its line, and what it cost.

    `text` is stripped; `tokens` includes the prompt's; the rest is as in `ActionScores`.
    """

    text: str
    tokens: float
    seconds: float
    live_seconds: float


class Token(NamedTuple):
    """A token as the model reads it: its number, how it is written, and log p where it is scored.

    The piece is empty where a server does not tell it.
    """

    id: int
    piece: str
    log_prob: float | None = None


@dataclass(frozen=True, slots=True)
class ReadTokens:
    """What a scorer reads: the prompt's tokens, and those of each action that are scored.

    `dropped` is how many of the prompt's last tokens are joined to an action's first.
    """

    prompt: list[Token]
    actions: list[list[Token]]
    dropped: list[int]


class Scorer(ABC):
    """Anything that can say how likely the LLM finds an action after a prompt.

    Attributes:
        fingerprint: what the scores depend on.
        prompts_at_once: how many prompts it takes well in one call; so many are recorded together.
            That is what a kill can lose, and what keeps it busy: about a second's worth.
        lines_at_once: the same for prompts after which a line is to be written.
    """

    fingerprint: ScorerFingerprint
    prompts_at_once: int = 64
    lines_at_once: int = 1

    @abstractmethod
    def score(
        self, prompts: Sequence[Prompt], action_sets: Sequence[Sequence[str]]
    ) -> list[ActionScores]:
        """Summed token log-likelihoods of every action of every prompt, in one call.

        Raises:
            PriorError: if a prompt does not fit the model, or an answer cannot be used.
        """

    @abstractmethod
    def count_tokens(self, text: str) -> int:
        """How many tokens the model reads in a text, special ones not counted."""

    def complete(self, prompts: Sequence[Prompt], most_tokens: int) -> list[Completion]:
        """What the model most likely writes after each prompt, one token after the other.

        Raises:
            PriorError: if it can only score.
        """
        raise PriorError(
            f"A scorer of kind `{self.fingerprint.backend}` cannot write text.",
            "Use a local model or a server, or an agent that does not think.",
        )

    def tokens(self, prompt: Prompt, actions: Sequence[str]) -> ReadTokens:
        """The tokens that are read and scored, asked for live.

        Raises:
            PriorError: if it reads none.
        """
        raise PriorError(f"A scorer of kind `{self.fingerprint.backend}` reads no tokens.")


@dataclass(frozen=True, slots=True)
class PriorShape:
    """How normalised scores become probabilities: p = (1−ε)·softmax(score/T) + ε/n."""

    temperature: float = 1.0
    smoothing: float = 0.05

    def log_prior(self, scores: np.ndarray) -> np.ndarray:
        """Log-probabilities, float64 [actions], with full support when smoothing > 0."""
        raw = np.asarray(scores, dtype=np.float64).tobytes()
        return _log_prior(raw, self.temperature, self.smoothing).copy()


@lru_cache(maxsize=4096)
def _log_prior(scores: bytes, temperature: float, smoothing: float) -> np.ndarray:
    """`PriorShape.log_prior`, remembered: a cache's hits ask for the same again and again."""
    weights = np.frombuffer(scores, np.float64) / temperature
    weights -= np.maximum.reduce(weights)
    np.exp(weights, out=weights)
    weights /= np.add.reduce(weights)
    weights *= 1.0 - smoothing
    weights += smoothing / len(weights)
    return np.log(weights, out=weights)


@dataclass(frozen=True, slots=True)
class PriorAnswer:
    """A prior over the admissible actions of one state, and what it cost.

    Attributes:
        log_prior: float64 [actions], log-probabilities that sum to one.
        scores: float64 [actions], normalised scores before temperature and smoothing.
        kind: how it was answered.
        tokens: LLM tokens evaluated for it (0 on a hit).
        seconds: recorded LLM seconds (0 on a hit; the recorded ones if the journal answered).
        live_seconds: LLM seconds spent just now.
        cache_seconds: seconds spent on key, look-up and store.
        thought: what the model wrote before it scored; empty where it does not, and on a hit.
    """

    log_prior: np.ndarray
    scores: np.ndarray
    kind: AnswerKind
    tokens: float = 0.0
    seconds: float = 0.0
    live_seconds: float = 0.0
    cache_seconds: float = 0.0
    thought: str = ""


class Prior(ABC):
    """π's first factor: log p(a|s) over the admissible actions of a state."""

    @property
    @abstractmethod
    def shape(self) -> PriorShape:
        """How this prior forms probabilities from normalised scores."""

    @abstractmethod
    def log_probs(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        """The prior of each state, in order."""


class UniformPrior(Prior):
    """Every admissible action alike: what an agent without an LLM believes."""

    @property
    @override
    def shape(self) -> PriorShape:
        return PriorShape(smoothing=0.0)

    @override
    def log_probs(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        sizes = [len(state.actions) for state in states]
        return [PriorAnswer(np.full(n, -np.log(n)), np.zeros(n), "free") for n in sizes]
