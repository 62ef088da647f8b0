import pytest

from cepcli.errors import ConfigError
from cepcli.report.advice import Subject
from cepcli.report.comparison import load_groups
from cepcli.report.warnings import (
    LEAST,
    WARM_UP,
    answer_warnings,
    group_warnings,
    judged,
    performance_warning,
    run_warnings,
    uncached_of,
)
from cepcli.workspace.artifacts import Workspace
from tests.report import stored


def row(exact, *, misses=0, partial=0, audits=0, over=0, **cache):
    """Totals so far; further metrics of the cache by their name."""
    return {
        "step": 1, "cache/hits_exact": exact, "cache/hits_semantic": 0,
        "prior/queries": misses + partial + audits, "cache/misses": misses,
        "cache/partial_hits": partial, "cache/audits": audits, "cache/audits_over_kappa": over,
        "cache/threshold": 0.99, "cache/refresh_rate": 0.3, "cache/entries": 10,
        "cache/capacity": 1000, **{f"cache/{name}": value for name, value in cache.items()},
    }  # fmt: skip


def warn(last, *, mode="lru", first=None, settings=None):
    """Warnings of a run with a row at decision 200 and a last one."""
    rows = [first or row(200), last]
    return answer_warnings(Subject("r_s0", mode, rows, settings or {}, "c.toml"))


def kinds(*rows, **about):
    return [warning.kind for warning in warn(*rows, **about)]


def test_a_cache_that_works_is_not_warned_of():
    assert kinds(row(200 + 75, misses=25)) == []
    assert kinds(row(200 + 65, misses=25, audits=10)) == []


@pytest.mark.parametrize("mode", ["exact", "lru", "fifo", "surrogate", "certified"])
def test_a_low_hit_rate_is_warned_of_in_every_mode(mode):
    [warning] = warn(row(200 + 59, misses=41), mode=mode)
    assert warning.kind == "hit-rate"
    assert "answered 59% of the decisions, less than 60%, over decisions 200 to 300" in warning.seen
    assert warning.command.startswith("cep train --config c.toml --set cache.")
    assert warning.command.endswith(tuple("--name r-" + s for s in ("certified", "looser")))
    assert warning.in_words().count("Likely cause") == 1


def test_asking_every_time_is_no_low_hit_rate():
    assert kinds(row(0, misses=400), mode="off") == []


def test_many_misses_are_warned_of_before_the_hit_rate_is_low():
    assert kinds(row(200 + 74, misses=26)) == ["misses"]
    assert kinds(row(200 + 75, misses=25)) == []


def test_misses_that_account_for_the_hit_rate_are_told_once():
    assert kinds(row(200 + 50, misses=50)) == ["hit-rate"]


def test_misses_and_audits_that_both_lower_the_hit_rate_are_told_apart():
    low, misses = warn(row(200 + 40, misses=29, audits=31))
    assert (low.kind, misses.kind) == ("hit-rate", "misses")
    assert "29% missed, 31% audited" in low.seen
    assert "audited" in low.cause
    assert "cache.refresh_rate=0.15" in low.command
    [low] = warn(row(200 + 50, misses=10, partial=40))
    assert "lack some of the actions" in low.cause


def test_nothing_is_said_while_the_cache_warms_up():
    few = [row(0, misses=n) for n in range(0, WARM_UP + LEAST, 50)]
    assert judged(few) is None
    enough = [*few, row(0, misses=WARM_UP + LEAST)]
    counts, first, last = judged(enough)
    assert (counts.misses, first, last) == (LEAST, WARM_UP, WARM_UP + LEAST)


def test_a_bad_beginning_is_forgotten_in_the_second_half():
    rows = [row(0, misses=500), row(0, misses=600), row(900, misses=600)]
    assert answer_warnings(Subject("r", "lru", rows, {}, "c")) == []
    counts, first, last = judged(rows)
    assert (counts.hits, counts.misses, first, last) == (900, 0, 600, 1500)


def test_the_cause_of_misses_is_what_the_cache_shows():
    def advice(**about):
        mode = about.pop("mode")
        settings = about.pop("settings", {})
        [warning] = warn(row(200, misses=100, **about), mode=mode, settings=settings)
        return warning.cause + " | " + warning.command

    assert "full (1000" in advice(mode="lru", entries=1000)
    assert "cache.capacity=4000" in advice(mode="lru", entries=1000)
    assert "full" not in advice(
        mode="certified", entries=1000, settings={"cache": {"most_capacity": 5000}}
    ), "it makes room itself"
    assert "cache.most_capacity=4000" in advice(
        mode="certified", entries=1000, settings={"cache": {"most_capacity": 1000}}
    )
    assert "identical" in advice(mode="exact")
    assert "no threshold is proven yet" in advice(mode="certified", threshold=None)
    assert "cache.certified.kappa=0.4" in advice(
        mode="certified", settings={"cache": {"certified": {"kappa": 0.2}}}
    )
    assert "δ = 0.99 allows" in advice(mode="certified")
    assert "δ = 0.99 is too strict" in advice(mode="lru")


