"""Runs as pandas tables: what is in them, what of runs that are not whole, and what is written."""

import json
import subprocess
import sys

import pandas as pd
import pytest

import cepcli
from cepcli.errors import ArtifactError
from cepcli.report.frames import ABOUT, load_metrics, write_frame
from cepcli.workspace.artifacts import Workspace
from tests.report.stored import died, finished

ROWS = [
    {"step": 0, "eval/success_rate": 0.1},
    {"step": 50, "train/loss": 2.0, "cache/threshold": None},
    {"step": 50, "eval/success_rate": 0.5},
    {"step": 100, "train/loss": 1.0, "cache/threshold": 0.9},
]


@pytest.fixture
def space(workspace_root):
    space = Workspace(workspace_root)
    finished(space, "a", 0, 0.5, rows=ROWS, settings="[posterior]\ndecay = 2.0\n")
    finished(space, "a", 1, 0.7, settings='[env_options]\nworld = "b"\n')
    died(space, "a", 2)
    return space


def test_a_row_for_every_run_with_its_result_and_settings(space):
    runs = cepcli.load_runs()
    assert list(runs.columns[: len(ABOUT)]) == list(ABOUT)
    assert list(runs["run"]) == ["a_s0", "a_s1", "a_s2"]
    assert list(runs["seed"]) == [0, 1, 2]
    first = runs.iloc[0]
    assert first["success"] == 0.5
    assert first["queries_saved"] == 0.5
    assert first["queries.total"] == 50
    assert first["eval.episodes"] == 4
    assert first["config.posterior.decay"] == 2.0
    assert first["version"] == cepcli.__version__
    assert first["command"] == space.open("run", "a_s0").manifest["command"]
    assert "eval.curve" not in runs
    assert runs.groupby("env")["success"].mean()["e"] == pytest.approx(0.6)


def test_an_unfinished_run_is_marked_and_has_no_result(space):
    runs = cepcli.load_runs().set_index("run")
    assert list(runs["state"]) == ["finished", "finished", "stopped"]
    assert list(runs["step"]) == [100, 100, 40]
    assert list(runs["steps"]) == [100, 100, 100]
    assert pd.isna(runs.loc["a_s2", "success"])
    with space.lock("run", "a_s2"):
        assert cepcli.load_run("a_s2").state == "running"


def test_runs_are_chosen_by_name_and_by_pattern(space):
    assert list(cepcli.load_runs(names="a_s1")["run"]) == ["a_s1"]
    assert list(cepcli.load_runs(names=["*_s2", "a_s0"])["run"]) == ["a_s2", "a_s0"]
    with pytest.raises(ArtifactError, match="matches `b\\*`"):
        cepcli.load_runs(names="b*")


def test_a_workspace_without_runs_is_an_empty_table_with_its_columns(tmp_path):
    runs = cepcli.load_runs(tmp_path / "empty")
    assert len(runs) == 0
    assert {*ABOUT, "success"} <= {*runs.columns}
    assert list(load_metrics(tmp_path / "empty").columns) == ["run", "step", "metric", "value"]


def test_metrics_of_a_run_are_one_row_a_step(space):
    run = cepcli.load_run("a_s0")
    assert list(run.metrics.index) == [0, 50, 100]
    assert run.metrics.index.name == "step"
    assert run.metrics.loc[50, "train/loss"] == 2.0
    assert run.metrics.loc[50, "eval/success_rate"] == 0.5
    assert run.metrics["cache/threshold"].dropna().to_dict() == {100: 0.9}
    assert set(map(str, run.metrics.dtypes)) == {"float64"}


def test_a_run_has_its_settings_and_result_nested_as_its_files_have_them(space):
    run = cepcli.load_run("a_s0")
    assert run.config["posterior"] == {"decay": 2.0}
    assert run.summary == json.loads((run.path / "summary.json").read_text())
    assert run.manifest["seed"] == 0


def test_the_row_that_was_cut_off_by_a_kill_is_left_out(space):
    run = cepcli.load_run("a_s2")
    assert run.summary == {}
    assert run.metrics["a"].to_dict() == {40: 1.0}


def test_a_run_without_metrics_has_an_empty_table(space):
    assert cepcli.load_run("a_s1").metrics.empty


def test_every_logged_number_is_a_row_of_the_long_table(space):
    long = load_metrics(names="a_s0")
    assert long.to_numpy().tolist() == [
        ["a_s0", 0, "eval/success_rate", 0.1],
        ["a_s0", 50, "train/loss", 2.0],
        ["a_s0", 50, "eval/success_rate", 0.5],
        ["a_s0", 100, "train/loss", 1.0],
        ["a_s0", 100, "cache/threshold", 0.9],
    ]


def test_a_damaged_file_is_one_sentence_that_names_it(space):
    path = space.directory("run", "a_s0")
    manifest = json.loads((path / "manifest.json").read_text())
    for name in ("metrics.jsonl", "summary.json"):
        whole = (path / name).read_text()
        (path / name).write_text(whole[:-9])
        with pytest.raises(ArtifactError, match=name):
            cepcli.load_run("a_s0")
        # as one that no manifest speaks of, which a kill may leave
        kept = [output for output in manifest["outputs"] if output["file"] != name]
        (path / "manifest.json").write_text(json.dumps({**manifest, "outputs": kept}))
        with pytest.raises(ArtifactError, match=name):
            cepcli.load_run("a_s0")
        (path / name).write_text(whole)


def test_a_summary_that_lacks_a_figure_is_one_sentence_that_names_the_run(space):
    path = space.directory("run", "a_s0")
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "outputs": []}))
    (path / "summary.json").write_text('{"steps": 3}')
    with pytest.raises(ArtifactError, match="`a_s0` lacks"):
        cepcli.load_runs()


def test_a_run_that_is_not_there_is_named_with_what_is(space):
    with pytest.raises(ArtifactError, match="no run `a_s9`"):
        cepcli.load_run("a_s9")


def test_settings_of_different_types_are_text_in_parquet(tmp_path):
    frame = pd.DataFrame({"x": [1, "all", None], "y": [True, None, False], "z": [1.0, 2.0, None]})
    write_frame(frame, tmp_path / "t.parquet", "parquet")
    found = pd.read_parquet(tmp_path / "t.parquet")
    assert list(found["x"].dropna()) == ["1", "all"]
    assert list(found["y"].dropna()) == [True, False]
    assert found["z"].dtype == float


def test_reading_runs_loads_no_torch(space):
    code = (
        "import sys, cepcli; loaded = {'pandas', 'numpy', 'torch'} & {*sys.modules};"
        "assert not loaded, loaded;"
        "print(len(cepcli.load_runs()), len(cepcli.load_run('a_s0').metrics));"
        "assert 'torch' not in sys.modules and 'gymnasium' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("3 3\n", "")
