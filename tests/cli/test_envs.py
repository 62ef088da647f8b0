"""`cep envs`: output, exit codes, suggestions."""

import json
from dataclasses import replace
from importlib import metadata

import pytest
import typer
from typer.testing import CliRunner

from cepcli.cli.envs import app
from cepcli.envs import catalog
from cepcli.errors import ConfigError, EnvError
from tests.envs.toys import ToyEnv


def invoke(*arguments, catch=True):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=catch)


def invoke_badly(*arguments):
    """The error that `cep` turns into exit code 2."""
    result = invoke(*arguments)
    assert isinstance(result.exception, EnvError), result.output
    return result.exception, result.output


def test_list_is_a_table_of_every_listed_id():
    result = invoke("list")
    assert result.exit_code == 0
    for env_id in catalog.env_ids():
        assert env_id in result.stdout


def test_list_as_json():
    found = json.loads(invoke("list", "--json").stdout)
    rows = found["environments"]
    assert found["broken"] == []
    assert [row["id"] for row in rows] == catalog.env_ids()
    assert set(rows[0]) == {"id", "family", "summary"}


@pytest.fixture
def broken_plugin(monkeypatch):
    """An entry point that ends the program instead of naming environments."""
    point = metadata.EntryPoint("acme", "tests.envs.test_catalog:stops", catalog.GROUP)
    plugged = {catalog.GROUP: [point]}
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: plugged.get(group, []))
    catalog.plugins.cache_clear()
    yield
    catalog.plugins.cache_clear()


@pytest.mark.usefixtures("broken_plugin")
def test_a_broken_package_is_listed_with_its_error_and_hides_nothing(cep):
    listed = invoke("list")
    assert listed.exit_code == 0
    assert "babyai/goto-obj" in listed.stdout
    said = "(tests.envs.test_catalog:stops) of the group `cep.envs` failed: SystemExit: this"
    assert said in listed.stdout
    [broken] = json.loads(invoke("list", "--json").stdout)["broken"]
    assert said in broken["error"]
    assert broken["entry_point"] == "acme"
    done = cep("doctor", "--json")
    [check] = [c for c in done.json["checks"] if c["what"] == "environments of acme"]
    assert (check["state"], said in check["found"]) == ("broken", True)
    assert check["fix"].startswith("Fix or uninstall")
    error, _ = invoke_badly("show", "acme/shop")
    assert said in error.message


def test_show_tells_a_state_and_the_experts_steps():
    shown = json.loads(invoke("show", "babyai/goto-redball", "--seed", "1", "--json").stdout)
    assert shown["goal"] == "go to the red ball"
    assert shown["text"].startswith("You see")
    assert "turn left" in shown["actions"]
    assert 1 <= len(shown["expert"]) <= 5
    assert set(shown["expert"]) <= set(shown["actions"])
    again = json.loads(invoke("show", "babyai/goto-redball", "--seed", "1", "--json").stdout)
    other = json.loads(invoke("show", "babyai/goto-redball", "--seed", "2", "--json").stdout)
    assert shown == again
    assert shown["instance"] != other["instance"]


def test_a_shop_that_is_not_there_is_named_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path / "nowhere"))
    error, _ = invoke_badly("show", "webshop")
    assert f"`{tmp_path / 'nowhere'}`, does not exist" in error.message
    assert error.hint.startswith("Give the folder that holds the files as WEBSHOP_DATA")


def test_show_tells_what_every_number_of_a_control_environment_means():
    shown = json.loads(invoke("show", "walker2d", "--json").stdout)
    assert shown["goal"] == "walk forward quickly without falling over"
    assert shown["controls"] == "6, each in [-1, 1]"
    assert len(shown["features"]) == 17
    assert shown["features"][1] == "torso_pitch [rad]: angle of the torso, positive leans forward"
    assert len(shown["primitives"]) == 8
    assert all(": " in line for line in shown["primitives"])
    shown = json.loads(invoke("show", "metaworld/hammer", "--json").stdout)
    assert shown["options"] == {"terminate_on_success": False, "nominal": True, "gain": 10.0}
    assert "move to the goal" in invoke("show", "metaworld/hammer").stdout


@pytest.mark.slow
def test_check_takes_control_environments_and_tasks_that_are_not_listed():
    result = invoke("check", "metaworld/handle-pull", "--episodes", "1")
    assert result.stdout == "metaworld/handle-pull: ok\n", result.output


