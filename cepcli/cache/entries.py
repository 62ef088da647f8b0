"""The entries of a cache, kept small (there may be a hundred thousand), and which is evicted.

Each eviction policy is a pure function of what entries know of themselves, ties going to the oldest
slot: a cache loaded from disk evicts the same victims as the one that was saved.
"""

import hashlib
import heapq
import math
import sys
from array import array
from collections.abc import (
    Callable,
    Container,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt64
from numpy import ndarray
from typing_extensions import override

from cepcli.cache.config import CacheConfig

_SCANNED = 16  # up to so many actions a scan is as fast as a hash table, which takes more memory
_FEWEST_GHOSTS = 16
_SLACK = 16  # items of removed entries that stay in the heap
_SLOT_BITS = 40
_SLOT_MASK = (1 << _SLOT_BITS) - 1
_STEPS = 2**20  # in which a worth of 1, a halving, is measured
_MOST_HALVINGS = 1000.0  # by one audit, however wrong


def text_digest(goal: str, text: str) -> bytes:
    """The identity of an entry: the first 16 bytes of the SHA-256 of goal and text."""
    return hashlib.sha256(f"{goal}\0{text}".encode("utf-8", "surrogatepass")).digest()[:16]


def text_hash(goal: str, text: str) -> str:
    """`text_digest` in hexadecimal."""
    return text_digest(goal, text).hex()


class Scores(MutableMapping[str, float]):
    """Normalised score of each action, in nats: a dictionary at half the memory.

    The strings are shared between all entries, the numbers lie in one array.

    Args:
        actions: distinct interned strings (`sys.intern`).
        values: as many scores.
    """

    __slots__ = ("_actions", "_columns", "_values")

    def __init__(self, actions: tuple[str, ...], values: "array[float]") -> None:
        self._actions = actions
        self._values = values
        self._columns = self._index_columns()

    @classmethod
    def of(cls, scores: Mapping[str, float]) -> "Scores":
        """The content of any mapping."""
        return cls(tuple(map(sys.intern, scores)), array("d", scores.values()))

    @property
    def known(self) -> Container[object]:
        """The actions, to ask `in` of many times."""
        return self._actions if self._columns is None else self._columns

    def values_of(self, actions: Sequence[str]) -> list[float]:
        """The score of each action; NaN where there is none."""
        if actions == self._actions:
            return self._values.tolist()
        return [self.get(action, math.nan) for action in actions]

    def put(self, actions: Sequence[str], values: Sequence[float]) -> None:
        """Set the score of each action."""
        if actions == self._actions:
            self._values = array("d", values)
        else:
            self.update(zip(actions, values, strict=True))

    def plain(self) -> dict[str, float]:
        """The same as a dictionary."""
        return dict(zip(self._actions, self._values, strict=True))

    def __getitem__(self, action: str) -> float:
        return self._values[self._column(action)]

    def __setitem__(self, action: str, score: float) -> None:
        try:
            self._values[self._column(action)] = score
        except KeyError:
            self._actions = (*self._actions, sys.intern(action))
            self._values.append(score)
            if self._columns is None:
                self._columns = self._index_columns()
            else:
                self._columns[action] = len(self._values) - 1

    def __delitem__(self, action: str) -> None:
        column = self._column(action)
        del self._values[column]
        self._actions = self._actions[:column] + self._actions[column + 1 :]
        self._columns = self._index_columns()

    def __contains__(self, action: object) -> bool:
        return action in self.known

    def __iter__(self) -> Iterator[str]:
        return iter(self._actions)

    def __len__(self) -> int:
        return len(self._actions)

    def __repr__(self) -> str:
        return f"Scores({self.plain()})"

    def _column(self, action: str) -> int:
        if self._columns is not None:
            return self._columns[action]
        try:
            return self._actions.index(action)
        except ValueError:
            raise KeyError(action) from None

    def _index_columns(self) -> dict[str, int] | None:
        many = len(self._actions) > _SCANNED
        return {action: i for i, action in enumerate(self._actions)} if many else None


@dataclass(slots=True)
class CacheEntry:
    """What is known about one text.

    Attributes:
        slot: the entry's number, in order of insertion; never used twice in one cache.
        goal: the task text that the state belonged to.
        text: the state's description.
        scores: normalised score of each action scored so far under this text, in nats.
        last_use: value of the cache's clock when it last answered, or was inserted.
        hits: how often it answered.
        audits: how often its answer was compared with a fresh one.
        last_span: span of the latest comparison.
        last_kl: KL(cached‖fresh) of the latest comparison.
        repels: similarity at or below which it was seen to be wrong by more than the budget; it
            answers only more similar texts, at 1 only its own. Infinite where it was set aside:
            then new keys change nothing.
        warmth: log2 of its decayed uses as of `last_use`; kept by the eviction policy `utility`.
    """

    slot: int
    goal: str
    text: str
    scores: Scores
    last_use: int = 0
    hits: int = 0
    audits: int = 0
    last_span: float = 0.0
    last_kl: float = 0.0
    repels: float = -1.0
    warmth: float = 0.0

    def lacks(self, actions: Iterable[str]) -> list[str]:
        """The actions without a score."""
        known = self.scores.known
        return [action for action in actions if action not in known]


class Eviction:
    """Evicts the entry of least worth, of several the one of the oldest slot.

    Constant time for a use, O(log K) amortised for the rest. Every entry has an item in a heap, at
    or below its worth. A use raises the worth and leaves the item, which is corrected when it comes
    to the top; only what lowers a worth has to `add` another.

    Args:
        entries: those of the cache by slot, a table that is seen to change.
        worth: a whole number, the larger the later an entry goes.
    """

    def __init__(self, entries: dict[int, CacheEntry], worth: Callable[[CacheEntry], int]) -> None:
        self._entries = entries
        self._worth = worth
        self._items: list[int] = []
        self._rebuild()

    def use(self, entry: CacheEntry, now: int) -> None:
        """Note a use, before the cache stamps the entry with `now`."""

    def audit(self, entry: CacheEntry, kl: float) -> None:
        """Note that an entry was found to be off by `kl` nats."""

    def add(self, entry: CacheEntry) -> None:
        """Count a new entry, or one whose worth fell."""
        if len(self._items) > 1.25 * len(self._entries) + _SLACK:
            self._rebuild()
        heapq.heappush(self._items, self._item(entry))

    def victim(self, spared: int) -> CacheEntry:
        """The entry that goes next; never that of slot `spared`, of at least one other."""
        first = self._settle()
        if first.slot != spared:
            return first
        item = heapq.heappop(self._items)
        while (second := self._settle()).slot == spared:
            heapq.heappop(self._items)
        heapq.heappush(self._items, item)
        return second

    def _settle(self) -> CacheEntry:
        """The entry on top, once its item is up to date."""
        while True:
            top = self._items[0]
            entry = self._entries.get(top & _SLOT_MASK)
            if entry is None:
                heapq.heappop(self._items)
            elif (now := self._item(entry)) != top:
                heapq.heapreplace(self._items, now)
            else:
                return entry

    def _rebuild(self) -> None:
        self._items = [self._item(entry) for entry in self._entries.values()]
        heapq.heapify(self._items)

    def _item(self, entry: CacheEntry) -> int:
        """Worth above slot in one integer, at half the memory of a pair."""
        return self._worth(entry) << _SLOT_BITS | entry.slot


class UtilityEviction(Eviction):
    """Evicts the least useful: by decayed uses, fewer for errors that audits found.

    u(t) = Σ_uses 2^−(t−t_use)/H, insertion being the first use, t the cache's clock of uses and
    insertions; an audit that finds KL nats multiplies u by 2^−λ·KL. All u decay alike, so that
    log2 u(t) + t/H, which needs no update with time, orders entries as u does; it is `warmth` +
    last_use/H, compared to the millionth.

    Args:
        entries: those of the cache by slot.
        half_life: H, > 0.
        audit_penalty: λ, >= 0.
    """

    def __init__(
        self, entries: dict[int, CacheEntry], half_life: float, audit_penalty: float
    ) -> None:
        self._half_life = half_life
        self._audit_penalty = audit_penalty
        super().__init__(
            entries, lambda entry: round(_STEPS * (entry.warmth + entry.last_use / half_life))
        )

    @override
    def use(self, entry: CacheEntry, now: int) -> None:
        left = entry.warmth - (now - entry.last_use) / self._half_life
        entry.warmth = max(left, 0.0) + math.log2(1.0 + 2.0 ** -abs(left))

    @override
    def audit(self, entry: CacheEntry, kl: float) -> None:
        entry.warmth -= min(self._audit_penalty * max(0.0, kl), _MOST_HALVINGS)
        self.add(entry)


def make_eviction(config: CacheConfig, entries: dict[int, CacheEntry], capacity: int) -> Eviction:
    """The policy that a configuration names, over `entries` as they are and will be.

    The half-life of `utility` is as many uses as the cache has room for entries.
    """
    if config.policy == "utility":
        return UtilityEviction(entries, float(capacity), config.audit_penalty)
    if config.policy == "lfu":
        return Eviction(entries, lambda entry: entry.hits)
    if config.policy == "lru":
        return Eviction(entries, lambda entry: entry.last_use)
    return Eviction(entries, lambda entry: 0)  # fifo: the oldest slot


class Ghosts:
    """The identities of the last entries evicted, as many as the cache has room for, at least 16.

    A ring of 8-byte prefixes: 8 bytes each where a set would take over 100.
    """

    def __init__(self, capacity: int) -> None:
        self._ring = np.zeros(max(capacity, _FEWEST_GHOSTS), np.uint64)
        self._next = 0

    def remember(self, digest: bytes) -> None:
        """Note an eviction, in place of the oldest one noted."""
        self._ring[self._next] = _prefix(digest)
        self._next = (self._next + 1) % len(self._ring)

    def __contains__(self, digest: bytes) -> bool:
        return bool((self._ring == _prefix(digest)).any())

    def recall(self, digest: bytes) -> bool:
        """Whether it was evicted lately; it is no ghost any more."""
        found = self._ring == _prefix(digest)
        self._ring[found] = 0
        return bool(found.any())

    def resize(self, capacity: int) -> None:
        """Make room for more, or forget the oldest."""
        noted = self.oldest_first
        self._ring = np.zeros(max(capacity, _FEWEST_GHOSTS), np.uint64)
        self.restore(noted)

    @property
    def oldest_first(self) -> UInt64[ndarray, " ghosts"]:
        """The whole ring; 0 where there is none."""
        return np.roll(self._ring, -self._next)

    def restore(self, oldest_first: UInt64[ndarray, " ghosts"]) -> None:
        """Continue from what `oldest_first` was."""
        last = oldest_first[-len(self._ring) :]
        self._ring[:] = 0
        self._ring[len(self._ring) - len(last) :] = last
        self._next = 0


def _prefix(digest: bytes) -> np.uint64:
    return np.uint64(max(1, int.from_bytes(digest[:8], "big")))
