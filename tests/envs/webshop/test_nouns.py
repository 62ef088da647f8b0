"""Nouns of product names, by the table of words."""

import json
from pathlib import Path

import pytest

from cepcli.envs.webshop import nouns as webshop_nouns
from cepcli.envs.webshop.nouns import nouns_of, spelling, words_of


@pytest.mark.parametrize(
    ("name", "nouns"),
    [
        ("Rusticware Kitchen and Bath Cabinet Knob", "rusticware kitchen bath cabinet knob"),
        ("Women's Shoes, for Running (2 Pack)", "women shoes running pack"),
        ("USB cable with 3 plugs", "usb cable plugs"),
        ("12 34", ""),
        ("", ""),
    ],
)
def test_nouns_are_lowercase_and_in_order(name, nouns):
    assert nouns_of(name) == nouns.split()


def test_a_listed_word_is_the_opposite_of_its_spelling():
    table = {kind: {"noun": kind == "Word", "others": []} for kind in ("WORD", "w0rd", "0", "Word")}
    table |= {"word": {"noun": False, "others": ["socks"]}}
    table["Word"]["others"] = ["the"]
    assert nouns_of("The Red wool socks", table) == ["red", "socks"]


@pytest.mark.parametrize(
    ("word", "kind"), [("Sofa", "Word"), ("USB", "WORD"), ("A", "Word"), ("of", "word"),
                       ("10pcs", "w0rd"), ("40", "0")],
)  # fmt: skip
def test_words_are_told_apart_by_their_spelling(word, kind):
    assert spelling(word) == kind


def test_words_come_with_where_they_begin_and_without_possessives():
    assert words_of("Men's T-Shirt") == [("Men", 0), ("T", 6), ("Shirt", 8)]


def test_the_shipped_table_is_sorted_lower_case_words():
    file = Path(webshop_nouns.__file__).with_name("nouns.json")
    table = json.loads(file.read_text(encoding="utf-8"))
    assert set(table) == {"Word", "WORD", "word", "w0rd", "0"}
    for row in table.values():
        assert row["others"] == sorted({word.lower() for word in row["others"]})
