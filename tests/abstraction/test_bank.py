"""Votes of the nearest entries, slot by slot."""

import numpy as np
import pytest

from cepcli.abstraction.states import UNKNOWN, Bank
from cepcli.keys.encoder import unit

KEYS = unit(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]], np.float32))
CODES = np.array([[0, 1], [0, UNKNOWN], [1, 0], [1, 2]])


def bank(neighbours=2):
    return Bank(KEYS, CODES, np.ones(4, bool), (2, 3), neighbours)


def test_every_slot_is_voted_on_by_itself():
    assert bank().nearest(np.array([1.0, 0.05], np.float32)) == (0, 1)
    near_third = unit(np.array([0.0, 1.0], np.float32))
    assert bank().nearest(near_third) == (1, 0)


def test_many_states_get_what_each_alone_would_get():
    random = np.random.default_rng(0)
    keys = unit(random.standard_normal((200, 8)).astype(np.float32))
    codes = random.integers(0, 3, (200, 4))
    made = Bank(keys, codes, np.ones(200, bool), (3, 3, 3, 3), 7)
    asked = unit(random.standard_normal((50, 8)).astype(np.float32))
    assert made.vote(asked).codes.tolist() == [list(made.nearest(key)) for key in asked]


def test_lead_is_that_of_the_least_certain_slot():
    votes = bank().vote(unit(np.array([[1.0, 0.05], [0.05, 1.0]], np.float32)))
    assert votes.lead[0] == pytest.approx(1.0)
    assert votes.lead[1] == pytest.approx(0.0, abs=1e-3)


def test_nobody_who_knows_is_no_lead():
    silent = Bank(KEYS, np.full((4, 1), UNKNOWN), np.ones(4, bool), (2,), 3)
    assert silent.vote(KEYS[:1]).lead.tolist() == [0.0]


def test_more_voters_than_entries_are_all_entries():
    assert bank(99).neighbours == 4
    assert bank(99).nearest(KEYS[0]) == (0, 1)
