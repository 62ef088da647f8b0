"""How far apart the points are that an observation names: what words like "near" speak of.

A network learns distances from a few hundred states badly, and they cost nothing to work out.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

#: Numbers that a pair of points adds: log of the distance, log of the horizontal one, height.
PER_PAIR = 3
_PAST = "previous_"
_MILLIMETRE = 1e-3


def point_pairs(features: Sequence[tuple[str, str]]) -> Int[ndarray, "pairs 2"]:
    """Columns at which the points of each pair begin.

    A point is three features in metres, NAME_x, NAME_y and NAME_z. All of one moment are paired,
    and each with itself one step ago, "previous_NAME".

    Args:
        features: name and unit of each.
    """
    named = [name if unit == "m" else "" for name, unit in features]
    points = {
        name.removesuffix("_x"): column
        for column, name in enumerate(named)
        if name.endswith("_x")
        and named[column : column + 3] == [name[:-1] + axis for axis in "xyz"]
    }
    now = {name: column for name, column in points.items() if not name.startswith(_PAST)}
    found = list(combinations(now.values(), 2))
    found += [
        (column, points[_PAST + name]) for name, column in now.items() if _PAST + name in points
    ]
    return np.array(found, np.int64).reshape(-1, 2)


def with_distances(
    observations: Float[ndarray, "*rows features"], pairs: Int[ndarray, "pairs 2"]
) -> Float[ndarray, "*rows inputs"]:
    """Observations with `PER_PAIR` numbers of each pair of points behind them."""
    if not len(pairs):
        return observations
    values = np.asarray(observations)
    columns = pairs[:, :, None] + np.arange(3)
    between = values[..., columns[:, 0]] - values[..., columns[:, 1]]
    squares = between * between
    flat = squares[..., 0] + squares[..., 1]
    whole = flat + squares[..., 2]
    logs = [0.5 * np.log(square + _MILLIMETRE**2) for square in (whole, flat)]
    return np.concatenate([values, *logs, between[..., 2]], axis=-1)
