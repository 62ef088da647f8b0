"""A learned head on a frozen encoder: a linear map after which near keys mean like priors.

z = W·x/‖W·x‖, trained on texts whose prior the LLM has given, so that the squared distance of two
keys tells the squared span of their priors: it lowers L, so that a cache may reuse
from further away at the same error. Only texts of one goal are compared.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from numpy import ndarray
from torch import Tensor

from cepcli.abstraction.config import HeadConfig
from cepcli.abstraction.encoder import TextEncoder, unit
from cepcli.abstraction.pairs import LogPriors, pair_spans, prior_table
from cepcli.artifacts import writing
from cepcli.errors import CacheError

_FORMAT = "cep-key-head-1"


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A linear map from an encoder's vectors to keys.

    Attributes:
        weight: W, float32.
        encoder_sha256: of the encoder whose vectors it was trained on.
    """

    weight: Float32[ndarray, "keys features"]
    encoder_sha256: str

    @property
    def dim(self) -> int:
        """Dimension of the keys."""
        return self.weight.shape[0]

    @property
    def sha256(self) -> str:
        """Says which head, and on which encoder."""
        digest = hashlib.sha256(f"{_FORMAT} {self.weight.shape} {self.encoder_sha256} ".encode())
        digest.update(np.ascontiguousarray(self.weight, "<f4").tobytes())
        return digest.hexdigest()

    def project(self, vectors: Float[ndarray, "*rows features"]) -> Float[ndarray, "*rows keys"]:
        """Unit keys of an encoder's vectors, float32."""
        return unit(vectors @ self.weight.T)

    def save(self, path: Path) -> None:
        """Write the head, replacing the one at `path` in a single step."""
        from safetensors.numpy import save

        content = save(
            {"weight": np.ascontiguousarray(self.weight)},
            metadata={"format": _FORMAT, "encoder_sha256": self.encoder_sha256},
        )
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{path.name}.tmp")
            temporary.write_bytes(content)
            temporary.replace(path)

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
                weight = file.get_tensor("weight")
        except OSError as error:
            raise CacheError(f"Cannot read the key head `{path}`: {error}.") from error
        except SafetensorError as error:
            raise _damaged(path, f"is damaged ({error})") from error
        if metadata.get("format") != _FORMAT or "encoder_sha256" not in metadata:
            raise _damaged(path, f"has format {metadata.get('format')}, expected {_FORMAT}")
        if weight.ndim != 2 or weight.dtype != np.float32 or not np.isfinite(weight).all():
            raise _damaged(path, "is not a matrix of finite numbers")
        return cls(weight, metadata["encoder_sha256"])


class HeadedEncoder(TextEncoder):
    """An encoder with a head: its vectors are the head's keys.

    Raises:
        CacheError: if the head was trained on another encoder.
    """

    def __init__(self, encoder: TextEncoder, head: Head) -> None:
        fits = head.encoder_sha256 == encoder.sha256 and head.weight.shape[1] == encoder.dim
        if not fits:
            raise CacheError(
                f"The key head was trained on the encoder {head.encoder_sha256[:12]} with "
                f"{head.weight.shape[1]} dimensions, not on {encoder.sha256[:12]} with "
                f"{encoder.dim}.",
                "Use the encoder it was trained on, or train another head.",
            )
        self.encoder = encoder
        self.head = head
        self.dim = head.dim
        self.sha256 = hashlib.sha256(f"{encoder.sha256} {head.sha256}".encode()).hexdigest()

    def encode(self, text: str) -> Float[ndarray, " dim"]:
        """The unit key of a text, float32."""
        return self.head.project(self.encoder.encode(text))


