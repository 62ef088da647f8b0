import json

import pytest
from typer.testing import CliRunner

from cepcli.bench import sac as bench_sac
from cepcli.bench import turns
from cepcli.cli.main import app
from cepcli.errors import ConfigError


@pytest.fixture
def ours_alone(monkeypatch):
    """As if neither Stable-Baselines3 nor SBX were installed, which take long to begin."""
    monkeypatch.setattr(bench_sac.importlib.util, "find_spec", lambda name: None)


@pytest.mark.slow
def test_what_is_not_installed_is_named_and_left_out(ours_alone):
    done = CliRunner().invoke(app, ["bench", "sac", "--steps", "60", "--rounds", "1", "--json"])
    assert done.exit_code == 0, done.output
    assert "Not compared with stable-baselines3 and sbx" in done.stderr
    result = json.loads(done.stdout)
    assert result["steps_per_s"].keys() == {"sac", "hybrid-sac"}
    assert all(value > 0 for value in result["steps_per_s"].values())
    assert result["ratio_to_sb3"] is None
    assert result["ratio_to_sbx"] is None
    assert result["hybrid_to_sac"] > 0
    assert result["not_installed"] == ["stable-baselines3", "sbx"]


def test_ratios_are_medians_of_what_was_run_side_by_side():
    times = {"sac": [1.0, 2.0, 9.0], "hybrid-sac": [2.0, 4.0, 6.0], "sbx": [3.0, 3.0, 3.0]}
    taken = {name: [{"wall": s, "cpu": 1.0} for s in own] for name, own in times.items()}
    figures = turns.rates(taken, 90, bench_sac.RATIOS)
    assert figures["steps_per_s"] == {"sac": 45.0, "hybrid-sac": 22.5, "sbx": 30.0}
    assert figures["ratio_to_sbx"] == 1.5
    assert figures["hybrid_to_sac"] == 0.5
    assert figures["ratio_to_sb3"] is None
    assert figures["cpu"]["hybrid_to_sac"] == 1.0


def test_a_core_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="Core 9999 is not available"):
        bench_sac.bench_sac(core=9999)


def test_a_contender_that_cannot_begin_says_why():
    contender = turns.Contender("sac", core=9999, module=bench_sac.__name__)
    with pytest.raises(ConfigError, match="`sac` cannot be timed here; it said: OSError"):
        contender.run(1)
    contender.stop()


@pytest.mark.slow
def test_we_are_faster_than_stable_baselines3():
    pytest.importorskip("stable_baselines3")
    assert bench_sac.bench_sac()["cpu"]["ratio_to_sb3"] > 1.2
