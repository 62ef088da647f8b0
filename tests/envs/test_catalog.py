"""The catalog: ids, suggestions, options, third parties, and that it stays light."""

import subprocess
import sys
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import pytest

from cepcli.envs import catalog
from cepcli.errors import ConfigError, EnvError
from tests.envs.toys import ToyEnv

LISTED = {
    "babyai/goto-redball", "babyai/goto-local", "babyai/goto-obj", "babyai/goto-door",
    "babyai/pickup-loc", "babyai/open-door", "babyai/put-next-local", "babyai/unlock",
    "textworld/coin", "textworld/treasure", "textworld/cooking", "textworld/simple",
    "textworld/custom",
    "webshop",
    "alfworld", "alfworld/pick", "alfworld/look", "alfworld/clean", "alfworld/heat",
    "alfworld/cool", "alfworld/pick-two",
    "halfcheetah", "walker2d", "ant",
    "metaworld/reach", "metaworld/push", "metaworld/pick-place", "metaworld/door-open",
    "metaworld/drawer-open", "metaworld/button-press", "metaworld/window-open",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ToyOptions:
    length: int = 3


def make_toy(env_id, split, workspace, options, progress):
    env = ToyEnv(split=split, length=options.length)
    env.env_id = env_id
    return env


def toy_specs():
    return [catalog.EnvSpec("toy/walk", "toy", "walk to the end", make_toy, ToyOptions)]


def no_list():
    return "not a list"


def raises():
    raise RuntimeError("no such shop")


def clash():
    return [catalog.EnvSpec("babyai/unlock", "toy", "mine", make_toy, ToyOptions)]


@pytest.fixture
def third_party(monkeypatch):
    """Declare entry points that name functions of this module."""

    def declare(*functions):
        points = [
            metadata.EntryPoint(name, f"{__name__}:{function}", catalog.GROUP)
            for name, function in zip(("acme", "beta"), functions, strict=False)
        ]
        plugged = {catalog.GROUP: points}
        monkeypatch.setattr(metadata, "entry_points", lambda *, group: plugged.get(group, []))
        catalog.plugins.cache_clear()

    yield declare
    catalog.plugins.cache_clear()


def test_every_listed_id_has_a_spec_that_says_what_it_is():
    assert set(catalog.env_ids()) == LISTED
    assert catalog.env_ids() == sorted(LISTED)
    for env_id in catalog.env_ids():
        spec = catalog.spec(env_id)
        assert spec.id == env_id
        assert spec.family == env_id.split("/")[0]
        assert spec.summary
        assert catalog.build(spec.options, spec.check_options)


def test_importing_the_catalog_loads_no_game_engine():
    code = (
        "import sys, cepcli.envs.catalog as c; c.env_ids();"
        "engines = {'minigrid', 'textworld', 'jericho', 'alfworld', 'fast_downward',"
        " 'torch'};"
        "print(sorted(engines & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("babyai/goto-redbal", "babyai/goto-redball"),
        ("textworld/cookin", "textworld/cooking"),
        ("babyai/go-to-red-ball-gray", "babyai/go-to-red-ball-grey"),
        ("babyai/put-next-locals5-n3", "babyai/put-next-local-s5-n3"),
    ],
)
def test_an_unknown_id_names_the_nearest(typed, meant, tmp_path):
    with pytest.raises(EnvError, match="doesn't exist") as error:
        catalog.make_env(typed, workspace=tmp_path)
    assert typed in error.value.message
    assert error.value.hint == f"Did you mean `{meant}`?"


def test_an_id_near_nothing_lists_what_there_is():
    with pytest.raises(EnvError) as error:
        catalog.spec("zzz")
    assert "babyai/goto-obj" in error.value.hint


@pytest.mark.parametrize(
    ("typed", "env_id"),
    [
        ("babyai/goto-redball", "babyai/goto-redball"),
        ("babyai/GoToRedBall-v0", "babyai/goto-redball"),
        ("babyai/GoToRedBallGrey-v0", "babyai/go-to-red-ball-grey"),
        ("babyai/go-to-red-ball-grey", "babyai/go-to-red-ball-grey"),
        ("babyai/go-to-obj-s6", "babyai/go-to-obj-s6"),
    ],
)
def test_any_installed_babyai_level_has_one_id_whatever_it_is_called(typed, env_id, tmp_path):
    env = catalog.make_env(typed, workspace=tmp_path)
    assert env.env_id == env_id == catalog.spec(typed).id
    assert env.reset(seed=0)[1]["goal"].startswith("go to")


