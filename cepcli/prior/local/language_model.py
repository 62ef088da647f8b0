"""Loading a causal language model: embedded, a local directory or GGUF file, or from a model hub.

Everything that knows about devices, precision, revisions and adapters is here; scoring and tuning
take a `LanguageModel` and do not care where it came from.
"""

import platform
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cepcli.device import resolve_device
from cepcli.errors import PriorError
from cepcli.prior.base import Prompt
from cepcli.prior.local.adapter import adapter_sha256, merge_adapter
from cepcli.prior.local.embedded import EMBEDDED_MODELS
from cepcli.prior.local.gguf import gguf_file, gguf_model, is_gguf
from cepcli.prior.local.token_tree import Branch
from cepcli.prior.local.weight_hashes import directory_revision, not_loaded
from cepcli.prior.local.whole_text import PROBES, Borders, Ends, ended, find_ends
from cepcli.prior.server.address import is_server
from cepcli.workspace.packaged_models import quiet_transformers

_HUB_SECONDS = 5.0
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal language model with its tokenizer, and what identifies it.

    Attributes:
        model: the transformers (or peft) module, in evaluation mode.
        name: that of an embedded model, a path or a hub id.
        revision: sha256 over the weights of a local model, or of its GGUF file; the commit of one
            from a hub.
        adapter_sha256: of the adapter's weights that were merged, or "".
        dtype: name of the precision of the weights and of the computation.
        ends: special tokens that the tokenizer puts around a text.
        borders: how whole texts part from their prompts.
    """

    model: Any
    tokenizer: Any
    name: str
    revision: str
    adapter_sha256: str
    dtype: str
    device: torch.device
    ends: Ends
    borders: Borders

    @property
    def torch_dtype(self) -> torch.dtype:
        """The precision as torch names it."""
        return _DTYPES[self.dtype]

    @property
    def text_config(self) -> Any:
        """The configuration of what reads text; a model of images, too, nests it in its own."""
        return self.model.config.get_text_config()

    def encode(self, text: str) -> list[int]:
        """Token ids of a text that goes on: with what the tokenizer puts before it, not behind."""
        return self.ends.strip(self.tokenizer(text, verbose=False).input_ids)

    def count(self, text: str) -> int:
        """How many tokens a text has, special ones around it not counted."""
        return self.ends.plain(self.tokenizer(text, verbose=False).input_ids)

    def branch(self, prompt: Prompt, actions: Sequence[str]) -> Branch:
        """Prompt and actions as tokens of the whole texts, see `cepcli.prior.local.whole_text`.

        Raises:
            PriorError: if an action cannot be scored after the prompt, or all is too long.
        """
        text = prompt.prefix + prompt.state
        tokens = self.encode(text)
        new = self.borders.unknown(text, tokens, actions)
        texts = [text + ended(action) for action in new]
        ids = self.tokenizer(texts, verbose=False).input_ids if texts else []
        whole = dict(zip(new, map(self.ends.strip, ids), strict=True))
        splits = self.borders.splits(text, tokens, actions, whole)
        self.check_context(len(tokens) + max(len(split.action) for split in splits))
        return Branch(tokens, [s.action for s in splits], [s.dropped for s in splits])

    def check_context(self, needed: int) -> None:
        """Refuse what the model has no positions for; it would answer something.

        Raises:
            PriorError: if a prompt and what follows it take more tokens than the model does.
        """
        context = getattr(self.text_config, "max_position_embeddings", None)
        if context is not None and needed > context:
            raise PriorError(
                f"A prompt needs {needed} tokens with what follows it, but `{self.name}` takes "
                f"{context}.",
                "Set `text_tokens` (of a run: `llm.text_tokens`) lower, so that texts are "
                "shortened, or take a model that takes more.",
            )


def load_language_model(
    name: str, *, dtype: str = "auto", device: str = "cpu", adapter: Path | None = None
) -> LanguageModel:
    """Load `name`: an embedded model, a directory, a GGUF file or a hub id; `adapter` merged in.

    Raises:
        PriorError: if there is no such model or adapter, or the device is not there.
    """
    place = resolve_device(device)
    precision = resolve_dtype(dtype, place)
    check_source(name)
    path, revision = _local(name)
    first = torch.float32 if adapter else _DTYPES[precision]
    with quiet_transformers():
        model, tokenizer = _from_pretrained(name, str(path or name), first)
        if adapter:
            merge_adapter(model, adapter)
            model = model.to(_DTYPES[precision])
    model.requires_grad_(False).eval().to(place)
    plain, broken = (tokenizer(text, add_special_tokens=False).input_ids for text in PROBES)
    # most tokenizers are of byte-pair encoding, which merges pairs
    merges = type(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)).__name__
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        name=name,
        revision=revision or str(model.config._commit_hash or ""),
        adapter_sha256=adapter_sha256(adapter) if adapter else "",
        dtype=precision,
        device=place,
        ends=find_ends(name, plain, tokenizer(PROBES[0]).input_ids, broken),
        borders=Borders(name, remember=merges == "BPE"),
    )


def check_source(name: str) -> None:
    """Refuse what is no language model that could be loaded; nothing is fetched or read.

    Raises:
        PriorError: if a server holds it, or it is a path without a model.
    """
    if is_server(name):
        raise PriorError(
            f"`{name}` is served elsewhere: its weights are not here to be loaded or tuned.",
            "Tune a model from a directory or a hub, --set model=PATH, and serve the result.",
        )
    path = Path(name).expanduser()
    if path.is_dir():
        wrong = not (path / "config.json").is_file()
    else:
        is_path = path.exists() or path.is_absolute() or name.startswith((".", "~"))
        wrong = is_path and not is_gguf(name)
    if wrong and name not in EMBEDDED_MODELS:
        lacks = "it has no config.json" if path.is_dir() else "it is not a directory"
        raise PriorError(
            f"`{name}` is not a language model: {lacks}.",
            "Give a directory that transformers' `save_pretrained` wrote.",
        )


def resolve_dtype(dtype: str, device: torch.device) -> str:
    """The precision that "auto" means here: bfloat16 where it is native, else float32."""
    if dtype != "auto":
        return dtype
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if _cpu_has_bfloat16() else "float32"


def _cpu_has_bfloat16() -> bool:
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _local(name: str) -> tuple[Path | None, str]:
    """The directory that `name` means and its revision; none when it can only be a hub id.

    A GGUF file's revision is that of the file, whatever it was converted into: its tokens count.
    """
    if name in EMBEDDED_MODELS:
        path = EMBEDDED_MODELS[name].path()
        return path, directory_revision(path)
    path = Path(name).expanduser()
    if path.is_dir():
        return path, directory_revision(path)
    return gguf_model(gguf_file(name)) if is_gguf(name) else (None, "")


def _from_pretrained(name: str, source: str, dtype: torch.dtype) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = f"`{name}`" if name == source else f"`{name}` in `{source}`"
    hint = (
        f"Delete the folder, and it is made again: rm -r {source}"
        if name in EMBEDDED_MODELS or is_gguf(name)
        else "A directory needs config, weights and tokenizer of a causal language model; a hub "
        "id needs the network. Without either: --prior embedded"
    )
    try:
        local = Path(source).is_dir() or not _hub_answers()
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, local_files_only=local,
            output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
        model, report = loaded
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().split("\n", 1)[0]
        message = f"The language model {where} could not be loaded: {first}"
        raise PriorError(message, hint) from error
    absent = not_loaded(report)
    if absent:
        raise PriorError(
            f"{where} is not a complete causal language model: as a {type(model).__name__} it has "
            f"no fitting weights for {absent[0]} ({len(absent)} such in all).",
            hint,
        )
    return model, tokenizer


def _hub_answers() -> bool:
    """Whether the model hub can be reached; its own client would try for a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_HUB_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True  # an answer, if an unfriendly one
    except OSError:
        return False
