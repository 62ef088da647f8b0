from pathlib import Path

import pytest

from cepcli.errors import ConfigError
from cepcli.report.aggregate import (
    Scale,
    aggregated,
    baseline_of,
    grouped,
    groupings,
    normalised,
    setting_label,
    settings_of,
)
from cepcli.report.comparison import Group, load_groups
from cepcli.report.plots import plot_profiles
from cepcli.workspace.artifacts import Workspace
from tests.report import stored


@pytest.mark.parametrize(
    ("label", "env", "setting"),
    [
        ("walker2d-off", "walker2d", "off"),
        ("off-walker2d", "walker2d", "off"),
        ("walker2d_hybrid-sac_walker2d_off", "walker2d", "hybrid-sac_off"),
        ("babyai-goto-local_yan_goto-local_off", "babyai/goto-local", "yan_off"),
        ("ablate-cache-goto-local-300-off", "babyai/goto-local", "ablate-cache-300-off"),
        ("variant-off", "ant", "variant-off"),
        ("ant", "ant", "default"),
        ("mine", None, "mine"),
    ],
)
def test_a_setting_is_a_name_without_the_environment(label, env, setting):
    assert setting_label(label, env) == setting


@pytest.fixture
def groups():
    """Two tasks of scales that have nothing in common."""
    scores = {
        "ant-lru": (150.0, 150.0), "ant-off": (100.0, 200.0), "ant-random": (50.0, 50.0),
        "coin-lru": (0.0, 0.25), "coin-off": (0.5, 0.5), "coin-random": (0.1, 0.1),
    }  # fmt: skip
    tasks = {"ant": {"env": "ant"}, "coin": {"env": "textworld/coin", "steps": 400}}
    return [
        Group(name, [stored.summary(name, i, x, **tasks[name[: name.index("-")]]) for i, x in pair])
        for name, pair in ((name, enumerate(pair)) for name, pair in scores.items())
    ]


def test_scores_are_shares_of_the_baselines_mean_on_the_same_task(groups):
    settings = settings_of(groups)
    found = normalised(settings, Scale("off"))
    assert found["lru"] == [[1.0, 1.0], [0.0, 0.5]]
    assert found["off"] == [[100 / 150, 200 / 150], [1.0, 1.0]]
    found = normalised(settings, Scale("off", "random"))
    assert found["lru"][1] == pytest.approx([-0.25, 0.375])
    assert found["random"] == [[0.0, 0.0], [0.0, 0.0]]


def test_a_row_holds_the_statistics_over_seeds_and_tasks(groups):
    rows = {row["run"]: row for row in aggregated(settings_of(groups), Scale("off"), above=(0.75,))}
    lru = rows["lru"]
    assert lru["tasks"] == {"ant": 2, "textworld/coin": 2}
    assert lru["mean"]["mean"] == pytest.approx((1.0 + 0.25) / 2)
    assert lru["iqm"]["mean"] == pytest.approx((0.5 + 1.0) / 2), "0 and one of the 1 are left out"
    assert lru["improvement"]["mean"] == pytest.approx((0.5 + 0.0) / 2)
    assert lru["above"]["0.75"]["mean"] == 0.5
    assert lru["iqm"]["low"] < lru["iqm"]["high"]
    assert rows["off"]["improvement"] is None


def test_several_tasks_need_something_that_is_1(groups):
    with pytest.raises(ConfigError, match=r"2 environments .* no common scale") as error:
        aggregated(settings_of(groups), Scale())
    assert "--baseline" in error.value.hint
    alone = [group for group in groups if group.label.startswith("coin")]
    assert normalised(settings_of(alone), Scale())["lru"] == [[0.0, 0.25]]


def test_the_nearest_setting_is_named_for_one_that_does_not_exist(groups):
    with pytest.raises(ConfigError) as error:
        aggregated(settings_of(groups), Scale("offf"))
    assert "`off`" in error.value.hint


def test_what_is_1_has_to_be_above_what_is_0(groups):
    with pytest.raises(ConfigError, match="`random` scores 50 on ant, which is not above the 150"):
        aggregated(settings_of(groups), Scale("random", "off"))
    for group in groups:
        for summary in group.summaries:
            summary["eval"]["success_rate"] = -1.0
    with pytest.raises(ConfigError, match="not above 0") as error:
        aggregated(settings_of(groups), Scale("off"))
    assert "--floor" in error.value.hint


