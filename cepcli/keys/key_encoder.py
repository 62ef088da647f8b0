"""Cache keys: what a state means for its goal, as a unit vector.

Two texts need the same prior when what the *goal* speaks of stands alike in them, however else they
differ. So the phrases that goal and text share are replaced by a mark (the red ball of one goal and
the blue key of another become the same word), and a learned head may bring together what the LLM
answers alike. What the goal says beyond those phrases stays in the key, so that states of different
goals may share a cache. Without marks the whole goal stands in the key.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from cepcli.errors import CacheError, ConfigError
from cepcli.keys.encoder import MINILM, MiniLM, TextEncoder
from cepcli.keys.hashing import MARK, HashEncoder
from cepcli.keys.head import Head
from cepcli.keys.opposites import Reading, carriers_of_name, read
from cepcli.keys.static import Notify, StaticEncoder, ensure_static
from cepcli.registry import suggest

_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*", re.IGNORECASE)
_ARTICLES = ("a", "an", "the")
_LONGEST_PHRASE = 4


def focused(goal: str, text: str) -> str:
    """`goal`, a line end and `text`, with the phrases that they share replaced by `<goal1>` etc.

    A phrase is two to four consecutive words without an article, or a lone word after one; longer
    ones go first, and marks are numbered in the order in which the goal names the phrases. Case is
    ignored.
    """
    return _marked(f"{goal}\n{text}", _shared_phrases(goal, text))


def reading(goal: str, text: str, *, focus: bool) -> Reading:
    """A state word by word, as the key stands for it: the same marks in place of names.

    Only names are made alike: what else a marked phrase says (`carriers_of_name`) stays.
    """
    if not focus:
        return read(goal, text)
    names = _shared_phrases(goal, text)
    added = [" ".join(("", *carriers_of_name(name))) for name in names]
    return read(_marked(goal, names, added), _marked(text, names, added), names)


def _marked(text: str, names: Sequence[str], added: Sequence[str] | None = None) -> str:
    """A text in small letters with a mark in place of each name, and after it what is `added`."""
    text = text.lower()
    for number, name in enumerate(names):
        mark = MARK.format(number=number + 1) + (added[number] if added else "")
        text = re.sub(rf"\b{re.escape(name)}\b", mark, text)
    return text


def _shared_phrases(goal: str, text: str) -> list[str]:
    """Maximal phrases of the goal that occur in the text, in small letters, in the goal's order."""
    words = _WORD.findall(goal.lower())
    spaced = f" {' '.join(_WORD.findall(text.lower()))} "
    found: list[tuple[int, str]] = []
    taken = [word in _ARTICLES for word in words]
    for length in range(_LONGEST_PHRASE, 0, -1):
        for start in range(len(words) - length + 1):
            named = length > 1 or _follows_article(words, start)
            phrase = " ".join(words[start : start + length])
            if named and not any(taken[start : start + length]) and f" {phrase} " in spaced:
                found.append((start, phrase))
                taken[start : start + length] = [True] * length
    return list(dict.fromkeys(phrase for _, phrase in sorted(found)))


def _follows_article(words: Sequence[str], at: int) -> bool:
    """Whether an article and this word are a whole name: "the ball", but not "the red" ball."""
    after = at + 1 == len(words) or words[at + 1] in _ARTICLES
    return after and at > 0 and words[at - 1] in _ARTICLES


class KeyEncoder(NamedTuple):
    """Goal and text to a key.

    Attributes:
        encoder: text to vector.
        focus: whether phrases shared with the goal are marked first.
        head: learned map from those vectors to keys, if there is one.
    """

    encoder: TextEncoder
    focus: bool
    head: Head | None = None

    @property
    def dim(self) -> int:
        """Dimension of the keys."""
        return self.encoder.dim if self.head is None else self.head.dim

    @property
    def sha256(self) -> str:
        """Says which keys, for the cache's namespace."""
        if self.head is not None:
            return self.head.sha256
        of = "focus" if self.focus else "goal"
        return hashlib.sha256(f"{self.encoder.sha256} {of}".encode()).hexdigest()

    def key(self, goal: str, text: str) -> Float32[ndarray, " dim"]:
        """The unit key of a state."""
        vector = self.vector(goal, text)
        return vector if self.head is None else self.head.project(vector)

    def vector(self, goal: str, text: str) -> Float32[ndarray, " features"]:
        """The encoder's unit vector of a state, which a head takes."""
        both = focused(goal, text) if self.focus else f"{goal}\n{text}"
        vector = self.encoder.encode(both)
        return np.asarray(vector, np.float32)

    def with_head(self, head: Head | None) -> Self:
        """The same with another head, or without.

        Raises:
            CacheError: if it was trained on other vectors.
        """
        bare = self._replace(head=None)
        if head is None:
            return bare
        if head.encoder_sha256 != bare.sha256 or head.features != bare.dim:
            raise CacheError(
                f"The key head was trained on the vectors {head.encoder_sha256[:12]} with "
                f"{head.features} dimensions, not on {bare.sha256[:12]} with {bare.dim}.",
                "Use the encoder and the focus it was trained with, or train another head.",
            )
        return self._replace(head=head)


def make_encoder(name: str, device: str = "cpu", notify: Notify = lambda text: None) -> TextEncoder:
    """The text encoder `name`, one of `EncoderName`.

    Args:
        name: minilm, static (distilled from it, a mean over tokens) or hash (no model).
        device: where MiniLM runs; the other two need none.
        notify: told when something is fetched or distilled first, which is done once.

    Raises:
        ConfigError: if there is no such encoder.
        PriorError: if its model cannot be loaded or is damaged.
    """
    if name == "hash":
        return HashEncoder()
    if name == "static":
        return StaticEncoder(ensure_static(notify))
    if name == "minilm":
        if not MINILM.is_ready():
            notify("Fetching the text encoder MiniLM, once")
        return MiniLM(device)
    raise ConfigError(
        f"There is no text encoder `{name}`.", suggest(name, ("minilm", "static", "hash"))
    )


def make_key_encoder(
    name: str,
    *,
    focus: bool = False,
    head: str | None = None,
    device: str = "cpu",
    notify: Notify = lambda text: None,
) -> KeyEncoder:
    """A key encoder by name, with the head in the file `head`, if one is given.

    Raises:
        CacheError: if the head cannot be read or was trained on other vectors.
        ConfigError, PriorError: as `make_encoder`.
    """
    keys = KeyEncoder(make_encoder(name, device, notify), focus)
    return keys if head is None else keys.with_head(Head.load(Path(head).expanduser()))
