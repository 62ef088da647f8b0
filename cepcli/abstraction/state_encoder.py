"""A state's features to a unit key, and a description to the unit vector that should be near it.

z = W₃·relu(W₂·relu(W₁·x + b₁) + b₂) scaled to length 1, x the standardised features, and distances
between the points among them; the frozen embedding of a description goes through one linear map.
Plain numpy: a key takes some ten microseconds.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray

from cepcli.abstraction.geometry import PER_PAIR, with_distances
from cepcli.keys.encoder import unit

#: Number of axes of each array of a `StateEncoder`.
ARRAYS = {
    "pairs": 2, "mean": 1, "scale": 1, "first": 2, "first_bias": 1, "second": 2, "second_bias": 1,
    "output": 2, "text": 2,
}  # fmt: skip
#: Standardised features are cut here: a simulator that breaks should not break the key.
CUT = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class StateEncoder:
    """The learned maps, float32.

    Attributes:
        pairs: columns at which two points begin; see `cepcli.abstraction.geometry`.
        mean: of each input: the features, then what the pairs add.
        scale: what an input less its mean is divided by.
        first: W₁.
        first_bias: b₁.
        second: W₂.
        second_bias: b₂.
        output: W₃.
        text: from a description's frozen embedding to the space of the keys.
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
