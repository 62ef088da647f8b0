"""A GGUF file as a language model: converted once into the user's cache folder, then loaded there.

transformers reads the file and dequantises it. What it would leave out or make up (a tensor that it
does not know, a weight that is not there, the token that begins a text) is checked, since the model
would be another one, and nobody would be told.
"""

import contextlib
import io
from pathlib import Path
from typing import Any

from cepcli.errors import PriorError
from cepcli.prior.local.gguf_header import GGUFHeader, read_header
from cepcli.prior.local.weight_hashes import known_hashes, not_loaded
from cepcli.workspace.packaged_models import folder_made_once, quiet_transformers
from cepcli.workspace.variables import cache_home

SUFFIX = ".gguf"
_RECIPE = 1  # of the conversion: part of the directory's name
#: Weights of fewer bits than this are quantised so coarsely that bfloat16 holds them.
_COARSE_BITS = 8
#: Splits of byte-level vocabularies for which llama.cpp begins a text with BOS by default.
_BOS_SPLITS = {
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
    "jina-v5-nano", "tekken", "chameleon",
}  # fmt: skip
_BOS_SETTINGS = ("bos_token_id", "add_bos_token")
#: Tensors of which transformers makes one of several, or none: mixtures of experts, and the heads
#: that predict more than the next token.
_COUNTED_OTHERWISE = ("_exps", "nextn")
_ELSEWHERE = (
    "Take the model as a directory or from a hub, or serve the file with llama.cpp's "
    "`llama-server`: --prior server:URL"
)


def is_gguf(name: str) -> bool:
    """Whether a prior's or a model's name is that of a GGUF file."""
    return name.lower().endswith(SUFFIX) or Path(name).expanduser().is_file()


def gguf_file(name: str) -> Path:
    """The file that a name means, or a `PriorError` if it is not there."""
    file = Path(name).expanduser()
    if not file.is_file():
        hint = "Give a GGUF file, a directory with a model, or a hub id."
        raise PriorError(f"There is no file `{name}`.", hint)
    return file


def gguf_directory(file: Path) -> tuple[Path, str]:
    """Where the model of a whole GGUF file is, or will be, and the SHA-256 of the file."""
    read_header(file)
    [digest] = known_hashes([file])
    return cache_home() / "gguf" / f"{digest[:32]}-{_RECIPE}", digest


def gguf_model(file: Path) -> tuple[Path, str]:
    """What `gguf_directory` says, after the model was converted if it is not there yet."""
    directory, digest = gguf_directory(file)
    return folder_made_once(directory, lambda target: convert(file, target)), digest


def convert(file: Path, target: Path) -> None:
    """Write the model of a GGUF file into a directory as transformers' `save_pretrained` does.

    Weights of under 8 bits become bfloat16, which holds a block's scale times few bits closely
    enough; others float32. Raises a `PriorError` where transformers cannot read it as it was meant.
    """
    import torch

    header = read_header(file)
    for key in ("tokenizer.ggml.model", "tokenizer.ggml.tokens"):
        if key not in header.settings:
            raise PriorError(
                f"`{file}` has no tokenizer: it lacks `{key}`.",
                "Convert the model again with its tokenizer, or take another file.",
            )
    # The conversion's own progress bar has no switch: it goes where nobody looks.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        try:
            model, tokenizer = _read(file)
        except Exception as error:  # transformers raises whatever its own errors happen to be
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's: the disk is full, say
            reason = " ".join(str(error).split()) or type(error).__name__
            raise PriorError(
                f"transformers cannot read the model `{file}` of architecture "
                f"`{header.settings['general.architecture']}`: {reason}",
                _ELSEWHERE,
            ) from error
        _check_whole(file, header, model)
        coarse = 8 * sum(header.tensors.values()) < _COARSE_BITS * model.num_parameters()
        model.to(torch.bfloat16 if coarse else torch.float32).save_pretrained(target)
        _save_tokenizer(tokenizer, header, file, target)
    for written in target.glob("*.safetensors"):
        written.chmod(0o644)  # safetensors lets only its owner read it


def _read(file: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        output_loading_info=True,
    )
    model, report = loaded
    absent = not_loaded(report)
    if absent:
        raise ValueError(f"it has no fitting weights for {absent[0]} ({len(absent)} such in all)")
    return model, tokenizer


def _check_whole(file: Path, header: GGUFHeader, model: Any) -> None:
    """Refuse a file of which transformers has left out a tensor; it does so without a word."""
    if any(mark in name for name in header.tensors for mark in _COUNTED_OTHERWISE):
        return
    taken = len({value.data_ptr() for value in model.state_dict().values()})
    if taken < len(header.tensors):
        rope = next((name for name in header.tensors if name.startswith("rope_")), None)
        which = f", among them not `{rope}`" if rope else ""
        raise PriorError(
            f"transformers reads only {taken} of the {len(header.tensors)} tensors of `{file}`"
            f"{which}: what it loads is another model.",
            _ELSEWHERE,
        )


def _save_tokenizer(tokenizer: Any, header: GGUFHeader, file: Path, target: Path) -> None:
    """Store the tokenizer so that it begins a text as the file says, also when it is read back."""
    from transformers import AutoTokenizer

    for begin in (_begin_with_bos, _begin_with_space):
        what, wanted, done = begin(tokenizer, header)
        if not done:
            raise PriorError(
                f"The tokenizer of `{file}` cannot be made to begin a text with"
                f"{'' if wanted else 'out'} {what}, as the file says.",
                _ELSEWHERE,
            )
    tokenizer.save_pretrained(target)
    stored = AutoTokenizer.from_pretrained(target, local_files_only=True)
    for text in ("x", " go north\n", "Put 12 red balls\n\n in the  box."):
        if stored(text).input_ids != tokenizer(text).input_ids:
            raise PriorError(
                f"The tokenizer of `{file}` is another one when it is stored and read back.",
                _ELSEWHERE,
            )


def _begin_with_bos(tokenizer: Any, header: GGUFHeader) -> tuple[str, bool, bool]:
    """What a text is to begin with, whether the file wants it, and whether it now is so.

    Where the file says nothing, llama.cpp decides by the vocabulary.
    """
    settings = header.settings
    number, wanted = (settings.get(f"tokenizer.ggml.{key}") for key in _BOS_SETTINGS)
    if wanted is None:
        wanted = settings["tokenizer.ggml.model"] == "llama"
        wanted = wanted or settings.get("tokenizer.ggml.pre") in _BOS_SPLITS
    wanted = bool(wanted)
    if (tokenizer("x").input_ids[:1] == [number]) != wanted and number is not None:
        tokenizer.add_bos_token = wanted
    return "BOS", wanted, (tokenizer("x").input_ids[:1] == [number]) == wanted


def _begin_with_space(tokenizer: Any, header: GGUFHeader) -> tuple[str, bool, bool]:
    """The same for the space that a sentencepiece vocabulary writes, unless told otherwise."""
    from tokenizers.pre_tokenizers import Metaspace

    wanted = bool(header.settings.get("tokenizer.ggml.add_space_prefix", True))
    if header.settings["tokenizer.ggml.model"] != "llama":
        return "a space", wanted, True

    def begins() -> bool:
        pieces = tokenizer.tokenize("x")
        return bool(pieces) and pieces[0].startswith("▁")

    split = tokenizer.backend_tokenizer.pre_tokenizer
    if begins() != wanted and isinstance(split, Metaspace):
        split.prepend_scheme = "first" if wanted else "never"
        tokenizer.backend_tokenizer.pre_tokenizer = split
    return "a space", wanted, begins() == wanted
