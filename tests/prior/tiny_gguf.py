"""Tiny GGUF files, written as llama.cpp's converters write them."""

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize

WIDTH, LAYERS = 32, 1
PIECES = ["▁go", "north", "left", "right", "red", "ball", "▁", *"gonrtheabldixspukc\n."]


def sentencepiece(writer, add_bos=None, space=None):
    """A vocabulary as Llama's: special tokens, bytes, pieces."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), *PIECES]
    types = [2, 3, 3] + [6] * 256 + [1] * len(PIECES)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(n) for n in range(len(PIECES))])
    writer.add_token_types(types)
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
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
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
