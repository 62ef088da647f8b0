"""Which entry goes when the cache is full, and which have gone lately.

Each policy is a pure function of what entries know of themselves, ties going to the oldest slot: a
cache loaded from disk evicts the same victims as the one that was saved.
"""

import heapq
import math
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt64
from numpy import ndarray

from cepcli.cache.config import CacheConfig
from cepcli.cache.entry import Entry

Entries = dict[int, Entry]

_FEWEST_GHOSTS = 16
_SLACK = 16  # items of removed entries that are left alone
_SLOT_BITS = 40
_SLOT_MASK = (1 << _SLOT_BITS) - 1
_STEPS = 2**20  # in which a worth of 1, a halving, is measured
_MOST_HALVINGS = 1000.0  # by one audit, however wrong


class Eviction(ABC):
    """Chooses among the entries of a cache, a table by slot that it sees change."""

    @abstractmethod
    def add(self, entry: Entry) -> None:
        """An entry came in."""

    @abstractmethod
    def use(self, entry: Entry, now: int) -> None:
        """An entry answers; the cache stamps it with `now`, a use more, after this call."""

    @abstractmethod
    def audit(self, entry: Entry, kl: float) -> None:
        """An entry was found to be off by `kl` nats."""

    @abstractmethod
    def victim(self, spared: int) -> Entry:
        """The entry that goes next; never that of slot `spared`, of at least one other."""


class Lru(Eviction):
    """The least recently used, in constant time.

    Args:
        entries: those of the cache, least recently used first; kept in this order.
    """

    def __init__(self, entries: OrderedDict[int, Entry]) -> None:
        self._entries = entries

    def add(self, entry: Entry) -> None:
        """It was put at the end."""

    def use(self, entry: Entry, now: int) -> None:
        """Move it to the end."""
        self._entries.move_to_end(entry.slot)

    def audit(self, entry: Entry, kl: float) -> None:
        """Of no interest."""

    def victim(self, spared: int) -> Entry:
        """The first that isn't spared."""
        return next(entry for entry in self._entries.values() if entry.slot != spared)


