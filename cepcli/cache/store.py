"""The prior cache: what the LLM said about a state, found again by the same or a similar text.

An exact text is a hash probe and always valid. In mode `lru` the nearest key of the same goal
answers, too, if it is similar enough. Beyond the capacity the least recently used entry goes.
"""

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from cepcli.cache import storage
from cepcli.cache.config import CacheConfig
from cepcli.cache.index import FlatIndex
from cepcli.errors import CacheError
from cepcli.prior.base import Namespace


def text_hash(goal: str, text: str) -> str:
    """SHA-256 of goal and text, the identity of an entry."""
    return hashlib.sha256(f"{goal}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True)
class Entry:
    """What is known about one text.

    Attributes:
        slot: the entry's number, in order of insertion; never used twice in one cache.
        identity: `text_hash` of goal and text.
        goal: the task text that the state belonged to.
        text: the state's description.
        scores: normalised score of each action scored so far, in nats.
        borrowed: actions whose score was given under a similar text, not this one: good for
            semantic hits, but an exact hit must ask for them.
        inserted: value of the cache's clock at insertion.
        last_use: value of the cache's clock when it last answered.
        hits: how often it answered.
        audits: how often its answer was compared with a fresh one.
        last_span: span of the latest comparison.
        last_kl: KL(cached‖fresh) of the latest comparison.
    """

    slot: int
    identity: str
    goal: str
    text: str
    scores: dict[str, float]
    borrowed: set[str] = field(default_factory=set)
    inserted: int = 0
    last_use: int = 0
    hits: int = 0
    audits: int = 0
    last_span: float = 0.0
    last_kl: float = 0.0

    def lacks(self, actions: Iterable[str], *, own_text: bool) -> list[str]:
        """The actions without a valid score, for this very text or for a similar one."""
        if own_text and self.borrowed:
            return [a for a in actions if a not in self.scores or a in self.borrowed]
        return [a for a in actions if a not in self.scores]


class Neighbour(NamedTuple):
    """The nearest entry and its cosine similarity."""

    entry: Entry
    similarity: float


class PriorCache:
    """At most `config.capacity` entries of one namespace.

    A read-only cache answers look-ups; nothing in it changes, neither entries nor recency.

    Args:
        config: mode, capacity, threshold.
        dim: dimension of the keys; any number if the mode needs none.
        namespace: what the entries belong to.
    """

    def __init__(self, config: CacheConfig, dim: int, namespace: Namespace) -> None:
        self.config = config
        self.dim = dim
        self.namespace = namespace
        self.read_only = False
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._by_slot: dict[int, Entry] = {}
        self._index = FlatIndex(dim, config.capacity)
        self._clock = 0
        self._next_slot = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Entries, least recently used first."""
        return iter(self._entries.values())

    @property
    def keyed(self) -> bool:
        """Whether entries have keys, so that similar texts can be found."""
        return self.config.mode == "lru"

    def freeze(self) -> None:
        """Make the cache read-only for good."""
        self.read_only = True

    def frozen(self) -> "PriorCache":
        """A read-only view of the same entries."""
        view = copy.copy(self)
        view.read_only = True
        return view

    def exact(self, goal: str, text: str) -> Entry | None:
        """The entry of this very text."""
        return self._entries.get(text_hash(goal, text))

    def nearest(self, goal: str, key: Float32[ndarray, " dim"]) -> Neighbour | None:
        """The entry with the most similar key, however little similar it is."""
        found = self._index.nearest(key, self._partition(goal))
        return None if found is None else Neighbour(self._by_slot[found[0]], found[1])

    def similar(self, goal: str, key: Float32[ndarray, " dim"]) -> Neighbour | None:
        """The entry with the most similar key, if its similarity reaches the threshold."""
        found = self.nearest(goal, key)
        return found if found and found.similarity >= self.config.threshold else None

    def use(self, entry: Entry) -> None:
        """Note that an entry answered; no effect if it was evicted meanwhile or is read-only."""
        if self.read_only or entry.slot not in self._by_slot:
            return
        self._clock += 1
        entry.last_use = self._clock
        entry.hits += 1
        self._entries.move_to_end(entry.identity)

    def insert(
        self,
        goal: str,
        text: str,
        key: Float32[ndarray, " dim"] | None,
        scores: Mapping[str, float],
    ) -> Entry:
        """A new, most recently used entry, in place of one of the same text; evicts if full.

        Args:
            goal: the state's task text.
            text: the state's description.
            key: its unit key; None if the mode needs none.
            scores: normalised score of each action.
        """
        assert not self.read_only, "a read-only cache stores nothing"
        assert (key is not None) == self.keyed, "a key is needed exactly where texts are compared"
        identity = text_hash(goal, text)
        if identity in self._entries:
            self.remove(self._entries[identity])
        while len(self._entries) >= self.config.capacity:
            self.remove(next(iter(self._entries.values())))
        self._clock += 1
        entry = Entry(
            self._next_slot,
            identity,
            goal,
            text,
            dict(scores),
            inserted=self._clock,
            last_use=self._clock,
        )
        self._next_slot += 1
        self._put(entry)
        if key is not None:
            self._index.add(entry.slot, key, self._partition(goal))
        return entry

    def remove(self, entry: Entry) -> None:
        """Forget an entry; no effect if it is gone already."""
        if self._by_slot.pop(entry.slot, None) is None:
            return
        del self._entries[entry.identity]
        if self.keyed:
            self._index.remove(entry.slot)

    def key(self, entry: Entry) -> Float32[ndarray, " dim"]:
        """An entry's unit key."""
        return self._index.key(entry.slot)

    def restore(self, other: "PriorCache") -> None:
        """Take over the content of `other`, a cache of the same namespace."""
        assert other.namespace == self.namespace, "caches of different namespaces do not mix"
        self.dim = other.dim
        self._entries, self._by_slot, self._index = other._entries, other._by_slot, other._index
        self._clock, self._next_slot = other._clock, other._next_slot

    def save(self, directory: Path) -> None:
        """Write everything, recency included, into `directory`, in a single step."""
        keys = np.zeros((0, self.dim), np.float32)
        if self.keyed and self._entries:
            keys = np.stack([self.key(entry) for entry in self])
        storage.write(
            directory,
            storage.Saved(
                namespace=self.namespace,
                mode=self.config.mode,
                dim=self.dim,
                state={"clock": self._clock, "next_slot": self._next_slot},
                entries=[self._record(entry) for entry in self],
                keys=keys,
            ),
        )

    @classmethod
    def load(cls, directory: Path, namespace: Namespace, config: CacheConfig) -> "PriorCache":
        """The cache in `directory`, which decides exactly as the saved one did.

        If `config.capacity` is smaller than the saved cache, the least recently used entries go.

        Raises:
            CacheError: if there is none, it is damaged, or belongs to another namespace.
        """
        saved = storage.read(directory)
        if saved.namespace != namespace:
            raise CacheError(
                f"The prior cache in `{directory}` belongs to [{saved.namespace}], not to "
                f"[{namespace}]; they differ in {', '.join(_differences(saved, namespace))}.",
                "Use the model and encoder it was made with, or start another cache.",
            )
        cache = cls(config, saved.dim, namespace)
        if cache.keyed and len(saved.keys) != len(saved.entries):
            raise CacheError(
                f"The prior cache in `{directory}` was filled in mode {saved.mode} and has no keys "
                f"to find similar texts by, as mode {config.mode} needs.",
                "Use it in mode exact, or start another cache.",
            )
        cache._fill(saved, directory)
        return cache

    def _fill(self, saved: storage.Saved, directory: Path) -> None:
        records = saved.entries[-self.config.capacity :]
        keys = saved.keys[-self.config.capacity :]
        try:
            entries = [_entry(record) for record in records]
            rows = [int(record["row"]) for record in records]
            self._clock, self._next_slot = saved.state["clock"], saved.state["next_slot"]
        except (KeyError, TypeError, ValueError) as error:
            raise storage.damaged(directory, f"holds a malformed entry ({error!r})") from error
        for entry in entries:
            self._put(entry)
        if self.keyed:
            for number in sorted(range(len(entries)), key=rows.__getitem__):
                entry = entries[number]
                self._index.add(entry.slot, keys[number], self._partition(entry.goal))

    def _put(self, entry: Entry) -> None:
        self._entries[entry.identity] = entry
        self._by_slot[entry.slot] = entry

    def _partition(self, goal: str) -> str:
        return goal if self.config.per_goal else ""

    def _record(self, entry: Entry) -> dict[str, Any]:
        return {
            "slot": entry.slot,
            "identity": entry.identity,
            "row": self._index.row(entry.slot) if self.keyed else entry.slot,
            "goal": entry.goal,
            "text": entry.text,
            "scores": entry.scores,
            "borrowed": sorted(entry.borrowed),
            "inserted": entry.inserted,
            "last_use": entry.last_use,
            "hits": entry.hits,
            "audits": entry.audits,
            "last_span": entry.last_span,
            "last_kl": entry.last_kl,
        }


def _entry(record: Mapping[str, Any]) -> Entry:
    values = {key: value for key, value in record.items() if key != "row"}
    return Entry(**{**values, "borrowed": set(record["borrowed"])})


def _differences(saved: storage.Saved, namespace: Namespace) -> list[str]:
    """The names of the components in which two namespaces differ."""
    pairs = [(saved.namespace.scorer, namespace.scorer), (saved.namespace, namespace)]
    return [
        name
        for ours, theirs in pairs
        for name in type(ours).__dataclass_fields__
        if name != "scorer" and getattr(ours, name) != getattr(theirs, name)
    ]