def train_head(
    vectors: Float[ndarray, "texts features"],
    goals: Int[ndarray, " texts"],
    log_priors: LogPriors,
    config: HeadConfig,
    generator: np.random.Generator,
    *,
    encoder_sha256: str,
) -> Head:
    """A head that fits texts with known priors; the same for the same arguments.

    Args:
        vectors: the texts' vectors under the encoder.
        goals: a number per text; only texts of one goal are compared. All the same number where
            keys do not depend on the goal.
        log_priors: per text, the log-probability of each admissible action.
        config: size and training.
        generator: draws first weights and batches.
        encoder_sha256: which encoder the vectors are from.

    Raises:
        CacheError: if no two texts of one goal have priors that can be compared.
    """
    chosen = np.arange(len(vectors))
    if len(chosen) > config.most_texts:
        chosen = np.sort(generator.choice(chosen, config.most_texts, replace=False))
    members = [np.flatnonzero(goals[chosen] == goal) for goal in np.unique(goals[chosen])]
    groups = [group for group in members if len(group) > 1]
    spans = _spans_within(prior_table([log_priors[int(n)] for n in chosen]), groups)
    if not np.isfinite(spans).any():
        raise CacheError(
            f"No two of {len(chosen)} texts have one goal and priors over the same actions.",
            "A key head needs them: record more decisions.",
        )
    inputs = np.ascontiguousarray(vectors[chosen], np.float32)
    return Head(_fit(inputs, spans, groups, config, generator), encoder_sha256)


def _fit(
    inputs: Float32[ndarray, "texts features"],
    spans: Float32[ndarray, "texts texts"],
    groups: list[Int[ndarray, " members"]],
    config: HeadConfig,
    generator: np.random.Generator,
) -> Float32[ndarray, "keys features"]:
    """The weights after `config.steps` steps of Adam on `pair_loss`."""
    neighbours = _neighbours(inputs, groups, config.neighbourhood)
    first = generator.standard_normal((config.dim, inputs.shape[1])) / np.sqrt(config.dim)
    weight = torch.tensor(first, dtype=torch.float32, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=config.learning_rate)
    rows, targets = torch.from_numpy(inputs), torch.from_numpy(spans)
    for step in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.learning_rate * (1.0 - step / config.steps)
        batch = torch.from_numpy(_batch(groups, neighbours, config, generator))
        keys = torch.nn.functional.normalize(rows[batch] @ weight.T, dim=1)
        loss = pair_loss(keys, targets[batch][:, batch], config.kappa, config.margin)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight.detach().numpy()


def pair_loss(
    keys: Float[Tensor, "batch dim"],
    spans: Float[Tensor, "batch batch"],
    kappa: float,
    margin: float,
) -> Float[Tensor, ""]:
    """Weighted mean of (‖z − z′‖² − t)², t = min(2·span²/(8κ), 2), over pairs with a known span.

    Pairs weigh 1/(margin + t): near ones are what a cache reuses. A pair of KL bound κ or more
    should stand at right angles, which is as far apart as many keys can all be. 0 without pairs.
    """
    distances = 2.0 - 2.0 * keys @ keys.T
    known = ~spans.isnan()
    target = (spans.nan_to_num() ** 2 / (4.0 * kappa)).clamp(max=2.0)
    weight = known / (margin + target)
    error = (distances - target) ** 2
    return (weight * error).sum() / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def _spans_within(
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


def _neighbours(
    vectors: Float32[ndarray, "texts features"],
    groups: list[Int[ndarray, " members"]],
    count: int,
) -> Int[ndarray, "texts neighbours"]:
    """Each text's nearest texts of its group by cosine; itself where there are too few."""
    nearest = np.tile(np.arange(len(vectors))[:, None], count)
    for members in groups:
        similarity = vectors[members] @ vectors[members].T
        np.fill_diagonal(similarity, -np.inf)
        kept = min(count, len(members) - 1)
        nearest[members, :kept] = members[np.argsort(-similarity, kind="stable")[:, :kept]]
    return nearest


def _batch(
    groups: list[Int[ndarray, " members"]],
    neighbours: Int[ndarray, "texts neighbours"],
    config: HeadConfig,
    generator: np.random.Generator,
) -> Int[ndarray, " batch"]:
    """Texts of one group after another, in random order, each with some of its raw neighbours."""
    wanted = max(1, config.batch // (config.near + 1))
    anchors: list[int] = []
    for number in generator.permutation(len(groups)):
        room = wanted - len(anchors)
        if room <= 0:
            break
        anchors.extend(generator.permutation(groups[number])[:room])
    near = generator.integers(neighbours.shape[1], size=(len(anchors), config.near))
    return np.unique(
        np.concatenate([anchors, neighbours[np.array(anchors)[:, None], near].ravel()])
    )


def _damaged(path: Path, why: str) -> CacheError:
    return CacheError(f"The key head `{path}` {why}.", "Restore it from a copy, or train another.")
