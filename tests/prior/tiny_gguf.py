"""Tiny GGUF files, written as llama.cpp's converters write them."""

from typing import NamedTuple

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize

from tests.prior.tiny import BYTES, SPECIAL

WIDTH = 32
PIECES = ["▁go", "north", "left", "right", "red", "ball", "▁", *"gonrtheabldixspukc\n."]


class Shape(NamedTuple):
    """What the header says of a model."""

    context: int = 64
    width: int = WIDTH
    layers: int = 1
    hidden: int = WIDTH
    heads: int = 2
    kv_heads: int = 2
    epsilon: float = 1e-6
    rope_base: float = 10000.0


def sentencepiece(writer, add_bos=None, space=None):
    """A vocabulary as Llama's: special tokens, bytes, pieces."""
    return _sentencepiece(writer, [*SPECIAL, *BYTES, *PIECES], add_bos, space)


def _sentencepiece(writer, tokens, add_bos, space):
    """The earlier of two merges is the better one."""
    kind = {**dict.fromkeys(SPECIAL, 3), "<unk>": 2, **dict.fromkeys(BYTES, 6)}
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    writer.add_token_types([kind.get(token, 1) for token in tokens])
    writer.add_unk_token_id(0)
    if space is not None:
        writer.add_add_space_prefix(space)
    _special(writer, 1, 2, add_bos)
    return len(tokens)


def byte_level(writer, add_bos=None, split="default"):
    """A vocabulary of bytes and two merges, as GPT-2's."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokens = ["<|s|>", *bytes_to_unicode().values(), "go", "Ġgo"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["g o", "Ġ go"])
    _special(writer, 0, 0, add_bos)
    return len(tokens)


def _special(writer, bos, eos, add_bos):
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(eos)
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)


def write(
    path, vocabulary=sentencepiece, *, architecture="llama", quantise=None, left_out=(), extra=(),
    settings=None, **tokens,
):  # fmt: skip
    """Write a model of one layer with random weights; returns the path."""
    writer = _begun(path, Shape(), architecture)
    for key, value in (settings or {}).items():
        writer.add_uint16(key, value)
    size = 64 if vocabulary is None else vocabulary(writer, **tokens)
    shapes = {"token_embd": (size, WIDTH), "output_norm": (WIDTH,), "output": (size, WIDTH)}
    square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes |= {f"blk.0.{name}": (WIDTH, WIDTH) for name in square}
    shapes |= {f"blk.0.{name}": (WIDTH,) for name in ("attn_norm", "ffn_norm")}
    shapes |= dict.fromkeys(extra, (WIDTH,))
    random = np.random.default_rng(0)
    for name, shape in shapes.items():
        if name not in left_out:
            values = random.standard_normal(shape).astype(np.float32)
            _add(writer, f"{name}.weight", values, quantise if len(shape) == 2 else None)
    return _ended(writer, path)


def save(path, model, tokenizer):
    """Write a model of transformers, and its vocabulary of sentencepiece; returns the path."""
    config = model.config
    shape = Shape(
        config.max_position_embeddings, config.hidden_size, config.num_hidden_layers,
        config.intermediate_size, config.num_attention_heads, config.num_key_value_heads,
        config.rms_norm_eps,
    )  # fmt: skip
    writer = _begun(path, shape, "llama")
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    _sentencepiece(writer, pieces, add_bos=True, space=True)
    for name, weight in model.state_dict().items():
        weight = weight.float().numpy()
        for part, count in (("q_proj", shape.heads), ("k_proj", shape.kv_heads)):
            if part in name:  # rotated in pairs of neighbours there
                rows = weight.reshape(count, 2, -1, weight.shape[1]).swapaxes(1, 2)
                weight = rows.reshape(weight.shape)
        for theirs, ours in _NAMES.items():
            name = name.replace(theirs, ours)
        writer.add_tensor(name, weight)
    return _ended(writer, path)


_NAMES = {
    "model.embed_tokens": "token_embd", "model.layers": "blk", "model.norm": "output_norm",
    "lm_head": "output", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


def _begun(path, shape, architecture):
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    return writer


def _ended(writer, path):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer, name, values, kind):
    if kind is None:
        writer.add_tensor(name, values)
    else:
        kind = GGMLQuantizationType[kind]
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
