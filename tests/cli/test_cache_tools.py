import signal

import numpy as np
import pytest
from pyarrow import parquet

from cepcli.cache.replay.heads import train_on
from cepcli.errors import CacheError
from cepcli.keys.config import HeadConfig
from cepcli.keys.hashing import HashEncoder
from cepcli.keys.key_encoder import KeyEncoder
from tests.cache.worlds import trace_of
from tests.cli.test_train import train

__all__ = ["train"]


@pytest.fixture
def traced(train, made_once, workspace_root):
    """A run with a fresh score for every decision."""

    def make():
        done = train("--name", "t", "--cache", "off", "--trace")
        assert done.code == 0, done.err

    made_once("traced", workspace_root, make)
    return "t_s0"


def test_replay_gives_a_row_per_setting_and_a_picture(traced, cep, tmp_path):
    picture = tmp_path / "p.png"
    done = cep(
        "cache", "replay", traced, "--cache", "off,exact,lru", "--threshold", "0.5,0.99",
        "--capacity", "3,100", "--encoder", "hash", "-o", picture, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = done.json["rows"]
    settings = [(row["cache"], row["capacity"], row["threshold"]) for row in rows]
    assert settings == [
        ("off", 3, 0.995), ("off", 100, 0.995), ("exact", 3, 0.995), ("exact", 100, 0.995),
        ("lru", 3, 0.5), ("lru", 3, 0.99), ("lru", 100, 0.5), ("lru", 100, 0.99),
    ]  # fmt: skip
    assert {row["decisions"] for row in rows} == {60}
    queries = {s: row["queries_per_decision"] for s, row in zip(settings, rows, strict=True)}
    assert queries["off", 3, 0.995] == 1.0
    assert queries["exact", 100, 0.995] < 1.0
    assert queries["lru", 100, 0.5] <= queries["lru", 100, 0.99]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "queries/decision" in cep("cache", "replay", traced, "-o", picture).out
    elsewhere = tmp_path / "new" / "p.png"
    assert cep("cache", "replay", traced, "-o", elsewhere).code == 0
    assert elsewhere.is_file()


def test_a_replay_shows_what_the_gate_costs(traced, cep):
    flags = ("--cache", "exact,lru,certified", "--threshold", "0.5", "--gate", "words,off")
    rows = cep("cache", "replay", traced, *flags, "--json").json["rows"]
    assert [(row["cache"], row["gate"]) for row in rows] == [
        ("exact", None), ("lru", "words"), ("lru", "off"), ("certified", None),
    ]  # fmt: skip
    exact, gated, plain, _ = (row["queries_per_decision"] for row in rows)
    assert exact >= gated >= plain
    assert exact > plain
    done = cep("cache", "replay", traced, "--gate", "word")
    assert done.code == 2
    assert "gate" in done.err


def test_a_replay_that_would_start_from_a_cache_is_refused(traced, cep):
    done = cep("cache", "replay", traced, "--set", "start=elsewhere")
    assert done.code == 2
    assert "starts with an empty cache" in done.err


def test_what_makes_no_difference_to_a_mode_gives_no_further_row(traced, cep):
    flags = ("--cache", "exact,lru,certified", "--threshold", "0.5,0.9")
    rows = cep("cache", "replay", traced, *flags, "--json").json["rows"]
    assert [row["cache"] for row in rows] == ["exact", "lru", "lru", "certified"]


def test_a_controller_moves_the_parameters_of_a_cache_that_keeps_its_eviction(traced, cep):
    flags = ("--cache", "exact,lru,fifo", "--controller", "fixed,certified,surrogate")
    rows = cep("cache", "replay", traced, *flags, "--json").json["rows"]
    assert [(row["cache"], row["eviction"]) for row in rows] == [
        ("exact", "lru"),
        ("lru", "lru"), ("certified", "lru"), ("surrogate", "lru"),
        ("fifo", "fifo"), ("certified", "fifo"), ("surrogate", "fifo"),
    ]  # fmt: skip
    given = ("--cache", "fifo", "--eviction", "lfu", "--controller", "certified")
    (row,) = cep("cache", "replay", traced, *given, "--json").json["rows"]
    assert (row["cache"], row["eviction"]) == ("certified", "lfu")


@pytest.mark.parametrize("drift", ["none", "states", "answers"])
def test_resampled_runs_judge_every_setting(traced, cep, drift):
    flags = ("--cache", "exact,lru,certified", "--threshold", "0.5", "--encoder", "hash")
    judged = ("cache", "replay", traced, *flags, "--drift", drift, "--resample", "3")
    rows = cep(*judged, "--json").json["rows"]
    assert [(row["cache"], row["runs"]) for row in rows] == [
        ("exact", 3), ("lru", 3), ("certified", 3)
    ]  # fmt: skip
    assert all(0 <= row["kept_low"] <= row["kept"] <= row["kept_high"] <= 1 for row in rows)
    done = cep(*judged)
    assert (done.code, "1/3 settings, 3 runs each" in done.err) == (0, True)
    assert f"3 runs of test/corridor, drift {drift}; kept: at most 10%" in done.out
    assert done.out.count("kept by bound") == 1
    assert cep(*judged, "--json").json["rows"] == rows


def test_a_resampled_replay_that_a_signal_ended_goes_on(traced, cep, workspace_root, monkeypatch):
    from cepcli.cache.replay import resample as resampling

    judged = ("cache", "replay", traced, "--cache", "lru", "--encoder", "hash", "--resample", "4")
    whole = cep(*judged, "--json").json["rows"]
    real, played = resampling._figures, []

    def ended(*given):
        if len(played) == 2:
            signal.raise_signal(signal.SIGTERM)
        played.append(given[-1])
        return real(*given)

    monkeypatch.setattr(resampling, "_figures", ended)
    done = cep(*judged)
    assert done.code == 143
    kept = "The runs so far are saved; type the same command again to go on."
    assert f"cep: interrupted. {kept}" in done.err
    assert len(list((workspace_root / "replays").iterdir())) == 1
    played.append("the signal")
    again = cep(*judged, "--json")
    assert again.json["rows"] == whole
    assert "2 of 4 runs were played before" in again.err
    assert played == [0, 1, "the signal", 2, 3]
    assert list((workspace_root / "replays").iterdir()) == []


def test_a_drift_is_replayed_without_resampling_too(traced, cep):
    flags = ("--cache", "lru", "--gate", "off", "--threshold", "0.3", "--encoder", "hash", "--json")
    calm = cep("cache", "replay", traced, *flags).json["rows"][0]
    drifting = cep("cache", "replay", traced, *flags, "--drift", "answers").json["rows"][0]
    assert drifting["hits"] == calm["hits"]
    assert drifting["kl_mean"] != calm["kl_mean"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--cache", "lruu"), "lru"),
        (("--controller", "certifed"), "certified"),
        (("--drift", "answer"), "answers"),
        (("--jobs", "2"), "`--resample`"),
        (("--resample", "2", "-o", "p.png"), "no picture"),
        (("--threshold", "high"), "expected numbers"),
        (("--capacity", "0"), "cache.capacity is 0, expected ≥ 1"),
        (("--threshold", "1.5"), "cache.threshold is 1.5, expected in [-1, 1]"),
        (("--cache", "certified", "--set", "certified.kappa=0"), "kappa"),
        (("--cache", "certified", "--set", "certified.alpha=1"), "alpha"),
        (("--cache", "lru", "--encoder", "hsh"), "hash"),
    ],
)
def test_settings_that_cannot_be_are_named(traced, cep, flags, said):
    done = cep("cache", "replay", traced, *flags)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_run_without_a_trace_says_how_to_record_one(train, cep):
    train("--name", "r")
    done = cep("cache", "replay", "r_s0")
    assert done.code == 2
    assert "--trace" in done.err


