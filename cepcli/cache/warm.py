"""Caches that are filled ahead of a run, and runs that start from a saved cache.

What the LLM said belongs to the LLM and the text, whatever keys the text is found by. So a run
gives the entries that it starts from its own keys; what was known about similarities is left out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float32
from numpy import ndarray

from cepcli.cache.cache_keys import CacheKeys, Keys
from cepcli.cache.config import CacheConfig
from cepcli.cache.disk import columns, storage
from cepcli.cache.store import PriorCache
from cepcli.cache.trace import Trace
from cepcli.errors import CacheError
from cepcli.prior.base import Namespace, Prior, PriorShape
from cepcli.types import TextState
from cepcli.workspace.artifacts import Workspace, sha256

#: By (goal, text), the score of each action, nats; the most recently used last.
KnownScores = Mapping[tuple[str, str], Mapping[str, float]]
#: States in one call of the prior, between two reports of progress.
_BATCH = 16


class Start(NamedTuple):
    """A saved cache that a run is to start from.

    Attributes:
        directory: where it is.
        sha256: of its head file, which binds the others.
        saved: its content.
    """

    directory: Path
    sha256: str
    saved: storage.Saved


class Asked(NamedTuple):
    """What a prior said of states, and what that took.

    Attributes:
        scores: what it said.
        queries: states asked.
        paid: those for which the LLM was asked now, not the journal alone.
    """

    scores: dict[tuple[str, str], dict[str, float]]
    queries: int
    paid: int


def find_cache(name: str, workspace: Workspace) -> Path:
    """The cache directory that `name` means: a path, or the latest cache of a run.

    Raises:
        CacheError: if the run has no cache, or the path cannot be read.
        ArtifactError: if there is neither such a directory nor such a run.
    """
    path = Path(name).expanduser()
    if _holds_cache(path):
        return path
    if "/" in name:
        raise CacheError(f"There is no prior cache in `{name}`.", "Name a run: cep runs list")
    partial = workspace.partial("run", name)
    run = partial if partial.is_dir() else workspace.open("run", name).path
    for place in [run / "cache", *sorted(run.glob("checkpoint-*[0-9]/cache"), reverse=True)]:
        if _holds_cache(place):
            return place
    raise CacheError(
        f"The run in `{run}` has no prior cache (yet).",
        "Train with one: cep train --env ID --cache lru",
    )


def read_start(name: str, workspace: Workspace) -> Start:
    """The cache that `name` means, read whole and checked; it is never changed.

    Raises:
        CacheError: as `find_cache`, or if it is damaged or of a newer version of cep.
    """
    directory = find_cache(name, workspace)
    saved = storage.read(directory)
    return Start(directory, sha256(directory / storage.HEAD), saved)


def start_from(start: Start, cache: PriorCache, keys: CacheKeys | None) -> int:
    """Fill an empty cache from a saved one of the same scorer; returns how many entries it has.

    A learned head of the saved cache is adopted if it was trained on the vectors of `keys`, unless
    the configuration names a head. Beyond the capacity the least recently used stay behind.

    Args:
        start: the saved cache.
        cache: empty; its namespace may differ in the key encoder only.
        keys: its keys; None if its mode compares no texts.

    Raises:
        CacheError: if the scores are another scorer's, or an entry or the head is malformed.
    """
    saved = start.saved
    _check_scorer(start, cache.namespace)
    sha256, own_head = saved.namespace.key_encoder_sha256, cache.config.head is not None
    if keys is not None and not own_head and keys.fit(saved.key_head, sha256):
        keys.adopt(saved.key_head)
        cache.rekey(keys.key, keys.dim, keys.namespace, keys.head)
    try:
        entries = columns.entries(saved.columns)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise storage.damaged(start.directory, f"holds a malformed entry ({error!r})") from error
    scores = {(entry.goal, entry.text): entry.scores for entry in entries if entry.scores}
    if keys is None:
        _fill(cache, scores, None)
        return len(cache)
    same = keys.namespace.key_encoder_sha256 == sha256
    if same and saved.keys.shape == (len(entries), keys.dim):
        rows = {(entry.goal, entry.text): row for row, entry in enumerate(entries)}
        _fill(cache, scores, lambda goal, text: saved.keys[rows[goal, text]])
    else:
        _fill(cache, scores, keys.key)
    keys.begin(cache)
    return len(cache)


def filled(
    config: CacheConfig,
    keys: Keys | None,
    namespace: Namespace,
    shape: PriorShape,
    scores: KnownScores,
) -> PriorCache:
    """A cache with an entry per text, as many as it may hold; a head is learned if it is due.

    Args:
        config: the cache.
        keys: what keys are at first; None if the mode compares no texts.
        namespace: what the scores belong to; its key encoder is of no interest.
        shape: how scores become a prior.
        scores: the entries.
    """
    if keys is None:
        cache = PriorCache(config, 1, replace(namespace, key_encoder_sha256=""))
        _fill(cache, scores, None)
        return cache
    own = CacheKeys(keys, namespace, shape, config, seed=0)
    cache = PriorCache(config, own.dim, own.namespace)
    cache.key_head = own.head
    _fill(cache, scores, own.key)
    own.begin(cache)
    return cache


def traced_scores(trace: Trace) -> KnownScores:
    """The fresh scores of a trace, to the six decimals that it keeps.

    Raises:
        CacheError: if it has none.
    """
    if not trace.scores:
        raise CacheError(
            f"The trace of `{trace.env}` has no fresh score: a cache answered every decision.",
            "Record one with every answer: cep train --env ID --cache off --trace",
        )
    last = {(d.state.goal, d.state.text): number for number, d in enumerate(trace.decisions)}
    return {text: trace.scores[text] for text in sorted(trace.scores, key=last.__getitem__)}


def distinct(states: Iterable[TextState]) -> list[TextState]:
    """A state per goal and text, with every action that it has anywhere; in order of last visit."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for state in states:
        actions = found.pop((state.goal, state.text), {})
        found[state.goal, state.text] = actions | dict.fromkeys(state.actions)
    return [TextState(goal, text, tuple(actions)) for (goal, text), actions in found.items()]


