"""Loading a model: what is incomplete, damaged or no causal language model is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from cepcli.errors import PriorError
from cepcli.prior.local.embedded import SMOLLM2
from cepcli.prior.local.language_model import load_language_model

SHAPE = {"vocab_size": 49152, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
         "num_attention_heads": 1, "num_key_value_heads": 1}  # fmt: skip
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def tiny(tmp_path, made_once):
    """A directory with a tiny causal language model whose output layer is tied."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path / "tiny"

    def make():
        LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True)).save_pretrained(folder)
        AutoTokenizer.from_pretrained(SMOLLM2.path()).save_pretrained(folder)

    made_once("tied", folder, make)
    return folder


def without(folder, name, put=None):
    """Take a weight out of a model, or put another there."""
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    if put is not None:
        weights[name] = put
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_tied_output_layer_is_not_missing(tiny):
    assert "lm_head.weight" not in load_file(tiny / "model.safetensors")
    model = load_language_model(str(tiny), dtype="float32").model
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_an_untied_output_layer_is_missing_when_it_is_not_there(tiny):
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    with pytest.raises(PriorError, match=r"lm_head\.weight"):
        load_language_model(str(tiny))


@pytest.mark.parametrize("put", [None, torch.zeros(3, 3)])
def test_missing_and_misshapen_weights_are_named(tiny, put):
    without(tiny, UP, put)
    with pytest.raises(PriorError, match=r"up_proj\.weight \(1 such in all\)") as error:
        load_language_model(str(tiny))
    assert str(tiny) in error.value.message
    assert "--prior embedded" in error.value.hint


def test_a_text_encoder_is_no_language_model():
    from cepcli.keys.encoder import MINILM, MiniLM

    MiniLM()
    with pytest.raises(PriorError, match=r"BertLMHeadModel .*cls\.predictions") as error:
        load_language_model(str(MINILM.directory))
    assert str(MINILM.directory) in error.value.message


def test_truncated_weights_are_refused(tiny):
    truncate(tiny / "model.safetensors")
    with pytest.raises(PriorError, match="could not be loaded") as error:
        load_language_model(str(tiny))
    assert str(tiny) in error.value.message


@pytest.mark.parametrize("damage", ["truncated", "incomplete"])
def test_a_damaged_embedded_model_says_what_to_delete(tiny, monkeypatch, damage):
    if damage == "truncated":
        truncate(tiny / "model.safetensors")
    else:
        without(tiny, UP)
    monkeypatch.setenv("CEP_CACHE", str(tiny.parent))
    tiny.rename(SMOLLM2.package.directory)
    with pytest.raises(PriorError, match="`embedded`") as error:
        load_language_model("embedded")
    assert str(SMOLLM2.package.directory) in error.value.message
    assert error.value.hint.endswith(f"rm -r {SMOLLM2.package.directory}")


@pytest.fixture
def adapter(tmp_path):
    """An adapter of rank 1 for `tiny`'s up-projection."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 2.0}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model." + UP.removesuffix(".weight")
    weights = {f"{name}.lora_A.weight": torch.ones(1, 8), f"{name}.lora_B.weight": torch.ones(8, 1)}
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def test_an_adapter_is_merged(tiny, adapter):
    before = load_file(tiny / "model.safetensors")[UP]
    model = load_language_model(str(tiny), dtype="float32", adapter=adapter).model
    torch.testing.assert_close(model.get_parameter(UP).data, before + 2.0)


def test_a_truncated_adapter_is_refused(tiny, adapter):
    file = adapter / "adapter_model.safetensors"
    truncate(file)
    with pytest.raises(PriorError, match="truncated or damaged") as error:
        load_language_model(str(tiny), adapter=adapter)
    assert str(file) in error.value.message
    assert "cep prior finetune" in error.value.hint


def test_an_adapter_of_another_model_is_refused(tiny, adapter):
    weights = load_file(adapter / "adapter_model.safetensors")
    other = {name.replace("layers.0", "layers.5"): w for name, w in weights.items()}
    save_file(other, adapter / "adapter_model.safetensors")
    with pytest.raises(PriorError, match="does not fit its model"):
        load_language_model(str(tiny), adapter=adapter)


@pytest.mark.filterwarnings("ignore")  # peft's and torch's own
def test_an_adapter_on_transposed_layers_is_merged_as_peft_applies_it(tmp_path):
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    from cepcli.prior.config import FinetuneConfig
    from cepcli.prior.tuning.lora import Adapter

    folder, kept = tmp_path / "gpt2", tmp_path / "adapter"
    shape = GPT2Config(vocab_size=49152, n_embd=8, n_layer=1, n_head=1, n_positions=16)
    GPT2LMHeadModel(shape).save_pretrained(folder)
    AutoTokenizer.from_pretrained(SMOLLM2.path()).save_pretrained(folder)
    tuned = load_language_model(str(folder), dtype="float32")
    adapter = Adapter(tuned, FinetuneConfig(rank=2, targets=("c_attn", "c_proj")))
    random = torch.Generator().manual_seed(0)
    for parameter in adapter.parameters.values():
        made = torch.randn(parameter.shape, generator=random).to(torch.bfloat16)
        parameter.data.copy_(made)
    kept.mkdir()
    adapter.save(kept)
    ids = torch.tensor([[1, 2, 3]])
    merged = load_language_model(str(folder), dtype="float32", adapter=kept)
    torch.testing.assert_close(
        merged.model(ids).logits, tuned.model(ids).logits, atol=1e-4, rtol=1e-4
    )


def test_layers_that_a_model_lacks_are_no_targets(tiny):
    from cepcli.prior.config import FinetuneConfig
    from cepcli.prior.tuning.lora import Adapter

    model = load_language_model(str(tiny), dtype="float32")
    with pytest.raises(PriorError, match=r"`c_attn`, but .* no such linear layer, only") as told:
        Adapter(model, FinetuneConfig(targets=("v_proj", "c_attn")))
    assert "down_proj, gate_proj, k_proj" in told.value.message
    assert """--set 'targets=["down_proj", """ in told.value.hint
