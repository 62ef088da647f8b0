"""The prior cache: what the LLM said about a state, found again by the same or a similar text.

An exact text is a dictionary probe and always valid. Where the mode compares texts, the entry with
the nearest key answers, too, if it is similar enough. Beyond the capacity an entry is evicted.

Which entries can answer a text at all: those of its goal, unless goals share answers, and in the
modes without a certificate those that agree in what an answer depends on
(`cepcli.keys.opposites`).
"""

import copy
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from cepcli.cache.config import CacheConfig, Knobs
from cepcli.cache.disk import columns, storage
from cepcli.cache.entries import CacheEntry, Ghosts, Scores, make_eviction, text_digest, text_hash
from cepcli.cache.index import ASIDE, KeyIndex, make_index
from cepcli.errors import CacheError
from cepcli.keys.key_encoder import reading
from cepcli.keys.opposites import SIGNATURE, alike
from cepcli.prior.base import Namespace
from cepcli.types import TextState

_NEARLY_ONE = 1.0 - 1e-5
_BELOW_ONE = float(np.nextafter(1.0, 0.0))
#: Texts whose words are remembered: of a miss for its entry, of entries that answer often.
_READINGS = 16


class Neighbour(NamedTuple):
    """The nearest entry and its cosine similarity: 1 if and only if the keys are identical."""

    entry: CacheEntry
    similarity: float


