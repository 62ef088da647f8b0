"""The keys of one goal as a graph for approximate search: hnswlib with deletion, growth and state.

An entry that is removed is only marked; the next one added takes over its node, the last one freed
first. A graph that comes back from its state goes on exactly as the one that was saved: which node
is taken, and at which level a new node is linked, follow from the state. The state leaves out the
vectors of live nodes (they are the cache's keys) and holds no pickle.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from numpy import ndarray

from cepcli.errors import CacheError

# Recall at 10,000 keys of dimension 384 is above 0.999 in 500 clusters, on a curved surface of 12
# dimensions, and for keys near one of 10,000 random directions; also after all were replaced.
_LINKS = 16
_EF_CONSTRUCTION = 100
_EF = 64
_FIRST_ROOM = 1024

# hnswlib draws the level of a node, when it is made, from std::minstd_rand0 (in libstdc++, as its
# default engine): x ← 16807·x mod 2³¹−1, twice a draw, from this seed. So where the generator
# stands follows from how many nodes there are.
_SEED = 100
_NO_SLOT = -1  # of a marked node
_MULTIPLIER, _MODULUS = 16807, 2**31 - 1


def import_hnswlib() -> Any:
    """The library, or a CacheError if it is not installed."""
    try:
        import hnswlib
    except ImportError as error:
        raise CacheError(
            "A prior cache this large is searched with hnswlib, which is not installed.",
            "pip install hnswlib, or search exactly: --set cache.index=flat",
        ) from error
    return hnswlib


class KeyGraph:
    """At most `capacity` unit keys by slot; never searched while empty.

    Args:
        index: an initialised hnswlib index; the label of a node is its number.
        slots: of each node.
        free: the nodes that are marked deleted; the last one is taken first.
        capacity: most slots.
    """

    def __init__(
        self, index: Any, slots: Int64[ndarray, " nodes"], free: list[int], capacity: int
    ) -> None:
        self._index = index
        self._slots = slots
        self._free = free
        self._capacity = capacity

    @classmethod
    def build(
        cls, slots: Int64[ndarray, " rows"], keys: Float32[ndarray, "rows dim"], capacity: int
    ) -> "KeyGraph":
        """A graph of `keys`, one per slot."""
        index = _new_index(keys.shape[1], min(max(2 * len(slots), _FIRST_ROOM), capacity))
        index.add_items(keys, np.arange(len(slots)), num_threads=1)
        return cls(index, slots.copy(), [], capacity)

    def __len__(self) -> int:
        return self._index.element_count - len(self._free)

    def add(self, slot: int, key: Float32[ndarray, " dim"]) -> None:
        """Link a new slot, in the node of a removed one if there is any."""
        nodes = self._index.element_count
        if not self._free and nodes == self._index.max_elements:
            self._index.resize_index(min(2 * nodes, self._capacity))
        node = self._free.pop() if self._free else nodes
        self._index.add_items(key[None], [node], num_threads=1)
        if node >= len(self._slots):
            self._slots = np.append(self._slots, np.empty(max(node, 1), np.int64))
        self._slots[node] = slot

    def remove(self, slot: int) -> None:
        """Mark a slot as deleted."""
        node = self._node(slot)
        self._index.mark_deleted(node)
        self._slots[node] = _NO_SLOT
        self._free.append(node)

    def nearest(self, key: Float32[ndarray, " dim"]) -> tuple[int, float]:
        """The nearest slot that the search comes upon, and its cosine."""
        try:
            labels, distances = self._index.knn_query(key, k=1, num_threads=1)
        except RuntimeError:  # among marked nodes only: hnswlib found no live one
            slots, keys = self.keys()
            cosines = keys @ key
            row = int(cosines.argmax())
            return int(slots[row]), float(cosines[row])
        return int(self._slots[labels[0, 0]]), 1.0 - float(distances[0, 0])

    def key(self, slot: int) -> Float32[ndarray, " dim"]:
        """A copy of a slot's key."""
        return self._index.get_items([self._node(slot)], return_type="numpy")[0]

    def keys(self) -> tuple[Int64[ndarray, " rows"], Float32[ndarray, "rows dim"]]:
        """All slots and their keys, by node."""
        links, vectors = _nodes(self._index.__getstate__()[0])
        live = ~_marked(links)
        return self._slots[: len(live)][live], vectors[live]

    def state(self) -> dict[str, ndarray]:
        """Links, levels and slots ("labels") by node; of the marked nodes vectors and order."""
        state = self._index.__getstate__()[0]
        links, vectors = _nodes(state)
        labels = self._slots[: len(links)].copy()
        numbers = [state["max_level"], state["enterpoint_node"], state["max_elements"]]
        return {
            "labels": labels,
            "marked_vectors": vectors[_marked(links)],
            "links": links.copy(),
            "upper_links": state["link_lists"].view(np.uint8),
            "levels": state["element_levels"][: len(labels)],
            "numbers": np.array(numbers, np.int64),
            "free": np.array(self._free, np.int64),
        }

    @classmethod
    def restored(
        cls,
        state: Mapping[str, ndarray],
        slots: Int64[ndarray, " rows"],
        keys: Float32[ndarray, "rows dim"],
        capacity: int,
    ) -> "KeyGraph | None":
        """The graph that `state` was taken of, if it held just these slots; else None.

        Args:
            state: what `state` returned.
            slots: the slots.
            keys: their keys, the same as then.
            capacity: most slots.

        Raises:
            ValueError: if the state cannot be one.
        """
        _check(state)
        labels: Int64[ndarray, " nodes"] = state["labels"]
        rising = np.argsort(slots)
        live = np.flatnonzero(~_marked(state["links"]))
        nodes = live[np.argsort(labels[live])]
        if not np.array_equal(labels[nodes], slots[rising]):
            return None
        places = np.empty(len(slots), np.int64)
        places[rising] = nodes
        free = state.get("free", np.flatnonzero(_marked(state["links"]))).tolist()
        return cls(_from_state(state, places, keys), labels.copy(), free, capacity)

    def _node(self, slot: int) -> int:
        """Found by comparing all, as in a block."""
        found = np.flatnonzero(self._slots[: self._index.element_count] == slot)
        if not len(found):
            raise KeyError(slot)
        return int(found[0])


