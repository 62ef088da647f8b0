"""A learned head on a frozen encoder: a map after which near keys mean similar priors.

z = W₂·max(W₁·x + b, 0), scaled to length 1, trained on texts whose prior the LLM has given, so that
the squared distance of two keys predicts the squared span of their priors: it lowers L, so that a
cache may reuse from further away at the same error. Only texts of one goal are compared, unless
goals are pooled. The hidden layer matters: whether a wall is in the way depends on where the goal
is, which a linear map of word counts cannot express.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from numpy import ndarray
from torch import Tensor

from cepcli.errors import CacheError, ConfigError
from cepcli.keys.config import HeadConfig
from cepcli.keys.encoder import unit
from cepcli.keys.quality import LogPriors, pair_spans, prior_table
from cepcli.whole_files import write_whole
from cepcli.workspace.artifacts import writing

_FORMAT = "cep-key-head-2"
_ARRAYS = {"hidden": 2, "bias": 1, "output": 2}  # number of axes


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A map from an encoder's vectors to keys: W₁, b, W₂, and the encoder it was trained on."""

    hidden: Float32[ndarray, "width features"]
    bias: Float32[ndarray, " width"]
    output: Float32[ndarray, "keys width"]
    encoder_sha256: str

    @property
    def dim(self) -> int:
        """Dimension of the keys."""
        return self.output.shape[0]

    @property
    def features(self) -> int:
        """Dimension of the vectors that it takes."""
        return self.hidden.shape[1]

    @property
    def sha256(self) -> str:
        """Says which head, and on which encoder."""
        digest = hashlib.sha256(f"{_FORMAT} {self.encoder_sha256} ".encode())
        for name, array in self.arrays().items():
            digest.update(f" {name} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array, "<f4").tobytes())
        return digest.hexdigest()

    def project(self, vectors: Float[ndarray, "*rows features"]) -> Float[ndarray, "*rows keys"]:
        """Unit keys of an encoder's vectors, float32."""
        return unit(np.maximum(vectors @ self.hidden.T + self.bias, 0.0) @ self.output.T)

    def arrays(self) -> dict[str, ndarray]:
        """The weights by name."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def of(cls, arrays: Mapping[str, ndarray], encoder_sha256: str) -> "Head":
        """The head with the weights `arrays`.

        Raises:
            ValueError: if they are not what `Head.arrays` gives.
        """
        if arrays.keys() != _ARRAYS.keys():
            raise ValueError(f"has arrays {sorted(arrays)}, expected {sorted(_ARRAYS)}")
        for name, axes in _ARRAYS.items():
            array = arrays[name]
            if array.ndim != axes or array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"has a `{name}` that is not {axes}-d, float32 and finite")
        width = len(arrays["bias"])
        if len(arrays["hidden"]) != width or arrays["output"].shape[1] != width:
            raise ValueError("has layers that do not fit each other")
        return cls(**arrays, encoder_sha256=encoder_sha256)

    def save(self, path: Path) -> None:
        """Write the head, replacing the one at `path` in a single step."""
        from safetensors.numpy import save

        content = save(
            {name: np.ascontiguousarray(array) for name, array in self.arrays().items()},
            metadata={"format": _FORMAT, "encoder_sha256": self.encoder_sha256},
        )
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)

    @classmethod
    def load(cls, path: Path) -> "Head":
        """The head at `path`.

        Raises:
            CacheError: if there is none, or it is damaged or not a head.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except OSError as error:
            raise CacheError(f"Cannot read the key head `{path}`: {error}.") from error
        except SafetensorError as error:
            raise _damaged(path, f"is damaged ({error})") from error
        if metadata.get("format") != _FORMAT or "encoder_sha256" not in metadata:
            raise _damaged(path, f"has format {metadata.get('format')}, expected {_FORMAT}")
        try:
            return cls.of(arrays, metadata["encoder_sha256"])
        except ValueError as error:
            raise _damaged(path, str(error)) from error


def train_head(
    goals: Int[ndarray, " texts"],
    log_priors: LogPriors,
    vectors: Float[ndarray, "texts features"],
    config: HeadConfig,
    generator: np.random.Generator,
    *,
    encoder_sha256: str,
) -> Head:
    """A head that fits texts with known priors; the same for the same arguments.

    Args:
        goals: a number per text; only texts of one goal are compared. All the same number where
            keys do not depend on the goal.
        log_priors: per text, the log-probability of each admissible action.
        vectors: the texts' vectors under the encoder.
        config: size and training.
        generator: draws first weights and batches.
        encoder_sha256: which encoder the vectors are from.

    Raises:
        CacheError: if no two texts of one goal have priors that can be compared.
        ConfigError: if the training diverges.
    """
    members = [np.flatnonzero(goals == goal) for goal in np.unique(goals)]
    groups = [group for group in members if len(group) > 1]
    spans = spans_within(prior_table(log_priors), groups)
    if not np.isfinite(spans).any():
        raise CacheError(
            f"No two of {len(vectors)} texts have one goal and priors over the same actions.",
            "A key head needs them: record more decisions.",
        )
    inputs = np.ascontiguousarray(vectors, np.float32)
    with torch.inference_mode(False), torch.enable_grad():  # whoever decides may be without either
        weights = _fit(inputs, spans, groups, config, generator)
    if not all(np.isfinite(weight).all() for weight in weights.values()):
        raise ConfigError(
            f"The training of a key head diverged at learning_rate {config.learning_rate:g} and "
            f"kappa {config.kappa:g}.",
            "Set a smaller learning_rate, or leave the settings at their defaults.",
        )
    return Head.of(weights, encoder_sha256)


def _fit(
    inputs: Float32[ndarray, "texts features"],
    spans: Float32[ndarray, "texts texts"],
    groups: list[Int[ndarray, " members"]],
    config: HeadConfig,
    generator: np.random.Generator,
) -> dict[str, ndarray]:
    """The weights after `config.steps` steps of Adam on `pair_loss`."""
    sizes = {"hidden": (config.hidden, inputs.shape[1]), "output": (config.dim, config.hidden)}
    drawn = {name: generator.standard_normal(size) for name, size in sizes.items()}
    weights = {
        name: torch.from_numpy((draw / np.sqrt(draw.shape[1])).astype(np.float32)).requires_grad_()
        for name, draw in drawn.items()
    }
    weights["bias"] = torch.zeros(config.hidden, requires_grad=True)
    optimizer = torch.optim.Adam(
        weights.values(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    rows, targets = torch.from_numpy(inputs), torch.from_numpy(spans)
    for step in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.learning_rate * (1.0 - step / config.steps)
        batch = torch.from_numpy(_batch(groups, config.batch, generator))
        hidden = (rows[batch] @ weights["hidden"].T + weights["bias"]).relu()
        keys = torch.nn.functional.normalize(hidden @ weights["output"].T, dim=1)
        loss = pair_loss(keys, targets[batch][:, batch], config.kappa, config.margin)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: weight.detach().numpy() for name, weight in weights.items()}


def pair_loss(
    keys: Float[Tensor, "batch dim"],
    spans: Float[Tensor, "batch batch"],
    kappa: float,
    margin: float,
) -> Float[Tensor, ""]:
    """Weighted mean of (‖z − z′‖² − t)², t = 2·(1 − exp(−span²/(8κ))), over known spans.

    Pairs weigh 1/(margin + t): near ones are what a cache reuses. Far ones need be no further apart
    than at right angles, which is as far apart as many keys can all be. 0 without pairs.
    """
    distances = 2.0 - 2.0 * keys @ keys.T
    known = ~spans.isnan()
    target = -2.0 * torch.expm1(-(spans.nan_to_num() ** 2) / (8.0 * kappa))
    weight = known / (margin + target)
    error = (distances - target) ** 2
    return (weight * error).sum() / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def spans_within(
    table: Float[ndarray, "texts actions"], groups: list[Int[ndarray, " members"]]
) -> Float32[ndarray, "texts texts"]:
    """Span of every pair of one group, by whichever of the two can stand in for the other.

    NaN for other pairs, and for a text with itself.
    """
    spans = np.full((len(table), len(table)), np.nan, np.float32)
    for members in groups:
        one_way = pair_spans(table, members, members)
        np.fill_diagonal(one_way, np.nan)
        spans[np.ix_(members, members)] = np.fmax(one_way, one_way.T)
    return spans


def _batch(
    groups: list[Int[ndarray, " members"]], size: int, generator: np.random.Generator
) -> Int[ndarray, " batch"]:
    """Up to `size` texts, of one group after another, in random order."""
    drawn: list[int] = []
    for number in generator.permutation(len(groups)):
        drawn.extend(generator.permutation(groups[number])[: size - len(drawn)])
        if len(drawn) == size:
            break
    return np.array(drawn)


def _damaged(path: Path, why: str) -> CacheError:
    return CacheError(f"The key head `{path}` {why}.", "Restore it from a copy, or train another.")
