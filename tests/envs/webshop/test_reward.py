"""WebShop's reward, rule by rule, against examples worked by hand."""

import pytest
from rapidfuzz import fuzz

from cepcli.envs.webshop.products import parse_products
from cepcli.envs.webshop.reward import (
    matched_attributes,
    matched_options,
    normal_color,
    reward,
    shared_nouns,
    similar,
    type_factor,
)
from tests.envs.shops import goal, item

BED = "Home & Kitchen › Bedding › Blankets"


def product(attributes=(), **fields):
    known = {"B1": {"attributes": list(attributes)}}
    return parse_products([item("B1", **fields)], known, {})[0]


def test_more_than_85_of_100_is_similar():
    assert fuzz.token_set_ratio("essential oil", "essential oils") == pytest.approx(96.3, abs=0.1)
    assert similar("essential oil", "essential oils")
    assert similar("free paraben", "paraben free")
    assert similar("oil free", "coconut oil free")
    assert fuzz.token_set_ratio("tea tree", "tea bag") < 85
    assert not similar("tea tree", "tea bag")
    assert not similar("small", "x-small")


def test_exactly_85_is_not_similar():
    """17 of 20 letters in common, both ways: 2 · 17 / 40 = 0.85."""
    one, other = "a" * 17 + "bbb", "a" * 17 + "ccc"
    assert fuzz.token_set_ratio(one, other) == 85
    assert not similar(one, other)


@pytest.mark.parametrize(
    ("bought", "wanted", "score"),
    [
        (["wool", "blanket"], ["wool", "blanket"], 1),
        (["wool", "sock", "sock"], ["wool", "blanket"], 1 / 2),
        (["hair"], ["hair", "hair", "brush"], 1 / 3),
        (["lamp"], ["wool", "blanket"], 0),
        (["lamp"], [], 0.2),
        ([], ["lamp"], 0),
    ],
)
def test_the_title_score_is_the_share_of_the_goals_nouns(bought, wanted, score):
    assert shared_nouns(bought, wanted) == pytest.approx(score)


@pytest.mark.parametrize(
    ("query", "departments", "title_score", "factor"),
    [
        ("throw blankets", "Toys › Games", 0.15, 1.0),  # the same query
        ("rugs", "Home & Kitchen › Bedding › Rugs", 0.15, 1.0),  # two departments
        ("rugs", "Bedding › Rugs › Home & Kitchen", 0.15, 1.0),  # in any order
        ("rugs", "Bedding › Bedding › Rugs", 0.15, 0.5),  # the same one twice
        ("rugs", "Home & Kitchen › Rugs", 0.15, 0.5),  # one department
        ("rugs", "Toys › Games", 0.21, 1.0),  # enough nouns
        ("rugs", "Toys › Games", 0.2, 0.5),  # a fifth is not enough
        ("rugs", "Toys › Games", 0.1, 0.5),  # a tenth is enough for a half
        ("rugs", "Toys › Games", 0.09, 0.1),
        ("throw blankets", BED, 0.09, 0.1),  # whatever the query and the departments
        ("throw blankets", BED, 0.0, 0.0),
        ("throw blankets", BED, 0.2, 1.0),  # a goal without nouns
    ],
)
def test_the_factor_of_the_kind(query, departments, title_score, factor):
    bought = product(query=query, product_category=departments)
    assert type_factor(bought, goal(product_category=BED), title_score) == factor


def test_attributes_match_in_the_list_or_in_a_text():
    wanted = ("tea tree", "essential oils", "natural ingredients")
    assert (
        matched_attributes(product(["tea tree", "essential oil", "natural ingredients"]), wanted)
        == 3
    )
    assert matched_attributes(product(["essential oil", "natural ingredients"]), wanted) == 2
    assert matched_attributes(product(["tea bag", "earl gray"]), wanted) == 0
    assert matched_attributes(product(name="Best TEA TREE Oil"), wanted) == 1
    told = product(
        small_description=["Has essential", "oils and more."],
        full_description="Made with Natural Ingredients",
    )
    assert matched_attributes(told, wanted) == 2
    assert matched_attributes(product(name="Tree tea"), wanted) == 0
    assert matched_attributes(product(), wanted) == 0


def test_an_attribute_counts_once():
    twice = product(["tea tree", "tea trees"], name="Tea Tree Oil")
    assert matched_attributes(twice, ("tea tree",)) == 1


