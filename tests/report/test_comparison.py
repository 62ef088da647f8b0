import pytest

from cepcli.errors import ArtifactError, ConfigError
from cepcli.report.comparison import (
    area_under_curve,
    cell,
    comparison,
    late_score,
    load_groups,
    overhead,
    seconds_saved,
)
from cepcli.report.plots import plot_comparison, rivals
from cepcli.report.versions import temperature_note
from cepcli.workspace.artifacts import Workspace, write_json
from tests.report import stored


def summary(run, seed, success, queries=50):
    return {
        "run": f"{run}_s{seed}", "env": "e", "steps": 100, "seed": seed, "decisions": 100,
        "wall_seconds": 9.0,
        "queries": {"total": queries}, "hits": {"exact": 30, "semantic": 20},
        "llm_seconds_recorded": 25.0, "latency_ms": {"p50": 1.0, "p95": 2.0},
        "audited": {"kl_mean": None},
        "eval": {
            "episodes": 4, "success_rate": success, "return_mean": success,
            "curve": [[0, 0.0], [50, success], [100, success]],
        },
    }  # fmt: skip


@pytest.fixture
def workspace(tmp_path):
    space = Workspace(tmp_path / "w")
    runs = [("a", 0, 0.5), ("b", 0, 1.0), ("a", 1, 0.7), ("a", 2, 0.9)]
    for run, seed, success in runs:
        name = f"{run}_s{seed}"
        write_json(space.begin("run", name) / "summary.json", summary(run, seed, success))
        space.finish("run", name, seed=seed)
    return space


def test_area_is_the_mean_success_over_decisions():
    assert area_under_curve(summary("a", 0, 0.8)) == pytest.approx((0.4 * 50 + 0.8 * 50) / 100)


def test_seconds_saved_are_hits_at_the_mean_price_of_a_query():
    assert seconds_saved(summary("a", 0, 1.0)) == pytest.approx(50 * 25.0 / 50)
    assert seconds_saved(summary("a", 0, 1.0, queries=0)) == 0.0


def test_runs_that_differ_in_seed_alone_share_a_row(workspace):
    groups = load_groups(workspace, ["a_s0", "b_s0", "a_s1", "a_s2"])
    a, b = comparison(groups)
    assert (a["run"], a["seeds"], b["run"], b["seeds"]) == ("a", 3, "b", 1)
    assert a["success"]["mean"] == pytest.approx(0.7)
    assert 0.0 <= a["success"]["low"] < 0.5 < 0.9 < a["success"]["high"] <= 1.0
    assert b["success"] == {"mean": 1.0, "low": None, "high": None, "interval": None}


def test_seeds_that_agree_have_the_interval_of_the_episodes_they_were_judged_by(tmp_path):
    space = Workspace(tmp_path)
    for seed in range(3):
        stored.finished(space, "x", seed, 1.0, settings="eval_episodes = 2\n")
    [row] = comparison(load_groups(space, ["x_s?"]))
    assert row["success"]["interval"] == row["auc"]["interval"] == "episodes"
    assert row["success"]["low"] == pytest.approx(0.025 ** (1 / 12)), "3 times 4 episodes"
    assert row["late"]["low"] == pytest.approx(0.025 ** (1 / 6)), "3 times 2 on the way"
    assert cell(row["success"], ".2f") == "1.00 [0.74, 1.00]"
    assert cell(row["decisions"], ".0f") == "100", "counts that agree have no width"


def test_a_baseline_is_nothing_above_itself_and_intervals_keep_to_what_can_be(tmp_path):
    space = Workspace(tmp_path)
    for seed, score in enumerate((0.2, 0.9, 1.0)):
        stored.finished(space, "x", seed, score, queries=(1, 90, 5)[seed])
        stored.finished(space, "off", seed, 0.9 + score / 100)
    x, off = comparison(load_groups(space, ["x_s?", "off_s?"]), "off")
    assert cell(off["score_to_baseline"], "+.1%") == "+0.0%"
    assert x["score_to_baseline"]["interval"] == "seeds"
    assert (x["success"]["high"], x["queries"]["low"]) == (1.0, 0.0)


