"""Why a run goes wrong, most likely, and the command to type next: by cache mode and settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

#: Likely cause, and the command to type next.
Advice = tuple[str, str]

_CONTROLLED = ("surrogate", "certified")
_LEAST_WINDOW = 400


class Subject(NamedTuple):
    """A run to be judged; of one that is going on, what there is of it.

    Attributes:
        run: its name.
        mode: of its cache.
        rows: of its metrics, as in `metrics.jsonl`.
        settings: its config.toml.
        config: the path of that, for commands.
    """

    run: str
    mode: str
    rows: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    config: str

    def setting(self, key: str, default: Any) -> Any:
        """A setting as `section.key`; `default` where an earlier version did not have it."""
        found: Any = self.settings
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return default if found is None else found

    def again(self, suffix: str, *changes: str) -> str:
        """The command that trains it anew with some settings changed."""
        flags = " ".join(f"--set {change}" for change in changes)
        label = self.run.removesuffix(f"_s{self.setting('seed', 0)}")
        return f"cep train --config {self.config} {flags} --name {label}-{suffix}"

    def last(self, metric: str) -> Any:
        """The last value of a metric; None without any."""
        return next((row[metric] for row in reversed(self.rows) if metric in row), None)

    @property
    def threshold(self) -> float | None:
        """δ as it stands; None while no similar text may answer."""
        return self.last("cache/threshold")


def as_typed(path: Path) -> str:
    """A path as short as it can be typed here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def on_misses(subject: Subject) -> Advice:
    """Where decisions miss the cache."""
    if _is_full(subject):
        controlled = subject.mode in _CONTROLLED
        key = "most_capacity" if controlled else "capacity"
        capacity = subject.last("cache/capacity")
        cause = f"the cache is full ({capacity} entries): many go before they are used again"
        return cause, subject.again("larger", f"cache.{key}={4 * capacity}")
    if subject.mode == "exact":
        cause = "only identical texts are answered, and few states come back word for word"
        return cause, subject.again("certified", "cache.mode=certified")
    if subject.mode == "certified":
        kappa = subject.setting("cache.certified.kappa", 0.5)
        cause = "no threshold is proven yet, so only identical texts are answered"
        if subject.threshold is not None:
            cause = f"states differ by more than δ = {subject.threshold:g} allows"
        cause += f"; κ = {kappa:g} nats is strict for this prior"
        return cause, subject.again("looser", f"cache.certified.kappa={2 * kappa:g}")
    cause = f"{_delta(subject)} is too strict for these states and keys"
    return cause, subject.again("certified", "cache.mode=certified")


def on_audits(subject: Subject) -> Advice:
    """Where audits eat up what the cache saves."""
    rate = subject.last("cache/refresh_rate") or 0.0
    cause = f"{rate:.0%} of the semantic hits are audited"
    if subject.mode == "certified":
        window = subject.setting("cache.certified.window", 10_000)
        cause += ", as many as a proof within its window needs"
        return cause, subject.again("longer-window", f"cache.certified.window={2 * window}")
    key = "surrogate.most_refresh_rate" if subject.mode == "surrogate" else "refresh_rate"
    return cause, subject.again("fewer-audits", f"cache.{key}={rate / 2:.3g}")


def on_partial_hits(subject: Subject) -> Advice:
    """Where entries are near enough, but lack an action."""
    cause = "entries lack some of the actions that are admissible when their state comes back"
    return cause, f"cep cache inspect {subject.run}"


def on_errors(subject: Subject) -> Advice:
    """Where reused priors are far from fresh ones."""
    if subject.mode == "certified":
        window = max(subject.setting("cache.certified.window", 10_000) // 2, _LEAST_WINDOW)
        cause = f"states or answers have shifted since {_delta(subject)} was proven"
        return cause, subject.again("shorter-window", f"cache.certified.window={window}")
    cause = (
        f"at {_delta(subject)} the cache reuses answers for states that the LLM judges differently"
    )
    return cause, subject.again("certified", "cache.mode=certified")


def on_chance(label: str, seed: int, config: str) -> Advice:
    """Where a loss may be chance: more seeds, from `seed` on."""
    cause = "chance, with so few seeds; otherwise reused priors that are off"
    return cause, f"cep train --config {config} --seed {seed} --seeds 4 --name {label}"


def on_loss(run: str) -> Advice:
    """Where a loss is there to stay: the same episodes tell whether the priors or learning lost."""
    cause = "reused priors are off, or τ fell with the hit rate (posterior.schedule)"
    return cause, f"cep eval {run} --against off --episodes 1000"


def _is_full(subject: Subject) -> bool:
    """Whether entries have to go, and nothing will make room."""
    entries, capacity = (subject.last(f"cache/{name}") for name in ("entries", "capacity"))
    if entries is None or capacity is None or entries < capacity:
        return False
    most = subject.setting("cache.most_capacity", capacity)
    return subject.mode not in _CONTROLLED or capacity >= most


def _delta(subject: Subject) -> str:
    return "its δ" if subject.threshold is None else f"δ = {subject.threshold:g}"