def test_settings_of_other_tasks_are_not_averaged(groups):
    some = [group for group in groups if group.label != "coin-lru"]
    with pytest.raises(ConfigError, match="`lru` has no finished run of textworld/coin"):
        aggregated(settings_of(some), Scale("off"))


def test_a_setting_whose_runs_of_a_task_died_says_how_to_go_on(tmp_path):
    space = Workspace(tmp_path / "w")
    stored.finished(space, "ant-off", 0, 1.0, env="ant")
    stored.finished(space, "reach-off", 0, 1.0, env="reach")
    stored.finished(space, "ant-lru", 0, 1.0, env="ant")
    stored.died(space, "reach-lru", 0, env="reach")
    groups = load_groups(space, ["*"], unfinished=True)
    with pytest.raises(ConfigError) as error:
        aggregated(settings_of(groups), Scale("off"))
    assert "cep runs resume reach-lru_s0" in error.value.hint


def test_budgets_may_differ_between_tasks_but_not_within_one(groups):
    assert settings_of(groups)
    groups[0].summaries[0]["steps"] = 7
    with pytest.raises(ConfigError, match="`steps`"):
        settings_of(groups)


def test_two_names_that_would_be_one_setting_are_refused(tmp_path):
    space = Workspace(tmp_path / "w")
    stored.finished(space, "ant-off", 0, 1.0, env="ant")
    stored.finished(space, "off", 0, 1.0, env="ant")
    with pytest.raises(ConfigError, match="would be the same setting"):
        settings_of(load_groups(space, ["*"]))


def test_a_figure_that_a_run_lacks_is_named(groups):
    with pytest.raises(ConfigError, match="has no `audit_kl`"):
        aggregated(settings_of(groups), Scale("off"), by="audit_kl")
    rows = aggregated(settings_of(groups), Scale("off"), by="queries")
    assert rows[0]["mean"]["mean"] == 1.0


def test_runs_are_told_apart_by_environment_and_by_steps(groups):
    parts = grouped(groups, ["env", "steps"])
    assert list(parts) == [("ant", 100), ("textworld/coin", 400)]
    assert [group.label for group in parts["ant", 100]] == ["ant-lru", "ant-off", "ant-random"]
    assert list(grouped(groups, [])) == [()]
    assert groupings("env,steps") == ["env", "steps"]
    with pytest.raises(ConfigError) as error:
        groupings("envs")
    assert "`env`" in error.value.hint


def test_a_group_of_two_environments_is_split(tmp_path):
    space = Workspace(tmp_path / "w")
    stored.finished(space, "r", 0, 1.0, env="ant")
    stored.finished(space, "r", 1, 1.0, env="reach")
    parts = grouped(load_groups(space, ["*"]), ["env"])
    assert [len(own[0].summaries) for own in parts.values()] == [1, 1]


def test_a_baseline_is_named_with_or_without_its_environment(groups):
    ant = grouped(groups, ["env"])["ant",]
    assert baseline_of(ant, "off") == baseline_of(ant, "ant-off") == "ant-off"
    with pytest.raises(ConfigError, match="None of the runs of ant is a `coin-off`"):
        baseline_of(ant, "coin-off")


def test_profiles_are_drawn_with_and_without_intervals(tmp_path):
    scores = {"a": [[0.1, 0.4], [0.9, 1.2]], "b": [[0.5], [0.5]]}
    path = plot_profiles(scores, tmp_path / "p.png")
    assert path.stat().st_size > 10_000


def test_a_group_without_a_finished_run_has_no_score():
    with pytest.raises(ConfigError, match="no finished run"):
        normalised(settings_of([Group("a", [stored.summary("a", 0, 1.0)]), _empty()]), Scale())


def _empty():
    from cepcli.report.saved_runs import SavedRun

    config = {"env": "e", "steps": 100, "seed": 0}
    return Group("b", [], [SavedRun("b_s0", Path("b_s0.partial"), "running", config)])
