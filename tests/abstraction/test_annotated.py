"""The sentence form that descriptions share, read off them."""

import numpy as np
import pytest

from cepcli.abstraction.annotated import WHOLE, infer_form, mislabelled
from tests.abstraction.control_worlds import annotated, compose, slots_of


def test_form_is_read_off_the_descriptions():
    world = annotated(40)
    form = infer_form(world.texts, world.slots)
    assert form.slots == ("pace", "torso", "leg")
    assert form.literals == ("The walker is ", ", ", ", with the ", ".")
    slots = slots_of([1.0, -1.0, 0.0, 1.0, 0.0, 0.0])
    assert form.compose([slots[slot] for slot in form.slots]) == compose(slots)


def test_descriptions_in_own_words_do_not_change_the_form():
    world = annotated(10)
    texts = ["He nearly falls over.", *world.texts[1:]]
    assert infer_form(texts, world.slots) == infer_form(world.texts, world.slots)


def test_a_phrase_that_two_slots_share_is_told_apart_by_the_others():
    slots = [
        {"left knee": left, "right knee": right}
        for left in ("bent", "straight") for right in ("bent", "straight")
    ]  # fmt: skip
    texts = [f"Left {s['left knee']}, right {s['right knee']}." for s in slots]
    form = infer_form(texts, slots)
    assert [form.compose([s[slot] for slot in form.slots]) for s in slots] == texts


def test_a_phrase_at_the_beginning_is_capitalised():
    slots = [{"torso": "torso upright", "pace": "walking"}, {"torso": "torso low", "pace": "still"}]
    texts = ["Torso upright; walking.", "Torso low; still."]
    form = infer_form(texts, slots)
    assert form.capitalised
    assert form.compose(["torso upright", "still"]) == "Torso upright; still."


def test_without_slots_the_description_is_the_only_one():
    bare = annotated(12)._replace(slots=({},) * 12).with_whole_texts()
    form = infer_form(bare.texts, bare.slots)
    assert form.slots == (WHOLE,)
    assert form.compose([bare.texts[3]]) == bare.texts[3]


def test_slots_are_given_up_where_most_descriptions_are_in_own_words():
    world = annotated(12)
    few = world._replace(slots=(*world.slots[:5], *[{}] * 7))
    assert few.own_words == 7
    assert {tuple(slots) for slots in few.with_whole_texts().slots} == {(WHOLE,)}
    most = world._replace(slots=(*world.slots[:7], *[{}] * 5))
    assert most.with_whole_texts() is most


def test_without_a_description_that_says_its_phrases_they_are_listed():
    form = infer_form(["oh"], [{"torso": "upright", "pace": "still"}])
    assert form.compose(["upright", "still"]) == "upright; still"


@pytest.mark.parametrize(("share", "wrong"), [(0.0, 0), (0.3, 30), (1.0, 100)])
def test_a_share_of_the_states_has_the_labels_of_states_described_otherwise(share, wrong):
    true = annotated(100)
    found = mislabelled(true, share, np.random.default_rng(0))
    assert np.array_equal(found.observations, true.observations)
    assert found.goals == true.goals
    assert sum(a != b for a, b in zip(found.texts, true.texts, strict=True)) == wrong
    labels = set(zip(true.texts, true.primitives, strict=True))
    assert set(zip(found.texts, found.primitives, strict=True)) <= labels
    assert all(compose(s) == text for s, text in zip(found.slots, found.texts, strict=True))


def test_states_that_are_all_described_alike_cannot_be_mislabelled():
    same = annotated(10)._replace(texts=("It stands.",) * 10)
    assert mislabelled(same, 1.0, np.random.default_rng(0)).texts == same.texts
