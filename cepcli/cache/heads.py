"""Trains a key head on a trace: keys that are near where the LLM answers alike.

The first half of the texts, in the order in which the run met them, trains it; the second half
judges it, as texts that a cache has yet to meet.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from cepcli.abstraction.config import HeadConfig
from cepcli.abstraction.head import Head, train_head
from cepcli.abstraction.keys import KeyEncoder
from cepcli.abstraction.quality import hits_at_equal_kl, lipschitz
from cepcli.cache.cache_keys import Known, known
from cepcli.cache.trace import Trace
from cepcli.errors import CacheError
from cepcli.seeding import generator

_FEWEST_TEXTS = 20
_TARGET = 0.1  # nats that 95 % of the hits keep to, where hit rates are compared


def texts_of(trace: Trace, keys: KeyEncoder, *, per_goal: bool) -> Known:
    """The distinct states of `trace` whose scores are known, in the order of first visit.

    Raises:
        CacheError: if there are too few of them.
    """
    visited = dict.fromkeys((d.state.goal, d.state.text) for d in trace.decisions)
    states = [state for state in visited if state in trace.scores]
    if len(states) < _FEWEST_TEXTS:
        raise CacheError(
            f"The trace of `{trace.env}` has {len(states)} texts with fresh scores; a key head "
            f"needs {_FEWEST_TEXTS}.",
            "Record more decisions: cep train --env ID --cache off --trace --steps 2000",
        )
    scores = [trace.scores[state] for state in states]
    return known(states, scores, keys, trace.shape, per_goal=per_goal)


def train_on(
    trace: Trace,
    keys: KeyEncoder,
    config: HeadConfig,
    *,
    per_goal: bool,
    seed: int,
    notify: Callable[[str], None] = lambda text: None,
) -> tuple[Head, list[dict[str, Any]]]:
    """A head for `keys`, and how good keys are before and after, on the texts not trained on.

    Args:
        trace: recorded with fresh scores.
        keys: encoder without a head.
        config: size and training.
        per_goal: whether the cache will answer only within one goal.
        seed: of the training.
        notify: told what takes seconds.
    """
    texts = texts_of(trace, keys, per_goal=per_goal)
    half = len(texts.log_priors) // 2
    notify(f"Training a key head on {half} texts")
    head = train_head(
        texts.goals[:half], texts.log_priors[:half], texts.vectors[:half], config,
        generator(seed, "key-head"), encoder_sha256=keys.sha256,
    )  # fmt: skip
    notify(f"Judging it on {len(texts.log_priors) - half} others")
    rows = [
        _judged("raw", texts.vectors, texts, half),
        _judged("with head", head.project(texts.vectors), texts, half),
    ]
    return head, rows


def _judged(
    label: str, keys: Float32[ndarray, "texts dim"], texts: Known, start: int
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