def test_an_unknown_option_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="gamez") as error:
        catalog.make_env("textworld/coin", workspace=tmp_path, options={"gamez": 3})
    assert error.value.hint == "Did you mean `games`?"
    with pytest.raises(ConfigError, match="level"):
        catalog.make_env("textworld/simple", workspace=tmp_path, options={"level": 3})
    with pytest.raises(ConfigError, match="max_episode_steps"):
        catalog.make_env("babyai/unlock", workspace=tmp_path, options={"max_episode_steps": "9"})


def test_options_reach_the_environment(tmp_path):
    env = catalog.make_env("babyai/unlock", workspace=tmp_path, options={"max_episode_steps": 5})
    assert env.max_episode_steps == 5
    env = catalog.make_env("textworld/coin", workspace=tmp_path, options={"max_episode_steps": 7})
    assert env.max_episode_steps == 7


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(EnvError, match="train or heldout"):
        catalog.make_env("babyai/unlock", split="test", workspace=tmp_path)  # type: ignore[arg-type]


def test_a_third_party_family_is_listed_and_made(third_party, tmp_path):
    third_party("toy_specs")
    assert "toy/walk" in catalog.env_ids()
    env = catalog.make_env("toy/walk", workspace=tmp_path, options={"length": 5})
    assert env.max_episode_steps == 10
    with pytest.raises(EnvError) as error:
        catalog.spec("toy/wolk")
    assert error.value.hint == "Did you mean `toy/walk`?"


def stops():
    sys.exit("this package needs a licence")


class UnreadableError(Exception):
    def __str__(self):
        raise ValueError("no words")


def unreadable():
    raise UnreadableError


def nameless():
    return [replace(catalog.spec("babyai/unlock"), id=7)]


class Unprintable:
    def __repr__(self):
        raise ValueError("no picture")


def unprintable():
    return Unprintable()


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("unreadable", "failed: UnreadableError."),
        ("nameless", "registers the id 7, expected a non-empty string"),
        ("unprintable", "failed: ValueError: no picture"),
        ("no_list", "expected a list of EnvSpec"),
        ("raises", "failed: RuntimeError: no such shop."),
        ("stops", "failed: SystemExit: this package needs a licence."),
        ("missing", "AttributeError"),
        ("clash", "`babyai/unlock`, which exists already"),
    ],
)
def test_a_broken_entry_point_hides_only_itself(third_party, function, reason):
    third_party(function, "toy_specs")
    assert catalog.env_ids() == sorted(LISTED | {"toy/walk"})
    broken, whole = catalog.plugins()
    assert "entry point `acme`" in broken.error
    assert reason in broken.error
    assert broken.specs == ()
    assert whole.error is None
    with pytest.raises(EnvError, match="`acme/shop` doesn't exist") as error:
        catalog.spec("acme/shop")
    assert broken.error in error.value.message
    assert "Fix or uninstall" in error.value.hint


def test_two_packages_cannot_have_one_id(third_party):
    third_party("toy_specs", "toy_specs")
    first, second = catalog.plugins()
    assert first.error is None
    assert "registers `toy/walk`, which exists already" in second.error
    assert catalog.spec("toy/walk") == first.specs[0]


def test_nobody_elses_package_is_loaded_for_an_environment_of_ours(third_party, tmp_path):
    third_party("stops")
    for env_id in ("babyai/goto-obj", "babyai/GoToRedBallGrey-v0", "metaworld/hammer", "ant"):
        assert catalog.spec(env_id)
    assert catalog.plugins.cache_info().currsize == 0


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (lambda *given: sys.exit(1), "`toy/walk` failed in its factory: SystemExit: 1"),
        (lambda *given: {}["room"], "`toy/walk` failed in its factory: KeyError: 'room'"),
        (lambda *given: object(), "factory of `toy/walk` returned object, expected a SymbolicEnv"),
    ],
)
def test_what_a_factory_of_another_package_raises_is_one_sentence(monkeypatch, factory, said):
    entry = catalog.EnvSpec("toy/walk", "toy", "walk to the end", factory, ToyOptions)
    monkeypatch.setattr(catalog, "_specs", lambda: {entry.id: entry})
    with pytest.raises(EnvError) as error:
        catalog.make_env("toy/walk", workspace=Path())
    assert said in error.value.message


@pytest.mark.parametrize("name", ["family", "observation_space"])
def test_an_attribute_that_raises_is_a_sentence(third_party, monkeypatch, tmp_path, name):
    def fail(env):
        raise ValueError("not made yet")

    third_party("toy_specs")
    assert "toy/walk" in catalog.env_ids()
    monkeypatch.setattr(ToyEnv, name, property(fail, lambda env, value: None), raising=False)
    with pytest.raises(EnvError, match=r"`toy/walk` failed in .*: ValueError: not made yet"):
        catalog.make_env("toy/walk", workspace=tmp_path)
