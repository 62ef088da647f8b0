"""A generated catalogue in the format of WebShop's files, for where those are not at hand.

A product is of a kind ("women's sandals"), with a brand, attributes, options, a price and texts
that tell of them; kinds have attributes and departments in common, so that a search finds many
products that nearly fit. The same seed makes the same catalogue. `catalogue.toml` has the words.
"""

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cepcli.seeding import generator


class _Kind(NamedTuple):
    """A kind of product."""

    query: str  # what it is called in an instruction, in the plural
    noun: str  # what a title calls one of it
    departments: str  # below the top one, from large to small
    attributes: str  # which list of attributes
    options: str  # which lists of option values, with blanks between
    price: float  # of a cheap one, in dollars; the dearest costs five times as much


_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Generated(NamedTuple):
    """A catalogue: what would stand in `items_shuffle.json` and in `items_ins_v2.json`."""

    items: list[dict[str, Any]]
    attributes: dict[str, dict[str, Any]]


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8"))


def generate(count: int, seed: int) -> Generated:
    """A catalogue of `count` products."""
    random = generator(seed, "webshop/catalogue")
    kinds = [(top, _Kind(*row)) for top, rows in _table()["kinds"].items() for row in rows]
    made = Generated([], {})
    while len(made.items) < count:
        top, kind = kinds[int(random.integers(len(kinds)))]
        item, known = _make(top, kind, random)
        if item["asin"] not in made.attributes:
            made.items.append(item)
            made.attributes[item["asin"]] = known
    return made


def _make(
    top: str, kind: _Kind, random: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A product and what is known of it; a title names about half of its attributes."""
    table = _table()
    before, after = (_some(pool, 1, 3, random) for pool in table["attributes"][kind.attributes])
    attributes = [*before, *after]
    told = [each for each in attributes if random.random() < 0.5]
    brand = "".join(_some(table["syllables"], 2, 3, random)).title()
    model = f"{_LETTERS[int(random.integers(10, 36))]}{int(random.integers(10, 100))}"
    title = f"{brand} {' '.join([*(t for t in told if t in before), kind.noun]).title()} {model}"
    if late := [t for t in told if t in after]:
        title += ", " + ", ".join(late).title()
    features = [_choice(table["tells"], random).format(each) for each in before]
    features += [_choice(table["shows"], random).format(each).capitalize() for each in after]
    random.shuffle(features)
    features.append(_choice(table["service"], random))
    item = {
        "asin": "B0" + "".join(_LETTERS[i] for i in random.integers(36, size=8)),
        "name": title,
        "full_description": f"This {kind.noun} by {brand} is one of our {kind.query}. "
        + " ".join(features[: int(random.integers(1, len(features)))]),
        "small_description": features,
        "category": top,
        "query": kind.query,
        "product_category": f"{table['departments'][top]} › {kind.departments}",
        "pricing": _price_text(kind.price, random),
        "customization_options": _choices(kind, random),
    }
    return item, {
        "attributes": attributes,
        "instruction": _instruct(kind, before, after),
        "instruction_attributes": attributes,
    }


def _instruct(kind: _Kind, before: Sequence[str], after: Sequence[str]) -> str:
    with_or_for = "for" if after[0].endswith((" room", " skin", " hair", " teeth")) else "with"
    return f"Find me {', '.join(before)} {kind.query} {with_or_for} {', '.join(after)}"


def _price_text(cheap: float, random: np.random.Generator) -> str:
    """A price as a shop prints it; one in ten is a range, and one in twenty is missing."""
    price = int(cheap * np.exp(random.uniform(0, np.log(5)))) + 0.99
    draw = random.random()
    if draw < 0.05:
        return ""
    return f"${price:,.2f} to ${price * 1.5:,.2f}" if draw < 0.15 else f"${price:,.2f}"


def _choices(kind: _Kind, random: np.random.Generator) -> dict[str, list[dict[str, str]]]:
    """Two to five values of each option that the kind may have; one option in five is missing."""
    groups = {}
    for key in kind.options.split():
        name, values = _table()["options"][key]
        if random.random() < 0.8:
            some = _some(values, 2, 5, random)
            groups[name.title()] = [{"value": v} for v in sorted(some, key=values.index)]
    return groups


def _some(values: Sequence[str], least: int, most: int, random: np.random.Generator) -> list[str]:
    size = int(random.integers(least, most + 1))
    return [values[int(i)] for i in random.permutation(len(values))[:size]]


def _choice(values: Sequence[str], random: np.random.Generator) -> str:
    return values[int(random.integers(len(values)))]
