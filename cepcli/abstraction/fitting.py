"""Training of a state encoder, in three stages.

1. InfoNCE between states and their descriptions, on annotations.
2. Unlabelled states take their neighbours' labels where these agree; InfoNCE on all of them.
3. The same, and two more losses: the squared distance of two keys tells the squared span of their
   priors, and a head on the key predicts the discounted rewards that follow the state.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from numpy import ndarray
from scipy.signal import lfilter
from torch import Tensor

from cepcli.abstraction.state_encoder import ARRAYS, StateEncoder
from cepcli.errors import ConfigError
from cepcli.keys.config import AbstractionConfig

_VALUE_WIDTH = 32


class Labelled(NamedTuple):
    """States as standardised features, and their descriptions, for InfoNCE.

    Attributes:
        texts: which row of `vectors` describes each state; equal descriptions share a row.
        vectors: frozen embeddings of the distinct descriptions.
        codes: which phrase of each slot describes each state, below 0 where none is known.
        phrases: frozen embeddings of each slot's phrases.
    """

    inputs: Float32[ndarray, "states features"]
    texts: Int[ndarray, " states"]
    vectors: Float32[ndarray, "texts words"]
    codes: Int[ndarray, "states slots"]
    phrases: tuple[Float32[ndarray, "phrases words"], ...]


class Rewarded(NamedTuple):
    """States and the discounted rewards that followed them, standardised."""

    inputs: Float32[ndarray, "states features"]
    values: Float32[ndarray, " states"]


class KnownPriors(NamedTuple):
    """States whose priors are known: the spans of every pair, NaN for pairs that are not compared.

    `kappa` is the span²/8 at which two keys should stand 63 % of the way to a right angle, nats.
    """

    inputs: Float32[ndarray, "states features"]
    spans: Float32[ndarray, "states states"]
    kappa: float


class Losses(NamedTuple):
    """Of the last gradient step; a loss that was not asked for is 0."""

    contrast: float
    divergence: float
    value: float


class Fitter:
    """Weights in training; `stage` may be called again and again.

    `inputs` numbers describe a state, and `words` is the dimension of the descriptions' frozen
    embeddings. The generator draws first weights, batches and noise.
    """

    def __init__(
        self, inputs: int, words: int, config: AbstractionConfig, generator: np.random.Generator
    ) -> None:
        self._config = config
        self._generator = generator
        sizes = {
            "first": (config.hidden, inputs),
            "second": (config.hidden, config.hidden),
            "output": (config.dim, config.hidden),
            "text": (config.dim, words),
            "value_first": (_VALUE_WIDTH, config.dim),
            "value_second": (1, _VALUE_WIDTH),
        }
        self._weights = {name: self._drawn(size) for name, size in sizes.items()}
        self._weights["first_bias"] = torch.zeros(config.hidden)
        self._weights["second_bias"] = torch.zeros(config.hidden)
        self._weights["value_bias"] = torch.zeros(_VALUE_WIDTH)
        for weight in self._weights.values():
            weight.requires_grad_()

    def stage(
        self,
        labelled: Labelled,
        known: KnownPriors | None = None,
        rewarded: Rewarded | None = None,
    ) -> Losses:
        """`config.steps` gradient steps on InfoNCE, and on what else is given.

        Raises:
            ConfigError: if the training diverges.
        """
        config = self._config
        optimizer = torch.optim.Adam(
            self._weights.values(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        losses = Losses(0.0, 0.0, 0.0)
        with torch.inference_mode(False), torch.enable_grad():
            for step in range(config.steps):
                optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - step / config.steps)
                parts = [self._contrast(labelled), self._divergence(known), self._value(rewarded)]
                weights = (1.0, config.prior_weight, config.value_weight)
                loss = torch.stack([w * p for w, p in zip(weights, parts, strict=True)]).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses = Losses(*(float(part.detach()) for part in parts))
        if not all(np.isfinite(losses)):
            raise ConfigError(
                f"The training of the abstraction diverged at learning_rate "
                f"{config.learning_rate:g}.",
                "Set a smaller learning_rate, or leave the settings at their defaults.",
            )
        return losses

    def encoder(
        self,
        pairs: Int[ndarray, "pairs 2"],
        mean: Float32[ndarray, " inputs"],
        scale: Float32[ndarray, " inputs"],
    ) -> StateEncoder:
        """The encoder with the weights of now."""
        arrays = {"pairs": pairs.astype(np.float32), "mean": mean, "scale": scale}
        for name in ARRAYS.keys() - arrays.keys():
            arrays[name] = self._weights[name].detach().numpy().copy()
        return StateEncoder.of({name: arrays[name] for name in ARRAYS})

    def values(self, inputs: Float32[ndarray, "states features"]) -> Float[ndarray, " states"]:
        """What the value head predicts, standardised."""
        with torch.no_grad():
            return self._value_of(self._keys(torch.from_numpy(inputs))).numpy().astype(np.float64)

    def _contrast(self, labelled: Labelled) -> Tensor:
        rows = self._batch(len(labelled.inputs))
        texts = labelled.texts[rows]
        vectors = torch.from_numpy(labelled.vectors[texts])
        described = torch.nn.functional.normalize(vectors @ self._weights["text"].T, dim=1)
        keys = self._keys(self._noisy(labelled.inputs[rows]))
        same = torch.from_numpy(texts[:, None] == texts)
        whole = contrastive_loss(keys, described, same, self._config.temperature)
        return whole + self._slot_contrast(keys, labelled.codes[rows], labelled.phrases)

    def _slot_contrast(
        self,
        keys: Float[Tensor, "batch dim"],
        codes: Int[ndarray, "batch slots"],
        phrases: Sequence[Float32[ndarray, "phrases words"]],
    ) -> Float[Tensor, ""]:
        """InfoNCE between states and the phrases of each slot, mean over slots."""
        losses = []
        for column, vectors in zip(codes.T, phrases, strict=True):
            known = torch.from_numpy(column >= 0)
            table = torch.nn.functional.normalize(
                torch.from_numpy(vectors) @ self._weights["text"].T, dim=1
            )
            logits = keys[known] @ table.T / self._config.temperature
            labels = torch.from_numpy(column[column >= 0])
            if len(labels):
                losses.append(torch.nn.functional.cross_entropy(logits, labels))
        if not losses:
            return torch.zeros(())
        return self._config.slot_weight * torch.stack(losses).mean()

    def _divergence(self, known: KnownPriors | None) -> Tensor:
        if known is None:
            return torch.zeros(())
        rows = self._batch(len(known.inputs))
        spans = torch.from_numpy(known.spans[np.ix_(rows, rows)])
        keys = self._keys(self._noisy(known.inputs[rows]))
        return divergence_loss(keys, spans, known.kappa, self._config.lost_hit)

    def _value(self, rewarded: Rewarded | None) -> Tensor:
        if rewarded is None:
            return torch.zeros(())
        rows = self._batch(len(rewarded.inputs))
        error = self._value_of(self._keys(self._noisy(rewarded.inputs[rows])))
        return ((error - torch.from_numpy(rewarded.values[rows])) ** 2).mean()

    def _keys(self, inputs: Tensor) -> Tensor:
        weights = self._weights
        hidden = (inputs @ weights["first"].T + weights["first_bias"]).relu()
        hidden = (hidden @ weights["second"].T + weights["second_bias"]).relu()
        return torch.nn.functional.normalize(hidden @ weights["output"].T, dim=1)

    def _value_of(self, keys: Tensor) -> Tensor:
        weights = self._weights
        hidden = (keys @ weights["value_first"].T + weights["value_bias"]).relu()
        return (hidden @ weights["value_second"].T)[:, 0]

    def _noisy(self, inputs: Float32[ndarray, "batch features"]) -> Tensor:
        noise = self._generator.standard_normal(inputs.shape, dtype=np.float32)
        return torch.from_numpy(inputs + self._config.noise * noise)

    def _batch(self, count: int) -> Int[ndarray, " batch"]:
        return self._generator.permutation(count)[: self._config.batch]

    def _drawn(self, size: tuple[int, int]) -> Tensor:
        """First weights: He's for what follows a relu, which is no worse for the others."""
        drawn = self._generator.standard_normal(size) * np.sqrt(2.0 / size[1])
        return torch.from_numpy(drawn.astype(np.float32))


