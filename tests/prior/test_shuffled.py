import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cepcli.prior.shuffled import ShuffledPrior, cycle
from cepcli.types import TextState
from tests.fakes import FakePrior

STATES = [TextState("goal", f"text {n}", ("a", "b", "c", "d")) for n in range(20)]


@given(st.integers(0, 30), st.integers(0, 5))
def test_nothing_stays_where_it_was_unless_it_is_alone(count, seed):
    order = cycle(count, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(count))
    if count > 1:
        assert not (order == np.arange(count)).any()


def test_every_action_gets_the_probability_of_another_one():
    inner = FakePrior()
    right, wrong = inner.log_probs(STATES), ShuffledPrior(inner, 0).log_probs(STATES)
    for true, shuffled in zip(right, wrong, strict=True):
        assert sorted(true.log_prior) == sorted(shuffled.log_prior)
        assert not (true.log_prior == shuffled.log_prior).any()
        assert np.allclose(inner.shape.log_prior(shuffled.scores), shuffled.log_prior)
        assert (shuffled.kind, shuffled.seconds) == (true.kind, true.seconds)


def test_a_state_is_wrong_in_the_same_way_every_time_but_not_as_others_are():
    inner = FakePrior()
    once, again = (ShuffledPrior(inner, 0).log_probs(STATES) for _ in range(2))
    assert [a.log_prior.tolist() for a in once] == [a.log_prior.tolist() for a in again]
    other = ShuffledPrior(inner, 1).log_probs(STATES)
    assert [a.log_prior.tolist() for a in once] != [a.log_prior.tolist() for a in other]
    moved = [
        tuple(inner.log_probs([state])[0].log_prior.tolist().index(p) for p in answer.log_prior)
        for state, answer in zip(STATES, once, strict=True)
    ]
    assert len(set(moved)) > 3
