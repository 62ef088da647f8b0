from dataclasses import dataclass, field, fields
from typing import Literal

import pytest

from cepcli.config import (
    AT_LEAST_ONE,
    BELOW_ONE,
    FINITE,
    POSITIVE,
    Settings,
    build,
    resolve,
    setting,
    to_dict,
    write_toml,
)
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
class Named:
    rate: float = setting(0.5, "of learning", least=0)
    name: str | None = setting(None, "what it is called")


def test_a_setting_has_a_default_and_says_what_it_is_for():
    assert Named() == Named(0.5, None)
    assert [dict(each.metadata) for each in fields(Named)] == [
        {"help": "of learning", "least": 0}, {"help": "what it is called"},
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bounded(Settings):
    SECTION = "learner."

    rate: float = setting(0.5, "of Adam", POSITIVE)
    share: float | None = setting(None, "of a batch", BELOW_ONE)
    offset: float = setting(0.0, "of the reward: 0 by all", FINITE)
    count: int = setting(2, "of networks: 2 by all", AT_LEAST_ONE)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rate": 0.0}, "learner.rate is 0.0, expected > 0."),
        ({"rate": float("inf")}, "learner.rate is inf, expected a finite number > 0."),
        ({"share": 1.0}, "learner.share is 1.0, expected in [0, 1)."),
        ({"offset": float("nan")}, "learner.offset is nan, expected a finite number."),
        ({"count": 0}, "learner.count is 0, expected ≥ 1."),
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_section(values, said):
    with pytest.raises(ConfigError) as error:
        Bounded(**values)
    assert error.value.message == said
    assert Bounded(share=0.0).share == 0.0


def test_the_help_of_a_setting_tells_its_bounds():
    told = [each.metadata["help"] for each in fields(Bounded)]
    assert told == [
        "of Adam, > 0", "of a batch, in [0, 1)", "of the reward: 0 by all",
        "of networks: 2 by all; ≥ 1",
    ]  # fmt: skip
