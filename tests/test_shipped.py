"""What ships beside the code: commands that a shell reads, and nothing of a developer's machine."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from cepcli.cli.main import app
from cepcli.extras import EXTRAS

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("data", "results", "docs", "examples", "cepcli", "README.md", "CHANGELOG.md")
MANIFESTS = sorted(
    path.relative_to(ROOT) for part in ("data", "results")
    for path in (ROOT / part).rglob("manifest.json")
)  # fmt: skip
#: An absolute path below a folder that is somebody's, wherever it begins.
SOMEBODYS = re.compile(rb"(?<![\w.~/-])/(?:tmp|work|root|home|Users|mnt|scratch)/[\w.-]+")
#: Placeholders that documentation shows.
EXAMPLES = (b"/home/me/", b"/tmp/cep-")


def files():
    for part in SHIPPED:
        path = ROOT / part
        found = path.rglob("*") if path.is_dir() else [path]
        yield from (file for file in found if file.is_file() and file.suffix != ".pyc")


def test_no_path_of_a_developer_s_machine_ships():
    found = {
        f"{file.relative_to(ROOT)}: {match.decode()}"
        for file in files()
        for match in SOMEBODYS.findall(file.read_bytes())
        if not match.startswith(EXAMPLES)
    }
    assert found == set()


def test_the_lock_and_the_pins_are_what_anybody_can_install():
    """Public indices alone, and no build of a night."""
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    urls = set(re.findall(r"(?:https?|file):/+[^/\"]*", text))
    assert urls == {"https://pypi.org", "https://files.pythonhosted.org"}
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert [name for name, version in pins.items() if "nightly" in name or "dev" in version] == []


def test_the_extras_that_errors_name_are_declared():
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    assert project["name"] == "cepcli"
    assert project["scripts"] == {"cep": "cepcli.cli.main:main"}
    assert {*EXTRAS, "all"} <= set(project["optional-dependencies"])
    wanted = [re.split(r"[\[>=<]", each)[0] for each in project["dependencies"]]
    assert not {module.replace("_", "-") for row in EXTRAS.values() for module in row} & {*wanted}


@pytest.mark.parametrize("path", MANIFESTS, ids=str)
def test_the_command_of_a_shipped_manifest_can_be_pasted(path):
    command = json.loads((ROOT / path).read_text(encoding="utf-8"))["command"]
    name, *words = shlex.split(command)
    assert shlex.join([name, *words]) == command
    assert name == "cep"
    group = typer.main.get_command(app)
    while isinstance(group, TyperGroup):
        group = group.commands[words.pop(0)]
    context = group.make_context(group.name, words)  # refuses options that there are not
    for setting in context.params.get("set_") or ():
        key, _, value = setting.partition("=")
        assert key
        if value[:1] in "[{\"'":
            tomllib.loads(f"value = {value}")
