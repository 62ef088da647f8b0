"""Which episodes become shots."""

import pytest

from cepcli.errors import PriorError
from cepcli.prior.tuning.choice import choose_shots
from cepcli.prior.tuning.decisions import ExpertDecision
from cepcli.types import TextState

ACTIONS = ("turn left", "turn right", "go forward")


def decision(episode, text, action="turn left", step=0):
    return ExpertDecision(episode, episode, step, TextState("go", text, ACTIONS), action)


#: Seven episodes alike, and three that differ in words.
LIKE = [decision(n, f"a red ball {n}") for n in range(7)]
UNLIKE = [decision(7, "grey door"), decision(8, "blue box"), decision(9, "green key")]
#: Seven episodes of one action, two of another, one of a third.
UNEVEN = [
    decision(n, "a red ball", ACTIONS[(n >= 7) + (n >= 9)], step)
    for n in range(10)
    for step in (0, 1)
]


def episodes_of(decisions):
    return [d.episode for d in decisions]


@pytest.mark.parametrize("choice", ["random", "diverse", "stratified"])
def test_fewer_shots_are_a_subset_of_more(choice):
    for seed in range(5):
        few = episodes_of(choose_shots(UNEVEN, 3, seed, choice))
        more = episodes_of(choose_shots(UNEVEN, 6, seed, choice))
        assert len(set(few)) == 3
        assert len(few) == 6
        assert more[:6] == few
        assert len(set(more)) == 6
    everything = choose_shots(UNEVEN, 10, 0, choice)
    assert sorted(everything, key=lambda d: (d.episode, d.step)) == UNEVEN


def test_diverse_shots_differ_in_their_words():
    for seed in range(8):
        chosen = set(episodes_of(choose_shots([*LIKE, *UNLIKE], 4, seed, "diverse")))
        assert len(chosen & {7, 8, 9}) == 3
    assert any(
        not set(episodes_of(choose_shots([*LIKE, *UNLIKE], 4, seed))) & {7, 8, 9}
        for seed in range(20)
    ), "which a random choice does not see to"


def test_stratified_shots_have_each_action_as_often():
    for seed in range(8):
        chosen = episodes_of(choose_shots(UNEVEN, 3, seed, "stratified"))
        assert len({(n >= 7) + (n >= 9) for n in chosen}) == 3


def test_many_different_actions_are_told_apart_by_their_first_word():
    demos = [decision(n, "a room", f"take thing {n}") for n in range(40)]
    demos += [decision(40 + n, "a room", f"open box {n}") for n in range(2)]
    chosen = episodes_of(choose_shots(demos, 4, 0, "stratified"))
    assert {40, 41} <= set(chosen)
    demos = [decision(n, "a shop", f"click[b{n}]") for n in range(40)]
    demos += [decision(40 + n, "a shop", f"search[thing {n}]") for n in range(2)]
    assert {40, 41} <= set(episodes_of(choose_shots(demos, 4, 0, "stratified")))


@pytest.mark.parametrize("seed", range(3))
def test_seeds_choose_differently_and_always_alike(seed):
    for choice in ("random", "diverse", "stratified"):
        assert choose_shots(LIKE, 2, seed, choice) == choose_shots(LIKE, 2, seed, choice)
        others = [choose_shots(LIKE, 2, other, choice) for other in range(10)]
        assert len({tuple(episodes_of(other)) for other in others}) > 1


def test_too_few_episodes_are_an_error():
    with pytest.raises(PriorError, match="there are 10") as error:
        choose_shots(UNEVEN, 11, seed=0)
    assert "--episodes 11" in error.value.hint


def test_episodes_without_a_word_can_be_chosen():
    demos = [ExpertDecision(n, n, 0, TextState("", "", ("!",)), "!") for n in range(3)]
    assert len(choose_shots(demos, 2, 0, "diverse")) == 2
