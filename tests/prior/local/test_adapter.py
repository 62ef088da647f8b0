"""Merging an adapter: all of it changes the model, or it is refused in a sentence."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cepcli.errors import PriorError
from cepcli.prior.local.adapter import merge_adapter
from cepcli.workspace.variables import shipped_root

UP = "base_model.model.layers.0.up"


class Model(nn.Module):
    """Two layers that an adapter may change."""

    def __init__(self):
        super().__init__()
        layer = nn.ModuleDict({"up": nn.Linear(3, 4, bias=False), "down": nn.Linear(4, 3)})
        self.layers = nn.ModuleList([layer])


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def adapter(tmp_path):
    """Of rank 2, for the layer `up` alone."""
    write(tmp_path, {f"{UP}.lora_A.weight": torch.ones(2, 3),
                     f"{UP}.lora_B.weight": torch.ones(4, 2)})  # fmt: skip
    configure(tmp_path)
    return tmp_path


def write(folder, weights):
    save_file(weights, folder / "adapter_model.safetensors")


def configure(folder, **settings):
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 1.0, "init_lora_weights": True}
    (folder / "adapter_config.json").write_text(json.dumps(config | settings))


def changed(folder, **tensors):
    """Put tensors into the adapter; None takes one out."""
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    for name, value in tensors.items():
        weights.pop(name, None)
        if value is not None:
            weights[name] = value
    write(folder, weights)


def refused(model, folder, match):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(PriorError, match=match) as error:
        merge_adapter(model, folder)
    assert str(folder) in error.value.message
    assert "cep prior finetune" in error.value.hint
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_pair_changes_its_weight_by_the_scaled_product(model, adapter):
    before = model.layers[0]["up"].weight.detach().clone()
    merge_adapter(model, adapter)
    torch.testing.assert_close(model.layers[0]["up"].weight.detach(), before + 1.0)


def test_keys_of_another_kind_merge_nothing_and_are_refused(model, adapter):
    write(adapter, {f"{UP}.lora_A.default.weight": torch.ones(2, 3),
                    f"{UP}.lora_B.default.weight": torch.ones(4, 2)})  # fmt: skip
    refused(model, adapter, r"no pair of LoRA matrices, only .*default\.weight \(2 such in all\)")
    write(adapter, {})
    refused(model, adapter, "no pair of LoRA matrices, no tensor at all")


@pytest.mark.parametrize("half", ["lora_A", "lora_B"])
def test_half_a_pair_is_refused(model, adapter, half):
    other = {"lora_A": "lora_B", "lora_B": "lora_A"}[half]
    extra = f"base_model.model.layers.0.down.{half}.weight"
    changed(adapter, **{extra: torch.ones(2, 4) if half == "lora_A" else torch.ones(3, 2)})
    word = {"lora_A": "it lacks", "lora_B": "nothing uses its"}[half]
    named = extra.replace(half, other) if half == "lora_A" else extra
    refused(model, adapter, f"{word} {named}")


@pytest.mark.parametrize(
    "left_over",
    [
        "base_model.model.layers.0.down.bias",
        "base_model.model.embed_tokens.lora_embedding_A",
        "layers.0.down.lora_A.weight",  # of another library: no prefix
    ],
)
def test_what_is_left_over_is_refused(model, adapter, left_over):
    changed(adapter, **{left_over: torch.ones(2, 4)})
    refused(model, adapter, "does not fit its model: (nothing uses its|it lacks)")


def test_layers_that_the_model_lacks_are_refused(model, adapter):
    for half, shape in (("lora_A", (2, 3)), ("lora_B", (4, 2))):
        changed(adapter, **{f"base_model.model.layers.7.up.{half}.weight": torch.ones(shape)})
    refused(model, adapter, r"has no layer layers\.7\.up")


@pytest.mark.parametrize("width", [1, 5])
def test_another_shape_is_refused_also_where_it_could_be_stretched(model, adapter, width):
    """As an output layer of another vocabulary has; one of a single row would fit every other."""
    changed(adapter, **{f"{UP}.lora_B.weight": torch.ones(width, 2)})
    refused(model, adapter, rf"of shape \({width}, 3\), and the model's is \(4, 3\)")


def test_another_rank_than_the_configured_is_refused(model, adapter):
    configure(adapter, r=4)
    refused(model, adapter, r"shapes \(2, 3\) and \(4, 2\), but r is 4")
    configure(adapter, r=None)
    refused(model, adapter, "r=None")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(model, adapter, value):
    changed(adapter, **{f"{UP}.lora_B.weight": torch.full((4, 2), value)})
    refused(
        model, adapter, r"contains NaN or infinity, in .*up\.lora_B\.weight: its tuning diverged"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"peft_type": "IA3"},
        {"use_dora": True},
        {"use_qalora": True},
        {"rank_pattern": {"up": 8}},
        {"lora_bias": True},
        {"trainable_token_indices": [1, 2]},
        {"layer_replication": [[0, 1], [0, 1]]},
        {"init_lora_weights": "pissa"},  # changes the base model's own weights, too
    ],
    ids=str,
)
def test_what_is_more_than_pairs_of_matrices_is_refused(model, adapter, settings):
    configure(adapter, **settings)
    refused(model, adapter, "not a plain LoRA adapter")


@pytest.mark.parametrize("start", ["gaussian", "eva", "orthogonal"])
def test_an_adapter_may_have_started_anywhere(model, adapter, start):
    configure(adapter, init_lora_weights=start)
    merge_adapter(model, adapter)


PRIORS = sorted(path.parent.name for path in shipped_root().glob("prior/*/prior.json"))


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_that_ships_has_a_pair_for_every_layer_that_it_names(name):
    folder = shipped_root() / "prior" / name
    config = json.loads((folder / "adapter_config.json").read_text())
    weights = load_file(folder / "adapter_model.safetensors")
    layers = {key.rpartition(".lora_")[0] for key in weights}
    assert len(weights) == 2 * len(layers) == 2 * 30 * len(config["target_modules"])
    assert all(value.isfinite().all() for value in weights.values())
