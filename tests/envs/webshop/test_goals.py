"""WebShop's goals: texts, price limits, order, splits, and the searches they suggest."""

import random

import pytest

from cepcli.envs.webshop import goals as webshop_goals
from cepcli.envs.webshop.goals import (
    MAX_SEARCHES,
    NO_LIMIT,
    make_goals,
    searches,
    split_goals,
)
from cepcli.envs.webshop.products import parse_products
from tests.envs.shops import goal, item, products, rng

PRICES = [25.0, 10.0, 100.0, 7.5]


def in_order(monkeypatch, *args):
    monkeypatch.setattr(random.Random, "shuffle", lambda self, goals: None)
    return make_goals(*args)


def test_a_synthetic_goal_for_every_combination_of_options(monkeypatch):
    goals = in_order(monkeypatch, products(), PRICES, "synthetic", rng())
    assert [g.product for g in goals] == [0] * 4 + [1] * 4 + [3]
    first = goals[0]
    assert first.options == ("red", '50" | 60"')
    assert first.instruction == (
        'Find me super soft throw blankets with color: red, and size: 50" | 60"'
        f", and price lower than {first.price_upper:.2f} dollars"
    )
    assert goals[1].options == ("red", "large")
    assert goals[5].options == ("wide", "narrow")  # "cut" comes before "fit"
    assert " with cut: wide, and fit: narrow, and price" in goals[5].instruction
    assert goals[8].options == ()
    assert goals[8].instruction.startswith("Find me moisture wicking men's socks, and price")
    assert {g.price_upper for g in goals[:4]} == {first.price_upper}


def test_price_limits_are_the_larger_of_two_of_the_next_four():
    """Above 25: 30, 40, 50, 60; the larger of two different ones is 40, 50 or 60."""
    drawn = {make_goals(products()[:1], [25.0], "synthetic", rng(s))[0].price_upper
             for s in range(40)}  # fmt: skip
    assert drawn == {40.0, 50.0, 60.0}
    at = {make_goals(products()[:1], [30.0], "synthetic", rng(s))[0].price_upper
          for s in range(40)}  # fmt: skip
    assert at == {50.0, 60.0, 70.0}


@pytest.mark.parametrize(("price", "limits"), [(970.0, {990.0}), (985.0, set()), (5000.0, set())])
def test_near_the_end_of_the_limits_there_are_fewer_or_none(price, limits):
    """Above 970: 980 and 990; above 985 only 990, and one is too few to draw two of."""
    goals = [make_goals(products()[:1], [price], "synthetic", rng(s))[0] for s in range(9)]
    assert {g.price_upper for g in goals} == (limits or {NO_LIMIT})
    assert all(("price lower" in g.instruction) == bool(limits) for g in goals)


def test_what_people_wrote_is_a_goal_if_it_has_attributes():
    written = [
        {"instruction": "i need a soft one.", "instruction_attributes": ["super soft"],
         "instruction_options": ["red"]},
        {"instruction": "anything", "instruction_attributes": [], "instruction_options": []},
    ]  # fmt: skip
    made = parse_products([item("B1", instructions=written)], {}, {})
    [found] = make_goals(made, [985.0], "human", rng())
    assert found.instruction == "i need a soft one"
    assert found.options == ("red",)
    assert found.weight == 1


def test_rare_attributes_make_a_goal_more_likely(monkeypatch):
    """Eight goals have "super soft", four of them "living room" too, one "moisture wicking"."""
    goals = in_order(monkeypatch, products(), PRICES, "synthetic", rng())
    assert goals[0].weight == pytest.approx(1 / 8)
    assert goals[4].weight == pytest.approx((1 / 8 + 1 / 4) / 2)
    assert goals[8].weight == 1


def test_the_order_is_that_of_seed_233():
    shuffled = make_goals(products(), PRICES, "synthetic", rng())
    expected = list(range(9))
    random.seed(233)
    random.shuffle(expected)
    products_in_order = [0] * 4 + [1] * 4 + [3]
    assert [g.product for g in shuffled] == [products_in_order[i] for i in expected]
    assert webshop_goals.ORDER_SEED == 233


def test_held_out_goals_share_no_product_with_training():
    goals = [goal(product=p) for p in (3, 1, 3, 0, 2, 1)]
    train, heldout = split_goals(goals, 0.3)
    assert heldout == [0, 2]
    assert train == [1, 3, 4, 5]
    train, heldout = split_goals(goals, 0.5)
    assert heldout == [0, 1, 2, 5]
    assert split_goals(goals, 0.01)[1] == [0, 2]


def test_both_splits_have_a_product_whatever_the_share():
    goals = [goal(product=p) for p in (3, 1, 3)]
    assert split_goals(goals, 0.9) == ([1], [0, 2])
    assert split_goals(goals, 0.1) == ([1], [0, 2])


@pytest.mark.parametrize(
    ("instruction", "found"),
    [
        (
            "Find me easy carry, high quality refillable containers with rose gold"
            " with color: navy blue, and size: 50\" | 60\", and price lower than 30.00 dollars",
            ("easy carry high quality refillable containers with rose gold navy blue 50 | 60",
             "easy carry high quality refillable containers with rose gold",
             "easy carry", "high quality refillable containers", "rose gold"),
        ),
        (
            "Find me men's socks, and price lower than 30.00 dollars",
            ("men's socks",),
        ),
        (
            "i am looking for a pair of men's size 10.5 black loafers with rubber soles",
            ("men's size 10.5 black loafers with rubber soles", "men's size 10.5 black loafers",
             "rubber soles"),
        ),
        (
            "hello, i'm looking for a pair of cargo pants for everyday wear?"
            ", and price lower than 50.00 dollars",
            ("cargo pants for everyday wear", "cargo pants", "everyday wear"),
        ),
        (
            "i need cruelty free deodorant that has a woody scent and is 1.6 oz",
            ("cruelty free deodorant that has a woody scent and is 1.6 oz",
             "cruelty free deodorant", "has a woody scent", "is 1.6 oz"),
        ),
        (
            "i want to buy a lamp", ("lamp",),
        ),
        ("?", ("product",)),
    ],
)  # fmt: skip
def test_searches_are_the_whole_and_the_phrases_of_the_instruction(instruction, found):
    assert searches(instruction) == found


def test_there_are_never_more_than_eight_searches():
    many = "Find me " + ", ".join(f"quality {n}" for n in range(30)) + " lamps"
    assert len(searches(many)) == MAX_SEARCHES == 8