class PriorCache:
    """At most `knobs.capacity` entries of one namespace.

    A read-only cache answers look-ups; nothing in it changes, neither entries nor recency.

    Args:
        config: mode, and what the parameters are at first.
        dim: dimension of the keys; any number if the mode needs none.
        namespace: what the entries belong to.

    Raises:
        CacheError: if the configuration needs a library that is not installed.

    Attributes:
        knobs: capacity, threshold and refresh rate that hold now; `set_knobs` changes them.
        certificate: what its controller promises at these knobs, as JSON values
            (`Certificate._asdict`); None where nothing is promised.
        key_head: weights of the learned head that made the keys, saved with them; none without one.
        ghost_hits: texts inserted so far that had been evicted not long before.
    """

    def __init__(self, config: CacheConfig, dim: int, namespace: Namespace) -> None:
        self.config = config
        self.keyed = config.keyed  # whether entries have keys, so that similar texts can be found
        self.dim = dim
        self.namespace = namespace
        self.read_only = False
        self.knobs = config.knobs
        self.certificate: dict[str, Any] | None = None
        self.key_head: Mapping[str, ndarray] = {}
        self.ghost_hits = 0
        self._entries: dict[int, CacheEntry] = {}
        self._texts: dict[str, dict[str, CacheEntry]] = {}
        self._index = self._new_index(config.limit)
        self._eviction = make_eviction(config, self._entries, self.knobs.capacity)
        self._ghosts = Ghosts(self.knobs.capacity)
        self._lent = Ghosts(self._lending(self.knobs.capacity))
        self._reading = lru_cache(_READINGS)(partial(reading, focus=config.focus))
        self._clock = 0
        self._next_slot = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[CacheEntry]:
        """Entries, least recently used first."""
        return iter(sorted(self._entries.values(), key=lambda entry: entry.last_use))

    @property
    def insertions(self) -> int:
        """Texts stored so far, evicted ones among them."""
        return self._next_slot

    def frozen(self) -> "PriorCache":
        """A read-only view of the same entries."""
        view = copy.copy(self)
        view.read_only = True
        return view

    def set_knobs(self, knobs: Knobs) -> None:
        """Change the parameters; what no longer fits is evicted at once, but not the newest."""
        assert not self.read_only, "a read-only cache stays as it is"
        assert 1 <= knobs.capacity <= self.config.limit, knobs
        if knobs.capacity != self.knobs.capacity:
            self._eviction = make_eviction(self.config, self._entries, knobs.capacity)
            self._shrink(knobs.capacity, spared=max(self._entries, default=-1))
            self._ghosts.resize(knobs.capacity)
            self._lent.resize(self._lending(knobs.capacity))
        self.knobs = knobs

    def exact(self, goal: str, text: str) -> CacheEntry | None:
        """The entry of this very text."""
        texts = self._texts.get(goal)
        return None if texts is None else texts.get(text)

    def nearest(self, state: TextState, key: Float32[ndarray, " dim"]) -> Neighbour | None:
        """The entry with the most similar key, however little similar it is.

        None if no entry can answer for the state's text, or if the gate rejects this one.
        """
        gated, partition = self.config.gated, self._partition_of(state.goal)
        signature = self._signature(state.goal, state.text) if gated else None
        found = self._index.nearest(key, partition, signature)
        if found is None:
            return None
        slot, similarity = found
        if similarity > _NEARLY_ONE:
            same = np.array_equal(self._index.key(slot, partition), key)
            similarity = 1.0 if same else min(similarity, _BELOW_ONE)
        neighbour = Neighbour(self._entries[slot], similarity)
        if gated and self.answers(neighbour) and not self._alike(neighbour.entry, state):
            return None
        return neighbour

    def answers(self, neighbour: Neighbour) -> bool:
        """Whether an entry answers for a text this similar: from δ on, unless it `repels` it."""
        entry, similarity = neighbour
        threshold = self.knobs.threshold
        return threshold is not None and similarity >= threshold and similarity > entry.repels

    def repel(self, entry: CacheEntry, similarity: float) -> None:
        """Let an entry answer only texts more similar than this; at 1, only its own."""
        if similarity >= 1.0:
            self._put_aside(entry, 1.0)
        else:
            entry.repels = max(entry.repels, similarity)

    def set_aside(self, entries: Iterable[CacheEntry] | None = None) -> None:
        """Let entries, all unless given, answer only their own text from now on.

        They are no neighbours any more, under other keys either, unlike entries that `repel`
        identical keys.
        """
        assert not self.read_only, "a read-only cache stays as it is"
        for entry in list(self._entries.values() if entries is None else entries):
            self._put_aside(entry, math.inf)

    def _put_aside(self, entry: CacheEntry, repels: float) -> None:
        if entry.slot not in self._entries:
            return
        if self.keyed and entry.repels < 1.0:
            key = self.key(entry)
            self._index.remove(entry.slot, self._partition(entry))
            self._index.add(entry.slot, key, ASIDE)
        entry.repels = max(entry.repels, repels)

    @staticmethod
    def is_set_aside(entry: CacheEntry) -> bool:
        """Whether an entry answers only its own text, whatever the keys."""
        return entry.repels == math.inf

    def lend(self, goal: str, text: str) -> None:
        """Note that a similar text answered for this one."""
        self._lent.remember(text_digest(goal, text))

    def was_lent(self, goal: str, text: str) -> bool:
        """Whether a similar text answered for this one lately, and it has no entry yet."""
        return text_digest(goal, text) in self._lent

    def use(self, entry: CacheEntry) -> None:
        """Note that an entry answered; no effect if it was evicted or the cache is read-only."""
        if self.read_only or entry.slot not in self._entries:
            return
        self._clock += 1
        self._eviction.use(entry, self._clock)
        entry.last_use = self._clock
        entry.hits += 1

    def audited(self, entry: CacheEntry, span: float, kl: float) -> None:
        """Note that an entry's answer was compared with a fresh one: their span, and KL in nats."""
        assert not self.read_only, "a read-only cache stays as it is"
        entry.audits += 1
        entry.last_span, entry.last_kl = span, kl
        if entry.slot in self._entries:
            self._eviction.audit(entry, kl)

    def insert(
        self,
        goal: str,
        text: str,
        key: Float32[ndarray, " dim"] | None,
        scores: Mapping[str, float],
    ) -> CacheEntry:
        """A new, most recently used entry, in place of one of the same text; evicts if full.

        Args:
            goal: the state's task text.
            text: the state's description.
            key: its unit key; None if the mode needs none.
            scores: normalised score of each action.
        """
        assert not self.read_only, "a read-only cache stores nothing"
        assert (key is not None) == self.keyed, "a key is needed exactly where texts are compared"
        digest = text_digest(goal, text)
        self._lent.recall(digest)
        known = self.exact(goal, text)
        if known is not None:
            self.remove(known)
        elif self._ghosts.recall(digest):
            self.ghost_hits += 1
        self._shrink(self.knobs.capacity - 1)
        self._clock += 1
        entry = CacheEntry(
            self._next_slot, sys.intern(goal), text, Scores.of(scores), last_use=self._clock
        )
        self._next_slot += 1
        self._put(entry)
        self._eviction.add(entry)
        if key is not None:
            self._index.add(entry.slot, key, self._partition(entry), self._signature(goal, text))
        return entry

    def remove(self, entry: CacheEntry) -> None:
        """Forget an entry; no effect if it is gone already."""
        if self._entries.pop(entry.slot, None) is None:
            return
        texts = self._texts[entry.goal]
        del texts[entry.text]
        if not texts:
            del self._texts[entry.goal]
        if self.keyed:
            self._index.remove(entry.slot, self._partition(entry))

    def evict(self) -> None:
        """Forget the entry that would go next; there must be one."""
        self._shrink(len(self) - 1)

    def key(self, entry: CacheEntry) -> Float32[ndarray, " dim"]:
        """An entry's unit key."""
        return self._index.key(entry.slot, self._partition(entry))

    def rekey(
        self,
        key: Callable[[str, str], Float32[ndarray, " dim"]],
        dim: int,
        namespace: Namespace,
        head: Mapping[str, ndarray],
    ) -> None:
        """Give every entry another key; what was found out about similarities is forgotten.

        Args:
            key: goal and text to unit key.
            dim: dimension of the keys.
            namespace: what the entries belong to from now on.
            head: see `key_head`.
        """
        assert not self.read_only, "a read-only cache stays as it is"
        self.dim, self.namespace, self.key_head = dim, namespace, head
        self._index = self._new_index(self.config.limit)
        for slot in sorted(self._entries):
            entry = self._entries[slot]
            if not self.is_set_aside(entry):
                entry.repels = -1.0
            goal, text = entry.goal, entry.text
            signature = self._signature(goal, text)
            self._index.add(slot, key(goal, text), self._partition(entry), signature)

    def restore(self, other: "PriorCache") -> None:
        """Take over the content of `other`, a cache of the same namespace and configuration."""
        assert other.namespace == self.namespace, "caches of different namespaces do not mix"
        assert other.config == self.config, "caches of different configurations do not mix"
        read_only = self.read_only
        self.__dict__.update(other.__dict__)
        self.read_only = read_only

    def save(self, directory: Path) -> None:
        """Write everything, recency included, into `directory`, in a single step."""
        storage.write(directory, self.saved())

    def saved(self) -> storage.Saved:
        """The content, as it is written to disk."""
        entries = list(self)
        keys, rows, signatures = self._indexed(entries)
        found = zip(entries, rows.tolist(), signatures.tolist(), strict=True)
        return storage.Saved(
            namespace=self.namespace,
            mode=self.config.mode,
            dim=self.dim,
            state={
                "clock": self._clock,
                "next_slot": self._next_slot,
                "ghost_hits": self.ghost_hits,
                "headed": bool(self.key_head),
                "signed": self._signed,
                "knobs": list(self.knobs),
                "configured": list(self.config.knobs),
                "certificate": self.certificate,
            },
            columns=columns.pack(
                [columns.record(e, text_hash(e.goal, e.text), *rest) for e, *rest in found]
            ),
            keys=keys,
            ghosts=self._ghosts.oldest_first,
            lent=self._lent.oldest_first,
            graphs=self._index.state(),
            key_head=dict(self.key_head),
        )

    @classmethod
    def load(cls, directory: Path, namespace: Namespace, config: CacheConfig) -> "PriorCache":
        """The cache in `directory`, which decides exactly as the saved one did.

        Parameters that a controller had moved stay where they were, except those that `config`
        sets otherwise than the saved cache's did. If `config.capacity` is smaller than the saved
        cache, the least recently used entries go.

        Raises:
            CacheError: if there is none, it is damaged, or belongs to another namespace.
        """
        saved = storage.read(directory)
        if saved.namespace != namespace:
            names = storage.namespace_differences(saved.namespace, namespace)
            raise CacheError(
                f"The prior cache in `{directory}` belongs to [{saved.namespace}], not to "
                f"[{namespace}]; they differ in {', '.join(names)}.",
                "Use the model and encoder it was made with, or start another cache.",
            )
        cache = cls(config, saved.dim, namespace)
        cache.key_head = saved.key_head
        if cache.keyed and len(saved.keys) != len(saved.columns["slot"]):
            raise CacheError(
                f"The prior cache in `{directory}` was filled in mode {saved.mode} and has no keys "
                f"to find similar texts by, as mode {config.mode} needs.",
                "Use it in mode exact, or start another cache.",
            )
        try:
            cache._fill(saved)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise storage.damaged(directory, f"holds a malformed entry ({error!r})") from error
        return cache

    def _fill(self, saved: storage.Saved) -> None:
        entries = columns.entries(saved.columns)
        for entry in entries:
            self._put(entry)
        if self.keyed:
            self._index = self._new_index(max(self.config.limit, len(entries)))
            members: dict[str, list[int]] = {}
            for number in np.argsort(saved.columns["row"], kind="stable").tolist():
                members.setdefault(self._partition(entries[number]), []).append(number)
            goals = {goal: np.array(numbers, np.int64) for goal, numbers in members.items()}
            signatures = saved.columns["signature"].astype(np.int32)
            if saved.state.get("signed") != self._signed:
                signatures = np.array([self._signature(e.goal, e.text) for e in entries], np.int32)
            slots = saved.columns["slot"]
            self._index.fill(slots, saved.keys, goals, saved.graphs, signatures)
        self._clock, self._next_slot = saved.state["clock"], saved.state["next_slot"]
        self.knobs = self._knobs(saved)
        self._eviction = make_eviction(self.config, self._entries, self.knobs.capacity)
        if saved.mode == self.config.mode:
            self.certificate = saved.state.get("certificate")
        self.ghost_hits = saved.state.get("ghost_hits", 0)
        self._ghosts = Ghosts(self.knobs.capacity)
        self._ghosts.restore(saved.ghosts)
        self._lent = Ghosts(self._lending(self.knobs.capacity))
        self._lent.restore(saved.lent)
        for entry in entries[: -self.knobs.capacity]:
            self.remove(entry)

    def _lending(self, capacity: int) -> int:
        """How many lent answers are remembered; only `certified` asks."""
        return capacity if self.config.mode == "certified" else 0

    def _knobs(self, saved: storage.Saved) -> Knobs:
        """Where a controller had left them, if mode and configuration are still the same."""
        if saved.mode != self.config.mode or "knobs" not in saved.state:
            return self.config.knobs
        now, state = self.config.knobs, saved.state
        both = zip(state["knobs"], state["configured"], now, strict=True)
        knobs = Knobs._make(moved if then == mine else mine for moved, then, mine in both)
        return knobs._replace(capacity=min(knobs.capacity, self.config.limit))

    def _indexed(
        self, entries: Sequence[CacheEntry]
    ) -> tuple[Float32[ndarray, "keyed dim"], Int64[ndarray, " rows"], Int64[ndarray, " rows"]]:
        """Each entry's key, if it has one, its row within its partition, and its signature."""
        slots = np.array([entry.slot for entry in entries], np.int64)
        signatures = np.zeros_like(slots)
        if not self.keyed:
            return np.zeros((0, self.dim), np.float32), slots, signatures
        keys, rows = np.empty((len(slots), self.dim), np.float32), np.empty_like(slots)
        rising = np.argsort(slots)
        for partition in {self._partition(entry) for entry in entries}:
            found, vectors = self._index.keys(partition)
            numbers = rising[np.searchsorted(slots[rising], found)]
            keys[numbers], rows[numbers] = vectors, np.arange(len(found))
            signatures[numbers] = self._index.signatures(partition)
        return keys, rows, signatures

    def _put(self, entry: CacheEntry) -> None:
        self._entries[entry.slot] = entry
        self._texts.setdefault(entry.goal, {})[entry.text] = entry

    def _shrink(self, size: int, *, spared: int = -1) -> None:
        """Evict down to `size` entries, but not the one of slot `spared`."""
        while len(self._entries) > size:
            victim = self._eviction.victim(spared)
            self._ghosts.remember(text_digest(victim.goal, victim.text))
            self.remove(victim)

    def _new_index(self, capacity: int) -> KeyIndex:
        exact = self.config.gated or not self.keyed  # few entries have the same signature
        return make_index("flat" if exact else self.config.index, self.dim, capacity)

    @property
    def _signed(self) -> str | None:
        """Says how signatures are made; None without a gate."""
        return f"{SIGNATURE} focus={self.config.focus}" if self.config.gated else None

    def _signature(self, goal: str, text: str) -> int:
        """What an entry that is to answer for a text must have; 0 without a gate."""
        return self._reading(goal, text).signature if self.config.gated else 0

    def _partition(self, entry: CacheEntry) -> str:
        """Where an entry's key lies in the index."""
        return ASIDE if entry.repels >= 1.0 else self._partition_of(entry.goal)

    def _partition_of(self, goal: str) -> str:
        """Where the entries lie that may answer for texts of a goal."""
        return "" if self.config.pools_goals else goal

    def _alike(self, entry: CacheEntry, state: TextState) -> bool:
        """Whether an entry differs in nothing from a state that an answer depends on."""
        ours, theirs = self._reading(state.goal, state.text), self._reading(entry.goal, entry.text)
        return alike(ours, theirs, state.actions)
