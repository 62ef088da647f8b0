"""Words, word pairs and sentences hashed into a fixed number of buckets: a key without a model.

Signed feature hashing (Weinberger et al., arXiv 0902.2206): each feature adds +1 or −1 to one
bucket, so inner products are those of the feature counts, on average. A whole sentence is a feature
of its own, because what a state means often hangs on one sentence ("the red ball is 2 steps left")
that no single word or pair carries; a learned head can then weigh that sentence alone. For the same
reason the words of a sentence that speaks of what the goal names (`MARK`) are features apart from
the same words elsewhere.
"""

import hashlib
import re
import zlib

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from typing_extensions import override

from cepcli.keys.config import HashConfig
from cepcli.keys.encoder import SentenceSums, TextEncoder, unit

#: How a text says that the goal names this: see `cepcli.keys.key_encoder.focused`.
MARK = "<goal{number}>"

_WORD = re.compile(r"<goal\d+>|\w+")
_MARKED = re.compile(r"<goal\d+>")
_VERSION = 2  # of the features: part of the encoder's sha256
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # 2^64/φ: spreads a checksum's bits (Knuth, TAOCP 3, §6.4)


class HashEncoder(TextEncoder):
    """Word n-grams within sentences, and the sentences themselves; case does not matter.

    A text without any word is a single feature, so that it equals only itself.
    """

    def __init__(self, config: HashConfig | None = None) -> None:
        self.config = config or HashConfig()
        self.dim = self.config.dim
        self.sha256 = hashlib.sha256(f"hash-{_VERSION} {self.config}".encode()).hexdigest()
        self._sums = SentenceSums(self.dim, lambda sentence: self._hashed(self._features(sentence)))

    @override
    def encode(self, text: str) -> Float[ndarray, " dim"]:
        counts = self._sums.total(text)
        if not counts.any():
            counts = self._hashed([f"text: {text}"])
        return unit(counts)

    def _features(self, sentence: str) -> list[str]:
        words = _WORD.findall(sentence.lower())
        tag = "marked: " if _MARKED.search(sentence) else ""
        features = [
            tag + " ".join(words[start : start + length])
            for length in range(1, self.config.order + 1)
            for start in range(len(words) - length + 1)
        ]
        if words and self.config.sentences:
            features.append(f"sentence: {' '.join(words)}")
        return features

    def _hashed(self, features: list[str]) -> Float[ndarray, " dim"]:
        checksums = np.array([zlib.crc32(feature.encode()) for feature in features], np.uint64)
        mixed = checksums * _MIXER  # modulo 2^64
        buckets = (mixed >> np.uint64(32)) % np.uint64(self.dim)
        signs = np.where(mixed >> np.uint64(63), 1.0, -1.0)
        counts = np.bincount(buckets.astype(np.int64), signs, minlength=self.dim)
        return counts.astype(np.float32)