@pytest.mark.parametrize(
    ("value", "color"),
    [
        ("navy blue", "blue"),  # the first of the list, not of the value
        ("blue navy", "blue"),
        ("light blue", "blue"),
        ("dark wash", "ash"),  # within a word, too
        ("lightweight", "light"),
        ("x-large", "x-large"),
        ("", ""),
    ],
)
def test_colours_are_normalised_to_the_first_of_the_list(value, color):
    assert normal_color(value) == color


@pytest.mark.parametrize(
    ("chosen", "wanted", "matched"),
    [
        (["pack of 12", "grey", "xl"], ["grey", "xl", "pack of 12"], 3),
        (["pack of 12", "blue", "xl"], ["grey", "xl", "pack of 12"], 2),
        (["pack of 12", "powder snow", "xl"], ["cool powder snow", "xl", "pack of 12"], 3),
        (["navy blue"], ["light blue"], 1),  # both are blue
        (["grey"], ["gray"], 0),  # 75 of 100
        (["red"], ["red", "dark red"], 1),  # "dark" comes first
        (["large"], ["x-large"], 0),
        (["wide"], ["wide", "wide"], 2),
        ([], ["red"], 0),
        (["red"], [], 0),
    ],
)
def test_options_match_by_colour_or_words(chosen, wanted, matched):
    assert matched_options(chosen, wanted) == matched


NAMES = (["blanket"], ["blanket"])


@pytest.mark.parametrize(
    ("attributes", "chosen", "price", "total"),
    [
        (["super soft", "machine washable"], ["red", "large"], 50.0, 5 / 5),  # at the limit
        (["super soft", "machine washable"], ["red", "large"], 50.01, 4 / 5),
        (["super soft"], ["red", "large"], 40.0, 4 / 5),
        (["super soft"], ["red"], 40.0, 3 / 5),
        (["super soft"], ["blue", "small"], 40.0, 2 / 5),
        ([], [], 40.0, 1 / 5),
        ([], [], 60.0, 0),
    ],
)
def test_the_total_counts_attributes_options_and_price(attributes, chosen, price, total):
    wanted = goal(attributes=("super soft", "machine washable"), options=("red", "large"))
    bought = product(attributes, query="throw blankets", product_category=BED)
    made = reward(bought, wanted, price, chosen, NAMES)
    assert made.total == pytest.approx(total)
    assert made.price == (price <= 50)


def test_a_perfect_purchase_is_exactly_one():
    wanted = goal(attributes=("a b", "c d", "e f"), options=("red", "large", "wool"))
    bought = product(["a b", "c d", "e f"], query="throw blankets", product_category=BED)
    assert reward(bought, wanted, 1.0, ["red", "large", "wool"], NAMES).total == 1.0


@pytest.mark.parametrize(
    ("nouns", "factor"),
    [
        ((["blanket"], ["blanket", "wool", "sofa", "red", "soft", "x"]), 0.5),  # 1/6
        ((["blanket"], ["blanket", *"abcdefghijk"]), 0.1),  # 1/12
        ((["lamp"], ["blanket"]), 0.0),
    ],
)
def test_the_total_is_scaled_by_the_kind(nouns, factor):
    """All of attributes, options and price match: 3/3, times the factor."""
    wanted = goal(options=("red",))
    made = reward(product(["super soft"]), wanted, 10.0, ["red"], nouns)
    assert (made.attributes, made.options, made.price) == (1, 1, True)
    assert made.total == pytest.approx(factor)
    assert made.type_score == factor


def test_the_published_example_of_a_wrong_kind():
    """3 of 3 attributes less one, 2 of 3 options, a good price: 5/7; a wrong kind halves it."""
    wanted = goal(
        attributes=("tea tree", "essential oils", "natural ingredients"),
        options=("grey", "xl", "pack of 12"),
        price_upper=40.0,
        query="query 1",
        product_category="a › b › c",
    )
    bought = product(
        query="query 2",
        product_category="a › d › e",
        small_description=["This shampoo has essential oils and smells like lemons"],
        full_description="Best shampoo on the market, made with natural ingredients",
    )
    nouns = (["power", "cord"], ["power", *"abcdef"])
    made = reward(bought, wanted, 35.0, ["grey", "xl"], nouns)
    assert made.total == pytest.approx(5 / 7 / 2)
