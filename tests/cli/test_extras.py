"""Without an extra the rest works, and what needs it says what to type."""

import sys

import pytest

# Loaded before any test replaces what these import.
from cepcli.envs import catalog
from cepcli.errors import DataError, EnvError
from cepcli.experiments import collecting  # noqa: F401
from cepcli.extras import EXTRAS, install_command, missing_modules, require_extra


class Refuses:
    """A finder that says of some modules that they are not installed."""

    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def without_extras(monkeypatch):
    """A base installation: nothing that an extra brings can be imported."""
    names = {name for modules in EXTRAS.values() for name in modules}
    for loaded in [name for name in sys.modules if name.partition(".")[0] in names]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "meta_path", [Refuses(names), *sys.meta_path])


def test_what_is_installed_is_not_missing(monkeypatch):
    monkeypatch.setitem(EXTRAS, "minari", ("json",))
    assert missing_modules("minari") == []
    require_extra("minari", "This")


@pytest.mark.usefixtures("without_extras")
def test_a_missing_extra_is_one_sentence_with_the_line_to_type():
    with pytest.raises(DataError) as error:
        require_extra("minari", "The dataset `a/b-v0`", DataError)
    assert error.value.message == (
        "The dataset `a/b-v0` needs the package `minari`; install with pip install 'cepcli[minari]'"
    )
    assert missing_modules("alfworld") == ["alfworld", "textworld", "fast_downward"]


@pytest.mark.usefixtures("without_extras")
@pytest.mark.parametrize("extra", ["textworld", "alfworld"])
@pytest.mark.parametrize(
    "words",
    [
        ("envs", "show"), ("envs", "check"),
        ("train", "--agent", "random", "--prior", "uniform", "--steps", "10", "--env"),
    ],
)  # fmt: skip
def test_commands_name_the_extra(cep, extra, words):
    env = {"textworld": "textworld/coin", "alfworld": "alfworld/pick"}[extra]
    done = cep(*words, env)
    assert done.code == 2
    assert install_command(extra) in done.out + done.err
    assert f"`{env}`" in done.out + done.err or words[1] == "check"
    assert "Traceback" not in done.err


@pytest.mark.usefixtures("without_extras")
def test_list_shows_what_is_not_installed(cep):
    done = cep("envs", "list")
    assert done.code == 0
    assert "Not installed: textworld/coin" in done.out.replace("\n", " ")
    assert install_command("alfworld") in done.out
    rows = {row["id"]: row for row in cep("envs", "list", "--json").json["environments"]}
    assert rows["textworld/coin"]["install"] == install_command("textworld")
    assert "install" not in rows["babyai/goto-redball"]


@pytest.mark.usefixtures("without_extras")
def test_checking_all_environments_skips_what_is_not_installed(cep, monkeypatch):
    monkeypatch.setattr(catalog, "env_ids", lambda: ["babyai/goto-obj", "textworld/coin"])
    done = cep("envs", "check", "--episodes", "1")
    assert done.code == 0
    assert done.out.splitlines() == [
        "babyai/goto-obj: ok",
        f"textworld/coin: skipped, not installed: {install_command('textworld')}",
    ]


@pytest.mark.usefixtures("without_extras")
def test_doctor_shows_the_extras_and_is_content_without_them(cep):
    checks = {check["what"]: check for check in cep("doctor", "--json").json["checks"]}
    for extra in EXTRAS:
        check = checks[f"extra {extra}"]
        assert (check["state"], check["optional"]) == ("missing", True)
        assert check["fix"] == install_command(extra)


@pytest.mark.usefixtures("without_extras")
def test_offline_commands_name_minari(cep):
    done = cep("offline", "show", "mujoco/walker2d/medium-v0")
    assert done.code == 2
    assert install_command("minari") in done.err
    assert cep("offline", "list").code == 0
    done = cep(
        "offline", "collect", "--env", "walker2d", "--transitions", "5", "--set",
        'layouts=["minari"]',
    )  # fmt: skip
    assert done.code == 2
    assert install_command("minari") in done.err


@pytest.mark.usefixtures("without_extras")
def test_a_dataset_is_collected_without_minari(cep):
    done = cep("offline", "collect", "--env", "walker2d", "--transitions", "5")
    assert done.code == 0, done.err


def test_an_environment_that_needs_an_extra_says_so_to_a_program(without_extras, tmp_path):
    with pytest.raises(EnvError, match="needs the packages `textworld` and `jericho`"):
        catalog.make_env("textworld/coin", workspace=tmp_path)
