"""`cep bench cache`: what is timed is what it says, all take turns, the extra is optional."""

import json
import sys
from contextlib import nullcontext

import numpy as np
import pytest

from cepcli.bench import cache as module
from cepcli.bench.cache import _contenders, _FullCache, _median_micros, bench_cache

OURS = ("lookup_posterior_us", "exact_posterior_us", "lookup_us", "insert_us", "evict_us")
NAMES = (*OURS, "gate_us", "audit_us", "matvec_us", "dict_us")


@pytest.fixture
def no_gptcache(monkeypatch):
    monkeypatch.setattr(module, "gptcache_lookup", lambda keys: nullcontext())
    monkeypatch.setattr("cepcli.bench.gptcache.gptcache_is_installed", lambda: False)


@pytest.fixture
def no_llm(monkeypatch):
    monkeypatch.setattr(module, "_llm_ms", lambda actions: 123.0)


def command(monkeypatch, *flags):
    monkeypatch.setattr(
        "cepcli.cli.heartbeat.FIRST_SECONDS", 1e9
    )  # a slow machine is no other output
    """The exit code of `cep bench cache`, of small caches."""
    from cepcli.cli.main import main

    monkeypatch.setattr("cepcli.cli.heartbeat.FIRST_SECONDS", 1e9)  # slow machines say no more
    monkeypatch.setattr(sys, "argv", ["cep", "bench", "cache", "--capacities", "1,20", *flags])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code


@pytest.mark.slow
def test_every_capacity_is_measured(no_gptcache):
    result = bench_cache((1, 20), dim=8, actions=3, repeats=5)
    for name in NAMES:
        assert set(result[name]) == {"1", "20"}, name
        assert all(micros > 0 for micros in result[name].values())
    assert result["gptcache_us"] == result["gptcache_ratio"] == {}
    for k, ratio in result["matvec_ratio"].items():
        assert ratio == pytest.approx(result["lookup_us"][k] / result["matvec_us"][k], abs=0.01)
    assert result["llm_ms"] > 1.0, "no language model answers within a millisecond"
    assert (result["dim"], result["actions"], result["repeats"]) == (8, 3, 5)


def test_gptcache_is_asked_for_our_keys_up_to_its_limit(no_llm, monkeypatch):
    monkeypatch.setattr(module, "MOST_IN_GPTCACHE", 5)
    rows = []

    def stand_in(keys):
        return nullcontext(lambda key: rows.append((keys == key).all(1).argmax()) or rows[-1])

    monkeypatch.setattr(module, "gptcache_lookup", stand_in)
    result = bench_cache((5, 6), dim=8, actions=3, repeats=50)
    assert set(rows) == set(range(5))
    assert set(result["gptcache_us"]) == set(result["gptcache_ratio"]) == {"5"}
    ratio = result["gptcache_us"]["5"] / result["lookup_us"]["5"]
    assert result["gptcache_ratio"]["5"] == pytest.approx(ratio, abs=0.01)


def test_each_contender_does_what_its_name_says():
    cache = _FullCache(7, 8, 3, seed=0)
    done = _contenders(cache, None)
    expected = {"semantic": 0, "exact": 0, "audit": 0, "miss": 0, "partial": 0}
    kinds = {"lookup_posterior": "semantic", "exact_posterior": "exact", "audit": "audit"}
    for number in range(30):  # every entry is replaced several times
        for name, call in done.items():
            before = set(cache.entries())
            assert call(number) > 0
            after = set(cache.entries())
            assert len(after) == 7
            renewed = {"insert": 1, "evict": 1, "audit": 1}.get(name, 0)
            assert (len(after - before), len(before - after)) == (renewed, renewed), name
            if name in kinds:
                expected[kinds[name]] += 1
            assert {kind: cache.counted(kind) for kind in expected} == expected, name


def test_an_eviction_is_timed_without_the_insertion_that_fills_the_gap(monkeypatch):
    cache = _FullCache(7, 8, 3, seed=0)
    clock = iter(range(100))
    monkeypatch.setattr(module, "perf_counter", lambda: next(clock))
    assert cache.evict(0) == 1
    assert len(cache.entries()) == 7


def test_an_eviction_leaves_a_gap_before_it_is_filled(monkeypatch):
    cache = _FullCache(7, 8, 3, seed=0)
    left = []
    monkeypatch.setattr(cache, "insert", lambda number: left.append(len(cache.entries())))
    cache.evict(0)
    assert left == [6]


def test_the_first_round_only_warms_up():
    seconds = [9.0, 2e-6]
    assert _median_micros({"one": lambda number: seconds[number]}, 1, 60.0) == {"one": 2.0}


def test_contenders_take_turns_in_blocks():
    calls = []

    def contender(name, seconds):
        return lambda number: calls.append((name, number)) or seconds

    slow, fast = contender("slow", 3e-6), contender("fast", 1e-6)
    assert _median_micros({"slow": slow, "fast": fast}, 60, 60.0) == {"slow": 3.0, "fast": 1.0}
    assert calls[:6] == [(name, number) for name in ("slow", "fast") for number in range(3)]
    assert len(calls) == 2 * 3 * 21


def test_a_slow_contender_is_called_less_often():
    calls = []
    micros = _median_micros({"slow": lambda number: calls.append(number) or 1.0}, 1000, 0.0)
    assert (len(calls), micros) == (21, {"slow": 1e6})


def test_keys_are_unit_and_distinct():
    keys = module._keys(200, 16, np.random.default_rng(0))
    assert keys.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1.0, rtol=1e-5)
    assert np.triu(keys @ keys.T, 1).max() < 1.0 - 1e-5


def test_without_the_extra_the_command_says_how_to_get_it(monkeypatch, capsys, no_gptcache, no_llm):
    assert command(monkeypatch, "--json") == 0
    shown = capsys.readouterr()
    assert shown.err == "To compare with GPTCache: pip install 'cepcli[bench]'\n"
    assert json.loads(shown.out)["gptcache_ratio"] == {}


def test_the_tables_have_a_row_per_capacity(monkeypatch, capsys, no_llm):
    monkeypatch.setattr(module, "MOST_IN_GPTCACHE", 1)
    monkeypatch.setattr(module, "gptcache_lookup", lambda keys: nullcontext(lambda key: 0))
    monkeypatch.setattr("cepcli.bench.gptcache.gptcache_is_installed", lambda: True)
    assert command(monkeypatch) == 0
    shown = capsys.readouterr()
    cells = [line.split("│")[1:-1] for line in shown.out.splitlines() if "│" in line]
    assert [row[0].strip() for row in cells] == ["1", "20", "1", "20"]
    assert [len(row) for row in cells] == [8, 8, 7, 7]
    assert [bool(row[4].strip()) for row in cells[2:]] == [True, False]
    assert all(f"┃ {name} " in shown.out for name in ("audit", "semantic hit", "GPTCache/look-up"))
    assert "GPTCache was filled with up to 1 entries" in shown.out
    assert "LLM for the same decision: 123 ms" in shown.out
    assert shown.err == ""
