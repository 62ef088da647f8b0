"""How good the behaviour in a dataset is: its episodes' returns, as figures and as a histogram."""

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.datasets.dataset import ControlData, TextData

_BINS = 10
_BAR = 40


def quality_of(data: ControlData | TextData) -> dict[str, Any]:
    """Counts, returns and scores, as JSON values; what does not apply is None."""
    returns = data.returns()
    episodes = data.episodes()
    scores = data.normalised(returns)
    return {
        "transitions": len(data),
        "episodes": len(episodes),
        "length_mean": len(data) / len(episodes),
        "terminated": int(data.terminated.sum()),
        "truncated": int(data.truncated.sum()),
        "return_mean": float(returns.mean()),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
        "normalised_score": None if scores is None else float(scores.mean()),
        "success_rate": data.success_rate() if isinstance(data, TextData) else None,
    }


def histogram(returns: Float[ndarray, " episodes"]) -> list[tuple[float, float, int]]:
    """Bins over the returns: where each begins and ends, and how many episodes are in it."""
    low, high = float(returns.min()), float(returns.max())
    if low == high:
        return [(low, high, len(returns))]
    counts, edges = np.histogram(returns, bins=min(_BINS, len(returns)), range=(low, high))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True))


def histogram_lines(bins: list[tuple[float, float, int]]) -> list[str]:
    """A histogram as lines of text, as long as the bins are full."""
    most = max(count for _, _, count in bins)
    ranges = [f"{low:.4g} to {high:.4g}" for low, high, _ in bins]
    width = max(map(len, ranges))
    return [
        f"{label:>{width}}  {'█' * round(_BAR * count / most):<{_BAR}}  {count}"
        for label, (_, _, count) in zip(ranges, bins, strict=True)
    ]
