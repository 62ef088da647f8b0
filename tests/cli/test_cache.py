"""`cep cache`: finds a run's cache, shows it, and names what is wrong with one."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cepcli.cache.config import CacheConfig
from cepcli.cache.disk import storage
from cepcli.cache.store import PriorCache
from cepcli.cli.cache import app
from cepcli.errors import ArtifactError, CacheError
from tests.fakes import NAMESPACE


@pytest.fixture
def cache():
    filled = PriorCache(CacheConfig(mode="lru"), 3, NAMESPACE)
    for number in range(3):
        key = np.eye(3, dtype=np.float32)[number]
        scores = {"click[buy]": -1.0 - number, "go": -1.5}
        filled.insert(f"goal {number % 2}", f"text {number}", key, scores)
    entry = filled.exact("goal 0", "text 0")
    assert entry is not None
    filled.use(entry)
    return filled


@pytest.fixture
def directory(cache, workspace_root):
    path = workspace_root / "run" / "walk.partial" / "cache"
    cache.save(path)
    return path


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_stats_by_path_and_by_the_name_of_an_unfinished_run(directory):
    by_path = json.loads(invoke("stats", directory, "--json"))
    by_name = json.loads(invoke("stats", "walk", "--json"))
    assert by_path == by_name
    assert by_name["entries"] == 3
    assert (by_name["goals"], by_name["scores"], by_name["hits"]) == (2, 6, 1)
    assert by_name["key_dim"] == 3
    assert by_name["model"] == "hash"
    assert by_name["env_family"] == "test"


def test_stats_as_a_table(directory):
    output = invoke("stats", "walk")
    assert "entries" in output
    assert "env_family" in output


def test_the_latest_checkpoint_of_a_run_is_found(cache, workspace_root, tmp_path):
    run = workspace_root / "run" / "walk.partial"
    cache.save(run / "checkpoint-00000100" / "cache")
    cache.insert("goal", "later", np.eye(3, dtype=np.float32)[0], {"go": -1.0})
    cache.save(run / "checkpoint-00000200" / "cache")
    cache.insert("goal", "unfinished", np.eye(3, dtype=np.float32)[0], {"go": -1.0})
    cache.save(run / "checkpoint-00000300.partial" / "cache")
    assert json.loads(invoke("stats", "walk", "--json"))["entries"] == 4
    workspace = run.parent.parent
    output = invoke("stats", "walk", "--workspace", workspace, "--json")
    assert json.loads(output)["entries"] == 4


def test_inspect_shows_entries_last_used_first(directory):
    shown = json.loads(invoke("inspect", "walk", "--json"))
    assert [e["text"] for e in shown["entries"]] == ["text 0", "text 2", "text 1"]
    assert shown["matching"] == 3
    output = invoke("inspect", directory)
    assert "click[buy]" in output
    assert output.index("text 0") < output.index("text 2") < output.index("text 1")


@pytest.mark.parametrize(
    ("options", "texts", "matching"),
    [
        (("--goal", "goal 0"), ["text 0", "text 2"], 2),
        (("--text", "2"), ["text 2"], 1),
        (("--limit", "1"), ["text 0"], 3),
        (("--goal", "elsewhere"), [], 0),
    ],
)
def test_inspect_selects(directory, options, texts, matching):
    shown = json.loads(invoke("inspect", "walk", *options, "--json"))
    assert [e["text"] for e in shown["entries"]] == texts
    assert shown["matching"] == matching


def test_verify_says_that_a_cache_is_sound(directory):
    assert "3 entries, sound" in invoke("verify", "walk")
    assert json.loads(invoke("verify", "walk", "--json"))["defects"] == []


def test_an_exact_cache_without_keys_is_sound(workspace_root):
    cache = PriorCache(CacheConfig(mode="exact"), 3, NAMESPACE)
    cache.insert("goal", "text", None, {"go": -1.0})
    cache.save(workspace_root / "run" / "memo.partial" / "cache")
    assert "1 entries, sound" in invoke("verify", "memo")
    assert json.loads(invoke("stats", "memo", "--json"))["key_dim"] is None


def damage_key(saved):
    saved.keys[1] *= 1.5


def damage_nan_key(saved):
    saved.keys[1, 0] = np.nan


DAMAGES = [
    (damage_key, "key of entry 1 has norm 1.5"),
    (damage_nan_key, "key of entry 1 has norm nan"),
    (lambda s: s.entries[0].update(text="swapped"), "hash that is not"),
    (lambda s: s.entries[0].update(scores={}), "no scores"),
    (lambda s: s.entries[0]["scores"].update(go=float("nan")), "scores `go` as nan"),
    (lambda s: s.entries[0].update(slot=2), "same slot"),
    (lambda s: s.entries[0].update(slot=9), "Slot 9 is not below"),
    (lambda s: s.entries.reverse(), "order of their last use"),
    (lambda s: s.state.update(clock=0), "later than the cache's clock"),
    (lambda s: s.entries.pop(), "3 keys, expected 2"),
    (lambda s: s.entries[0].update(s.entries[1]), "same goal and text"),
]


@pytest.mark.parametrize(("damage", "what"), DAMAGES)
def test_verify_names_every_defect(directory, damage, what):
    saved = storage.read(directory)
    damage(saved)
    assert any(what in defect for defect in storage.defects(saved))
    storage.write(directory, saved)
    with pytest.raises(CacheError, match="unsound"):
        invoke("verify", "walk")


def test_an_unsound_cache_exits_with_2_and_names_the_defect(directory, monkeypatch, capsys):
    from cepcli.cli.main import main

    saved = storage.read(directory)
    damage_key(saved)
    storage.write(directory, saved)
    monkeypatch.setattr("sys.argv", ["cep", "cache", "verify", "walk", "--json"])
    with pytest.raises(SystemExit) as exit_:
        main()
    captured = capsys.readouterr()
    assert exit_.value.code == 2
    assert "norm 1.5" in captured.err
    assert "norm 1.5" in json.loads(captured.out)["defects"][0]


@pytest.mark.parametrize("command", ["stats", "inspect", "verify"])
def test_a_truncated_cache_is_named(directory, command):
    (keys,) = directory.glob("keys-*.npz")
    keys.write_bytes(keys.read_bytes()[:-5])
    with pytest.raises(CacheError, match="truncated"):
        invoke(command, "walk")


@pytest.mark.parametrize("command", ["stats", "inspect", "verify"])
def test_what_does_not_exist_is_said(workspace_root, command):
    with pytest.raises(ArtifactError, match="no run `nowhere`"):
        invoke(command, "nowhere")
    with pytest.raises(CacheError, match="no prior cache in"):
        invoke(command, "some/where")
    (workspace_root / "run" / "early.partial").mkdir(parents=True)
    with pytest.raises(CacheError, match="has no prior cache"):
        invoke(command, "early")
