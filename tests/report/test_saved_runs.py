import fcntl

import pytest

from cepcli.errors import ArtifactError, ConfigError
from cepcli.report.comparison import as_json, cell, comparison, estimated, load_groups
from cepcli.report.plots import plot_comparison
from cepcli.report.saved_runs import read_unfinished
from cepcli.report.statistics import Estimate
from cepcli.workspace.artifacts import Workspace
from tests.report import stored


@pytest.fixture
def space(tmp_path):
    found = Workspace(tmp_path / "w")
    stored.finished(found, "a", 0, 0.5)
    stored.died(found, "a", 1)
    stored.died(found, "b", 0)
    return found


def test_a_run_that_died_is_shown_beside_the_finished_ones(space, tmp_path):
    groups = load_groups(space, ["*_s?"], unfinished=True)
    a, b = comparison(groups)
    assert (a["run"], a["seeds"], b["run"], b["seeds"]) == ("a", 1, "b", 0)
    assert [one["run"] for one in a["unfinished"]] == ["a_s1"]
    assert b["success"] is None
    assert b["env"] == "e"
    assert plot_comparison(groups, tmp_path / "p.png").exists()


def test_unfinished_runs_are_refused_where_nobody_asks_for_them(space):
    assert [group.label for group in load_groups(space, ["*_s?"])] == ["a"]
    with pytest.raises(ArtifactError, match="unfinished"):
        load_groups(space, ["b_s0"])


def test_it_says_where_the_run_stands_and_how_to_go_on(space):
    found = read_unfinished(space, "b_s0")
    assert (found.step, found.steps, found.running) == (40, 100, False), "the last row is half one"
    assert found.in_words() == (
        f"b_s0 stopped at step 40 of 100: cep runs resume b_s0 --workspace {space.root}"
    )


def test_a_command_names_the_workspace_where_it_is_not_the_usual_one(space, monkeypatch):
    monkeypatch.setenv("CEP_HOME", str(space.root))
    assert read_unfinished(space, "b_s0").resume == "cep runs resume b_s0"
    spaced = Workspace(space.root.with_name("my runs"))
    assert spaced.option == f" --workspace '{spaced.root}'"


def test_a_run_that_has_a_checkpoint_and_no_row_stands_where_the_checkpoint_does(space):
    run = space.partial("run", "b_s0")
    (run / "metrics.jsonl").write_text("")
    (run / "checkpoint-00000025").mkdir()
    assert read_unfinished(space, "b_s0").step == 25


def test_a_run_that_is_going_on_has_not_died(space):
    with space.lock("run", "b_s0"):
        found = read_unfinished(space, "b_s0")
        assert found.running
        assert "still running" in found.in_words()
    assert not space.is_locked("run", "b_s0")
    with (space.root / "run/.b_s0.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_nothing_is_known_of_a_run_without_settings(space):
    space.begin("run", "c_s0")
    found = read_unfinished(space, "c_s0")
    assert (found.label, found.steps, found.step) == ("c_s0", None, 0)
    assert comparison(load_groups(space, ["*"], unfinished=True))[-1]["env"] is None


def test_a_finished_run_that_is_made_again_is_the_finished_one(space):
    (space.root / "run/a_s0.partial").mkdir()
    [group] = load_groups(space, ["a_s0"], unfinished=True)
    assert (len(group.summaries), group.unfinished) == (1, [])


def test_an_unfinished_run_of_another_length_is_refused_like_a_finished_one(space):
    stored.died(space, "a", 2, steps=50)
    with pytest.raises(ConfigError, match="Cannot compare `a_s2` with `a`: its `steps` is 50"):
        comparison(load_groups(space, ["a_s?"], unfinished=True))


@pytest.mark.parametrize(("key", "grouping"), [("env", "--group-by env"), ("steps", "--group-by")])
def test_several_worlds_or_budgets_are_no_comparison(tmp_path, key, grouping):
    space = Workspace(tmp_path / "w")
    stored.finished(space, "a", 0, 0.5)
    stored.finished(space, "b", 0, 0.5, **{key: "f" if key == "env" else 7})
    with pytest.raises(ConfigError, match=f"Cannot compare `b_s0` with `a`: its `{key}`") as err:
        comparison(load_groups(space, ["*"]))
    assert grouping in err.value.hint


def test_worlds_under_other_options_are_other_worlds(tmp_path):
    space = Workspace(tmp_path / "w")
    for name, level in (("a", "level = 1"), ("b", "level = 2"), ("c", "later = true")):
        stored.finished(space, name, 0, 0.5, settings=f"[env_options]\n{level}\n")
    with pytest.raises(ConfigError, match=r"`env_options.level` is 2, not 1"):
        comparison(load_groups(space, ["a_s0", "b_s0"]))
    assert comparison(load_groups(space, ["a_s0", "c_s0"])), "an option that came later"


def test_an_unknown_interval_is_shown_as_unknown():
    assert cell({"mean": 0.5, "low": None, "high": None}, ".2f") == "0.50"
    assert cell({"mean": 0.5, "low": 0.4, "high": 0.6}, ".2f") == "0.50 [0.40, 0.60]"
    assert cell({"mean": 0.5, "low": 0.5, "high": 0.5}, ".2f") == "0.50"
    assert cell(None, ".2f") == "–"


def test_a_figure_that_two_seeds_have_is_called_a_range_and_a_rate_over_episodes_is_not():
    assert cell(estimated([0.4, 0.6]), ".2f") == "0.50 [0.40, 0.60] (range)"
    assert "(range)" not in cell(estimated([0.4, 0.6, 0.5]), ".2f")
    agree = as_json(Estimate.of_rates([1.0, 1.0], [50, 50]))
    assert cell(agree, ".2f") == "1.00 [0.96, 1.00]"
