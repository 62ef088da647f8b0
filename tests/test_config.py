from dataclasses import dataclass, field, fields
from typing import Literal

import pytest

from cepcli.config import build, resolve, setting, to_dict, write_toml
from cepcli.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Inner:
    rate: float = 0.5
    mode: Literal["slow", "fast"] = "slow"


@dataclass(frozen=True, slots=True)
class Outer:
    steps: int = 10
    kind: str = "plain"
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)


def test_flags_and_set_win_over_file_over_presets(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("steps = 1\n[inner]\nrate = 0.1\n")
    presets = {"plain": {"steps": 7, "limit": 3, "inner": {"mode": "fast"}}}
    config = resolve(
        Outer,
        file=file,
        overrides=["inner.rate=0.2"],
        flags={"steps": 3, "limit": None},
        presets=presets,
        preset_key="kind",
    )
    assert config == Outer(steps=3, limit=3, inner=Inner(rate=0.2, mode="fast"))


@pytest.mark.parametrize(
    "overrides",
    [["steps=5", "steps=6"], ["inner.rate=0.2", "inner={mode='fast'}"], ["inner={rate=0.1}"]],
)
def test_a_key_or_its_section_given_twice_is_an_error(overrides):
    with pytest.raises(ConfigError, match="is given twice"):
        resolve(Outer, overrides=overrides, flags={"inner.mode": "slow"})


def test_a_key_given_by_flag_and_by_set_is_an_error_and_not_a_silent_choice():
    twice = r"`inner.rate` is given twice, by `--set inner.rate=0.2` .* 0.3"
    with pytest.raises(ConfigError, match=twice):
        resolve(Outer, overrides=["inner.rate=0.2"], flags={"inner.rate": 0.3})


def test_unknown_key_suggests_the_nearest_with_its_section():
    with pytest.raises(ConfigError) as error:
        build(Outer, {"inner": {"rat": 1.0}})
    assert "inner.rat" in error.value.message
    assert "inner.rate" in error.value.hint


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("steps=x", "expected a value of type int"),
        ("steps=true", "expected a value of type int"),
        ("inner.mode=quick", "slow, fast"),
        ("steps", "key=value"),
        ("steps.more=1", "doesn't|section|expected"),
        ("inner=3", "section"),
    ],
)
def test_values_that_do_not_fit_are_named(override, expected):
    with pytest.raises(ConfigError, match=expected):
        resolve(Outer, overrides=[override])


def test_whole_numbers_become_floats_where_floats_are_expected():
    assert resolve(Outer, overrides=["inner.rate=1"]).inner.rate == 1.0


def test_toml_round_trip_keeps_everything(tmp_path):
    config = Outer(steps=4, limit=9, inner=Inner(mode="fast"))
    write_toml(tmp_path / "c.toml", config)
    assert resolve(Outer, file=tmp_path / "c.toml") == config
    assert "limit" not in to_dict(Outer())


def test_broken_toml_is_one_sentence(tmp_path):
    (tmp_path / "c.toml").write_text("steps = = 3")
    with pytest.raises(ConfigError, match="not valid TOML"):
        resolve(Outer, file=tmp_path / "c.toml")
    with pytest.raises(ConfigError, match="Cannot read"):
        resolve(Outer, file=tmp_path / "missing.toml")


@dataclass(frozen=True, slots=True)
class Settings:
    rate: float = setting(0.5, "of learning", least=0)
    name: str | None = setting(None, "what it is called")


def test_a_setting_has_a_default_and_says_what_it_is_for():
    assert Settings() == Settings(0.5, None)
    assert [dict(each.metadata) for each in fields(Settings)] == [
        {"help": "of learning", "least": 0}, {"help": "what it is called"},
    ]  # fmt: skip
