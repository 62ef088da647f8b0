"""Both indexes against brute force, and what a checkpoint needs of them."""

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cepcli.cache.graph import KeyGraph
from cepcli.cache.index import GRAPH_FROM, KeyIndex, make_index
from cepcli.errors import CacheError

DIM = 4


def unit(seed: int) -> np.ndarray:
    key = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return key / np.linalg.norm(key)


operations = st.lists(
    st.tuples(
        st.sampled_from(["add", "replace", "remove", "nearest"]),
        st.integers(0, 10_000),
        st.sampled_from(["red", "blue"]),
    ),
    max_size=80,
)


def play(index, known, history, room=40):
    """Apply a history to an index and to a plain dictionary; yields what to look up after each."""
    next_slot = max(known, default=-1) + 1
    for operation, number, goal in history:
        if operation == "add" and len(known) < room:
            index.add(next_slot, unit(number), goal)
            known[next_slot] = (goal, unit(number))
            next_slot += 1
        elif operation == "replace" and known:
            slot = sorted(known)[number % len(known)]
            index.remove(slot, known[slot][0])
            index.add(slot, unit(number), known[slot][0])
            known[slot] = (known[slot][0], unit(number))
        elif operation == "remove" and known:
            slot = sorted(known)[number % len(known)]
            index.remove(slot, known[slot][0])
            del known[slot]
        yield unit(number), goal


def reloaded(index, known, make):
    """An index filled with what the first one's checkpoint holds, in another order."""
    again, slots = make(), np.array(list(known)[::-1], np.int64)
    keys = [index.key(slot, known[slot][0]) for slot in slots.tolist()]
    members = {
        goal: [slots.tolist().index(slot) for slot in index.keys(goal)[0] if slot in known]
        for goal in {goal for goal, _ in known.values()}
    }
    goals = {goal: np.array(numbers, np.int64) for goal, numbers in members.items()}
    again.fill(slots, np.array(keys, np.float32).reshape(-1, DIM), goals, index.state())
    return again


@given(operations)
def test_any_history_agrees_with_brute_force(history):
    index, known = KeyIndex(DIM, capacity=40), {}
    for key, goal in play(index, known, history):
        check_nearest(index, known, key, goal)
    assert len(index) == len(known)
    for slot, (goal, key) in known.items():
        np.testing.assert_array_equal(index.key(slot, goal), key)


def hnsw():
    return KeyIndex(DIM, capacity=40, graph_from=3)


@given(operations)
@settings(max_examples=60)
def test_a_graph_returns_true_cosines_and_nearly_always_the_nearest(history):
    index, known, right, asked = hnsw(), {}, 0, 0
    for key, goal in play(index, known, history):
        same = {slot: float(k @ key) for slot, (g, k) in known.items() if g == goal}
        found = index.nearest(key, goal)
        assert (found is None) == (not same)
        if found is not None:
            assert found[1] == pytest.approx(same[found[0]], abs=1e-5)
            right += found[1] >= max(same.values()) - 1e-5
            asked += 1
    assert len(index) == len(known)
    assert right >= 0.95 * asked
    for slot, (goal, key) in known.items():
        np.testing.assert_allclose(index.key(slot, goal), key, atol=1e-7)


@given(operations, operations, st.booleans())
@settings(max_examples=60)
def test_an_index_that_comes_back_answers_and_goes_on_as_before(before, after, graph):
    make = hnsw if graph else lambda: KeyIndex(DIM, 40)
    index, known = make(), {}
    for _ in play(index, known, before):
        pass
    again = reloaded(index, known, make)
    assert len(again) == len(index)
    for number in range(30):
        for goal in ("red", "blue"):
            assert again.nearest(unit(number), goal) == index.nearest(unit(number), goal)
    for key, goal in play(again, dict(known), after):
        found = again.nearest(key, goal)
        if found is not None:
            cosine = float(again.key(found[0], goal) @ key)
            assert found[1] == pytest.approx(cosine, abs=1e-5)
    for _ in play(index, known, after):
        pass
    for number in range(30):
        assert again.nearest(unit(number), "red") == index.nearest(unit(number), "red")
    state, same = index.state(), again.state()
    assert {name: array.tolist() for name, array in state.items()} == {
        name: array.tolist() for name, array in same.items()
    }


def clustered(random, rows, dim=32, clusters=40):
    centres = random.standard_normal((clusters, dim))
    keys = centres[random.integers(clusters, size=rows)]
    keys = keys + 0.35 * random.standard_normal((rows, dim))
    return (keys / np.linalg.norm(keys, axis=1, keepdims=True)).astype(np.float32)


def test_a_graph_whose_entries_were_all_replaced_still_finds_the_nearest():
    random, rows = np.random.default_rng(0), 1500
    index = KeyIndex(32, rows, graph_from=100)
    keys = clustered(random, 3 * rows)
    for slot, key in enumerate(keys):
        if slot >= rows:
            index.remove(slot - rows, "goal")
        index.add(slot, key, "goal")
    queries, live = clustered(random, 300), keys[2 * rows :]
    found = np.array([index.nearest(query, "goal")[0] for query in queries]) - 2 * rows
    assert np.mean(found == (queries @ live.T).argmax(1)) >= 0.99


def test_a_graph_grows_to_the_capacity_and_is_given_up_when_empty():
    index = KeyIndex(DIM, capacity=2100, graph_from=10)
    for slot in range(2100):
        index.add(slot, unit(slot), "goal")
    with pytest.raises(AssertionError, match="full"):
        index.add(9999, unit(0), "goal")
    assert index.nearest(unit(2099), "goal") == (2099, pytest.approx(1.0, abs=1e-5))
    for slot in range(2100):
        index.remove(slot, "goal")
    assert (len(index), index.nearest(unit(0), "goal"), index.state()) == (0, None, {})
    index.add(5, unit(5), "goal")
    assert index.nearest(unit(5), "goal")[0] == 5


