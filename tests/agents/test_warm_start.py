"""Runs that start from a saved cache."""

import json
import shutil

import pytest

from cepcli.cache.disk.storage import HEAD, read
from cepcli.errors import ArtifactError, CacheError, ConfigError, Interrupted
from cepcli.workspace.artifacts import sha256
from tests.killed import killed
from tests.runs.test_online import metrics, timeless

LATER = [pytest.param(mode, marks=pytest.mark.slow) for mode in ("exact", "lru")]
#: τ must not follow the hit rate where decisions are compared.
STEADY = {"posterior.schedule": "constant"}


@pytest.fixture
def warm(corridor, tmp_path, made_once):
    """The directory of a certified cache with a head, which a run has left."""
    first = tmp_path / "first"
    certified = {"cache.mode": "certified"}
    made_once("warm", first, lambda: corridor.run(first, "a", seed=5, **certified))
    return first / "run/a/cache"


def content(directory):
    return {path: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("mode", [*LATER, "certified"])
def test_a_warm_run_asks_less_and_counts_only_what_it_asked(corridor, tmp_path, warm, mode):
    before = content(warm)
    flags = {"cache.mode": mode, "cache.threshold": 1.0, **STEADY}
    cold = corridor.run(tmp_path / "cold", "a", **flags)
    begun = corridor.run(tmp_path / "warm", "a", **flags, **{"cache.start": str(warm)})
    assert begun["decisions_sha256"] == cold["decisions_sha256"]
    assert (cold["warm_entries"], begun["warm_entries"]) == (0, 4)
    assert begun["queries"]["total"] < cold["queries"]["total"] == 4
    assert begun["queries"]["total"] + sum(begun["hits"].values()) == begun["decisions"]
    assert begun["llm_seconds_recorded"] == 0.25 * begun["queries"]["total"]
    assert content(warm) == before
    manifest = json.loads((tmp_path / "warm/run/a/manifest.json").read_text())
    kept = {"kind": "cache", "name": str(warm), "sha256": sha256(warm / HEAD)}
    assert manifest["inputs"] == [kept]


def test_a_run_is_named_as_well_as_a_directory(corridor, tmp_path):
    corridor.run(tmp_path, "a", **{"cache.mode": "exact"})
    begun = corridor.run(tmp_path, "b", **{"cache.mode": "lru", "cache.start": "a"})
    assert (begun["warm_entries"], begun["queries"]["misses"]) == (4, 0)


def test_the_head_of_the_start_is_adopted_where_it_fits(corridor, tmp_path, warm):
    flags = {"cache.mode": "certified", "cache.start": str(warm)}
    corridor.run(tmp_path, "same", steps=5, **flags)
    assert read(tmp_path / "run/same/cache").namespace == read(warm).namespace
    corridor.run(tmp_path, "other", steps=5, **flags, **{"cache.encoder": "hash"})
    assert read(tmp_path / "run/other/cache").namespace != read(warm).namespace


def test_a_killed_run_goes_on_without_the_cache_it_started_from(corridor, tmp_path, warm):
    start = {"cache.mode": "certified", "cache.start": str(warm)}
    whole = corridor.run(tmp_path / "whole", "a", **start)
    root = tmp_path / "killed"
    killed(corridor.main, root, "a", "posterior-q", "certified", 47, str(warm))
    shutil.rmtree(warm)
    resumed = corridor.run(root, "a", resume=True, **start)
    assert timeless(resumed) == timeless(whole)
    assert resumed["warm_entries"] == 4
    assert metrics(root, "a") == metrics(tmp_path / "whole", "a")
    manifests = [json.loads((r / "run/a/manifest.json").read_text())["inputs"]
                 for r in (root, tmp_path / "whole")]  # fmt: skip
    assert manifests[0] == manifests[1] != []


@pytest.mark.slow
def test_a_run_resumed_before_its_first_checkpoint_starts_from_the_cache_again(
    corridor, tmp_path, warm, monkeypatch
):
    from cepcli.runs.online import OnlineRun

    start = {"cache.mode": "lru", "cache.start": str(warm)}
    whole = corridor.run(tmp_path / "whole", "a", **start)

    def killed(run, progress, tau):
        raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr(OnlineRun, "_text_step", killed)
        with pytest.raises(SystemExit):
            corridor.run(tmp_path / "w", "a", **start)
    assert timeless(corridor.run(tmp_path / "w", "a", resume=True, **start)) == timeless(whole)


def refused(corridor, root, error, match, start, **flags):
    flags = {"cache.mode": "exact", "cache.start": str(start), **flags}
    with pytest.raises(error, match=match):
        corridor.run(root, "a", **flags)
    assert not list(root.glob("run/a*"))


def test_what_cannot_be_started_from_leaves_nothing_behind(corridor, tmp_path, warm):
    root = tmp_path / "w"
    refused(corridor, root, CacheError, "no prior cache", tmp_path / "nowhere")
    refused(corridor, root, ArtifactError, "no run `nobody`", "nobody")
    refused(corridor, root, ConfigError, "its cache off", warm, **{"cache.mode": "off"})
    refused(corridor, root, ConfigError, "prior is `uniform`", warm, agent="dqn")
    head = json.loads((warm / HEAD).read_text())
    head["namespace"]["scorer"]["model"] = "other"
    (warm / HEAD).write_text(json.dumps(head))
    refused(corridor, root, CacheError, r"model=other.*model=hash.*differ in model\.", warm)
    (warm / HEAD).write_text(json.dumps({**head, "schema_version": 9}))
    refused(corridor, root, CacheError, "schema version 9", warm)
    (warm / HEAD).write_text(json.dumps(head)[:200])
    refused(corridor, root, CacheError, "not complete JSON", warm)
    (warm / HEAD).write_text(json.dumps(head))
    entries = warm / head["files"]["entries"]["file"]
    entries.write_bytes(entries.read_bytes()[:100])
    refused(corridor, root, CacheError, "truncated", warm)
    entries.unlink()
    refused(corridor, root, CacheError, "Cannot read", warm)


def test_a_start_that_fails_replaces_no_finished_run(corridor, tmp_path):
    first = corridor.run(tmp_path, "a")
    with pytest.raises(CacheError):
        corridor.run(tmp_path, "a", overwrite=True, **{"cache.start": "no/where"})
    assert corridor.run(tmp_path, "a", resume=True) == first


def test_resuming_with_another_start_names_the_difference(corridor, tmp_path, warm):
    with pytest.raises(Interrupted):
        corridor.run(tmp_path, "a", stop=iter([False] * 40 + [True] * 9).__next__)
    with pytest.raises(ArtifactError, match=r"cache\.start = None"):
        corridor.run(tmp_path, "a", resume=True, **{"cache.start": str(warm)})
