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


class SpellingRule(TypedDict):
    """What is known of the words of one spelling."""

    noun: bool  # whether those that are not listed are nouns
    others: list[str]  # those of which the opposite is true, in lower case, sorted


def nouns_of(name: str, table: Mapping[Spelling, SpellingRule] | None = None) -> list[str]:
    """The nouns and proper nouns of a product's name, in lower case and in order.

    `table` has the words by spelling; without one it is the table that comes with cep.
    """
    known = _shipped() if table is None else _lookups(table)
    words = ((word.lower(), known[spelling(word)]) for word, _ in words_of(name))
    return [word for word, (noun, others) in words if noun != (word in others)]


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
    return _lookups(json.loads(_TABLE.read_text(encoding="utf-8")))


def _lookups(
    table: Mapping[Spelling, SpellingRule],
) -> dict[Spelling, tuple[bool, frozenset[str]]]:
    return {key: (row["noun"], frozenset(row["others"])) for key, row in table.items()}
