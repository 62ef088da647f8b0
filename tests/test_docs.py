"""README and the pages under docs/ agree with the code, and with each other."""

import ast
import json
import re
import shlex

import pytest
import typer

import cepcli
from cepcli.cli.main import app
from tests.docs_pages import (
    DOCS,
    PAGES,
    README,
    ROOT,
    anchors,
    fences,
    label,
    links,
    prose,
    section,
)
from tests.docs_pages import commands as lines_of
from tests.test_architecture import ORDER
from tests.test_scripts import load

reference = load("command-reference")
COMMANDS = dict(reference.commands(typer.main.get_command(app)))
_FOLDERS = "cepcli|configs|data|docs|examples|results|scripts|tests"
PATH = re.compile(rf"`((?:{_FOLDERS})/[^`<>… *{{}}A-Z]*)`")


def test_the_page_of_commands_begins_with_a_table_of_all():
    index = (DOCS / "commands.md").read_text().split("\n## ")[0]
    assert re.findall(r"^\| \[`([^`]+)`\]", index, re.MULTILINE) == list(COMMANDS)


def test_every_metric_is_explained_and_no_other(corridor, tmp_path, monkeypatch):
    from tests.agents import control_worlds

    control_worlds.install(monkeypatch.setattr)
    control_worlds.run(tmp_path, "control", agent="sac", steps=40)
    rows = (tmp_path / "run/control/metrics.jsonl").read_text().splitlines()
    for mode in ("lru", "certified"):
        corridor.run(tmp_path, mode, **{"cache.mode": mode})
        rows += (tmp_path / "run" / mode / "metrics.jsonl").read_text().splitlines()
    corridor.run(tmp_path, "dqn", agent="dqn")
    rows += (tmp_path / "run/dqn/metrics.jsonl").read_text().splitlines()
    rows += offline_rows(tmp_path, monkeypatch)
    written = set().union(*(json.loads(row) for row in rows)) - {"step"}
    explained = re.findall(r"^\| `([^`]+)`", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(written)


def offline_rows(root, monkeypatch):
    from cepcli.datasets.dataset import REFERENCE_RETURNS
    from tests.datasets import worlds

    worlds.install(monkeypatch.setattr)
    monkeypatch.setitem(REFERENCE_RETURNS, worlds.POINT, (-30.0, 0.0))
    rows = []
    for algorithm in ("cql", "cql-prior", "bc", "iql", "td3-bc"):
        worlds.run(root, algorithm, algorithm=algorithm)
        rows += (root / "run" / algorithm / "metrics.jsonl").read_text().splitlines()
    return rows


def test_the_page_of_the_api_has_every_public_name_and_shows_how_it_is_used():
    page = (DOCS / "api.md").read_text()
    listed = re.findall(r"^\| \[?`(\w+)`", page, re.MULTILINE)
    assert sorted(listed) == sorted(cepcli.__all__)
    code = "\n".join(fence.body for fence in fences(page) if fence.language == "python")
    used = set(re.findall(r"\bcepcli\.(\w+)", code))
    assert used == {*cepcli.__all__} - {"__version__"}


def documented():
    blocks = [f for page in PAGES for f in fences(page.read_text()) if f.language == "console"]
    lines = [line for block in blocks for line in lines_of(block) if line.startswith("cep ")]
    return list(dict.fromkeys(lines))


@pytest.mark.parametrize("line", documented())
def test_commands_in_the_docs_parse(line):
    words = shlex.split(line)
    name = " ".join(words[:3]) if " ".join(words[:3]) in COMMANDS else " ".join(words[:2])
    command = COMMANDS[name]
    context = command.make_context(name, words[len(name.split()) :], resilient_parsing=False)
    assert context.params


def test_the_first_screen_holds_exactly_two_commands():
    first = next(f for f in fences(README.read_text()) if f.language == "console")
    assert lines_of(first) == ["make demo", "make test"]


def test_readme_is_short():
    assert len(README.read_text().splitlines()) <= 100


def test_every_command_and_option_has_a_help_text():
    for name, command in COMMANDS.items():
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, typer.core.TyperOption):
                assert parameter.help, f"{name} {parameter.name}"


def test_reference_of_commands_is_up_to_date():
    made = reference.markdown()
    assert (DOCS / "commands.md").read_text() == made, "type: scripts/command-reference"


def test_reference_has_every_command_that_takes_settings():
    takes = {name for name, one in COMMANDS.items() if any("--set" in p.opts for p in one.params)}
    explained = {name for names in reference.SETTINGS.values() for name in names}
    of_envs = {"cep bench envs", "cep envs show", "cep envs check", "cep eval"}
    assert takes == explained | of_envs, "which take options of the environment"


# -- links ---------------------------------------------------------------------------------------


def local(page):
    for link in links(page.read_text()):
        if not re.match(r"[a-z]+:", link.target):
            path, _, anchor = link.target.partition("#")
            yield link, (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_lead_somewhere(page):
    for link, target, anchor in local(page):
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [README]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            waiting += [target for _, target, _ in local(page) if target.suffix == ".md"]
    assert set(PAGES) <= reached


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_files_that_are_named_exist(page):
    for path in PATH.findall(prose(page.read_text())):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_functions_that_are_named_are_in_the_file_linked_to(page):
    for link, target, _ in local(page):
        if target.suffix == ".py" and link.text.startswith("`"):
            assert link.text.strip("`") in defined(target), link


def defined(file):
    """Functions, classes, their methods, and what is assigned, at the top of a module."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        names |= {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()
        if isinstance(node, ast.ClassDef):
            inner = (n for n in node.body if isinstance(n, ast.FunctionDef))
            names |= {f"{node.name}.{method.name}" for method in inner}
        if isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    return names


def test_short_results_are_those_of_the_long_ones():
    """Every command, table and block of figures in README stands in docs/results.md as well."""
    whole = (DOCS / "results.md").read_text()
    blocks = section(README, "Results").split("\n\n")
    figures = [block.strip() for block in blocks if block.startswith(("`cep", "`cd", "|", "```"))]
    assert len(figures) == 2  # a command and its table
    for block in figures:
        assert block in whole, f"{block}\ncopy it from docs/results.md"


def test_section_that_is_made_by_a_script_has_its_heading():
    assert "\n### Continuous control\n" in (DOCS / "results.md").read_text()


# -- the diagram of packages ---------------------------------------------------------------------


def test_table_of_packages_has_the_order_that_the_tests_of_imports_enforce():
    rows = re.findall(
        r"^\| (`.+?`) \|", section(DOCS / "architecture.md", "Packages"), re.MULTILINE
    )
    named = [[name.rstrip("/") for name in re.findall(r"`([^`]+)`", row)] for row in rows]
    assert named.pop() == ["cli"]
    order = {name: line for line, packages in enumerate(ORDER) for name in packages}
    lines = [order[name] for row in named for name in row]
    assert lines == sorted(lines)
    assert {name for row in named for name in row} == set(order)


def test_scripts_name_pages_that_are_there():
    for script in (ROOT / "scripts").iterdir():
        for name in re.findall(r"docs/[\w./-]+\.(?:md|png)", script.read_text()):
            assert (ROOT / name).is_file() or name.endswith(".new"), (script, name)
