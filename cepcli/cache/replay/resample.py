"""Judges a cache's promise on one trace: many runs, each over episodes drawn with replacement.

A certificate speaks of look-ups that were not seen yet, so one replay says little about it. Here
each run plays as many episodes as the trace has, and a promise is kept in it if at most a share α
of its semantic hits costs more than κ. Drift is made up: of the states that are met, or of what the
LLM answers. A text that is met again is an exact hit, which no cache audits; so after a change of
the answers only hits on similar texts are judged.

Example: cep cache replay my-run --cache certified --resample 100 --drift answers
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from cepcli.cache.config import CacheConfig
from cepcli.cache.controllers.certificate import clopper_pearson
from cepcli.cache.replay.play import Change, KeyTable, replay
from cepcli.cache.replay.played_runs import Figures, KeptRuns, fingerprint, kept_runs
from cepcli.cache.trace import Trace, TracedDecision
from cepcli.child_processes import end_with_parent
from cepcli.config import require
from cepcli.seeding import generator, stream_seed

Drift = Literal["none", "states", "answers"]


@dataclass(frozen=True, slots=True)
class ResampleConfig:
    """Which runs are made of a trace."""

    runs: int = field(default=100, metadata={"help": "Resampled runs per cache, >= 1."})
    drift: Drift = field(
        default="none",
        metadata={
            "help": "none; states: episodes in the order of their goal and first text, so that the "
            "second half meets other states; answers: from half way on another model answers."
        },
    )
    seed: int = field(default=0, metadata={"help": "Of the draws, the drift and the audits."})
    jobs: int = field(default=1, metadata={"help": "Processes side by side, >= 1."})

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        require(self.runs >= 1, f"`runs` is {self.runs}, expected at least 1.")
        require(self.jobs >= 1, f"`jobs` is {self.jobs}, expected at least 1.")


class Course(NamedTuple):
    """What one run plays.

    Attributes:
        decisions: in order.
        change: from which of them on another model answers; None if it stays the same.
    """

    decisions: list[TracedDecision]
    change: Change | None


def course(
    trace: Trace,
    config: ResampleConfig,
    number: int | None = None,
    changed: Trace | None = None,
) -> Course:
    """Run `number` of the resampled ones, or without a number the trace itself, under the drift.

    Where answers drift, `changed` is what gives the later ones; it is made if it is not given.
    """
    episodes = [list(group) for _, group in groupby(trace.decisions, lambda d: d.episode)]
    if number is not None:
        random = generator(config.seed, f"resample/{number}")
        drawn = random.integers(len(episodes), size=len(episodes))
        episodes = [episodes[index] for index in drawn.tolist()]
    if config.drift == "states":
        episodes.sort(key=lambda episode: (episode[0].state.goal, episode[0].state.text))
    decisions = [decision for episode in episodes for decision in episode]
    change = None
    if config.drift == "answers":
        change = Change(len(decisions) // 2, changed or rotated(trace, config.seed))
    return Course(decisions, change)


def rotated(trace: Trace, seed: int) -> Trace:
    """The same trace answered by a changed model: scores move on among the actions of their state.

    By how many places is drawn once for each set of actions, so that the changed model answers
    similar texts alike wherever the first one did. A single action keeps its score.
    """
    random = generator(seed, "drift")
    places: dict[tuple[str, ...], int] = {}
    scores = {}
    for text, known in trace.scores.items():
        actions = tuple(sorted(known))
        if actions not in places:
            places[actions] = int(random.integers(1, len(actions))) if len(actions) > 1 else 0
        moved = np.roll([known[action] for action in actions], places[actions])
        scores[text] = dict(zip(actions, moved.tolist(), strict=True))
    return replace(trace, scores=scores)


def resample(
    trace: Trace,
    caches: Sequence[CacheConfig],
    keys: KeyTable | None,
    config: ResampleConfig,
    notify: Callable[[str], None] = lambda text: None,
    folder: Path | None = None,
) -> list[dict[str, Any]]:
    """How often each cache kept its promise; a row of plain values per cache.

    All caches play the same runs. `kept` is the share of runs in which at most α of the semantic
    hits have KL(π̂‖π) > κ (`replay.Replay.kl`), `bound_kept` the same for span²/8 > κ, each with its
    exact interval at the cache's confidence; α and κ are those of `certified`, whatever the mode.
    A run without semantic hits keeps every promise. What ends in `_late` is about the second half
    of a run. `in_force` is the share of decisions covered by a certificate from the first one on
    (NaN in a run without), `hand_overs` and `alarms` are counts. Shares are means over runs, `_max`
    the worst run.

    Args:
        trace: gives episodes and answers.
        caches: to be judged.
        keys: of every state; None if no cache compares texts.
        config: how many runs, and their drift.
        notify: told how far it is.
        folder: where runs that were played are kept until all are, so that the same call after a
            kill plays only the others; None to keep nothing.

    Raises:
        CacheError: if the trace has no fresh scores for a decision, or another process plays the
            same runs.
        ArtifactError: if `folder` cannot be written.
    """
    changed = rotated(trace, config.seed) if config.drift == "answers" else None
    rows = []
    with ExitStack() as stack:
        kept = _kept(trace, caches, keys, config, folder)
        for cache in kept:
            stack.enter_context(kept[cache].held())
        run_all = stack.enter_context(_side_by_side(config.jobs))
        for cache in caches:
            figures = kept[cache].read()
            missing = [number for number in range(config.runs) if number not in figures]
            if len(missing) < config.runs:
                before = config.runs - len(missing)
                notify(f"{before} of {config.runs} runs were played before")
            compared = keys if cache.keyed else None
            work = partial(_play, trace, changed, cache, compared, config, kept[cache])
            parts = np.array_split(missing, config.jobs)
            for played in run_all(work, [part.tolist() for part in parts if len(part)]):
                figures |= played
            rows.append(_row(cache, config, [figures[number] for number in range(config.runs)]))
            notify(f"{len(rows)}/{len(caches)} settings, {config.runs} runs each")
        for one in kept.values():
            one.discard()
    return rows


def _kept(
    trace: Trace,
    caches: Sequence[CacheConfig],
    keys: KeyTable | None,
    config: ResampleConfig,
    folder: Path | None,
) -> dict[CacheConfig, KeptRuns]:
    """Where the runs of each cache are kept; how many there are to be makes no difference."""
    if folder is None:
        return dict.fromkeys(caches, KeptRuns())
    of = fingerprint(trace)
    return {
        cache: kept_runs(
            folder, of, cache, keys=keys.sha256 if keys is not None and cache.keyed else None,
            drift=config.drift, seed=config.seed,
        )
        for cache in caches
    }  # fmt: skip


@contextmanager
def _side_by_side(jobs: int) -> Iterator[Callable[..., Any]]:
    """A `map` over `jobs` processes."""
    if jobs == 1:
        yield map
        return
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_begin_worker
    ) as pool:
        try:
            yield pool.map
        except KeyboardInterrupt:  # else it would wait for all that was begun
            for process in active_children():
                process.terminate()
            raise


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None and parent.pid is not None:
        end_with_parent(parent.pid)


def _play(
    trace: Trace,
    changed: Trace | None,
    cache: CacheConfig,
    keys: KeyTable | None,
    config: ResampleConfig,
    kept: KeptRuns,
    numbers: Sequence[int],
) -> dict[int, Figures]:
    """The figures of some runs by their numbers; each is kept as soon as there."""
    found = {}
    for number in numbers:
        found[number] = _figures(trace, changed, cache, keys, config, number)
        kept.add(number, found[number])
    return found


def _figures(
    trace: Trace,
    changed: Trace | None,
    cache: CacheConfig,
    keys: KeyTable | None,
    config: ResampleConfig,
    number: int,
) -> Figures:
    decisions, change = course(trace, config, number, changed)
    seed = stream_seed(config.seed, f"resample/{number}")
    found = replay(trace, cache, keys, seed=seed, decisions=decisions, change=change)
    late = found.decision >= len(decisions) // 2
    over = found.kl > cache.certified.kappa
    names = ("queries_per_decision", "share_over_kappa", "share_bound_over_kappa")
    figures = found.summary()
    certificate = figures["certificate"] or {"hand_overs": 0, "alarms": 0}
    return {name: figures[name] for name in names} | {
        "in_force": np.nan if found.in_force is None else found.in_force,
        "hand_overs": float(certificate["hand_overs"]),
        "alarms": float(certificate["alarms"]),
        "semantic_hits": float(len(over)),
        "semantic_hits_late": float(late.sum()),
        "share_over_kappa_late": float(over[late].mean()) if late.any() else 0.0,
    }


def _row(cache: CacheConfig, config: ResampleConfig, found: Sequence[Figures]) -> dict[str, Any]:
    budget = cache.certified
    by_name = {name: np.array([one[name] for one in found]) for name in found[0]}
    row: dict[str, Any] = {
        "cache": cache.mode,
        "gate": cache.gate if cache.comparing else None,
        "capacity": cache.capacity,
        "threshold": cache.threshold,
        "eviction": cache.policy,
        "runs": config.runs,
        "kappa": budget.kappa,
        "alpha": budget.alpha,
        "confidence": budget.confidence,
    }
    for name, share in (("kept", "share_over_kappa"), ("bound_kept", "share_bound_over_kappa")):
        kept = int((by_name[share] <= budget.alpha).sum())
        low, high = clopper_pearson(kept, config.runs, budget.confidence)
        row |= {name: kept / config.runs, f"{name}_low": low, f"{name}_high": high}
        row[f"{share}_max"] = float(by_name[share].max())
    return row | {name: _mean(values) for name, values in by_name.items()}


def _mean(values: np.ndarray) -> float | None:
    """Over the runs that have the figure; None if none has."""
    return float(np.nanmean(values)) if not np.isnan(values).all() else None
