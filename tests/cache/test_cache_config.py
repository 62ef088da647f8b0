import dataclasses
import subprocess
import sys

import pytest

from cepcli.cache.config import CacheConfig, Knobs, is_keyed
from cepcli.config import resolve
from cepcli.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mode", "semantic"),
        ("capacity", 0),
        ("threshold", 1.01),
        ("threshold", -1.01),
        ("threshold", float("nan")),
        ("refresh_rate", -0.1),
        ("refresh_rate", 1.1),
        ("hit_rate_decay", 0.0),
        ("hit_rate_decay", 1.0),
        ("eviction", "random"),
        ("index", "tree"),
        ("audit_penalty", -0.1),
        ("audit_penalty", float("nan")),
        ("audit_penalty", float("inf")),
        ("control_interval", 0),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=rf"\b{key}\b"):
        resolve(CacheConfig, flags={key: value})


def test_a_window_too_short_to_certify_anything_is_refused():
    with pytest.raises(ConfigError, match=r"certified\.window is 399, expected ≥ 400"):
        resolve(CacheConfig, overrides=["certified.window=399"])
    assert resolve(CacheConfig, overrides=["certified.window=400"]).certified.window == 400


MODES = ["off", "exact", "lru", "fifo", "surrogate", "certified"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_the_bounds_themselves_are_accepted(mode):
    top = CacheConfig(mode=mode, capacity=1, threshold=1.0, refresh_rate=1.0)
    bottom = CacheConfig(mode=mode, threshold=-1.0, refresh_rate=0.0)
    assert (top.mode, top.capacity, bottom.threshold) == (mode, 1, -1.0)


@pytest.mark.parametrize("mode", MODES)
def test_only_modes_that_compare_texts_have_keys(mode):
    assert CacheConfig(mode=mode).keyed is (mode not in ("off", "exact"))
    assert is_keyed(mode) is CacheConfig(mode=mode).keyed


def test_the_eviction_policy_follows_the_mode_unless_it_is_given():
    policies = {mode: CacheConfig(mode=mode).policy for mode in MODES}
    expected = dict.fromkeys(MODES, "lru") | {"fifo": "fifo", "certified": "utility"}
    assert policies == expected
    assert all(CacheConfig(mode=mode, eviction="lfu").policy == "lfu" for mode in MODES)


def test_knobs_are_the_configured_ones_but_certified_starts_without_similar_texts():
    assert CacheConfig(mode="lru", capacity=5, threshold=0.9, refresh_rate=0.1).knobs == Knobs(
        5, 0.9, 0.1
    )
    assert CacheConfig(mode="surrogate", threshold=0.9).knobs.threshold == 0.9
    assert CacheConfig(mode="certified", threshold=0.9).knobs.threshold is None


def test_only_a_controller_may_go_beyond_the_capacity_and_never_starts_beyond_its_limit():
    assert CacheConfig(mode="lru", capacity=10, most_capacity=5).limit == 10
    assert CacheConfig(mode="certified", capacity=10, most_capacity=50).limit == 50
    for mode in ("surrogate", "certified"):
        with pytest.raises(ConfigError, match="`most_capacity` is 5, expected at least"):
            CacheConfig(mode=mode, capacity=10, most_capacity=5)


def test_every_field_explains_itself():
    assert all(field.metadata["help"] for field in dataclasses.fields(CacheConfig))


def test_the_configuration_loads_no_torch():
    code = "import sys, cepcli.cache.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
