"""Nearest neighbour by cosine among unit keys, within one goal.

`FlatIndex` is exact: each goal has a dense block of rows and a look-up is a matrix-vector product
over it, or over those of its rows that have a signature. Its answer depends only on the order of
rows (ties go to the lowest), which `keys` gives and `fill` restores. `HnswIndex` searches a graph
where a goal has many entries.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Int32, Int64
from numpy import ndarray

from cepcli.cache.config import IndexKind
from cepcli.cache.disk.columns import decode_strings, encode_strings
from cepcli.cache.graph import KeyGraph

_FIRST_ROWS = 16
_GATHERED = 8  # a copy of one row in so many costs less than the product over all

#: Entries of one goal above which a graph is faster, an entry being replaced at one look-up in ten.
#: Dimension 384, one core of a busy machine, µs at 1,000, 2,000, 4,000, 6,000 and 10,000 entries:
#: look-up in a block 38, 73, 171, 891, 1676, in a graph 45, 74, 166, 198, 321; replacing an entry
#: 7 in a block of any size, in a graph 373, 683, 1081, 1166, 1613.
GRAPH_FROM = 4000
#: Where keys lie that nobody searches, so that they never need a graph; no goal can be called so.
ASIDE = "\0aside"


class Index(ABC):
    """At most `capacity` unit keys; a slot is the caller's number, any integer not in use."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of slots."""

    @abstractmethod
    def add(self, slot: int, key: Float32[ndarray, " dim"], goal: str, signature: int = 0) -> None:
        """Put a new slot's key into the partition of `goal`."""

    @abstractmethod
    def replace(self, slot: int, key: Float32[ndarray, " dim"], goal: str) -> None:
        """Give a slot of `goal` another key."""

    @abstractmethod
    def remove(self, slot: int, goal: str) -> None:
        """Forget a slot of `goal`."""

    @abstractmethod
    def nearest(
        self, key: Float32[ndarray, " dim"], goal: str, signature: int | None = None
    ) -> tuple[int, float] | None:
        """The slot of `goal` with the largest cosine to `key`, and that cosine.

        With a signature only slots that were added with it count; an index that is approximate
        keeps none.
        """

    @abstractmethod
    def key(self, slot: int, goal: str) -> Float32[ndarray, " dim"]:
        """A copy of the key of a slot of `goal`."""

    @abstractmethod
    def keys(self, goal: str) -> tuple[Int64[ndarray, " rows"], Float32[ndarray, "rows dim"]]:
        """The slots of a goal that there is, in the order that `fill` needs, and their keys."""

    @abstractmethod
    def signatures(self, goal: str) -> Int32[ndarray, " rows"]:
        """The signature of each row that `keys` gives; 0 where none are kept."""

    @abstractmethod
    def state(self) -> dict[str, ndarray]:
        """What `fill` needs, beyond slots and keys, to answer look-ups as this index does."""

    @abstractmethod
    def fill(
        self,
        slots: Int64[ndarray, " rows"],
        keys: Float32[ndarray, "rows dim"],
        goals: Mapping[str, Int64[ndarray, " members"]],
        state: Mapping[str, ndarray],
        signatures: Int32[ndarray, " rows"] | None = None,
    ) -> None:
        """Fill an empty index.

        Args:
            slots: all slots.
            keys: the key of each.
            goals: which of them belong to a goal, in the order of `keys`.
            state: what `state` gave for just these slots, so that look-ups are answered as then; or
                nothing.
            signatures: of each slot; all 0 without them.

        Raises:
            ValueError: if the state is malformed.
        """


class _Block:
    """The keys of one goal: rows 0..count-1 of a matrix that doubles when it is full.

    A slot is found by comparing all: 30 µs among 100,000, where a dictionary would take more memory
    than all else that the index keeps beside the key.
    """

    __slots__ = ("count", "signatures", "slots", "vectors")

    def __init__(
        self,
        slots: Int64[ndarray, " rows"],
        vectors: Float32[ndarray, "rows dim"],
        signatures: Int32[ndarray, " rows"],
        count: int,
    ) -> None:
        self.slots = slots
        self.vectors = vectors
        self.signatures = signatures
        self.count = count

    def append(self, slot: int, key: ndarray, signature: int, most_rows: int) -> None:
        if self.count == len(self.vectors):
            rows = min(2 * self.count, most_rows)
            self.vectors = _grown(self.vectors, rows)
            self.slots = _grown(self.slots, rows)
            self.signatures = _grown(self.signatures, rows)
        self.vectors[self.count] = key
        self.signatures[self.count] = signature
        self.slots[self.count] = slot
        self.count += 1

    def remove(self, row: int) -> None:
        """Fill the hole with the last row."""
        self.count -= 1
        self.vectors[row] = self.vectors[self.count]
        self.slots[row] = self.slots[self.count]
        self.signatures[row] = self.signatures[self.count]

    def row(self, slot: int) -> int:
        found = np.flatnonzero(self.slots[: self.count] == slot)
        if not len(found):
            raise KeyError(slot)
        return int(found[0])


