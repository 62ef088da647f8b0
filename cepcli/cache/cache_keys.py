"""The keys of a cache, and how they are learned from its own entries while it fills.

Whenever the number of texts stored has doubled, a head is trained on what the LLM said about those
in the cache, and every entry gets its new key. The namespace says which head that is. Whatever was
known about similarities before means nothing afterwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from cepcli.cache.config import CacheConfig
from cepcli.cache.store import PriorCache
from cepcli.errors import CacheError
from cepcli.keys.head import Head, train_head
from cepcli.prior.base import Namespace, PriorShape
from cepcli.seeding import generator


class Keys(Protocol):
    """Goal and text to unit key; see `cepcli.keys.key_encoder.KeyEncoder`."""

    @property
    def dim(self) -> int:
        """Dimension of the keys."""
        ...

    @property
    def sha256(self) -> str:
        """Says which keys."""
        ...

    @property
    def head(self) -> Head | None:
        """The learned head, if there is one."""
        ...

    def key(self, goal: str, text: str) -> Float32[ndarray, " dim"]:
        """The unit key of a state."""
        ...

    def vector(self, goal: str, text: str) -> Float32[ndarray, " features"]:
        """What a head takes."""
        ...

    def with_head(self, head: Head | None) -> Self:
        """The same with another head."""
        ...


class ScoredTexts(NamedTuple):
    """Texts and what the LLM said about them, as a head is trained on.

    Attributes:
        goals: a number per text, the same for texts that are to be compared.
        log_priors: the log-probability of each action scored there.
        vectors: what the head takes.
    """

    goals: Int64[ndarray, " texts"]
    log_priors: list[dict[str, float]]
    vectors: Float32[ndarray, "texts features"]


def scored_texts(
    states: Sequence[tuple[str, str]],
    scores: Sequence[Mapping[str, float]],
    keys: Keys,
    shape: PriorShape,
    *,
    pool_goals: bool,
) -> ScoredTexts:
    """`ScoredTexts` from (goal, text) of each state and its normalised scores."""
    numbers = {goal: number for number, goal in enumerate(dict.fromkeys(g for g, _ in states))}
    priors = [shape.log_prior(np.array(list(s.values()))).tolist() for s in scores]
    return ScoredTexts(
        np.array([0 if pool_goals else numbers[goal] for goal, _ in states], np.int64),
        [dict(zip(s, prior, strict=True)) for s, prior in zip(scores, priors, strict=True)],
        np.stack([keys.vector(*state) for state in states]),
    )


class CacheKeys:
    """The keys of one cache.

    Args:
        keys: what they are at first.
        namespace: of the cache; its key encoder is that of `keys`.
        shape: how scores become a prior.
        config: of the cache: whether and when a head is learned.
        seed: of the training.
    """

    def __init__(
        self, keys: Keys, namespace: Namespace, shape: PriorShape, config: CacheConfig, *, seed: int
    ) -> None:
        self._keys = keys
        self._namespace = namespace
        self._shape = shape
        self._config = config
        self._seed = seed
        self._due = config.head_from

    @property
    def dim(self) -> int:
        """Dimension of the keys."""
        return self._keys.dim

    @property
    def namespace(self) -> Namespace:
        """What entries with these keys belong to."""
        return replace(self._namespace, key_encoder_sha256=self._keys.sha256)

    @property
    def head(self) -> dict[str, ndarray]:
        """The weights of the learned head; none without one."""
        return {} if self._keys.head is None else self._keys.head.arrays()

    def key(self, goal: str, text: str) -> Float32[ndarray, " dim"]:
        """The unit key of a state."""
        return self._keys.key(goal, text)

    def adopt(self, head: Mapping[str, ndarray]) -> None:
        """Make keys with the head of a saved cache, as `head` gave it.

        Raises:
            CacheError: if these cannot be the weights of a head.
        """
        self._keys = self._keys.with_head(self._head_of(head) if head else None)

    def fit(self, head: Mapping[str, ndarray], sha256: str) -> bool:
        """Whether the head of a saved cache, whose keys are `sha256`, was trained on these vectors.

        Raises:
            CacheError: if these cannot be the weights of a head.
        """
        return bool(head) and self._head_of(head).sha256 == sha256

    def _head_of(self, head: Mapping[str, ndarray]) -> Head:
        try:
            return Head.of(head, self._keys.with_head(None).sha256)
        except ValueError as error:
            raise CacheError(f"The key head that the cache was saved with {error}.") from error

    def begin(self, cache: PriorCache) -> None:
        """Give a cache that is filled already a head: the present one, else one of its own.

        A present head counts as learned from the present entries.
        """
        if self._keys.head is None:
            self.learn(cache)
        else:
            self._due = max(self._due, 2 * cache.insertions)

    def learn(self, cache: PriorCache) -> bool:
        """Train a head and give every entry its new key, if it is due; returns whether it was.

        A head that the configuration names stays. Entries count that were not set aside, as far as
        two of them can be compared; if none can, it is due again when their number has doubled.
        """
        learns = self._config.learn_head and cache.keyed and self._config.head is None
        if not learns or cache.insertions < self._due:
            return False
        self._due = 2 * cache.insertions
        entries = [e for e in cache if len(e.scores) > 1 and not cache.is_set_aside(e)]
        if not entries:
            return False
        random = generator(self._seed, f"key-head/{len(entries)}")
        most = self._config.learned.most_texts
        if len(entries) > most:
            chosen = np.sort(random.choice(len(entries), most, replace=False))
            entries = [entries[number] for number in chosen]
        bare = self._keys.with_head(None)
        texts = scored_texts(
            [(entry.goal, entry.text) for entry in entries],
            [entry.scores.plain() for entry in entries],
            bare,
            self._shape,
            pool_goals=self._config.pools_goals,
        )
        try:
            head = train_head(*texts, self._config.learned, random, encoder_sha256=bare.sha256)
        except CacheError:  # no two texts are comparable yet
            return False
        self._keys = bare.with_head(head)
        cache.rekey(self.key, self.dim, self.namespace, self.head)
        return True

    def state(self) -> dict[str, Any]:
        """JSON values for a checkpoint; the head itself is saved with the cache."""
        return {"due": self._due}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._due = state["due"]


def no_key(goal: str, text: str) -> ndarray:
    """In place of a key where the mode compares no texts: nobody may ask."""
    raise AssertionError(f"no cache mode without keys asks for one: {goal!r}, {text!r}")
