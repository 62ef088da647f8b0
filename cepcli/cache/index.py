"""Nearest neighbour by cosine among unit keys, within one goal.

Each goal has a dense block of rows, and a look-up is an exact matrix-vector product over it, or
over those of its rows that have a signature. The answer depends only on the order of rows (ties go
to the lowest), which `keys` gives and `fill` restores. A goal with many entries may have a graph
(hnswlib) instead, which is searched approximately.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Int32, Int64
from numpy import ndarray

from cepcli.cache.config import IndexKind
from cepcli.cache.disk.columns import decode_strings, encode_strings
from cepcli.cache.graph import KeyGraph, import_hnswlib

_FIRST_ROWS = 16
_GATHERED = 8  # a copy of one row in so many costs less than the product over all

#: Entries of one goal above which a graph is faster, an entry being replaced at one look-up in ten.
#: Dimension 384, one core of a busy machine, µs at 1,000, 2,000, 4,000, 6,000 and 10,000 entries:
#: look-up in a block 38, 73, 171, 891, 1676, in a graph 45, 74, 166, 198, 321; replacing an entry
#: 7 in a block of any size, in a graph 373, 683, 1081, 1166, 1613.
GRAPH_FROM = 4000
#: Where keys lie that nobody searches, so that they never need a graph; no goal can be called so.
ASIDE = "\0aside"


class _Block:
    """The keys of one goal: rows 0..count-1 of a matrix that doubles when it is full.

    A slot is found by comparing all: 30 µs among 100,000, where a dictionary would take more memory
    than all else that the index stores beside the key.
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
            for name in ("vectors", "slots", "signatures"):
                full = getattr(self, name)
                grown = np.empty((rows, *full.shape[1:]), full.dtype)
                grown[: self.count] = full
                setattr(self, name, grown)
        self.vectors[self.count] = key
        self.signatures[self.count] = signature
        self.slots[self.count] = slot
        self.count += 1

    def remove(self, slot: int) -> None:
        """Fill the hole with the last row."""
        row = self.row(slot)
        self.count -= 1
        self.vectors[row] = self.vectors[self.count]
        self.slots[row] = self.slots[self.count]
        self.signatures[row] = self.signatures[self.count]

    def row(self, slot: int) -> int:
        found = np.flatnonzero(self.slots[: self.count] == slot)
        if not len(found):
            raise KeyError(slot)
        return int(found[0])


