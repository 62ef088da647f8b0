import importlib.util

import pytest

from cepcli.bench import cql as module
from cepcli.bench.cql import bench_cql
from cepcli.bench.turns import rates
from cepcli.errors import ConfigError


@pytest.mark.slow
def test_all_contenders_take_turns_on_one_core():
    result = bench_cql(1, 2, warm_up=1)
    names = ["cql", "cql, every draw", "cql-prior"]
    if importlib.util.find_spec("d3rlpy"):
        names.append("d3rlpy")
    assert list(result["steps_per_s"]) == names
    assert all(rate > 0 for rate in result["steps_per_s"].values())
    assert result["prior_ratio_to_cql"] > 1.0


def test_ratios_are_medians_within_a_round():
    times = {
        "cql": [{"wall": 1.0, "cpu": 1.0}, {"wall": 10.0, "cpu": 1.0}, {"wall": 2.0, "cpu": 1.0}],
        "cql-prior": [{"wall": s, "cpu": 0.5} for s in (0.5, 5.0, 1.0)],
        "d3rlpy": [{"wall": s, "cpu": 3.0} for s in (3.0, 15.0, 4.0)],
    }
    found = rates(times, 4, module.RATIOS)
    assert found["ratio_to_d3rlpy"] == 2.0
    assert found["prior_ratio_to_cql"] == 2.0
    assert found["every_draw_ratio_to_d3rlpy"] is None
    assert found["steps_per_s"] == {"cql": 2.0, "cql-prior": 4.0, "d3rlpy": 1.0}


def test_without_d3rlpy_there_is_no_ratio_to_it():
    times = {"cql": [{"wall": 2.0, "cpu": 2.0}], "cql-prior": [{"wall": 1.0, "cpu": 1.0}]}
    assert rates(times, 1, module.RATIOS)["ratio_to_d3rlpy"] is None


def test_a_core_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="is not available"):
        bench_cql(1, 1, core=10_000)


def test_the_way_to_install_d3rlpy_is_told():
    assert "--no-deps d3rlpy" in module.INSTALL