def test_unknown_run_suggests_the_nearest(workspace):
    with pytest.raises(ArtifactError) as error:
        load_groups(workspace, ["a_s00"])
    assert "a_s0" in error.value.hint


def test_picture_is_a_png_of_some_size(workspace, tmp_path):
    groups = load_groups(workspace, ["a_s0", "a_s1", "b_s0"])
    path = plot_comparison(groups, tmp_path / "p.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert path.stat().st_size > 10_000
    assert list(tmp_path.glob("*.tmp.png")) == []


def row(cache, queries, kl):
    return {"cache": cache, "queries_per_decision": queries, "kl_p95": kl, "threshold": 0.9}


def test_the_rival_of_a_certified_row_is_the_cheapest_fixed_one_that_errs_no_more():
    rows = [row("lru", 0.5, 0.1), row("lru", 0.2, 0.3), row("fifo", 0.4, 0.2), row("exact", 0.1, 0)]
    (found,) = rivals([*rows, row("certified", 0.3, 0.2)])
    assert found["best"] is rows[2]
    assert rivals([*rows, row("certified", 0.3, 0.05)])[0]["best"] is None
    assert rivals(rows) == []
    assert rivals([row("certified", 0.3, 0.2)]) == []


def test_overhead_is_the_share_of_cache_and_controller_and_unknown_for_old_runs():
    summary = {"cache_seconds": 1.0, "control_seconds": 3.0, "wall_seconds": 200.0}
    assert overhead(summary) == 0.02
    assert overhead({"cache_seconds": 1.0, "wall_seconds": 200.0}) is None


def test_scores_are_related_to_the_baseline_named(workspace):
    groups = load_groups(workspace, ["a_s0", "a_s1", "a_s2", "b_s0"])
    a, b = comparison(groups, baseline="b")
    assert a["score_to_baseline"]["mean"] == pytest.approx(-0.3)
    assert b["score_to_baseline"]["mean"] == 0.0
    with pytest.raises(ConfigError, match="None of the runs is a `c`"):
        comparison(groups, baseline="c")


def test_another_figure_is_related_where_it_is_named(workspace):
    groups = load_groups(workspace, ["a_s0", "b_s0"])
    a, _ = comparison(groups, baseline="b", by="auc")
    assert a["score_to_baseline"]["mean"] == pytest.approx(0.375 / 0.75 - 1)
    a, _ = comparison(groups, baseline="b", by="audit_kl")
    assert a["score_to_baseline"] is None


def test_the_late_score_is_the_mean_of_the_last_fifth_of_the_steps():
    curve = [[0, 0.0], [79, 9.0], [80, 1.0], [90, 2.0], [100, 6.0]]
    assert late_score({"eval": {"success_rate": 0.0, "curve": curve}}) == 3.0


@pytest.mark.parametrize("key", ["env", "steps"])
def test_scores_of_other_worlds_and_lengths_have_no_relation(workspace, key):
    groups = load_groups(workspace, ["a_s0", "b_s0"])
    groups[0].summaries[0][key] = "another"
    with pytest.raises(ConfigError, match=f"Cannot compare `a_s0` with `b`: its `{key}`"):
        comparison(groups, baseline="b")


def settings(cache, schedule="hit-rate", agent="posterior-q"):
    return {"agent": agent, "cache": {"mode": cache}, "posterior": {"schedule": schedule}}


def test_caches_that_differ_in_tau_because_it_follows_the_hit_rate_are_told():
    told = temperature_note([("a", settings("off")), ("b", settings("lru"))])
    assert told is not None
    assert told.startswith("τ followed the hit rate in a, b: ")
    one = temperature_note([("a", settings("off", "constant")), ("b", settings("lru"))])
    assert one is not None
    assert "in b: " in one


@pytest.mark.parametrize(
    "runs",
    [
        [settings("off", "constant"), settings("lru", "constant")],
        [settings("lru"), settings("lru")],
        [settings("lru"), settings("off", agent="dqn")],
        [settings("lru"), {"algorithm": "cql"}, {}],
    ],
)
def test_where_tau_is_the_same_or_the_cache_is_nothing_is_told(runs):
    assert temperature_note((str(number), run) for number, run in enumerate(runs)) is None
