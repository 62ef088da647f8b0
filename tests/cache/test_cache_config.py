import dataclasses
import subprocess
import sys

import pytest

from cepcli.cache.config import CacheConfig
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
    ],
)
def test_a_value_out_of_range_is_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=f"`{key}`"):
        resolve(CacheConfig, flags={key: value})


@pytest.mark.parametrize("mode", ["off", "exact", "lru"])
def test_every_mode_and_the_bounds_themselves_are_accepted(mode):
    top = CacheConfig(mode=mode, capacity=1, threshold=1.0, refresh_rate=1.0)
    bottom = CacheConfig(mode=mode, threshold=-1.0, refresh_rate=0.0)
    assert (top.mode, top.capacity, bottom.threshold) == (mode, 1, -1.0)


def test_every_field_explains_itself():
    assert all(field.metadata["help"] for field in dataclasses.fields(CacheConfig))


def test_the_configuration_loads_no_torch():
    code = "import sys, cepcli.cache.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
