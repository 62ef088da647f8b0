"""Judges a cache's promise on one trace: many runs, each over episodes drawn with replacement.

A certificate speaks of look-ups that were not seen yet, so one replay says little about it. Here
each run plays as many episodes as the trace has, and a promise is kept in it if at most a share α
of its semantic hits costs more than κ. Drift is made up: of the states that are met, or of what the
LLM answers. A text that is met again is an exact hit, which no cache audits; so after a change of
the answers only hits on similar texts are judged.

Example: cep cache replay my-run --cache certified --resample 100 --drift answers
"""

import fcntl
import hashlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from cepcli.cache.certificate import clopper_pearson
from cepcli.cache.config import CacheConfig
from cepcli.cache.replay.play import Change, KeyTable, replay
from cepcli.cache.trace import Trace, TracedDecision
from cepcli.child_processes import end_with_parent
from cepcli.config import AT_LEAST_ONE, Settings, setting
from cepcli.errors import CacheError
from cepcli.seeding import generator, stream_seed
from cepcli.whole_files import discard
from cepcli.workspace.artifacts import versions, writing

Drift = Literal["none", "states", "answers"]
Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ResampleConfig(Settings):
    """Which runs are made of a trace."""

    runs: int = setting(100, "resampled runs per cache", AT_LEAST_ONE)
    drift: Drift = setting(
        "none",
        "none; states: episodes in the order of their goal and first text, so that the second half "
        "meets other states; answers: from half way on another model answers",
    )
    seed: int = setting(0, "of the draws, the drift and the audits")
    jobs: int = setting(1, "parallel processes", AT_LEAST_ONE)


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


@dataclass(frozen=True, slots=True)
class PlayedRuns:
    """The runs of one cache that have been played, on disk so that a replay can be continued.

    Attributes:
        path: of the file, with a line for each run; None if nothing is to be stored.
    """

    path: Path | None = None

    def read(self) -> dict[int, Figures]:
        """The figures of each run by its number; a line that a kill cut is ignored."""
        found: dict[int, Figures] = {}
        if self.path is not None and self.path.exists():
            for line in self.path.read_bytes().splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                found[row["run"]] = row["figures"]
        return found

    def add(self, number: int, figures: Figures) -> None:
        """Store a run; parallel processes may do so at once."""
        if self.path is None:
            return
        line = json.dumps({"run": number, "figures": figures}) + "\n"
        with writing(self.path), self.path.open("ab", buffering=0) as file:
            file.write(line.encode())

    def discard(self) -> None:
        """Remove the file."""
        if self.path is not None:
            discard(self.path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the file, so that no other command plays these runs; a killed process unlocks it.

        Raises:
            CacheError: if another command plays them.
            ArtifactError: if the file cannot be written.
        """
        if self.path is None:
            yield
            return
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+b")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise CacheError(
                    f"Another process is playing these runs (`{self.path}`).",
                    "Wait for it, or play others: --seed N",
                ) from error
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)  # the next line begins on its own
            try:
                yield
            finally:
                if not os.fstat(file.fileno()).st_size:
                    self.discard()


def fingerprint(trace: Trace) -> str:
    """A digest of all that a replay takes from a trace."""
    digest = hashlib.sha256(repr((trace.env, trace.namespace, trace.shape)).encode())
    for part in (trace.decisions, trace.scores.items()):
        for one in part:
            digest.update(f"{one!r}\n".encode())
    return digest.hexdigest()


def played_runs(folder: Path, trace: str, cache: CacheConfig, **course: Any) -> PlayedRuns:
    """The file of the runs of a cache, named by a hash of all that their figures depend on.

    Args:
        folder: with all such files.
        trace: its `fingerprint`.
        cache: that is judged.
        course: what else the figures depend on, plain values.
    """
    question = {"trace": trace, "cache": asdict(cache), "versions": versions(), **course}
    name = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]
    return PlayedRuns(folder / f"{name}.jsonl")


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
    hits have KL(π̂‖π) > κ (`ReplayResult.kl`), `bound_kept` the same for span²/8 > κ, each with its
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
        folder: where played runs are stored until all are there, so that the same call after a
            kill plays only the others; None to store nothing.

    Raises:
        CacheError: if the trace has no fresh scores for a decision, or another process plays the
            same runs.
        ArtifactError: if `folder` cannot be written.
    """
    changed = rotated(trace, config.seed) if config.drift == "answers" else None
    rows = []
    stored = dict.fromkeys(caches, PlayedRuns())
    if folder is not None:
        of = fingerprint(trace)
        for cache in stored:
            sha256 = keys.sha256 if keys is not None and cache.keyed else None
            stored[cache] = played_runs(
                folder, of, cache, keys=sha256, drift=config.drift, seed=config.seed
            )
    with ExitStack() as stack:
        for runs in stored.values():
            stack.enter_context(runs.held())
        run_all = stack.enter_context(_in_parallel(config.jobs))
        for cache in caches:
            figures = stored[cache].read()
            missing = [number for number in range(config.runs) if number not in figures]
            if len(missing) < config.runs:
                before = config.runs - len(missing)
                notify(f"{before} of {config.runs} runs were played before")
            compared = keys if cache.keyed else None
            work = partial(_play, trace, changed, cache, compared, config, stored[cache])
            parts = np.array_split(missing, config.jobs)
            for played in run_all(work, [part.tolist() for part in parts if len(part)]):
                figures |= played
            rows.append(_row(cache, config, [figures[number] for number in range(config.runs)]))
            notify(f"{len(rows)}/{len(caches)} settings, {config.runs} runs each")
        for runs in stored.values():
            runs.discard()
    return rows


@contextmanager
def _in_parallel(jobs: int) -> Iterator[Callable[..., Any]]:
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
    stored: PlayedRuns,
    numbers: Sequence[int],
) -> dict[int, Figures]:
    """The figures of some runs by their numbers; each is stored at once."""
    found = {}
    for number in numbers:
        found[number] = _figures(trace, changed, cache, keys, config, number)
        stored.add(number, found[number])
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
        holding = int((by_name[share] <= budget.alpha).sum())
        low, high = clopper_pearson(holding, config.runs, budget.confidence)
        row |= {name: holding / config.runs, f"{name}_low": low, f"{name}_high": high}
        row[f"{share}_max"] = float(by_name[share].max())
    return row | {name: _mean(values) for name, values in by_name.items()}


def _mean(values: np.ndarray) -> float | None:
    """Over the runs that have the figure; None if none has."""
    return float(np.nanmean(values)) if not np.isnan(values).all() else None
