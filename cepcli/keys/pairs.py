"""How much the priors of two texts differ: what a key's distance should tell.

Priors are given as one mapping per text, action to log-probability, and kept as a table with a row
per text and a column per action, NaN where an action was not admissible.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

LogPriors = Sequence[Mapping[str, float]]


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
