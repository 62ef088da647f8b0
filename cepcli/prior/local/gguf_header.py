"""What a GGUF file says of itself: its settings and where its tensors lie; no tensor is read.

The `gguf` package reads all of it, too, but takes a minute for a vocabulary of 262,144 pieces.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from cepcli.errors import PriorError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
#: `struct` formats of the values of fixed size, by type number.
_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_ALIGNMENT = 32  # unless the file says otherwise


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """The settings of a file by key, of an array only its length, and the bytes of each tensor."""

    settings: dict[str, Any]
    tensors: dict[str, int]


def read_header(path: Path) -> GGUFHeader:
    """The header of a complete GGUF file.

    Raises:
        PriorError: if it is no GGUF file, not a whole one, or one of several parts.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header, end = _read(file, path)
    except OSError as error:
        raise PriorError(f"Cannot read the model `{path}`: {error.strerror}.") from error
    except (struct.error, UnicodeDecodeError, KeyError, MemoryError, OverflowError) as error:
        raise _truncated(path, "its header ends early or is damaged") from error
    if end > size:
        raise _truncated(path, f"it has {size:,} bytes and should have {end:,}")
    parts = header.settings.get("split.count", 1)
    if parts > 1:
        raise PriorError(
            f"`{path}` is one of the {parts} parts of a model.",
            "Join them with llama.cpp: llama-gguf-split --merge FIRST-PART.gguf MODEL.gguf",
        )
    return header


def _read(file: BinaryIO, path: Path) -> tuple[GGUFHeader, int]:
    """The header, and the position at which the last tensor ends."""
    if file.read(4) != _MAGIC:
        raise PriorError(
            f"`{path}` is not a GGUF file: it does not begin with `GGUF`.",
            "Give a file that llama.cpp reads, or a directory with a language model.",
        )
    [version] = _unpack(file, "I")
    if version not in _VERSIONS:
        raise PriorError(
            f"`{path}` is of GGUF version {version}, expected {' or '.join(map(str, _VERSIONS))}.",
            "Convert it anew with llama.cpp.",
        )
    tensors, settings = _unpack(file, "QQ")
    found: dict[str, Any] = {}
    for _ in range(settings):
        key = _string(file)
        found[key] = _value(file, *_unpack(file, "I"))
    if "general.architecture" not in found:
        raise PriorError(f"`{path}` does not say of which architecture its model is.")
    sizes, ends = {}, [0]
    for _ in range(tensors):
        name = _string(file)
        [axes] = _unpack(file, "I")
        shape = _unpack(file, f"{axes}Q")
        kind, offset = _unpack(file, "IQ")
        sizes[name] = _bytes(kind, prod(shape), path)
        ends.append(offset + sizes[name])
    alignment = found.get("general.alignment", _ALIGNMENT)
    start = -(-file.tell() // alignment) * alignment
    return GGUFHeader(found, sizes), start + max(ends)


def _bytes(kind: int, elements: int, path: Path) -> int:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except ValueError as error:
        raise PriorError(
            f"`{path}` holds tensors of the unknown type {kind}.",
            "Convert it with a quantisation such as Q4_K_M or Q8_0.",
        ) from error
    return elements // block * size


def _value(file: BinaryIO, kind: int) -> Any:
    """A setting; of an array the number of its elements."""
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        return _unpack(file, _FIXED[kind])[0]
    of, count = _unpack(file, "IQ")
    if of == _STRING:
        for _ in range(count):
            [length] = _unpack(file, "Q")
            file.seek(length, 1)
    elif of == _ARRAY:
        for _ in range(count):
            _value(file, _ARRAY)
    else:
        file.seek(count * struct.calcsize(f"<{_FIXED[of]}"), 1)
    return count


def _string(file: BinaryIO) -> str:
    [length] = _unpack(file, "Q")
    content = file.read(length)
    if len(content) < length:
        raise struct.error("a string ends early")
    return content.decode("utf-8")


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    size = struct.calcsize(f"<{layout}")
    return struct.unpack(f"<{layout}", file.read(size))


def _truncated(path: Path, why: str) -> PriorError:
    return PriorError(
        f"The model `{path}` is truncated or damaged: {why}; it was left untouched.",
        "Download or copy it again.",
    )
