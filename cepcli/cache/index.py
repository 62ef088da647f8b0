"""Nearest neighbour by cosine among unit keys, within one goal, by a matrix-vector product.

Each goal has a dense block of rows, so a look-up costs as much as its own goal has entries. The
answer depends only on the order of rows (ties go to the lowest), which `rows` and re-adding in
that order restore exactly.
"""

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

_FIRST_ROWS = 16


class _Block:
    """The keys of one goal: rows 0..count-1 of a matrix that doubles when it is full."""

    __slots__ = ("count", "slots", "vectors")

    def __init__(self, rows: int, dim: int) -> None:
        self.vectors = np.empty((rows, dim), np.float32)
        self.slots: list[int] = []
        self.count = 0

    def append(self, slot: int, key: ndarray, most_rows: int) -> int:
        if self.count == len(self.vectors):
            grown = np.empty((min(2 * self.count, most_rows), self.vectors.shape[1]), np.float32)
            grown[: self.count] = self.vectors
            self.vectors = grown
        self.vectors[self.count] = key
        self.slots.append(slot)
        self.count += 1
        return self.count - 1

    def remove(self, row: int) -> int | None:
        """Fill the hole with the last row; the slot that moved, if one did."""
        last = self.count - 1
        moved = self.slots.pop()
        self.count = last
        if row == last:
            return None
        self.vectors[row] = self.vectors[last]
        self.slots[row] = moved
        return moved


class FlatIndex:
    """Exact search over at most `capacity` unit keys of dimension `dim`.

    A slot is the caller's number for an entry; any distinct integers will do.
    """

    def __init__(self, dim: int, capacity: int) -> None:
        self.dim = dim
        self.capacity = capacity
        self._blocks: dict[str, _Block] = {}
        self._places: dict[int, tuple[str, int]] = {}
        self._scores = np.empty(capacity, np.float32)

    def __len__(self) -> int:
        return len(self._places)

    def add(self, slot: int, key: Float32[ndarray, " dim"], goal: str) -> None:
        """Put a new slot's key into the partition of `goal`."""
        assert slot not in self._places, slot
        assert len(self) < self.capacity, "the index is full: remove a slot first"
        block = self._blocks.get(goal)
        if block is None:
            block = self._blocks[goal] = _Block(min(_FIRST_ROWS, self.capacity), self.dim)
        self._places[slot] = (goal, block.append(slot, key, self.capacity))

    def replace(self, slot: int, key: Float32[ndarray, " dim"]) -> None:
        """Give a slot another key, in the same partition and row."""
        goal, row = self._places[slot]
        self._blocks[goal].vectors[row] = key

    def remove(self, slot: int) -> None:
        """Forget a slot."""
        goal, row = self._places.pop(slot)
        block = self._blocks[goal]
        moved = block.remove(row)
        if moved is not None:
            self._places[moved] = (goal, row)
        if block.count == 0:
            del self._blocks[goal]

    def nearest(self, key: Float32[ndarray, " dim"], goal: str) -> tuple[int, float] | None:
        """The slot of `goal` with the largest cosine to `key`, and that cosine."""
        block = self._blocks.get(goal)
        if block is None:
            return None
        scores = np.dot(block.vectors[: block.count], key, out=self._scores[: block.count])
        row = int(scores.argmax())
        return block.slots[row], float(scores[row])

    def key(self, slot: int) -> Float32[ndarray, " dim"]:
        """A copy of a slot's key."""
        goal, row = self._places[slot]
        return self._blocks[goal].vectors[row].copy()

    def row(self, slot: int) -> int:
        """A slot's row within its partition."""
        return self._places[slot][1]