def _nodes(
    state: Mapping[str, Any],
) -> tuple[UInt8[ndarray, "nodes width"], Float32[ndarray, "nodes dim"]]:
    """Links and vectors by node in the state that hnswlib gives to be copied."""
    rows = state["data_level0"].view(np.uint8).reshape(state["cur_element_count"], -1)
    vector, label = state["offset_data"], state["label_offset"]
    return rows[:, :vector], rows[:, vector:label].view(np.float32)


def _new_index(dim: int, room: int) -> Any:
    """An empty index with room for so many nodes."""
    index: Any = import_hnswlib().Index("ip", dim)
    index.init_index(room, M=_LINKS, ef_construction=_EF_CONSTRUCTION, random_seed=_SEED)
    index.set_num_threads(1)
    index.set_ef(_EF)
    return index


def _from_state(
    state: Mapping[str, ndarray], places: ndarray, keys: Float32[ndarray, "rows dim"]
) -> Any:
    """An index with these links, by way of the state that hnswlib gives and takes to be copied.

    Args:
        state: as of `KeyGraph.state`.
        places: the node of each key.
        keys: the vectors of all nodes but the marked ones.
    """
    max_level, entry, room = (int(number) for number in state["numbers"])
    values = _new_index(keys.shape[1], room).__getstate__()[0]
    nodes, marked = len(state["labels"]), _marked(state["links"])
    rows = np.empty((nodes, values["size_data_per_element"]), np.uint8)
    vector, label = values["offset_data"], values["label_offset"]
    rows[:, :vector] = state["links"]
    vectors = rows[:, vector:label].view(np.float32)
    vectors[places] = keys
    vectors[marked] = state["marked_vectors"]
    rows[:, label:] = np.arange(nodes, dtype=np.int64)[:, None].view(np.uint8)
    levels = np.zeros(room, np.int32)
    levels[:nodes] = state["levels"]
    values |= {
        "seed": _SEED * pow(_MULTIPLIER, 2 * nodes, _MODULUS) % _MODULUS,
        "cur_element_count": nodes,
        "ep_added": True,
        "max_level": max_level,
        "enterpoint_node": entry,
        "has_deletions": bool(marked.any()),
        "label_lookup_external": np.arange(nodes, dtype=np.uint64),
        "label_lookup_internal": np.arange(nodes, dtype=np.uint32),
        "element_levels": levels,
        "data_level0": rows.reshape(-1).view(np.int8),
        "link_lists": state["upper_links"].view(np.int8),
    }
    kind = import_hnswlib().Index
    index = kind.__new__(kind)
    index.__setstate__((values,))
    return index


def _marked(links: UInt8[ndarray, "nodes width"]) -> Bool[ndarray, " nodes"]:
    """Which nodes are marked as deleted: hnswlib's third byte of a node."""
    return (links[:, 2] & 1).astype(bool)


def _check(state: Mapping[str, ndarray]) -> None:
    """Raise a ValueError where a state would make hnswlib read what is not there."""
    labels, links, levels = state["labels"], state["links"], state["levels"]
    nodes = len(labels)
    max_level, entry, room = (int(number) for number in state["numbers"])
    upper = state["upper_links"]
    level_zero = np.ascontiguousarray(links).view(np.uint32)
    above = np.ascontiguousarray(upper).view(np.uint32).reshape(-1, _LINKS + 1)
    marked = np.flatnonzero(_marked(links))
    sound = (
        0 < nodes <= room
        and links.shape == (nodes, 4 * (2 * _LINKS + 1))
        and levels.shape == (nodes,)
        and np.array_equal(np.sort(state.get("free", marked)), marked)
        and 0 <= entry < nodes
        and levels[entry] == max_level == levels.max()
        and len(above) == levels.sum()
        and (level_zero[:, 0] & 0xFFFF).max(initial=0) <= 2 * _LINKS
        and above[:, 0].max(initial=0) <= _LINKS
        and level_zero[:, 1:].max(initial=0) < nodes
        and above[:, 1:].max(initial=0) < nodes
    )
    if not sound:
        raise ValueError("links that lead nowhere")