class FlatIndex(Index):
    """Exact search, by a matrix-vector product over the goal's block.

    Args:
        dim: dimension of the keys.
        capacity: most slots.
    """

    def __init__(self, dim: int, capacity: int) -> None:
        self.dim = dim
        self.capacity = capacity
        self._blocks: dict[str, _Block] = {}
        self._size = 0
        self._scores = np.empty(capacity, np.float32)

    def __len__(self) -> int:
        return self._size

    def add(self, slot: int, key: Float32[ndarray, " dim"], goal: str, signature: int = 0) -> None:
        """Append a row to the goal's block."""
        assert len(self) < self.capacity, "the index is full: remove a slot first"
        block = self._blocks.get(goal)
        if block is None:
            rows = min(_FIRST_ROWS, self.capacity)
            vectors = np.empty((rows, self.dim), np.float32)
            slots, signatures = np.empty(rows, np.int64), np.empty(rows, np.int32)
            block = self._blocks[goal] = _Block(slots, vectors, signatures, 0)
        block.append(slot, key, signature, self.capacity)
        self._size += 1

    def replace(self, slot: int, key: Float32[ndarray, " dim"], goal: str) -> None:
        """Overwrite the slot's row."""
        block = self._blocks[goal]
        block.vectors[block.row(slot)] = key

    def remove(self, slot: int, goal: str) -> None:
        """The block's last row takes the place of the slot's."""
        block = self._blocks[goal]
        block.remove(block.row(slot))
        self._size -= 1
        if block.count == 0:
            del self._blocks[goal]

    def nearest(
        self, key: Float32[ndarray, " dim"], goal: str, signature: int | None = None
    ) -> tuple[int, float] | None:
        """The first of the rows with the largest product."""
        block = self._blocks.get(goal)
        if block is None:
            return None
        if signature is not None:
            rows = np.flatnonzero(block.signatures[: block.count] == signature)
            if not len(rows):
                return None
            few = len(rows) < block.count / _GATHERED
            scores = block.vectors[rows] @ key if few else self._product(block, key)[rows]
            best = int(scores.argmax())
            return int(block.slots[rows[best]]), float(scores[best])
        scores = self._product(block, key)
        row = int(scores.argmax())
        return int(block.slots[row]), float(scores[row])

    def _product(self, block: _Block, key: Float32[ndarray, " dim"]) -> Float32[ndarray, " rows"]:
        return np.dot(block.vectors[: block.count], key, out=self._scores[: block.count])

    def key(self, slot: int, goal: str) -> Float32[ndarray, " dim"]:
        """A copy of the slot's row."""
        block = self._blocks[goal]
        return block.vectors[block.row(slot)].copy()

    def keys(self, goal: str) -> tuple[Int64[ndarray, " rows"], Float32[ndarray, "rows dim"]]:
        """By row; both are the index's own."""
        block = self._blocks[goal]
        return block.slots[: block.count], block.vectors[: block.count]

    def signatures(self, goal: str) -> Int32[ndarray, " rows"]:
        """By row; the index's own."""
        block = self._blocks[goal]
        return block.signatures[: block.count]

    def state(self) -> dict[str, ndarray]:
        """Nothing: slots and keys by row are all there is."""
        return {}

    def fill(
        self,
        slots: Int64[ndarray, " rows"],
        keys: Float32[ndarray, "rows dim"],
        goals: Mapping[str, Int64[ndarray, " members"]],
        state: Mapping[str, ndarray],
        signatures: Int32[ndarray, " rows"] | None = None,
    ) -> None:
        """Block by block."""
        for goal, members in goals.items():
            signed = None if signatures is None else signatures[members]
            self.put(slots[members], keys[members], goal, signed)

    def put(
        self,
        slots: Int64[ndarray, " rows"],
        keys: Float32[ndarray, "rows dim"],
        goal: str,
        signatures: Int32[ndarray, " rows"] | None = None,
    ) -> None:
        """Add a goal that there isn't yet, by row; all become the index's own."""
        signed = np.zeros(len(slots), np.int32) if signatures is None else signatures
        self._blocks[goal] = _Block(slots, keys, signed, len(slots))
        self._size += len(slots)

    def take(self, goal: str) -> tuple[Int64[ndarray, " rows"], Float32[ndarray, "rows dim"]]:
        """Remove a goal that there is; its slots and keys, by row."""
        found = self.keys(goal)
        del self._blocks[goal]
        self._size -= len(found[0])
        return found

    def size(self, goal: str) -> int:
        """Number of slots of a goal."""
        block = self._blocks.get(goal)
        return 0 if block is None else block.count


