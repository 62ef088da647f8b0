import pytest

from cepcli.errors import ConfigError
from cepcli.keys import catalog
from cepcli.keys.catalog import make_encoder
from cepcli.keys.encoder import MiniLM
from cepcli.keys.hashing import HashEncoder


def test_names_make_their_encoders():
    assert isinstance(make_encoder("hash"), HashEncoder)
    assert isinstance(make_encoder("minilm"), MiniLM)


def test_static_passes_its_notes_on(monkeypatch, tmp_path):
    notes = []

    def ensure(notify):
        notify("distilling")
        return tmp_path

    monkeypatch.setattr(catalog, "ensure_static", ensure)
    made = HashEncoder()
    opened = []
    monkeypatch.setattr(catalog, "StaticEncoder", lambda path: opened.append(path) or made)
    assert make_encoder("static", notify=notes.append) is made
    assert opened == [tmp_path]
    assert notes == ["distilling"]


def test_almost_right_name_gets_a_suggestion():
    with pytest.raises(ConfigError, match="statik") as caught:
        make_encoder("statik")
    assert caught.value.hint == "Did you mean `static`?"