class Fifo(Eviction):
    """The oldest, in constant time."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._slots = deque(sorted(entries))

    def add(self, entry: Entry) -> None:
        """The youngest so far."""
        if len(self._slots) > 2 * len(self._entries) + _SLACK:
            self._slots = deque(slot for slot in self._slots if slot in self._entries)
        self._slots.append(entry.slot)

    def use(self, entry: Entry, now: int) -> None:
        """Of no interest."""

    def audit(self, entry: Entry, kl: float) -> None:
        """Of no interest."""

    def victim(self, spared: int) -> Entry:
        """The lowest slot that is still there."""
        while self._slots[0] not in self._entries:
            self._slots.popleft()
        return next(
            self._entries[slot] for slot in self._slots if slot != spared and slot in self._entries
        )


class _Heap:
    """Entries by worth, least first; constant time for a use, O(log K) amortised for the rest.

    Every entry has an item at or below its worth. A use raises the worth and leaves the item, which
    is put right when it comes to the top; only what lowers a worth has to `add` another.

    Args:
        entries: those of the cache.
        worth: a whole number, the larger the later an entry goes.
    """

    def __init__(self, entries: Entries, worth: Callable[[Entry], int]) -> None:
        self._entries = entries
        self._worth = worth
        self._items: list[int] = []
        self._rebuild()

    def add(self, entry: Entry) -> None:
        """A new entry, or one whose worth fell."""
        if len(self._items) > 1.25 * len(self._entries) + _SLACK:
            self._rebuild()
        heapq.heappush(self._items, self._item(entry))

    def least(self, spared: int) -> Entry:
        """The entry of least worth, the oldest slot of several, but not `spared`."""
        first = self._settle()
        if first.slot != spared:
            return first
        item = heapq.heappop(self._items)
        while (second := self._settle()).slot == spared:
            heapq.heappop(self._items)
        heapq.heappush(self._items, item)
        return second

    def _settle(self) -> Entry:
        """The entry on top, once what is there is true."""
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

    def _item(self, entry: Entry) -> int:
        """Worth above slot in one integer, at half the memory of a pair."""
        return self._worth(entry) << _SLOT_BITS | entry.slot


class Lfu(Eviction):
    """The least often used."""

    def __init__(self, entries: Entries) -> None:
        self._heap = _Heap(entries, lambda entry: entry.hits)

    def add(self, entry: Entry) -> None:
        """Not used yet."""
        self._heap.add(entry)

    def use(self, entry: Entry, now: int) -> None:
        """`hits` tells."""

    def audit(self, entry: Entry, kl: float) -> None:
        """Of no interest."""

    def victim(self, spared: int) -> Entry:
        """The entry with the fewest hits."""
        return self._heap.least(spared)


class Utility(Eviction):
    """The least useful: decayed uses, fewer for errors that audits found.

    u(t) = Σ_uses 2^−(t−t_use)/H, insertion being the first use, t the cache's clock of uses and
    insertions; an audit that finds KL nats multiplies u by 2^−λ·KL. All u decay alike, so that
    log2 u(t) + t/H, which needs no update with time, orders entries as u does; it is `warmth` +
    last_use/H, compared to the millionth.

    Args:
        entries: those of the cache.
        half_life: H, > 0.
        audit_penalty: λ, >= 0.
    """

    def __init__(self, entries: Entries, half_life: float, audit_penalty: float) -> None:
        self._half_life = half_life
        self._audit_penalty = audit_penalty
        self._heap = _Heap(
            entries,
            lambda entry: round(_STEPS * (entry.warmth + entry.last_use / half_life)),
        )

    def add(self, entry: Entry) -> None:
        """Warmth 0: one use, now."""
        self._heap.add(entry)

    def use(self, entry: Entry, now: int) -> None:
        """One use more, after what is left of the others."""
        left = entry.warmth - (now - entry.last_use) / self._half_life
        entry.warmth = max(left, 0.0) + math.log2(1.0 + 2.0 ** -abs(left))

    def audit(self, entry: Entry, kl: float) -> None:
        """Less by λ·KL halvings."""
        entry.warmth -= min(self._audit_penalty * max(0.0, kl), _MOST_HALVINGS)
        self._heap.add(entry)

    def victim(self, spared: int) -> Entry:
        """The entry with the least u."""
        return self._heap.least(spared)


def new_table(config: CacheConfig) -> Entries:
    """An empty table of entries by slot; the policy `lru` has it ordered."""
    return OrderedDict() if config.policy == "lru" else {}


def make_eviction(config: CacheConfig, entries: Entries, capacity: int | None = None) -> Eviction:
    """The policy that a configuration names, over `entries` as they are and will be.

    The half-life of `utility` is as many uses as the cache has room for entries: `capacity`, by
    default the configured one.
    """
    if config.policy == "lru":
        assert isinstance(entries, OrderedDict)
        return Lru(entries)
    if config.policy == "fifo":
        return Fifo(entries)
    if config.policy == "lfu":
        return Lfu(entries)
    half_life = config.capacity if capacity is None else capacity
    return Utility(entries, float(half_life), config.audit_penalty)


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
        if not found.any():
            return False
        self._ring[found] = 0
        return True

    def resize(self, capacity: int) -> None:
        """Make room for more, or forget the oldest."""
        kept = self.oldest_first
        self._ring = np.zeros(max(capacity, _FEWEST_GHOSTS), np.uint64)
        kept = kept[-len(self._ring) :]
        self._ring[len(self._ring) - len(kept) :] = kept
        self._next = 0

    @property
    def oldest_first(self) -> UInt64[ndarray, " ghosts"]:
        """The whole ring; 0 where there is none."""
        return np.roll(self._ring, -self._next)

    def restore(self, oldest_first: UInt64[ndarray, " ghosts"]) -> None:
        """Take over what `oldest_first` was."""
        kept = oldest_first[-len(self._ring) :]
        self._ring[:] = 0
        self._ring[len(self._ring) - len(kept) :] = kept
        self._next = 0


def _prefix(digest: bytes) -> np.uint64:
    return np.uint64(max(1, int.from_bytes(digest[:8], "big")))