def test_audits_repeatedly_over_kappa_are_warned_of():
    few, many = row(200 + 90, audits=10, over=2), row(200 + 90, audits=10, over=3)
    assert kinds(few) == []
    [warning] = warn(many)
    assert warning.kind == "kl"
    assert "3 of 10 audits" in warning.seen
    assert "κ = 0.5" in warning.seen
    assert "δ = 0.99" in warning.cause
    assert "cache.mode=certified" in warning.command
    [warning] = warn(many, mode="certified")
    assert "cache.certified.window=5000" in warning.command


def test_the_share_over_kappa_that_is_tolerated_is_no_failure():
    found = row(200 + 900, audits=100, over=10)
    assert kinds(found) == []
    assert kinds(found, settings={"cache": {"certified": {"alpha": 0.05}}}) == ["kl"]


def test_audits_over_kappa_at_the_beginning_are_past():
    first = row(150, audits=50, over=40)
    assert kinds(row(250, audits=60, over=41), first=first) == []


def test_rows_of_an_earlier_version_tell_the_hit_rate_alone():
    old = ("cache/misses", "cache/partial_hits", "cache/audits_over_kappa")
    rows = [
        {key: value for key, value in made.items() if key not in old}
        for made in (row(200), row(250, misses=50, audits=50))
    ]
    [warning] = answer_warnings(Subject("r", "lru", rows, {}, "c"))
    assert warning.kind == "hit-rate"


def test_rows_of_evaluations_are_passed_over():
    assert judged([{"step": 1, "eval/return_mean": 1.0}]) is None


def several(cache, *scores, **about):
    return [stored.summary("r", i, x, cache=cache, **about) for i, x in enumerate(scores)]


def test_a_score_more_than_a_twentieth_below_the_uncached_one_is_warned_of():
    def found(*scores):
        return performance_warning("r", several("lru", *scores), several("off", 1.0, 1.0), "c")

    assert found(0.95, 0.95) is None
    warning = found(0.94, 0.94)
    assert warning.kind == "performance"
    assert "6% below" in warning.seen
    assert "[-6%, -6%]" in warning.seen
    assert warning.command == "cep eval r_s0 --against off --episodes 1000"


def test_a_loss_that_may_be_chance_asks_for_more_seeds():
    one = performance_warning("r_s0", several("lru", 0.5), several("off", 1.0), "c.toml")
    assert "one seed, no interval" in one.seen
    assert one.command == "cep train --config c.toml --seed 1 --seeds 4 --name r"
    wide = performance_warning("r", several("lru", 0.5, 1.1), several("off", 1.0, 0.8), "c.toml")
    assert "chance" in wide.cause
    assert "--seed 2" in wide.command


@pytest.mark.parametrize(
    "other",
    [
        {"cache": "exact"}, {"cache": "off", "queries": 0}, {"cache": "off", "prior": "q"},
        {"cache": "off", "env": "f"}, {"cache": "off", "steps": 7},
    ],
)  # fmt: skip
def test_only_the_same_run_without_a_cache_is_held_against_it(other):
    uncached = [stored.summary("o", 0, 1.0, **other)]
    assert performance_warning("r", several("lru", 0.1), uncached, "c") is None


def test_a_run_without_a_cache_has_lost_nothing_by_one():
    assert performance_warning("r", several("off", 0.1), several("off", 1.0), "c") is None


@pytest.fixture
def space(tmp_path):
    found = Workspace(tmp_path / "w")
    rows = [row(200), row(250, misses=50)]
    for seed in range(2):
        stored.finished(found, "x-lru", seed, 0.5, rows=rows)
        stored.finished(found, "x-off", seed, 1.0, cache="off")
    return found


def test_a_run_is_held_against_the_one_called_the_same_without_a_cache(space):
    assert [warning.kind for warning in run_warnings(space, "x-lru_s0")] == [
        "hit-rate", "performance",
    ]  # fmt: skip
    assert run_warnings(space, "x-off_s0") == []
    assert uncached_of(space, "x-lru_s0", "lru")["run"] == "x-off_s0"
    assert uncached_of(space, "xlru_s0", "lru") is None
    assert uncached_of(space, "x-lru_s9", "lru") is None


def test_a_run_that_differs_in_more_than_its_cache_is_refused(space):
    stored.finished(space, "y-off", 0, 1.0, cache="off", prior="q")
    with pytest.raises(
        ConfigError, match="`y-off_s0` is not `x-lru_s0` without its cache"
    ) as error:
        run_warnings(space, "x-lru_s0", "y-off_s0")
    assert "--set cache.mode=off" in error.value.hint
    assert len(run_warnings(space, "x-lru_s0", "x-off_s1")) == 2


def test_a_group_is_warned_of_once_for_all_its_seeds(space):
    lru, off = load_groups(space, ["*"])
    rate, score = group_warnings(space, lru, off)
    assert (rate.run, score.run) == ("x-lru", "x-lru")
    assert "2 of 2 seeds" in rate.seen
    assert "[-50%, -50%]" in score.seen
    assert group_warnings(space, off, lru) == []
