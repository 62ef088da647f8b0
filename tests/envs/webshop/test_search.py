"""The product search: terms, scores worked by hand, order, and agreement with what it is for."""

import math

import pytest

from cepcli.envs.webshop.products import read_products, search_text
from cepcli.envs.webshop.shop import SearchEngine
from tests.envs.real_data import WEBSHOP


def test_terms_are_stems_of_words_that_are_no_stop_words():
    engine = SearchEngine(["x"])
    assert engine.terms("The running dogs' and women's CARESSES of a 3.5 inch pre-war") == [
        "run", "dog", "women", "caress", "3.5", "inch", "pre", "war",
    ]  # fmt: skip


def test_a_curved_apostrophe_is_one_within_a_word():
    engine = SearchEngine(["x"])
    assert engine.terms("Women’s shoes that don’t pinch") == ["women", "shoe", "don't", "pinch"]


def test_scores_are_okapi_bm25_as_worked_by_hand():
    """Two of three documents have "lamp" (1 of 2 words and 2 of 4), one has "desk"; mean 8/3."""
    engine = SearchEngine(["desk lamp", "lamp lamp glass shade", "wool socks"])
    lamp = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    desk = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    short = 0.9 * (0.6 + 0.4 * 2 / (8 / 3))
    long = 0.9 * (0.6 + 0.4 * 4 / (8 / 3))
    documents, scores = engine._postings["lamp"]
    assert documents.tolist() == [0, 1]
    assert scores.tolist() == pytest.approx([lamp / (1 + short), lamp * 2 / (2 + long)])
    assert engine._postings["desk"][1].tolist() == pytest.approx([desk / (1 + short)])
    assert lamp * 2 / (2 + long) > lamp / (1 + short)
    assert engine.search("lamps") == [1, 0]
    assert engine.search("lamp desk") == [0, 1]
    assert engine.search("lamp " * 13 + "desk") == [1, 0]


def test_only_documents_with_a_word_are_found_and_at_most_the_limit():
    engine = SearchEngine(["red sock", "blue sock", "red lamp"])
    assert engine.search("chair") == []
    assert engine.search("the of") == []
    assert engine.search("sock") == [0, 1]
    assert engine.search("red sock", limit=2) == [0, 1]
    assert engine.search("sock", limit=1) == [0]


def test_equal_scores_are_in_the_order_of_the_documents():
    engine = SearchEngine(["red lamp", "lamp sock", "blue lamp"] * 300)
    assert engine.search("lamp", limit=900) == list(range(900))
    reds, others = range(0, 900, 3), [n for n in range(900) if n % 3]
    assert engine.search("red lamp", limit=900) == [*reds, *others]


@pytest.mark.skipif(not WEBSHOP.is_dir(), reason=f"there are no files of WebShop in {WEBSHOP}")
def test_instructions_find_their_products_in_the_real_shop():
    products = read_products(WEBSHOP, "1000")
    engine = SearchEngine([search_text(product) for product in products])
    ranks = []
    for number, product in enumerate(products):
        if product.synthetic is not None:
            found = engine.search(product.synthetic.text)
            ranks.append(found.index(number) if number in found else 1000)
    shares = [sum(rank < top for rank in ranks) / len(ranks) for top in (1, 10, 50)]
    assert shares == pytest.approx([0.38, 0.78, 0.93], abs=0.02)
