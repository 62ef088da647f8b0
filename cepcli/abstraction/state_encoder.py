"""A state's features to a unit key, and a description to the unit vector that should be near it.

z = W₃·relu(W₂·relu(W₁·x + b₁) + b₂) scaled to length 1, x the standardised features, and distances
between the points among them: what words like "near" speak of. A network learns distances from a
few hundred states badly, and they cost nothing to work out. The frozen embedding of a description
goes through one linear map. Plain numpy: a key takes some ten microseconds.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy import ndarray

from cepcli.envs.control import Feature
from cepcli.keys.encoder import unit

#: Number of axes of each array of a `StateEncoder`.
ARRAYS = {
    "pairs": 2, "mean": 1, "scale": 1, "first": 2, "first_bias": 1, "second": 2, "second_bias": 1,
    "output": 2, "text": 2,
}  # fmt: skip
#: Standardised features are cut here: a simulator that breaks should not break the key.
CUT = 5.0
#: Numbers that a pair of points adds: log of the distance, log of the horizontal one, height.
PER_PAIR = 3
_PAST = "previous_"
_MILLIMETRE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class StateEncoder:
    """The learned maps: W₁ and b₁, W₂ and b₂, W₃ as `output`, and `text` for descriptions.

    Attributes:
        pairs: columns at which two points begin, as `point_pairs` finds them.
        mean: of each input: the features, then what the pairs add.
        scale: what an input less its mean is divided by.
    """

    pairs: Float32[ndarray, "pairs 2"]
    mean: Float32[ndarray, " inputs"]
    scale: Float32[ndarray, " inputs"]
    first: Float32[ndarray, "width inputs"]
    first_bias: Float32[ndarray, " width"]
    second: Float32[ndarray, "width width"]
    second_bias: Float32[ndarray, " width"]
    output: Float32[ndarray, "dim width"]
    text: Float32[ndarray, "dim words"]

    @classmethod
    def of(cls, arrays: Mapping[str, ndarray]) -> "StateEncoder":
        """The encoder with these weights.

        Raises:
            ValueError: if they are not what `arrays` gives.
        """
        if arrays.keys() != ARRAYS.keys():
            raise ValueError(f"has arrays {sorted(arrays)}, expected {sorted(ARRAYS)}")
        for name, axes in ARRAYS.items():
            array = arrays[name]
            if array.ndim != axes or array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"has a `{name}` that is not {axes}-d, float32 and finite")
        return cls(**arrays)

    def arrays(self) -> dict[str, ndarray]:
        """The weights by name."""
        return {name: getattr(self, name) for name in ARRAYS}

    @property
    def features(self) -> int:
        """How many numbers an observation has."""
        return len(self.mean) - PER_PAIR * len(self.pairs)

    @property
    def dim(self) -> int:
        """Dimension of the keys."""
        return len(self.output)

    @property
    def sha256(self) -> str:
        """Says which maps."""
        digest = hashlib.sha256()
        for name, array in self.arrays().items():
            digest.update(f" {name} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array, "<f4").tobytes())
        return digest.hexdigest()

    def keys(self, observations: Float[ndarray, "*rows features"]) -> Float32[ndarray, "*rows dim"]:
        """Unit keys of observations."""
        points = with_distances(observations, self.pairs.astype(np.int64))
        inputs = standardised(points, self.mean, self.scale)
        hidden = np.maximum(inputs @ self.first.T + self.first_bias, 0.0)
        hidden = np.maximum(hidden @ self.second.T + self.second_bias, 0.0)
        return unit(hidden @ self.output.T)

    def texts(self, vectors: Float[ndarray, "*rows words"]) -> Float32[ndarray, "*rows dim"]:
        """Unit vectors of descriptions, from their frozen embeddings."""
        return unit(vectors @ self.text.T)


def standardised(
    values: Float[ndarray, "*rows inputs"],
    mean: Float32[ndarray, " inputs"],
    scale: Float32[ndarray, " inputs"],
) -> Float32[ndarray, "*rows inputs"]:
    """Inputs less their mean in standard deviations, within ±`CUT`."""
    inputs = (np.asarray(values, np.float32) - mean) / scale
    return np.clip(inputs, -CUT, CUT)


def feature_scale(
    values: Float[ndarray, "states inputs"],
) -> tuple[Float32[ndarray, " inputs"], Float32[ndarray, " inputs"]]:
    """Mean and standard deviation of each input; 1 for one that never changes."""
    deviation = values.std(0)
    constant = deviation <= 1e-6 * np.maximum(1.0, np.abs(values).max(0))
    scale = np.where(constant, 1.0, deviation)
    return values.mean(0).astype(np.float32), scale.astype(np.float32)


def point_pairs(features: Sequence[Feature]) -> Int[ndarray, "pairs 2"]:
    """Columns at which the points of each pair begin.

    A point is three features in metres, NAME_x, NAME_y and NAME_z. All of one moment are paired,
    and each with itself one step ago, "previous_NAME".
    """
    named = [feature.name if feature.unit == "m" else "" for feature in features]
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