def ask(
    prior: Prior, states: Sequence[TextState], progress: Callable[[int], object] = lambda done: None
) -> Asked:
    """Ask a prior about distinct states, a few at a time; `progress` is told how many are done."""
    scores: dict[tuple[str, str], dict[str, float]] = {}
    paid = 0
    for begin in range(0, len(states), _BATCH):
        batch = states[begin : begin + _BATCH]
        for state, answer in zip(batch, prior.log_probs(batch), strict=True):
            given = zip(state.actions, answer.scores.tolist(), strict=True)
            scores[state.goal, state.text] = dict(given)
            paid += answer.live_seconds > 0
        progress(len(scores))
    return Asked(scores, len(states), paid)


def _holds_cache(directory: Path) -> bool:
    try:
        return (directory / storage.HEAD).is_file()
    except OSError as error:
        raise CacheError(f"Cannot read `{directory}`: {error.strerror}.") from error


def _check_scorer(start: Start, namespace: Namespace) -> None:
    """Raise a CacheError if a saved cache differs in more than its keys."""
    theirs = start.saved.namespace
    differing = storage.namespace_differences(theirs, namespace)
    names = [name for name in differing if name != "key_encoder_sha256"]
    if names:
        raise CacheError(
            f"The prior cache in `{start.directory}` belongs to [{theirs}], the run to "
            f"[{namespace}]; they differ in {', '.join(names)}.",
            "Use the prior and the environment family it was filled with, or start from no cache.",
        )


def _fill(
    cache: PriorCache,
    scores: KnownScores,
    key: Callable[[str, str], Float32[ndarray, " dim"]] | None,
) -> None:
    """Insert the last of `scores`, as many as the cache may hold."""
    for goal, text in list(scores)[-cache.knobs.capacity :]:
        cache.insert(goal, text, None if key is None else key(goal, text), scores[goal, text])
