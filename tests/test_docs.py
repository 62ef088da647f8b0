import re
import shlex
from pathlib import Path

import pytest
import typer

from cepcli.cli.main import app

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()


def commands(group, words=("cep",)):
    for name, command in getattr(group, "commands", {}).items():
        if getattr(command, "commands", None):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


COMMANDS = dict(commands(typer.main.get_command(app)))


def table(heading):
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def test_readme_lists_every_command_and_no_other():
    assert sorted(table("Commands")) == sorted(COMMANDS)


def test_readme_lists_every_metric_and_no_other(corridor, tmp_path, monkeypatch):
    import json

    from tests.agents import control_worlds

    control_worlds.install(monkeypatch.setattr)
    control_worlds.run(tmp_path, "control", agent="sac", steps=40)
    rows = (tmp_path / "run/control/metrics.jsonl").read_text().splitlines()
    for mode in ("lru", "certified"):
        corridor.run(tmp_path, mode, **{"cache.mode": mode})
        rows += (tmp_path / "run" / mode / "metrics.jsonl").read_text().splitlines()
    rows += offline_rows(tmp_path, monkeypatch)
    written = set().union(*(json.loads(row) for row in rows)) - {"step"}
    assert sorted(table("Metrics")) == sorted(written)


def offline_rows(root, monkeypatch):
    from cepcli.offline.dataset import REFERENCE_RETURNS
    from tests.offline import worlds

    worlds.install(monkeypatch.setattr)
    monkeypatch.setitem(REFERENCE_RETURNS, worlds.POINT, (-30.0, 0.0))
    rows = []
    for algorithm in ("cql", "cql-prior", "bc", "iql", "td3-bc"):
        worlds.run(root, algorithm, algorithm=algorithm)
        rows += (root / "run" / algorithm / "metrics.jsonl").read_text().splitlines()
    return rows


def documented():
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("cep ")]


@pytest.mark.parametrize("line", documented())
def test_commands_in_the_readme_parse(line):
    words = shlex.split(line)
    name = " ".join(words[:3]) if " ".join(words[:3]) in COMMANDS else " ".join(words[:2])
    command = COMMANDS[name]
    context = command.make_context(name, words[len(name.split()) :], resilient_parsing=False)
    assert context.params


def test_the_first_screen_holds_exactly_two_commands():
    first = re.search(r"```console\n(.*?)```", README, re.DOTALL)
    assert first.group(1).split("\n") == ["make demo", "make test", ""]


def test_every_command_and_option_has_a_help_text():
    for name, command in COMMANDS.items():
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, typer.core.TyperOption):
                assert parameter.help, f"{name} {parameter.name}"
