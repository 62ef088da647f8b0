import pytest

from cepcli.report import plots
from cepcli.workspace.artifacts import Workspace, versions
from tests.report import stored
from tests.report.test_versions import made_with
from tests.report.test_warnings import row


@pytest.fixture
def space(workspace_root, monkeypatch):
    """Runs of two settings in two worlds; pictures are drawn, but not rendered."""

    monkeypatch.setattr(plots, "save_figures", lambda figures, path, columns=1: path.touch())
    found = Workspace(workspace_root)
    for seed, score in enumerate((100.0, 200.0)):
        stored.finished(found, "ant-off", seed, score, env="ant", cache="off")
        stored.finished(found, "ant-lru", seed, score / 2, env="ant")
        stored.finished(found, "coin-off", seed, score / 200, env="textworld/coin", cache="off")
        stored.finished(found, "coin-lru", seed, 0.75, env="textworld/coin")
    return found


def test_environments_are_compared_apart_when_asked(space, cep, workspace_root):
    done = cep("runs", "compare", "*", "--columns", "success")
    assert (done.code, "--group-by env" in done.err, "--aggregate" in done.err) == (2, True, True)
    done = cep(
        "runs", "compare", "*", "--group-by", "env", "--baseline", "off", "--columns", "success",
        "--markdown",
    )  # fmt: skip
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line for line in lines if line.startswith("####")] == [
        "#### ant",
        "#### textworld/coin",
    ]
    assert any(
        line.startswith("| ant-lru | 2 | 75.00 [50.00, 100.00] (range) | -50.0%") for line in lines
    )
    for name in ("ant", "textworld-coin"):
        assert (workspace_root / f"comparison-{name}.png").is_file()


def test_json_and_tables_tell_the_same_of_environments_apart(space, cep):
    flags = ("*", "--group-by", "env", "--columns", "success")
    found = cep("runs", "compare", *flags, "--json").json
    assert [(one["run"], one["env"], one["seeds"]) for one in found["rows"]] == [
        ("ant-lru", "ant", 2), ("ant-off", "ant", 2),
        ("coin-lru", "textworld/coin", 2), ("coin-off", "textworld/coin", 2),
    ]  # fmt: skip
    assert list(found["pictures"]) == ["ant", "textworld/coin"]
    out = cep("runs", "compare", *flags).out
    assert "ant: means over seeds" in out
    assert "75.00 [50.00, 100.00]" in out


def test_settings_are_aggregated_over_tasks_in_every_form(space, cep, workspace_root):
    flags = ("*", "--aggregate", "--baseline", "off", "--above", "0.6,1")
    found = cep("runs", "compare", *flags, "--json").json
    lru, off = found["rows"]
    assert (lru["run"], lru["tasks"]) == ("lru", {"ant": 2, "textworld/coin": 2})
    assert lru["mean"]["mean"] == pytest.approx((0.5 + 1.0) / 2)
    assert list(lru["above"]) == ["0.6", "1"]
    assert off["improvement"] is None
    assert found["one"] == "off"
    assert (workspace_root / "profile.png").is_file()
    table = cep("runs", "compare", *flags, "--markdown").out.splitlines()
    assert table[0] == (
        "| run | tasks | seeds | IQM | mean | P(above off) | runs above 0.6 | runs above 1 |"
    )
    assert table[2].startswith("| lru | 2 | 2 | 0.833 [")
    told = cep("runs", "compare", *flags).out
    assert "of which 1 is the mean of off" in told
    assert "0.833 [" in told


def test_one_seed_has_no_interval(space, cep):
    done = cep("runs", "compare", "ant-*_s0", "--columns", "success", "--markdown")
    assert "| ant-off | 1 | 100.00 |" in done.out.splitlines()
    rows = cep("runs", "compare", "ant-*_s0", "--json").json["rows"]
    assert rows[0]["success"] == {
        "mean": 50.0,
        "low": None,
        "high": None,
        "interval": None,
    }


