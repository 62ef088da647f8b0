import numpy as np
import pytest

from cepcli.datasets.stored import TEXT_COLUMNS, read_text, write_rows
from cepcli.datasets.text_replay import NO_ACTION
from cepcli.errors import DataError

ROWS = {
    "episode": [0, 0, 1],
    "goal": ["win", "win", "lose"],
    "text": ["here", "there", "here"],
    "actions": [["left", "right"], ["right"], ["right", "left", "wait"]],
    "action": ["right", "right", "wait"],
    "reward": [0.0, 1.0, 0.5],
    "terminated": [False, True, False],
    "truncated": [False, False, True],
    "success": [False, True, False],
}


def written(path, **columns):
    write_rows(path, {**ROWS, **columns})
    return path


def test_what_is_written_is_read_back(tmp_path):
    data = read_text(written(tmp_path / "t.parquet"), env="babyai/goto-local", source="made up")
    assert [data.state(row).actions for row in range(3)] == list(map(tuple, ROWS["actions"]))
    assert [data.state(row).text for row in range(3)] == ROWS["text"]
    assert [data.state(row).goal for row in range(3)] == ROWS["goal"]
    chosen = data.actions[np.arange(3), data.chosen]
    assert [data.strings[number] for number in chosen] == ROWS["action"]
    assert data.episodes() == [slice(0, 2), slice(2, 3)]
    assert data.returns().tolist() == [1.0, 0.5]
    assert data.success_rate() == 0.5
    assert data.actions[1].tolist()[1:] == [NO_ACTION, NO_ACTION]


@pytest.mark.parametrize("name", TEXT_COLUMNS)
def test_a_missing_column_is_named(tmp_path, name):
    rows = {key: column for key, column in ROWS.items() if key != name}
    write_rows(tmp_path / "t.parquet", rows)
    with pytest.raises(DataError, match=f"no column `{name}`"):
        read_text(tmp_path / "t.parquet", env=None, source="")


def test_an_action_that_is_not_admissible_is_refused(tmp_path):
    path = written(tmp_path / "t.parquet", action=["right", "jump", "wait"])
    with pytest.raises(DataError, match=r"action in row 1 of .*'jump'"):
        read_text(path, env=None, source="")


def test_a_reward_that_is_not_finite_is_refused(tmp_path):
    path = written(tmp_path / "t.parquet", reward=[0.0, float("nan"), 1.0])
    with pytest.raises(DataError, match="reward in row 1"):
        read_text(path, env=None, source="")


@pytest.mark.parametrize("name", ["goal", "text"])
def test_a_text_that_is_missing_is_refused(tmp_path, name):
    path = written(tmp_path / "t.parquet", **{name: ["here", None, "there"]})
    with pytest.raises(DataError, match="is missing"):
        read_text(path, env=None, source="")


def test_no_decision_is_refused(tmp_path):
    path = written(tmp_path / "t.parquet", **{name: [] for name in TEXT_COLUMNS})
    with pytest.raises(DataError, match="has no decisions"):
        read_text(path, env=None, source="")


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "t.parquet").write_text("no")
    with pytest.raises(DataError, match="not a Parquet file"):
        read_text(tmp_path / "t.parquet", env=None, source="")
