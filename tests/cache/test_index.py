"""The flat index against brute force, and what a checkpoint needs of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cepcli.cache.index import FlatIndex

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


@given(operations)
def test_any_history_agrees_with_brute_force(history):
    index, known, next_slot = FlatIndex(DIM, capacity=40), {}, 0
    for operation, number, goal in history:
        if operation == "add" and len(known) < 40:
            index.add(next_slot, unit(number), goal)
            known[next_slot] = (goal, unit(number))
            next_slot += 1
        elif operation == "replace" and known:
            slot = sorted(known)[number % len(known)]
            index.replace(slot, unit(number))
            known[slot] = (known[slot][0], unit(number))
        elif operation == "remove" and known:
            slot = sorted(known)[number % len(known)]
            index.remove(slot)
            del known[slot]
        check_nearest(index, known, unit(number), goal)
    assert len(index) == len(known)
    for slot, (_, key) in known.items():
        np.testing.assert_array_equal(index.key(slot), key)


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
def test_adding_again_in_row_order_gives_the_same_answers_to_ties(kept):
    index = FlatIndex(DIM, 50)
    for slot in range(len(kept)):
        index.add(slot, unit(slot % 3), "goal")
    for slot, keep in enumerate(kept):
        if not keep:
            index.remove(slot)
    again = FlatIndex(DIM, 50)
    slots = [slot for slot, keep in enumerate(kept) if keep]
    for slot in sorted(slots, key=index.row):
        again.add(slot, index.key(slot), "goal")
    for number in range(3):
        assert again.nearest(unit(number), "goal") == index.nearest(unit(number), "goal")


def test_a_full_index_refuses_another_slot():
    index = FlatIndex(DIM, 1)
    index.add(0, unit(0), "goal")
    with pytest.raises(AssertionError, match="full"):
        index.add(1, unit(1), "goal")


def test_goals_do_not_see_each_other():
    index = FlatIndex(DIM, 4)
    index.add(0, unit(0), "red")
    assert index.nearest(unit(0), "blue") is None
    assert index.nearest(unit(0), "red") == (0, pytest.approx(1.0))
