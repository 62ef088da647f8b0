"""Cache keys: what a state means for its goal, as a unit vector.

Two texts need the same prior when what the *goal* speaks of stands alike in them, however else they
differ. So the phrases that goal and text share are replaced by a mark (the red ball of one goal and
the blue key of another become the same word), and a learned head may bring together what the LLM
answers alike.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.abstraction.catalog import Notify, make_encoder
from cepcli.abstraction.encoder import TextEncoder
from cepcli.abstraction.head import Head, HeadedEncoder

_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*", re.IGNORECASE)
_ARTICLES = ("a", "an", "the")
_LONGEST_PHRASE = 4


def focused(goal: str, text: str) -> str:
    """`text` with the phrases that it shares with `goal` replaced by `<goal1>` and so on.

    A phrase is two to four consecutive words without an article, or a lone word after one; longer
    ones go first, and marks are numbered in the order in which the goal names the phrases. Case is
    ignored.
    """
    lowered = text.lower()
    words = [match.group().lower() for match in _WORD.finditer(goal)]
    shared = _shared_phrases(words, lowered)
    for number, phrase in enumerate(shared, 1):
        lowered = re.sub(rf"\b{re.escape(phrase)}\b", f"<goal{number}>", lowered)
    return lowered


def _shared_phrases(words: Sequence[str], text: str) -> list[str]:
    """Maximal phrases of `words` that occur in `text`, in the order of `words`."""
    spaced = f" {' '.join(match.group() for match in _WORD.finditer(text))} "
    found: list[tuple[int, str]] = []
    taken = [word in _ARTICLES for word in words]
    for length in range(_LONGEST_PHRASE, 0, -1):
        for start in range(len(words) - length + 1):
            named = length > 1 or _stands_alone(words, start)
            phrase = " ".join(words[start : start + length])
            if named and not any(taken[start : start + length]) and f" {phrase} " in spaced:
                found.append((start, phrase))
                taken[start : start + length] = [True] * length
    return list(dict.fromkeys(phrase for _, phrase in sorted(found)))


def _stands_alone(words: Sequence[str], at: int) -> bool:
    """Whether an article and this word are a whole name: "the ball", but not "the red" ball."""
    after = at + 1 == len(words) or words[at + 1] in _ARTICLES
    return after and at > 0 and words[at - 1] in _ARTICLES


class KeyEncoder(NamedTuple):
    """Goal and text to a key.

    Attributes:
        encoder: text to vector.
        focus: whether phrases shared with the goal are marked first.
    """

    encoder: TextEncoder
    focus: bool

    @property
    def dim(self) -> int:
        """Dimension of the keys."""
        return self.encoder.dim

    @property
    def sha256(self) -> str:
        """Says which encoder, for the cache's namespace; without focus, the encoder's own."""
        if not self.focus:
            return self.encoder.sha256
        return hashlib.sha256(f"{self.encoder.sha256} focus".encode()).hexdigest()

    def key(self, goal: str, text: str) -> Float[ndarray, " dim"]:
        """The unit key of a state, float32."""
        vector = self.encoder.encode(focused(goal, text) if self.focus else text)
        return np.asarray(vector, np.float32)


def make_key_encoder(
    name: str,
    *,
    focus: bool = False,
    head: str | None = None,
    device: str = "cpu",
    notify: Notify = lambda text: None,
) -> KeyEncoder:
    """A key encoder by name; see `make_encoder` and `with_head` for what they raise."""
    return with_head(KeyEncoder(make_encoder(name, device, notify), focus), head)


def with_head(keys: KeyEncoder, head: str | None) -> KeyEncoder:
    """`keys` with the learned head in the file `head`, if one is given.

    Raises:
        CacheError: if the head cannot be read or was trained on another encoder.
    """
    if head is None:
        return keys
    return keys._replace(encoder=HeadedEncoder(keys.encoder, Head.load(Path(head).expanduser())))