def test_show_prints_a_table():
    result = invoke("show", "babyai/open-door")
    assert result.exit_code == 0
    assert "max_episode_steps" in result.stdout
    assert "go forward" in result.stdout


@pytest.mark.slow
def test_show_says_on_stderr_that_a_game_is_made(tmp_path, monkeypatch):
    small = catalog.spec("textworld/custom").options(rooms=1, objects=1, quest_length=1, games=1)
    monkeypatch.setattr(catalog, "build", lambda cls, values: small)
    result = invoke("show", "textworld/custom", "--json", "--workspace", str(tmp_path))
    assert json.loads(result.stdout)["family"] == "textworld"
    assert "Making the TextWorld game" in result.stderr
    assert list(tmp_path.glob("games/textworld/*/1.z8"))


def test_show_unknown_id_suggests():
    error, _ = invoke_badly("show", "babyai/goto-redbal")
    assert error.hint == "Did you mean `babyai/goto-redball`?"


def test_check_one():
    result = invoke("check", "babyai/goto-obj", "--episodes", "1")
    assert result.exit_code == 0
    assert result.stdout == "babyai/goto-obj: ok\n"


@pytest.fixture
def toys(monkeypatch):
    """A catalog of one environment that keeps the contract and one that does not."""

    def make_toy(env_id, split, workspace, options, progress):
        env = ToyEnv(split=split, broken="goal changes" if "broken" in env_id else "")
        env.env_id = env_id
        return env

    ids = ("toy/broken", "toy/good")
    specs = {
        i: catalog.EnvSpec(i, "toy", "a toy", make_toy, catalog.babyai.BabyAIOptions) for i in ids
    }
    monkeypatch.setattr(catalog, "_specs", lambda: specs)


@pytest.mark.usefixtures("toys")
def test_check_all_prints_a_line_each_and_fails_if_one_does():
    error, output = invoke_badly("check")
    lines = output.splitlines()
    assert lines[0].startswith("toy/broken: FAILED: `toy/broken` breaks the contract: the goal")
    assert lines[1] == "toy/good: ok"
    assert error.message == "1 of 2 environments failed the check."


@pytest.mark.usefixtures("toys")
def test_check_says_with_which_options_it_played(monkeypatch):
    quick = replace(catalog.spec("toy/good"), check_options={"max_episode_steps": 6})
    monkeypatch.setattr(catalog, "_specs", lambda: {quick.id: quick})
    assert invoke("check").stdout == "toy/good: ok (with max_episode_steps=6)\n"
    told = invoke("check", "toy/good", "--set", "max_episode_steps=9").stdout
    assert told == "toy/good: ok (with max_episode_steps=9)\n"
    with pytest.raises(ConfigError, match="`--set` is an option of one environment"):
        invoke("check", "--set", "max_episode_steps=9", catch=False)


@pytest.mark.parametrize("key", ["max_episode_steps", "env_options.max_episode_steps"])
def test_show_takes_options(key):
    result = invoke("show", "babyai/goto-obj", "--set", f"{key}=9", "--json")
    shown = json.loads(result.stdout)
    assert shown["max_episode_steps"] == shown["options"]["max_episode_steps"] == 9
    told = json.loads(invoke("show", "metaworld/push", "--set", "gain=3.0", "--json").stdout)
    assert told["options"]["gain"] == 3.0


def test_an_option_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="`max_episode_step` doesn't exist") as error:
        invoke("show", "babyai/goto-obj", "--set", "max_episode_step=9", catch=False)
    assert error.value.hint == "Did you mean `max_episode_steps`?"


def test_list_says_how_many_games_the_workspace_holds(tmp_path):
    (tmp_path / "games/textworld/recipe").mkdir(parents=True)
    for number in range(3):
        (tmp_path / f"games/textworld/recipe/{number}.z8").touch()
    where = ("--workspace", str(tmp_path))
    said = f"3 games of textworld generated: {tmp_path / 'games/textworld'}\n"
    assert invoke("list", *where).stdout.endswith(said)
    assert json.loads(invoke("list", *where, "--json").stdout)["games"] == {"textworld": 3}


def test_help_names_the_commands():
    result = invoke("--help")
    assert all(name in result.output for name in ("list", "show", "check"))
    assert isinstance(app, typer.Typer)
