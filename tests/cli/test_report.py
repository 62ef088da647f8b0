import csv
import json

import pytest

from cepcli.workspace.artifacts import Workspace
from tests.report import worlds


@pytest.fixture
def space(workspace_root):
    made = Workspace(workspace_root)
    worlds.make_run(made, "a")
    return made


@pytest.mark.parametrize(
    ("ending", "begins"),
    [("html", b"<!doctype html>"), ("md", b"# a_s0\n"), ("csv", b"environment,run,"),
     ("png", b"\x89PNG")],
)  # fmt: skip
def test_the_ending_says_what_is_written(space, cep, tmp_path, ending, begins):
    path = tmp_path / "new" / f"r.{ending}"
    done = cep("report", "a_s0", "-o", path)
    assert done.code == 0, done.err
    assert str(path) in done.out
    assert path.read_bytes().startswith(begins)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_without_a_file_the_page_goes_into_the_workspace(space, cep):
    done = cep("report", "a_s0", "--json")
    assert done.json == {
        "path": str(space.root / "report.html"), "runs": 1, "sections": ["babyai/goto-local"]
    }  # fmt: skip
    assert "cep report a_s0 --json" in (space.root / "report.html").read_text()
    assert cep("report", "a_s0", "--format", "csv").code == 0
    assert (space.root / "report.csv").is_file()


def test_the_format_may_be_told_apart_from_the_ending_but_not_against_it(space, cep, tmp_path):
    assert cep("report", "a_s0", "-o", tmp_path / "r.txt", "--format", "md").code == 0
    assert (tmp_path / "r.txt").read_text().startswith("# a_s0")
    for arguments, said in (
        (["-o", tmp_path / "r.txt"], "expected one of csv, html, md, png"),
        (["-o", tmp_path / "r.html", "--format", "md"], "ends in `.html`"),
        (["-o", tmp_path / "r.txt", "--format", "png"], "cannot hold a picture"),
        (["-o", tmp_path, "--format", "md"], "is a directory"),
    ):
        done = cep("report", "a_s0", *arguments)
        assert done.code == 2
        assert said in done.err


def test_what_does_not_exist_is_named_and_nothing_is_written(space, cep, tmp_path):
    done = cep("report", "b_s0", "-o", tmp_path / "r.html")
    assert done.code == 2
    assert "a_s0" in done.err
    assert not (tmp_path / "r.html").exists()


def test_what_died_is_told_on_the_terminal_too(space, cep, tmp_path):
    worlds.make_run(space, "a", 1, dies_at=200)
    done = cep("report", "a_s?", "-o", tmp_path / "r.html")
    assert "a_s1 stopped at step 200 of 400" in done.err


def test_a_trained_run_is_reported_with_what_its_checkpoint_kept(corridor, cep, tmp_path):
    trained = cep(
        "train", "--env", "test/corridor", "--steps", 60, "--name", "t", "--quiet", "--cache",
        "certified", "--set", "eval_episodes=2", "--set", "final_eval_episodes=2",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    assert cep("report", "t_s0", "-o", tmp_path / "r.md").code == 0
    text = (tmp_path / "r.md").read_text()
    assert "cep train --env test/corridor" in text
    assert "is a record" not in text
    assert cep("report", "t_s0", "-o", tmp_path / "r.csv").code == 0
    [row] = csv.DictReader((tmp_path / "r.csv").read_text().splitlines())
    summary = json.loads((tmp_path / "artifacts/run/t_s0/summary.json").read_text())
    assert float(row["decisions"]) == summary["decisions"] == 60
    assert float(row["success"]) == summary["eval"]["success_rate"]
