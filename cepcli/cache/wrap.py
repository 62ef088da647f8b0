"""A cached prior around any function that scores actions, for a loop of one's own.

    prior = cached(score, name="my-scorer")
    answer = prior(TextState(goal, text, actions))

`answer.log_prior` is the prior, `prior.telemetry.summary()` what it cost, `prior.certificate` what
is promised about answers taken from similar texts.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from typing_extensions import override

from cepcli.cache.cached_prior import CachedPrior
from cepcli.cache.config import CacheConfig
from cepcli.cache.disk.storage import HEAD, key_head_of
from cepcli.cache.open import OpenCache, open_cache
from cepcli.cache.store import PriorCache
from cepcli.config import require
from cepcli.errors import CacheError, PriorError
from cepcli.prior.base import Namespace, Prior, PriorAnswer, PriorShape, ScorerFingerprint
from cepcli.types import TextState

#: A log-score per action of a state, in their order.
Score = Callable[[TextState], Sequence[float] | np.ndarray]

#: Similar texts answer once that is proven to keep to an error budget.
CERTIFIED = CacheConfig(mode="certified")

_NORMALISED = 1e-6  # how near to one probabilities must sum to count as normalised


def cached(
    score: Score,
    *,
    name: str,
    config: CacheConfig = CERTIFIED,
    shape: PriorShape | None = None,
    seed: int = 0,
    saved: str | Path | None = None,
) -> CachedPrior:
    """`score` behind a cache of its answers.

    Args:
        score: gives each action of a state a log-score in nats, finite. It must not depend on
            which other actions are listed, where these differ between states of one goal: logits
            or log-likelihoods, not log-probabilities normalised over the list. It is asked about
            those actions only whose score is not known.
        name: says which scorer this is, its version included; a saved cache of another is refused.
        config: the cache; certified, with keys learned from its own misses, unless told otherwise.
        shape: how scores become probabilities; by default a softmax mixed with 5 % uniform.
        seed: decides which hits are audited, and how keys are learned.
        saved: a directory that `CachedPrior.save` wrote, to go on with its entries. The evidence
            of the certificate starts anew, because it speaks of the states of its own session.

    Raises:
        CacheError: if there is no cache in `saved`, or it is damaged or of another scorer.
        ConfigError: if the key encoder of `config` does not exist, or it names a cache to start
            with.
        PriorError: if its model cannot be had; the cached prior raises it on unusable scores.
    """
    require(
        config.start is None,
        f"`start` is {config.start!r}, but a cache around a function goes on with its `saved` one.",
    )
    shape = shape or PriorShape()
    namespace = Namespace(
        ScorerFingerprint("function", name, "", "", "", "float64"), "none", "", ""
    )
    inner = FunctionPrior(score, shape, pool_goals=config.keyed and config.pools_goals)
    opened = open_cache(inner, config, namespace, seed=seed)
    if saved is not None:
        opened = opened._replace(cache=_load(Path(saved), opened))
    return opened.prior()


class FunctionPrior(Prior):
    """A function's scores as a prior; one call of the function per state.

    Args:
        score: see `cached`.
        shape: how scores become probabilities.
        pool_goals: whether answers of states of different goals are put together.
    """

    def __init__(self, score: Score, shape: PriorShape, *, pool_goals: bool = False) -> None:
        self._score = score
        self._shape = shape
        self._pool_goals = pool_goals
        self._normalised_over: dict[str, frozenset[str]] = {}

    @property
    @override
    def shape(self) -> PriorShape:
        return self._shape

    @override
    def log_probs(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        """The prior of each state, with the seconds that the function took.

        Raises:
            PriorError: if the function does not give one finite score per action, or scores that
                depend on which actions are listed.
        """
        return [self._answer(state) for state in states]

    def _answer(self, state: TextState) -> PriorAnswer:
        start = perf_counter()
        scores = np.asarray(self._score(state), np.float64)
        seconds = perf_counter() - start
        if scores.shape != (len(state.actions),):
            raise PriorError(
                f"The scoring function gave scores of shape {scores.shape} for the "
                f"{len(state.actions)} actions {list(state.actions)} of the state {state.text!r}.",
                "Return one log-score per action of `state.actions`, in their order.",
            )
        for action, score in zip(state.actions, scores, strict=True):
            if not math.isfinite(score):
                raise PriorError(
                    f"The scoring function gave {score} for the action {action!r} of the state "
                    f"{state.text!r}, expected a finite log-score.",
                    "Leave impossible actions out of `state.actions`, or give them a low score.",
                )
        self._check_comparable(scores, state)
        log_prior = self._shape.log_prior(scores)
        return PriorAnswer(log_prior, scores, "miss", seconds=seconds, live_seconds=seconds)

    def _check_comparable(self, scores: np.ndarray, state: TextState) -> None:
        """Scores that sum to one over two different lists of actions cannot be put together."""
        if abs(np.logaddexp.reduce(scores)) > _NORMALISED:
            return
        partition = "" if self._pool_goals else state.goal
        actions = frozenset(state.actions)
        known = self._normalised_over.get(partition)
        if known is not None and known != actions:
            raise PriorError(
                f"The scoring function normalised its scores over the actions {sorted(known)}, "
                f"then over {sorted(actions)}; the cache cannot put such answers together.",
                "Return scores before normalisation (logits, log-likelihoods), or set "
                "pool_goals=False and name the actions in the state's goal, too, which keeps the "
                "answers apart.",
            )
        if len(actions) > 1:
            self._normalised_over[partition] = actions


def _load(directory: Path, opened: OpenCache) -> PriorCache:
    """A saved cache whose threshold and refresh rate are those that hold without evidence.

    Keys that it had learned are taken over.
    """
    if not (directory / HEAD).is_file():
        raise CacheError(
            f"There is no prior cache in `{directory}`.", "Write one first: prior.save(directory)"
        )
    config, keys = opened.cache.config, opened.controller.keys
    namespace = opened.cache.namespace
    if keys is not None and (head := key_head_of(directory)):
        keys.adopt(head)
        namespace = keys.namespace
    cache = PriorCache.load(directory, namespace, config)
    cache.set_knobs(config.knobs._replace(capacity=cache.knobs.capacity))
    if keys is not None:
        keys.begin(cache)
    return cache