def test_a_search_that_comes_upon_deleted_nodes_only_falls_back_to_all_keys():
    index = KeyIndex(DIM, capacity=20, graph_from=3)
    for slot in range(6):
        index.add(slot, unit(slot), "goal")

    class Lost:
        def __getstate__(self):
            return graph.__getstate__()

        def knn_query(self, *args, **options):
            raise RuntimeError("Cannot return the results in a contiguous 2D array.")

    kept = index._graphs["goal"]
    graph, kept._index = kept._index, Lost()
    assert index.nearest(unit(4), "goal") == (4, pytest.approx(1.0, abs=1e-6))


def test_a_graph_that_comes_back_links_new_entries_as_if_it_had_never_left():
    random = np.random.default_rng(0)
    keys = clustered(random, 3000)
    index = KeyIndex(32, 4000, graph_from=1000)
    for slot in range(2000):
        index.add(slot, keys[slot], "goal")
    for slot in random.permutation(2000)[:40].tolist():
        index.remove(slot, "goal")
    again = KeyIndex(32, 4000, graph_from=1000)
    slots, kept = index.keys("goal")
    again.fill(slots.copy(), kept.copy(), {"goal": np.arange(len(slots))}, index.state())
    for one in (index, again):
        for slot in range(2000, 3000):
            one.add(slot, keys[slot], "goal")
            if slot % 3 == 0:
                one.remove(slot - 1, "goal")
    state, same = index.state(), again.state()
    assert all(np.array_equal(state[name], same[name]) for name in state)


def test_a_graph_of_other_slots_is_not_used():
    index, known = hnsw(), {}
    for _ in play(index, known, [("add", number, "red") for number in range(8)]):
        pass
    del known[3]
    again = reloaded(index, known, hnsw)
    assert len(again) == 7
    assert again.nearest(unit(3), "red")[0] != 3


@pytest.mark.parametrize("name", ["links", "levels", "numbers", "upper_links", "free"])
def test_links_that_lead_nowhere_are_refused(name):
    index = hnsw()
    for slot in range(30):
        index.add(slot, unit(slot), "red")
    state = KeyGraph.state(index._graphs["red"])
    broken = state[name].copy()
    broken[..., -1:] = 255 if broken.dtype == np.uint8 else 9
    if name == "free":
        broken = np.array([3])
    elif not broken.size:
        broken = np.zeros(68, np.uint8)
    if name == "numbers":
        broken[:] = (0, 99, 10)
    slots, keys = index.keys("red")
    with pytest.raises(ValueError, match="nowhere"):
        KeyGraph.restored(state | {name: broken}, slots, keys, 40)
    assert KeyGraph.restored(state, slots, keys, 40) is not None


def test_auto_is_exact_up_to_the_crossover_and_a_graph_beyond():
    assert make_index("auto", DIM, GRAPH_FROM).graph_from is None
    assert make_index("auto", DIM, GRAPH_FROM + 1).graph_from == GRAPH_FROM
    assert make_index("flat", DIM, 100_000).graph_from is None
    assert make_index("hnsw", DIM, 1).graph_from == GRAPH_FROM


def test_without_hnswlib_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    with pytest.raises(CacheError) as error:
        make_index("hnsw", DIM, 10)
    assert "pip install hnswlib" in error.value.hint
    assert make_index("auto", DIM, 10).graph_from is None


def test_a_flat_look_up_allocates_nothing_that_grows_with_the_block():
    index = KeyIndex(DIM, 20_000)
    rows = np.arange(20_000)
    index.fill(rows, np.tile(unit(1), (20_000, 1)), {"goal": rows}, {})
    index.nearest(unit(0), "goal")
    tracemalloc.start()
    index.nearest(unit(0), "goal")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000


def check_nearest(index, known, key, goal):
    same = {slot: float(k @ key) for slot, (g, k) in known.items() if g == goal}
    found = index.nearest(key, goal)
    if not same:
        assert found is None
        return
    slot, similarity = found
    assert similarity == pytest.approx(max(same.values()), abs=1e-6)
    assert same[slot] == pytest.approx(similarity, abs=1e-6)


@given(st.lists(st.booleans(), max_size=40))
def test_filling_again_in_row_order_gives_the_same_answers_to_ties(kept):
    index = KeyIndex(DIM, 50)
    for slot in range(len(kept)):
        index.add(slot, unit(slot % 3), "goal")
    for slot, keep in enumerate(kept):
        if not keep:
            index.remove(slot, "goal")
    again = KeyIndex(DIM, 50)
    if len(index):
        slots, keys = index.keys("goal")
        again.fill(slots, keys, {"goal": np.arange(len(slots))}, {})
    for number in range(3):
        assert again.nearest(unit(number), "goal") == index.nearest(unit(number), "goal")


def test_a_full_index_refuses_another_slot():
    index = KeyIndex(DIM, 1)
    index.add(0, unit(0), "goal")
    with pytest.raises(AssertionError, match="full"):
        index.add(1, unit(1), "goal")


def test_goals_do_not_see_each_other():
    index = KeyIndex(DIM, 4)
    index.add(0, unit(0), "red")
    assert index.nearest(unit(0), "blue") is None
    assert index.nearest(unit(0), "red") == (0, pytest.approx(1.0))
