"""Tiny language models with a tokenizer of each kind, trained on a few sentences."""

import json

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SENTENCES = [
    "An agent walks through a grid world and sees what lies ahead of it.\n",
    "Goal: go to the red ball\nYou see a wall and a red ball.\nNext action: go north\n",
    "Goal: go to the key\nYou see a key.\nNext action: go north east\n",
    "Goal: open the door\nYou see nothing.\nNext action: turn left\nNext action: toggle\n",
] * 4
SPECIAL = ["<unk>", "<s>", "</s>"]
VOCABULARY = 400
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _special(tokenizer, before, after):
    pieces = [*before, "$A", *after]
    ids = [(token, tokenizer.token_to_id(token)) for token in {*before, *after}]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(pieces), special_tokens=ids
    )
    return tokenizer


def _byte_level(before=(), after=()):
    """As of Llama 3 and GPT-2: bytes, cut by a regular expression."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet
    )
    made.train_from_iterator(SENTENCES, trainer)
    return _special(made, before, after)


def _merges(vocabulary):
    """Every pair that makes a piece, as sentencepiece merges them."""
    made = [
        (number, vocabulary[piece[:cut]], vocabulary[piece[cut:]], piece[:cut], piece[cut:])
        for piece, number in vocabulary.items()
        if piece not in SPECIAL + BYTES
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    return [(left, right) for *_, left, right in sorted(made)]


def _sentencepiece(prefix, before=(), after=()):
    """As of Llama 2 (a blank before each text) and Gemma (none): no cuts, byte fallback."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[*SPECIAL, *BYTES])
    lines = [line for sentence in SENTENCES for line in sentence.split("\n")]
    trained.train_from_iterator(lines, trainer)
    vocabulary = json.loads(trained.to_str())["model"]["vocab"]
    made = Tokenizer(
        models.BPE(
            vocabulary, _merges(vocabulary), unk_token="<unk>", byte_fallback=True, fuse_unk=True
        )
    )
    steps = [normalizers.Prepend("▁")] if prefix else []
    made.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    ends = [decoders.Strip(" ", 1, 0)] if prefix else []
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *ends]
    )
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return _special(made, before, after)


def _unigram():
    """As of T5: EOS behind every text."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Metaspace(prepend_scheme="first")]
    )
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(SENTENCES, trainer)
    return _special(made, (), ("</s>",))


def _crossing(before=()):
    """Nothing is cut: a token may hold the end of a prompt and the beginning of an action."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL)
    made.train_from_iterator(SENTENCES, trainer)
    made.decoder = decoders.Fuse()
    return _special(made, before, ())


KINDS = {
    "byte-level": _byte_level,
    "byte-level, BOS": lambda: _byte_level(("<s>",)),
    "byte-level, BOS and EOS": lambda: _byte_level(("<s>",), ("</s>",)),
    "sentencepiece, prefix blank": lambda: _sentencepiece(prefix=True),
    "sentencepiece, prefix blank, BOS": lambda: _sentencepiece(True, ("<s>",)),
    "sentencepiece, no prefix blank, BOS": lambda: _sentencepiece(False, ("<s>",)),
    "unigram, EOS": _unigram,
    "merges over the border": _crossing,
    "merges over the border, BOS": lambda: _crossing(("<s>",)),
}


def save_tiny(folder, tokenizer, seed=0):
    """A directory that transformers loads, with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    shape = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=32,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=512, initializer_range=0.4, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    return folder
