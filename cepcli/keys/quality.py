"""How much the priors of texts differ, and how well the distance of their keys tells it.

Two measures on texts whose prior is known: the Lipschitz constant L of span ≤ 2L·‖z − z′‖, from
which a safe threshold follows, and the hit rate that a cache reaches at a given error. Keys are
unit vectors. Priors are one mapping per text, action to log-probability, or a table with a row per
text and a column per action, NaN where an action was not admissible.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from cepcli.posterior import kl_bound

LogPriors = Sequence[Mapping[str, float]]
Cost = Literal["kl", "bound"]
#: Cosines from "all but the same" to "opposite", closer together near 1.
THRESHOLDS = tuple(float(t) for t in 1.0 - np.geomspace(1e-5, 1.5, 60))
_SAME_KEY = 1e-6  # distances below it are rounding


class Lipschitz(NamedTuple):
    """Estimates of L over pairs.

    Attributes:
        largest: the smallest L that holds for every pair; infinite if two texts with one key have
            different priors.
        quantile: the smallest L that holds for the asked share of the pairs.
        pairs: how many pairs were compared.
    """

    largest: float
    quantile: float
    pairs: int


class HitsAtCost(NamedTuple):
    """What a cache with a fixed threshold reaches at a given error.

    Attributes:
        threshold: the loosest δ whose hits keep to the error; None if none does.
        hit_rate: share of the played texts that hit at δ; 0 without a δ.
        cost: the error observed at δ, in nats; 0 without a δ.
    """

    threshold: float | None
    hit_rate: float
    cost: float


def lipschitz(
    keys: Float[ndarray, "texts dim"],
    goals: Int[ndarray, " texts"],
    log_priors: LogPriors,
    quantile: float = 0.99,
    start: int = 0,
) -> Lipschitz:
    """L of span ≤ 2L·‖z − z′‖ over all pairs of one goal, each way round.

    A span is at most twice the largest |log p̂ − log p|, hence the 2. A pair counts if the one text
    has all actions of the other; (0, 0, 0) if there is none. With a `start`, texts from there on
    are compared only with those before, as new texts with the entries of a cache.
    """
    table = prior_table(log_priors)
    ratios = [np.zeros(0)]
    for goal in np.unique(goals):
        members = np.flatnonzero(goals == goal)
        rows = members[members >= start]
        columns = members[members < start] if start else members
        spans = pair_spans(table, rows, columns)
        squared = 2.0 - 2.0 * (keys[rows] @ keys[columns].T).astype(np.float64)
        distances = np.sqrt(np.maximum(squared, 0.0))
        ratio = _ratio(spans, 2.0 * distances)
        ratios.append(ratio[~np.isnan(ratio) & (rows[:, None] != columns)])
    found = np.concatenate(ratios)
    if not len(found):
        return Lipschitz(0.0, 0.0, 0)
    at = np.quantile(found, quantile, method="higher")
    return Lipschitz(float(found.max()), float(at), len(found))


def hits_at_equal_kl(
    keys: Float[ndarray, "texts dim"],
    goals: Int[ndarray, " texts"],
    log_priors: LogPriors,
    *,
    target: float,
    start: int = 0,
    cost: Cost = "kl",
    quantile: float = 0.95,
    thresholds: Sequence[float] = THRESHOLDS,
) -> HitsAtCost:
    """The hit rate of an unbounded cache at the loosest threshold that keeps to an error.

    Texts are played in order, each once: it hits if the nearest entry of its goal that knows all
    its actions is at least as similar as the threshold, otherwise it becomes an entry.

    Args:
        keys: unit keys, in the order of play.
        goals: a number per text; entries answer only texts of their own goal.
        log_priors: per text, the log-probability of each admissible action.
        target: what the error of the hits may be, nats.
        start: texts before this number are entries from the outset and are not played.
        cost: error of a hit: KL(p̂‖p) of the prior itself, or span²/8, which bounds the posterior's.
        quantile: which quantile over the hits has to keep to `target`.
        thresholds: cosines that are tried.
    """
    texts = np.arange(len(keys))
    table = prior_table(log_priors)
    played = texts[start:]
    if cost == "kl":
        costs = pair_kl(table, played, texts)
    else:
        costs = kl_bound(torch.from_numpy(pair_spans(table, played, texts))).numpy()
    similarity = (keys[start:] @ keys.T).astype(np.float64)
    similarity[(goals[start:, None] != goals) | np.isnan(costs)] = -np.inf
    for threshold in sorted(thresholds):
        paid = _costs_of_hits(similarity, costs, start, threshold)
        if len(paid) and (observed := float(np.quantile(paid, quantile))) <= target:
            return HitsAtCost(threshold, len(paid) / len(played), observed)
    return HitsAtCost(None, 0.0, 0.0)


def _costs_of_hits(
    similarity: Float[ndarray, "played texts"],
    costs: Float[ndarray, "played texts"],
    start: int,
    threshold: float,
) -> Float[ndarray, " hits"]:
    """What each hit costs when `played` texts, which follow `start` entries, come one by one."""
    entries: Bool[ndarray, " texts"] = np.arange(similarity.shape[1]) < start
    paid = []
    for row, (similar, cost) in enumerate(zip(similarity, costs, strict=True)):
        known = np.where(entries, similar, -np.inf)
        best = int(known.argmax())
        if known[best] >= threshold:
            paid.append(cost[best])
        else:
            entries[start + row] = True
    return np.array(paid)


def _ratio(
    spans: Float[ndarray, "rows columns"], distances: Float[ndarray, "rows columns"]
) -> Float[ndarray, "rows columns"]:
    """`spans`/`distances`; at distance 0 infinite where the span is not 0, else 0."""
    apart = distances > _SAME_KEY
    at_once = np.where(spans > 0.0, np.inf, 0.0)
    at_once[np.isnan(spans)] = np.nan
    return np.where(apart, spans / np.where(apart, distances, 1.0), at_once)


def prior_table(log_priors: LogPriors) -> Float[ndarray, "texts actions"]:
    """Log-priors as a table, nats; columns in the order in which actions first occur."""
    columns: dict[str, int] = {}
    for prior in log_priors:
        for action in prior:
            columns.setdefault(action, len(columns))
    table = np.full((len(log_priors), len(columns)), np.nan)
    for row, prior in zip(table, log_priors, strict=True):
        row[[columns[action] for action in prior]] = list(prior.values())
    return table


def pair_spans(
    table: Float[ndarray, "all actions"],
    texts: Int[ndarray, " texts"],
    entries: Int[ndarray, " entries"],
) -> Float[ndarray, "texts entries"]:
    """Span max g − min g of g = log p̂ − log p, each entry's prior standing in for each text's.

    Over the text's own actions; NaN where the entry lacks one of them. The same whether or not the
    entry's prior is normalised over these actions.
    """
    spans = np.empty((len(texts), len(entries)))
    for row, text in zip(spans, texts, strict=True):
        own = np.flatnonzero(~np.isnan(table[text]))
        gap = table[np.ix_(entries, own)] - table[text, own]
        row[:] = gap.max(1) - gap.min(1)
    return spans


def pair_kl(
    table: Float[ndarray, "all actions"],
    texts: Int[ndarray, " texts"],
    entries: Int[ndarray, " entries"],
) -> Float[ndarray, "texts entries"]:
    """KL(p̂‖p) in nats, p̂ an entry's prior normalised over the text's actions, p the text's.

    NaN where the entry lacks one of the text's actions.
    """
    divergences = np.empty((len(texts), len(entries)))
    for row, text in zip(divergences, texts, strict=True):
        own = np.flatnonzero(~np.isnan(table[text]))
        cached = table[np.ix_(entries, own)]
        cached = cached - cached.max(1, keepdims=True)
        cached = cached - np.log(np.exp(cached).sum(1, keepdims=True))
        row[:] = (np.exp(cached) * (cached - table[text, own])).sum(1)
    return divergences