class HnswIndex(Index):
    """Approximate search in a graph (hnswlib) for goals with many entries, exact for the others.

    Below `graph_from` rows a matrix-vector product costs less than a graph's upkeep, and is exact.
    A goal that has outgrown its block keeps its graph until it is empty. A graph that comes back
    from disk goes on as if it had never been saved.

    Args:
        dim: dimension of the keys.
        capacity: most slots.
        graph_from: entries of one goal above which it gets a graph.

    Raises:
        CacheError: if hnswlib is not installed.
    """

    def __init__(self, dim: int, capacity: int, graph_from: int) -> None:
        KeyGraph.require_library()
        self.capacity = capacity
        self._graph_from = graph_from
        self._flat = FlatIndex(dim, capacity)
        self._graphs: dict[str, KeyGraph] = {}

    def __len__(self) -> int:
        return len(self._flat) + sum(map(len, self._graphs.values()))

    def add(self, slot: int, key: Float32[ndarray, " dim"], goal: str, signature: int = 0) -> None:
        """Into the goal's graph, or its block, which becomes a graph when it is large."""
        assert len(self) < self.capacity, "the index is full: remove a slot first"
        if goal in self._graphs:
            self._graphs[goal].add(slot, key)
            return
        self._flat.add(slot, key, goal)
        if goal != ASIDE and self._flat.size(goal) > self._graph_from:
            self._graphs[goal] = KeyGraph.build(*self._flat.take(goal), self.capacity)

    def replace(self, slot: int, key: Float32[ndarray, " dim"], goal: str) -> None:
        """Move the slot to another place of its graph, or overwrite its row."""
        if goal in self._graphs:
            self._graphs[goal].replace(slot, key)
        else:
            self._flat.replace(slot, key, goal)

    def remove(self, slot: int, goal: str) -> None:
        """Mark it deleted in its graph; the next entry takes its place."""
        graph = self._graphs.get(goal)
        if graph is None:
            self._flat.remove(slot, goal)
            return
        graph.remove(slot)
        if len(graph) == 0:
            del self._graphs[goal]

    def nearest(
        self, key: Float32[ndarray, " dim"], goal: str, signature: int | None = None
    ) -> tuple[int, float] | None:
        """The nearest that the graph's search comes upon, or the nearest of the block."""
        assert signature is None, "a graph cannot be searched by signature"
        graph = self._graphs.get(goal)
        return self._flat.nearest(key, goal) if graph is None else graph.nearest(key)

    def key(self, slot: int, goal: str) -> Float32[ndarray, " dim"]:
        """A copy."""
        graph = self._graphs.get(goal)
        return self._flat.key(slot, goal) if graph is None else graph.key(slot)

    def keys(self, goal: str) -> tuple[Int64[ndarray, " rows"], Float32[ndarray, "rows dim"]]:
        """By row, or in no particular order where there is a graph."""
        graph = self._graphs.get(goal)
        return self._flat.keys(goal) if graph is None else graph.keys()

    def signatures(self, goal: str) -> Int32[ndarray, " rows"]:
        """None are kept."""
        return np.zeros(len(self.keys(goal)[0]), np.int32)

    def state(self) -> dict[str, ndarray]:
        """Each graph's links, under its goal's number among the graphs, and the goals' names."""
        if not self._graphs:
            return {}
        goals = sorted(self._graphs)
        state = {"goals": encode_strings(goals)}
        for number, goal in enumerate(goals):
            graph = self._graphs[goal].state()
            state |= {f"{number}/{name}": array for name, array in graph.items()}
        return state

    def fill(
        self,
        slots: Int64[ndarray, " rows"],
        keys: Float32[ndarray, "rows dim"],
        goals: Mapping[str, Int64[ndarray, " members"]],
        state: Mapping[str, ndarray],
        signatures: Int32[ndarray, " rows"] | None = None,
    ) -> None:
        """Restore a goal's graph if it holds just the goal's slots; make the other goals anew."""
        saved = decode_strings(state["goals"]) if state else []
        for goal, members in goals.items():
            ours, graph = slots[members], None
            if goal == ASIDE:
                self._flat.put(ours, keys[members], goal)
                continue
            if goal in saved:
                parts = _parts(state, saved.index(goal))
                graph = KeyGraph.restored(parts, ours, keys[members], self.capacity)
            if graph is None and len(ours) > self._graph_from:
                graph = KeyGraph.build(ours, keys[members], self.capacity)
            if graph is None:
                self._flat.put(ours, keys[members], goal)
            else:
                self._graphs[goal] = graph


def _grown(array: ndarray, rows: int) -> ndarray:
    """A copy with room for more rows."""
    grown = np.empty((rows, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


def _parts(state: Mapping[str, ndarray], number: int) -> dict[str, ndarray]:
    """The state of one of several graphs."""
    prefix = f"{number}/"
    return {
        name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)
    }


def make_index(kind: IndexKind, dim: int, capacity: int) -> Index:
    """The index of a kind; `auto` is exact where no goal can outgrow its block.

    Raises:
        CacheError: if a graph is needed and hnswlib is not installed.
    """
    if kind == "flat" or (kind == "auto" and capacity <= GRAPH_FROM):
        return FlatIndex(dim, capacity)
    return HnswIndex(dim, capacity, GRAPH_FROM)
