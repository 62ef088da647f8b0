"""`cep runs export` to a table: its formats, what is in it, and what is refused."""

import pandas as pd
import pytest

from cepcli.workspace.artifacts import Workspace
from tests.report.stored import died, finished

ROWS = [{"step": 50, "train/loss": 2.0}, {"step": 100, "train/loss": 1.0}]


@pytest.fixture(autouse=True)
def space(workspace_root):
    space = Workspace(workspace_root)
    finished(space, "a", 0, 0.5, rows=ROWS)
    died(space, "a", 1)
    return space


@pytest.mark.parametrize(("ending", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_the_ending_says_which_table_of_all_runs_is_written(cep, tmp_path, ending, read):
    file = tmp_path / "new" / f"runs.{ending}"
    done = cep("runs", "export", "-o", file)
    assert (done.code, done.out.split(":")[0]) == (0, str(file)), done.err
    found = read(file)
    assert list(found["run"]) == ["a_s0", "a_s1"]
    assert list(found["state"]) == ["finished", "stopped"]
    assert found["success"][0] == 0.5
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_metrics_are_a_long_table(cep, tmp_path):
    file = tmp_path / "table"
    done = cep("runs", "export", "a_s0", "--format", "csv", "--metrics", "-o", file, "--json")
    assert done.json == {"path": str(file), "rows": 2, "columns": 4}
    assert file.read_text() == (
        "run,step,metric,value\na_s0,50,train/loss,2.0\na_s0,100,train/loss,1.0\n"
    )


def test_an_older_table_is_kept_where_the_new_one_cannot_be_made(cep, tmp_path, monkeypatch):
    file = tmp_path / "runs.csv"
    file.write_text("older")

    def full(frame, path, **more):
        path.write_text("half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    done = cep("runs", "export", "-o", file)
    assert (done.code, file.read_text()) == (2, "older")
    assert f"Cannot write to `{file}`: the disk is full." in done.err
    assert [path.name for path in tmp_path.glob("*runs.csv*")] == ["runs.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "parquet", "-o", "t.csv"), "ends in `.csv`, but `--format parquet`"),
        (("-o", "records"), "Records are made of the runs that you name"),
        (("a_s0", "--metrics", "-o", "records"), "`--metrics` is for tables"),
        (("nothing*", "-o", "t.csv"), "matches `nothing*`"),
        (("--format", "csv", "-o", "."), "`.` is a directory."),
        (("a_s0", "--overwrite", "-o", "t.csv"), "`--overwrite` is for records"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(cep, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    done = cep("runs", "export", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (tmp_path / "t.csv").exists()