class KeyIndex:
    """At most `capacity` unit keys; a slot is the caller's number, any integer not in use.

    Below `graph_from` rows a matrix-vector product costs less than a graph's upkeep, and is exact.
    A goal that has outgrown its block keeps its graph until it is empty. A graph that comes back
    from disk goes on as if it had never been saved.

    Args:
        dim: dimension of the keys.
        capacity: most slots.
        graph_from: entries of one goal above which it gets a graph; None for exact search alone.

    Raises:
        CacheError: if a graph may be needed and hnswlib is not installed.
    """

    def __init__(self, dim: int, capacity: int, graph_from: int | None = None) -> None:
        if graph_from is not None:
            import_hnswlib()
        self.dim = dim
        self.capacity = capacity
        self.graph_from = graph_from
        self._blocks: dict[str, _Block] = {}
        self._graphs: dict[str, KeyGraph] = {}
        self._size = 0
        self._products = np.empty(capacity, np.float32)

    def __len__(self) -> int:
        return self._size

    def add(self, slot: int, key: Float32[ndarray, " dim"], goal: str, signature: int = 0) -> None:
        """Put a new slot's key at the end of the goal's block, or into its graph."""
        assert len(self) < self.capacity, "the index is full: remove a slot first"
        self._size += 1
        if goal in self._graphs:
            self._graphs[goal].add(slot, key)
            return
        block = self._blocks.get(goal)
        if block is None:
            rows = min(_FIRST_ROWS, self.capacity)
            vectors = np.empty((rows, self.dim), np.float32)
            slots, signatures = np.empty(rows, np.int64), np.empty(rows, np.int32)
            block = self._blocks[goal] = _Block(slots, vectors, signatures, 0)
        block.append(slot, key, signature, self.capacity)
        if self._outgrown(goal, block.count):
            self._graphs[goal] = KeyGraph.build(*self.keys(goal), self.capacity)
            del self._blocks[goal]

    def remove(self, slot: int, goal: str) -> None:
        """Forget a slot; the last row of a block takes its place, in a graph the next entry."""
        places: Mapping[str, KeyGraph | _Block]
        places = self._graphs if goal in self._graphs else self._blocks
        places[goal].remove(slot)
        self._size -= 1
        if goal in self._graphs and not len(self._graphs[goal]):
            del self._graphs[goal]
        elif goal in self._blocks and not self._blocks[goal].count:
            del self._blocks[goal]

    def nearest(
        self, key: Float32[ndarray, " dim"], goal: str, signature: int | None = None
    ) -> tuple[int, float] | None:
        """The slot of `goal` with the largest cosine to `key`, and that cosine.

        With a signature only slots that were added with it count; a graph cannot tell.
        """
        block = self._blocks.get(goal)
        if block is None:
            graph = self._graphs.get(goal)
            assert graph is None or signature is None, "a graph cannot be searched by signature"
            return None if graph is None else graph.nearest(key)
        if signature is not None:
            rows = np.flatnonzero(block.signatures[: block.count] == signature)
            if not len(rows):
                return None
            few = len(rows) < block.count / _GATHERED
            cosines = block.vectors[rows] @ key if few else self._product(block, key)[rows]
            best = int(cosines.argmax())
            return int(block.slots[rows[best]]), float(cosines[best])
        cosines = self._product(block, key)
        row = int(cosines.argmax())
        return int(block.slots[row]), float(cosines[row])

    def _product(self, block: _Block, key: Float32[ndarray, " dim"]) -> Float32[ndarray, " rows"]:
        return np.dot(block.vectors[: block.count], key, out=self._products[: block.count])

    def key(self, slot: int, goal: str) -> Float32[ndarray, " dim"]:
        """A copy of the key of a slot of `goal`."""
        if goal in self._graphs:
            return self._graphs[goal].key(slot)
        block = self._blocks[goal]
        return block.vectors[block.row(slot)].copy()

    def keys(self, goal: str) -> tuple[Int64[ndarray, " rows"], Float32[ndarray, "rows dim"]]:
        """The slots of a goal that there is, in the order that `fill` needs, and their keys.

        The arrays of a block are the index's own.
        """
        if goal in self._graphs:
            return self._graphs[goal].keys()
        block = self._blocks[goal]
        return block.slots[: block.count], block.vectors[: block.count]

    def signatures(self, goal: str) -> Int32[ndarray, " rows"]:
        """The signature of each row that `keys` gives; 0 where none are stored."""
        if goal in self._graphs:
            return np.zeros(len(self._graphs[goal]), np.int32)
        block = self._blocks[goal]
        return block.signatures[: block.count]

    def state(self) -> dict[str, ndarray]:
        """What `fill` needs, beyond slots and keys, to answer look-ups as this index does.

        Each graph's links, under its goal's number among the graphs, and the goals' names.
        """
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
        """Fill an empty index; arrays become its own.

        Args:
            slots: all slots.
            keys: the key of each.
            goals: which of them belong to a goal, in the order of `keys`.
            state: what `state` gave for just these slots, so that look-ups are answered as then; or
                nothing. A graph of other slots is built anew.
            signatures: of each slot; all 0 without them.

        Raises:
            ValueError: if the state is malformed.
        """
        saved = decode_strings(state["goals"]) if state and self.graph_from is not None else []
        signed = np.zeros(len(slots), np.int32) if signatures is None else signatures
        for goal, members in goals.items():
            ours, graph = slots[members], None
            if goal in saved:
                prefix = f"{saved.index(goal)}/"
                parts = {
                    name.removeprefix(prefix): array
                    for name, array in state.items()
                    if name.startswith(prefix)
                }
                graph = KeyGraph.restored(parts, ours, keys[members], self.capacity)
            if graph is None and self._outgrown(goal, len(ours)):
                graph = KeyGraph.build(ours, keys[members], self.capacity)
            if graph is None:
                self._blocks[goal] = _Block(ours, keys[members], signed[members], len(ours))
            else:
                self._graphs[goal] = graph
            self._size += len(ours)

    def _outgrown(self, goal: str, count: int) -> bool:
        """Whether a goal with so many entries is to have a graph."""
        return self.graph_from is not None and goal != ASIDE and count > self.graph_from


def make_index(kind: IndexKind, dim: int, capacity: int) -> KeyIndex:
    """The index of a kind; `auto` is exact where no goal can outgrow its block.

    Raises:
        CacheError: if a graph is needed and hnswlib is not installed.
    """
    exact = kind == "flat" or (kind == "auto" and capacity <= GRAPH_FROM)
    return KeyIndex(dim, capacity, None if exact else GRAPH_FROM)