def test_a_killed_trace_goes_on_as_one_never_killed(train, cep, workspace_root, monkeypatch):
    from cepcli.runs.online import OnlineRun

    real = OnlineRun._text_step

    def killed(run, progress, tau):
        if progress.step == 33:
            raise SystemExit(9)
        return real(run, progress, tau)

    train("--name", "whole", "--trace")
    monkeypatch.setattr(OnlineRun, "_text_step", killed)
    assert train("--name", "cut", "--trace").code == 9
    monkeypatch.setattr(OnlineRun, "_text_step", real)
    assert cep("runs", "resume", "cut_s0").code == 0
    traces = [workspace_root / "run" / name / "trace.jsonl" for name in ("whole_s0", "cut_s0")]
    assert traces[0].read_bytes() == traces[1].read_bytes()


def test_a_head_lowers_the_lipschitz_constant_on_texts_it_has_not_seen():
    """Texts whose score hangs on one word of many: a head learns which one."""
    random = np.random.default_rng(0)
    colours, sides = ("red", "blue", "green", "grey"), ("left", "right")
    texts, scores = [], []
    for _ in range(300):
        noise = " ".join(f"a {colour} box {random.integers(5)} steps ahead." for colour in colours)
        side = sides[random.integers(2)]
        texts.append(f"{noise} the ball is {side}.")
        scores.append([3.0, 0.0, 0.0] if side == "left" else [0.0, 3.0, 0.0])
    trace = trace_of(texts, scores, range(len(texts)))
    head, (raw, learned) = train_on(
        trace, KeyEncoder(HashEncoder(), True), HeadConfig(), pool_goals=False, seed=0
    )
    assert learned["lipschitz_q99"] < 0.8 * raw["lipschitz_q99"]
    assert learned["dim"] == head.dim == 32


