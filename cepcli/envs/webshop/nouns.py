"""The nouns of product names, from a table of words made with spaCy's part-of-speech tagger.

WebShop tags the names with spaCy. A name is mostly nouns, so the table only has to list the words
that are not as their spelling suggests. `scripts/webshop-nouns` makes it and measures how often
it agrees with spaCy.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, TypedDict

Spelling = Literal["Word", "WORD", "word", "w0rd", "0"]
_WORD = re.compile(r"['’]s\b|[^\W_]+")
_TABLE = Path(__file__).with_name("nouns.json")


class Words(TypedDict):
    """What is known of the words of one spelling.

    Attributes:
        noun: whether those that are not listed are nouns.
        others: those of which the opposite is true, in lower case, sorted.
    """

    noun: bool
    others: list[str]


def nouns_of(name: str, table: Mapping[Spelling, Words] | None = None) -> list[str]:
    """The nouns and proper nouns of a product's name, in lower case and in order.

    Args:
        name: of the product.
        table: words by spelling; the table that comes with cep if None.
    """
    known = _shipped() if table is None else {key: _lookup(row) for key, row in table.items()}
    found = []
    for word, _ in words_of(name):
        noun, others = known[spelling(word)]
        if noun != (word.lower() in others):
            found.append(word.lower())
    return found


def words_of(name: str) -> list[tuple[str, int]]:
    """The words of a name, each with where it begins; a possessive 's is none."""
    found = [(match.group(), match.start()) for match in _WORD.finditer(name)]
    return [(word, start) for word, start in found if word[0] not in "'’"]


def spelling(word: str) -> Spelling:
    """How a word is written: with digits, in capitals, with a capital, or in small letters."""
    if not any(character.isalpha() for character in word):
        return "0"
    if any(character.isdigit() for character in word):
        return "w0rd"
    if word.isupper() and len(word) > 1:
        return "WORD"
    return "Word" if word[0].isupper() else "word"


@cache
def _shipped() -> dict[Spelling, tuple[bool, frozenset[str]]]:
    table: dict[Spelling, Words] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return {key: _lookup(row) for key, row in table.items()}


def _lookup(row: Words) -> tuple[bool, frozenset[str]]:
    return row["noun"], frozenset(row["others"])