def contrastive_loss(
    keys: Float[Tensor, "batch dim"],
    described: Float[Tensor, "batch dim"],
    same: Bool[Tensor, "batch batch"],
    temperature: float,
) -> Float[Tensor, ""]:
    """InfoNCE both ways, mean over the batch; states of the same description are no negatives.

    −log exp(z·t/T) / Σ_j exp(z·t_j/T), over the own description and those that differ from it.
    """
    logits = keys @ described.T / temperature
    others = same & ~torch.eye(len(same), dtype=torch.bool)
    logits = logits.masked_fill(others, -torch.inf)
    right = logits.diagonal()
    return (logits.logsumexp(1) + logits.logsumexp(0) - 2.0 * right).mean() / 2.0


def divergence_loss(
    keys: Float[Tensor, "batch dim"],
    spans: Float[Tensor, "batch batch"],
    kappa: float,
    lost_hit: float,
) -> Float[Tensor, ""]:
    """Mean of w·(‖z − z′‖² − t)², t = 2·(1 − exp(−span²/(8κ))), over pairs with a known span.

    w is 1 for keys that are nearer than t, for a cache would then answer wrongly, and `lost_hit`
    for keys that are further apart, where it would only ask in vain. 0 without pairs.
    """
    known = ~spans.isnan()
    target = -2.0 * torch.expm1(-(spans.nan_to_num() ** 2) / (8.0 * kappa))
    error = 2.0 - 2.0 * keys @ keys.T - target
    weight = known * torch.where(error < 0.0, 1.0, lost_hit)
    return (weight * error**2).sum() / known.sum().clamp_min(1)


def discounted(
    rewards: Sequence[Float[ndarray, " steps"]], discount: float
) -> list[Float[ndarray, " steps"]]:
    """Σ_k discount^k·r_{t+k} within each episode."""
    summed = (np.asarray(lfilter([1.0], [1.0, -discount], part[::-1])) for part in rewards)
    return [values[::-1] for values in summed]