def test_a_head_comes_with_the_settings_that_use_it(cep, tmp_path, monkeypatch):
    from cepcli.agents.config import TrainConfig
    from cepcli.cache import trace
    from cepcli.cache.replay import heads
    from cepcli.config import resolve
    from cepcli.experiments import replaying

    class Found:
        def save(self, path):
            path.write_text("head")

        sha256 = "ab"

    figures = {"keys": "with head", "dim": 2, "lipschitz_q99": 1.0, "hit_rate": 0.5, "key_us": 1.0}
    monkeypatch.setattr(replaying, "find_trace", lambda *given: tmp_path)
    monkeypatch.setattr(trace, "read_trace", lambda path: None)
    for found, written in ((0.97, 0.97), (None, 1.0)):
        rows = [{**figures, "threshold": 0.5}, {**figures, "threshold": found}]
        monkeypatch.setattr(heads, "train_on", lambda *a, rows=rows, **k: (Found(), rows))
        head, settings = tmp_path / "h.safetensors", tmp_path / "s.toml"
        done = cep("cache", "train-head", "t", "-o", head, "--settings", settings, "--goals-apart")
        assert done.code == 0, done.err
        cache = resolve(TrainConfig, file=settings).cache
        assert (cache.threshold, cache.head) == (written, str(head))
        assert (cache.encoder, cache.focus, cache.pool_goals) == ("hash", True, False)


def test_a_trace_with_too_few_texts_trains_no_head():
    trace = trace_of(["a", "b"], [[0.0, 0.0, 0.0]] * 2, [0, 1])
    with pytest.raises(CacheError, match="2 texts with fresh scores"):
        train_on(trace, KeyEncoder(HashEncoder(), True), HeadConfig(), pool_goals=False, seed=0)


def test_caches_are_exported_and_merged(train, cep, tmp_path, workspace_root):
    for seed in (0, 1):
        train("--name", "c", "--cache", "lru", "--seed", seed)
    table = tmp_path / "c.parquet"
    assert cep("cache", "export", "c_s0", "-o", table).code == 0
    entries = cep("cache", "stats", "c_s0", "--json").json["entries"]
    assert parquet.read_table(table).num_rows == entries > 0
    both = tmp_path / "both"
    assert cep("cache", "merge", "c_s0", "c_s1", "-o", both).code == 0
    assert cep("cache", "verify", both).code == 0
    assert cep("cache", "stats", both, "--json").json["entries"] >= entries
    refused = cep("cache", "merge", "c_s0", "c_s1", "-o", both)
    assert (refused.code, "exists already" in refused.err) == (2, True)


def test_the_bound_is_held_by_the_posteriors_of_the_runs_own_learner(train, cep):
    done = train("--name", "t", "--cache", "off", "--trace")
    assert done.code == 0, done.err
    flags = ("--cache", "lru", "--gate", "off", "--threshold", "0.2", "--set", "learn_head=false")
    replayed = cep("cache", "replay", "t_s0", *flags, "--learner", "t_s0")
    assert replayed.code == 0, replayed.err
    hits = cep("cache", "replay", "t_s0", *flags, "--json").json["rows"][0]["semantic_hits"]
    assert hits > 0
    assert f"own Q, of `t_s0`: above span²/8 in 0 of {hits}." in replayed.out
    together = cep("cache", "replay", "t_s0", "--learner", "t_s0", "--resample", "2")
    assert (together.code, "`--resample` asks no learner" in together.err) == (2, True)
    train("--name", "chance", "--agent", "random")
    without = cep("cache", "replay", "t_s0", *flags, "--learner", "chance_s0")
    assert (without.code, "has no Q-function of texts" in without.err) == (2, True)
