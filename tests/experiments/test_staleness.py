from dataclasses import replace

import pytest

from cepcli.cache.disk import storage
from cepcli.errors import CacheError, ConfigError
from cepcli.experiments import staleness as module
from cepcli.experiments.staleness import staleness
from cepcli.workspace.artifacts import Workspace


@pytest.fixture
def space(tmp_path, corridor, made_once):
    def run(name, mode, **flags):
        own = {"steps": 80, "trace": True, "cache.mode": mode, "cache.gate": "off", **flags}
        return corridor.run(tmp_path, name, **own)

    made_once("off", tmp_path, lambda: run("off", "off"))
    return Workspace(tmp_path), run


def test_the_cache_is_filled_again_as_it_was_and_told_apart_over_time(space):
    space, run = space
    summary = run("lru", "lru")
    found = staleness(space, "lru", states_of="off", points=4, episodes=4)
    assert [row["case"] for row in found["rows"]] == [
        "25% of training", "50% of training", "75% of training", "100% of training"
    ]  # fmt: skip
    assert [row["decisions"] for row in found["rows"]] == [20, 40, 60, 80]
    last = found["rows"][-1]
    assert last["audits"] == summary["queries"]["audits"] > 0
    assert last["audits_over_budget"] <= last["audits"]
    saved = storage.read(space.open("run", "lru").path / "cache")
    assert last["entries"] == len(saved.entries)
    for row in found["rows"]:
        assert 0 <= row["exact"] + row["semantic"] <= 1
        assert (row["kl_mean"] is None) == (row["semantic"] == 0)
    assert found["states"] > 0


def test_without_audits_nothing_of_it_is_repaired(space):
    space, run = space
    run("lru", "lru", **{"cache.refresh_rate": 0.0})
    found = staleness(space, "lru", states_of="off", episodes=4)
    assert all(row["kl_mean"] == row["kl_mean_unaudited"] for row in found["rows"])
    assert all(row["audits"] == 0 for row in found["rows"])


def test_audits_are_taken_away_where_they_are_not_part_of_the_mode(space):
    space, run = space
    run("audited", "lru", **{"cache.refresh_rate": 1.0, "cache.threshold": -1.0})
    rows = staleness(space, "audited", states_of="off", episodes=4)["rows"]
    assert rows[-1]["exact"] > rows[-1]["semantic"]  # every text that came was asked about
    assert rows[-1]["kl_mean_unaudited"] > 0  # one text answers for all
    run("certified", "certified")
    rows = staleness(space, "certified", episodes=4)["rows"]
    assert all(row["kl_mean_unaudited"] is None for row in rows)


def test_only_identical_texts_are_never_wrong(space):
    space, run = space
    run("strict", "lru", **{"cache.threshold": 1.0})
    rows = staleness(space, "strict", states_of="off", episodes=4)["rows"]
    assert all(row["semantic"] == 0 and row["kl_mean"] is None for row in rows)
    assert all(row["kl_p95"] is row["over_budget"] is None for row in rows)


def test_answers_that_differ_from_those_of_then_are_refused(space, monkeypatch):
    space, run = space
    run("lru", "lru")
    read = module.read_trace

    def altered(path):
        trace = read(path)
        trace.decisions[7] = replace(trace.decisions[7], kind="partial")
        return trace

    monkeypatch.setattr(module, "read_trace", altered)
    with pytest.raises(
        CacheError, match="Decision 8 of `lru` was answered by a partial hit"
    ) as told:
        staleness(space, "lru", episodes=2)
    settings = space.open("run", "lru").path / "config.toml"
    assert told.value.hint == (
        f"Make the run again: cep train --config {settings} --name lru --trace --overwrite"
        f"{space.option}"
    )


@pytest.mark.parametrize(
    ("mode", "said"), [("surrogate", "training signals moved"), ("exact", "compares texts")]
)
def test_a_cache_that_cannot_be_made_again_is_named(space, mode, said):
    space, run = space
    run("other", mode)
    with pytest.raises(ConfigError, match=said):
        staleness(space, "other")
