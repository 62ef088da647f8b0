"""Where a training loop stands: plain values that go into every checkpoint."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from numpy import ndarray

from cepcli.errors import EnvError

_RECENT = 50


@dataclass(slots=True)
class Progress:
    """Where the loop stands; plain JSON values only.

    `step` counts steps of the environment and `decisions` choices of a symbolic action; in text
    they are the same.

    `start_cache` says which cache the run started from ("name", "sha256") and how many "entries" of
    it there were room for; None if it started with none. `demos` says from where ("name", "sha256")
    how many "episodes" and "decisions" were demonstrated before the first step, and what their
    priors took ("queries", "llm_tokens", "llm_seconds_recorded").
    """

    step: int = 0
    decisions: int = 0
    next_eval: int = 0
    decisions_sha256: str = ""
    successes: list[bool] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    kl_to_prior: float = 0.0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    wall_seconds: float = 0.0
    metrics_offset: int = 0
    trace_offset: int = 0
    start_cache: dict[str, Any] | None = None
    demos: dict[str, Any] | None = None

    def record_decision(self, text: str, action: str) -> None:
        """Extend the hash chain over (state, action): equal hashes mean equal decisions."""
        link = f"{self.decisions_sha256}\0{text}\0{action}".encode()
        self.decisions_sha256 = hashlib.sha256(link).hexdigest()
        self.step += 1
        self.decisions += 1

    def record_control(
        self, observation: Float[ndarray, " features"], control: Float[ndarray, " controls"]
    ) -> None:
        """Extend the hash chain over (observation, control)."""
        link = self.decisions_sha256.encode() + observation.tobytes() + control.tobytes()
        self.decisions_sha256 = hashlib.sha256(link).hexdigest()
        self.step += 1

    def record_episode(self, success: bool, episode_return: float) -> None:
        """Add an episode to the window of recent ones."""
        self.successes = [*self.successes, success][-_RECENT:]
        self.returns = [*self.returns, episode_return][-_RECENT:]

    @property
    def recent_success(self) -> float:
        """Success rate over the last 50 training episodes."""
        return sum(self.successes) / max(len(self.successes), 1)

    @property
    def recent_return(self) -> float:
        """Mean return of the last 50 training episodes; 0 before the first has ended."""
        return sum(self.returns) / max(len(self.returns), 1)

    @property
    def warm_entries(self) -> int:
        """Entries of the cache that the run started from."""
        return 0 if self.start_cache is None else self.start_cache["entries"]


@contextmanager
def stopped_at(step: int) -> Iterator[None]:
    """Say at which step of a run an environment gave up."""
    try:
        yield
    except EnvError as error:
        kept = "The checkpoint holds all that came before it; `cep runs resume` goes on from there."
        raise EnvError(
            f"Training stopped at step {step}: {error.message}", f"{kept} {error.hint}".rstrip()
        ) from error
