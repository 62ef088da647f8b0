"""A LoRA adapter merged into a language model's weights: W + (alpha/r)·B·A.

All of an adapter is merged or it is refused: a pair that fits nothing, a matrix without its other
half or a tensor of some other kind would leave, silently, another model than the one that was
tuned. Done here and not by peft, whose import takes seconds and which multiplies in the precision
of the stored adapter.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cepcli.errors import PriorError
from cepcli.workspace.artifacts import read_json, sha256

_FILE = "adapter_model.safetensors"
_PREFIX, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_AGAIN = "Make it again: cep prior finetune --env ID --overwrite"
#: Settings of peft under which the change of a weight is something else than (alpha/r)·B·A.
_NOT_PLAIN_LORA = (
    "use_dora", "use_rslora", "use_qalora", "use_bdlora", "rank_pattern", "alpha_pattern",
    "modules_to_save", "layer_replication", "trainable_token_indices", "target_parameters",
    "lora_bias", "alora_invocation_tokens", "arrow_config", "kasa_config", "velora_config",
    "monteclora_config",
)  # fmt: skip
#: First values of an adapter that leave the base model as it was; others change its weights, too.
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")


def adapter_sha256(adapter: Path) -> str:
    """SHA-256 of an adapter's weights."""
    return sha256(adapter / _FILE)


def vocabulary_sha256(tokenizer: Any) -> str:
    """Says which pieces of text a model's token ids stand for."""
    pieces = sorted(tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(pieces).encode()).hexdigest()


def merge_adapter(model: Any, adapter: Path) -> None:
    """Merge the adapter in a directory into a model's float32 weights.

    Raises:
        PriorError: if there is none, it is damaged or no plain LoRA adapter, or a part of it does
            not fit the model; the weights are then as they were.
    """
    if not (adapter / _FILE).is_file():
        raise PriorError(f"`{adapter}` holds no adapter.", "Make one: cep prior finetune --env ID")
    config = _plain_lora(adapter)
    weights = _weights(adapter / _FILE)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise _misfit(adapter, f"its configuration says r={rank!r} and lora_alpha={alpha!r}")
    parameters = dict(model.named_parameters())
    changes = {}
    for name, product in _products(weights, rank, adapter).items():
        change = (alpha / rank) * product
        change = change.T if config.get("fan_in_fan_out") else change
        weight = parameters.get(f"{name}.weight")
        if weight is None:
            raise _misfit(adapter, f"the model has no layer {name} of its own")
        if weight.shape != change.shape:
            shapes = f"{tuple(change.shape)}, and the model's is {tuple(weight.shape)}"
            raise _misfit(adapter, f"it is for a {name} of shape {shapes}")
        changes[name] = change
    with torch.no_grad():
        for name, change in changes.items():
            parameters[f"{name}.weight"] += change


def _plain_lora(adapter: Path) -> dict[str, Any]:
    """The configuration of an adapter that is nothing but pairs of matrices."""
    config = read_json(adapter / "adapter_config.json")
    if not isinstance(config, dict):
        raise _misfit(adapter, "its adapter_config.json is not an object")
    unusual = [key for key in _NOT_PLAIN_LORA if config.get(key) not in (None, False, {}, [])]
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        unusual.append("init_lora_weights")
    if config.get("peft_type") != "LORA" or unusual:
        raise PriorError(
            f"`{adapter}` is not a plain LoRA adapter ({', '.join(unusual) or 'other peft_type'}).",
            "Make one: cep prior finetune --env ID",
        )
    return config


def _weights(path: Path) -> dict[str, Tensor]:
    """The tensors of an adapter, float32 and finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = {key: value.float() for key, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise PriorError(
            f"The adapter `{path}` is truncated or damaged ({error}); it was left untouched.",
            _AGAIN,
        ) from error
    broken = [key for key, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise PriorError(
            f"The adapter `{path}` contains NaN or infinity, in {_some(broken)}: its tuning "
            "diverged.",
            "Tune it again with a smaller learning_rate: cep prior finetune --env ID --overwrite "
            "--set learning_rate=1e-3",
        )
    return weights


def _products(weights: Mapping[str, Tensor], rank: int, adapter: Path) -> dict[str, Tensor]:
    """B·A by the name of the model's layer; every tensor belongs to one pair of matrices."""
    keys = [key for key in weights if key.startswith(_PREFIX) and key.endswith(_DOWN)]
    names = [key.removesuffix(_DOWN) for key in keys]
    expected = {name + half for name in names for half in (_DOWN, _UP)}
    lacking, left_over = sorted(expected - weights.keys()), sorted(weights.keys() - expected)
    if not names:
        found = f"only {_some(left_over)}" if left_over else "no tensor at all"
        raise _misfit(adapter, f"it holds no pair of LoRA matrices, {found}")
    if lacking:
        raise _misfit(adapter, f"it lacks {_some(lacking)}")
    if left_over:
        raise _misfit(adapter, f"nothing uses its {_some(left_over)}")
    products = {}
    for name in names:
        down, up = weights[name + _DOWN], weights[name + _UP]
        layer = name.removeprefix(_PREFIX)
        if down.ndim != 2 or up.ndim != 2 or not down.shape[0] == up.shape[1] == rank:
            shapes = f"{tuple(down.shape)} and {tuple(up.shape)}"
            raise _misfit(adapter, f"the matrices of {layer} have shapes {shapes}, but r is {rank}")
        products[layer] = up @ down
    return products


def _some(names: list[str]) -> str:
    """One name, and how many there are."""
    return names[0] if len(names) == 1 else f"{names[0]} ({len(names)} such in all)"


def _misfit(adapter: Path, why: str) -> PriorError:
    return PriorError(f"The adapter `{adapter}` does not fit its model: {why}.", _AGAIN)
