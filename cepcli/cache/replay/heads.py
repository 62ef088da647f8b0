"""Trains a key head on a trace, and judges keys: near should be what the LLM answers alike.

The trace is cut between two episodes where about half of its texts have been met. Those train a
head; the texts that are first met later judge it, as texts that a cache has yet to meet.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from cepcli.cache.cache_keys import ScoredTexts, scored_texts
from cepcli.cache.trace import Trace
from cepcli.errors import CacheError
from cepcli.keys.config import HeadConfig
from cepcli.keys.head import Head, train_head
from cepcli.keys.key_encoder import KeyEncoder
from cepcli.keys.quality import hits_at_equal_kl, lipschitz
from cepcli.seeding import generator

_FEWEST_TEXTS = 20
_TIMED = 200
_TARGET = 0.1  # nats that 95 % of the hits keep to, where hit rates are compared


class TraceSplit(NamedTuple):
    """Texts of a trace in the order of first visit.

    Attributes:
        states: (goal, text) of each.
        scored: what the LLM said about them.
        start: number of the first text of the episodes after the cut.
    """

    states: list[tuple[str, str]]
    scored: ScoredTexts
    start: int


def split_of(
    trace: Trace, keys: KeyEncoder, *, pool_goals: bool, most_texts: int | None = None
) -> TraceSplit:
    """The distinct states of `trace` whose scores are known.

    Args:
        trace: recorded with fresh scores.
        keys: make the vectors.
        pool_goals: whether texts of different goals are to be compared.
        most_texts: the trace is cut before the decision that brings in more; None for all.

    Raises:
        CacheError: if there are too few of them.
    """
    first_visit: dict[tuple[str, str], int] = {}
    for decision in trace.decisions:
        state = (decision.state.goal, decision.state.text)
        if state in trace.scores:
            first_visit.setdefault(state, decision.episode)
        if len(first_visit) == most_texts:
            break
    states = list(first_visit)
    if len(states) < _FEWEST_TEXTS:
        raise CacheError(
            f"The trace of `{trace.env}` has {len(states)} texts with fresh scores; a key head "
            f"needs {_FEWEST_TEXTS}.",
            "Record more decisions: cep train --env ID --cache off --trace --steps 2000",
        )
    episodes = list(first_visit.values())
    start = episodes.index(episodes[len(states) // 2]) or len(states) // 2
    scores = [trace.scores[state] for state in states]
    scored = scored_texts(states, scores, keys, trace.shape, pool_goals=pool_goals)
    return TraceSplit(states, scored, start)


def train_on(
    trace: Trace,
    keys: KeyEncoder,
    config: HeadConfig,
    *,
    pool_goals: bool,
    seed: int,
    notify: Callable[[str], None] = lambda text: None,
) -> tuple[Head, list[dict[str, Any]]]:
    """A head for `keys`, and how good keys are before and after, on the texts not trained on.

    Args:
        trace: recorded with fresh scores.
        keys: encoder without a head.
        config: size and training.
        pool_goals: whether states of different goals will share answers.
        seed: of the training.
        notify: told what takes seconds.
    """
    split = split_of(trace, keys, pool_goals=pool_goals, most_texts=config.most_texts)
    texts, start = split.scored, split.start
    notify(f"Training a key head on {start} texts")
    head = train_head(
        texts.goals[:start], texts.log_priors[:start], texts.vectors[:start], config,
        generator(seed, "key-head"), encoder_sha256=keys.sha256,
    )  # fmt: skip
    notify(f"Judging it on {len(split.states) - start} others")
    rows = [
        {**_judged("raw", texts.vectors, texts, start), **_timed(keys, split)},
        {
            **_judged("with head", head.project(texts.vectors), texts, start),
            **_timed(keys.with_head(head), split),
        },
    ]
    return head, rows


def _timed(keys: KeyEncoder, split: TraceSplit) -> dict[str, float]:
    """Median microseconds of making a key, over texts not trained on."""
    micros = []
    for state in split.states[split.start :][:_TIMED]:
        begin = perf_counter()
        keys.key(*state)
        micros.append(1e6 * (perf_counter() - begin))
    return {"key_us": float(np.median(micros))}


def _judged(
    label: str, keys: Float32[ndarray, "texts dim"], texts: ScoredTexts, start: int
) -> dict[str, Any]:
    """L and hits at equal KL on the texts from number `start` on."""
    own = lipschitz(keys[start:], texts.goals[start:], texts.log_priors[start:])
    hits = hits_at_equal_kl(keys, texts.goals, texts.log_priors, target=_TARGET, start=start)
    return {
        "keys": label,
        "dim": keys.shape[1],
        "lipschitz_q99": own.quantile,
        "lipschitz_max": own.largest if np.isfinite(own.largest) else None,
        "kl_p95_target": _TARGET,
        "threshold": hits.threshold,
        "hit_rate": hits.hit_rate,
    }