def test_a_run_that_died_is_named_in_every_form(space, cep):
    stored.died(space, "ant-off", 7, env="ant")
    flags = ("ant-*", "--columns", "success")
    told = cep("runs", "compare", *flags, "--markdown").out
    assert "| ant-off | 2 + 1 unfinished |" in told
    assert "Not counted: ant-off_s7 stopped at step 40 of 100: cep runs resume ant-off_s7" in told
    found = cep("runs", "compare", *flags, "--json").json["rows"][1]["unfinished"]
    assert [(one["run"], one["step"]) for one in found] == [("ant-off_s7", 40)]
    done = cep("runs", "compare", "ant-off_s7")
    assert (done.code, "cep runs resume ant-off_s7" in done.err) == (2, True)
    told = cep("runs", "compare", "ant-*", "--aggregate", "--baseline", "off", "--markdown").out
    assert "| off | 1 | 2 + 1 unfinished |" in told


def test_what_is_lost_to_the_cache_is_warned_of_where_the_baseline_has_none(space, cep):
    flags = ("runs", "compare", "ant-*", "--columns", "success")
    assert "Warning" not in cep(*flags).out
    told = cep(*flags, "--baseline", "ant-off").out
    assert "Warning about ant-lru: The score late in training is 50% below" in told
    found = cep(*flags, "--baseline", "ant-off", "--json").json["warnings"]
    assert [(one["kind"], one["run"]) for one in found] == [("performance", "ant-lru")]
    over_tasks = cep("runs", "compare", "*", "--aggregate", "--baseline", "off", "--json").json
    assert over_tasks["warnings"] == found


def test_a_run_is_shown_with_what_there_is_to_warn_of(space, cep):
    stored.finished(space, "bad", 0, 1.0, rows=[row(200), row(250, misses=50)], env="ant")
    done = cep("runs", "show", "bad_s0", "--json")
    assert [one["kind"] for one in done.json["warnings"]] == ["hit-rate"]
    found = cep("runs", "show", "ant-lru_s0", "--json").json["warnings"]
    assert [one["kind"] for one in found] == ["performance"]
    refused = cep("runs", "show", "bad_s0", "--against", "ant-lru_s0")
    assert (refused.code, "without its cache" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--aggregate", "--columns", "success"], "--columns"),
        (["--aggregate", "--group-by", "env"], "--group-by"),
        (["--above", "1"], "--aggregate"),
        (["--floor", "off"], "--aggregate"),
        (["--aggregate", "--floor", "off"], "--baseline"),
        (["--aggregate", "--baseline", "off", "--above", "x"], "expected numbers"),
        (["--group-by", "seed"], "not grouped by `seed`"),
        (["--group-by", "env", "--baseline", "offf"], "`off`"),
        (["--by", "sucess", "--baseline", "off"], "`success`"),
    ],
)
def test_options_that_mean_nothing_together_are_refused(space, cep, flags, said):
    done = cep("runs", "compare", "*", *flags)
    assert (done.code, said in done.err) == (2, True), done.err


def test_settings_made_with_other_versions_are_compared_and_said_to_be(space, cep):
    for seed in (0, 1):
        made_with(space, f"ant-lru_s{seed}", mujoco="0.0.1")
    said = f"Not made with the same mujoco: 0.0.1: ant-lru; {versions()['mujoco']}: ant-off."
    done = cep("runs", "compare", "ant-*")
    assert done.code == 0
    assert f"Note: {said}" in done.out.splitlines()
    assert cep("runs", "compare", "ant-*", "--json").json["notes"] == [said]
    made_with(space, "ant-lru_s0", mujoco="0.0.2")
    done = cep("runs", "compare", "ant-*")
    assert done.code == 2
    assert "different versions of mujoco" in done.err
    assert "apart: cep runs compare ant-lru_s0; cep runs compare ant-lru_s1" in done.err
