from itertools import pairwise

import pytest

from cepcli.cli.display import _MOST_ROWS, LiveWarnings, RunDisplay
from cepcli.report.warnings import LEAST, WARM_UP
from cepcli.runs.online import OnlineRun
from cepcli.runs.run import Progress
from cepcli.workspace.artifacts import Workspace
from tests.report import stored


@pytest.fixture
def space(tmp_path):
    return Workspace(tmp_path / "w")


@pytest.fixture
def decide(corridor, space):
    """Tell a display of many decisions, as if they had been answered so."""
    parts = OnlineRun.build(corridor.config(**{"cache.mode": "lru"}), space, lambda message: None)
    progress = Progress()

    def decide(look, count, kind):
        for _ in range(count // 10):
            parts.telemetry.counts[kind] += 10
            parts.telemetry.decisions += 10
            progress.step = progress.decisions = parts.telemetry.decisions
            look(parts, progress)

    return decide


@pytest.fixture
def display(monkeypatch, space):
    """It redraws at every step."""
    display = RunDisplay("r-lru_s0", quiet=False, workspace=space)
    monkeypatch.setattr("cepcli.cli.display._PLAIN_SECONDS", 0.0)
    return display


def warnings_in(text):
    return [line for line in text.splitlines() if line.startswith("Warning")]


def test_a_warning_is_told_once_and_never_while_the_cache_warms_up(decide, display, capsys):
    decide(display.step, WARM_UP + LEAST - 10, "miss")
    assert warnings_in(capsys.readouterr().err) == []
    decide(display.step, 60, "miss")
    [line] = warnings_in(capsys.readouterr().err)
    assert "/config.toml" in line
    assert ".partial" not in line, "the command is typed when the run has ended"
    step = int(line.split("at step ")[1].split(":")[0])
    assert WARM_UP + LEAST <= step <= WARM_UP + LEAST + 20
    assert "less than 60%" in line
    assert "Next: cep train --config" in line


def test_a_run_that_does_well_is_not_warned_of(decide, display, capsys):
    decide(display.step, WARM_UP, "miss")
    decide(display.step, 300, "exact")
    assert warnings_in(capsys.readouterr().err) == []


def test_a_score_below_the_uncached_run_is_told_where_both_have_been_evaluated(decide, space):
    about = {"env": "test/corridor", "prior": "embedded", "cache": "off", "steps": 120}
    stored.finished(space, "r-off", 0, 1.0, **about)
    watch, told = LiveWarnings("r-lru_s0", space), []

    def look(parts, progress):
        told.append((progress.decisions, [one.kind for one in watch.judge(parts, progress)]))

    decide(look, WARM_UP + LEAST, "exact")
    assert told[-1][1] == [], "nothing has been evaluated"
    watch.evaluated(WARM_UP, {"success_rate": 0.5, "return_mean": 0.5})
    decide(look, 10, "exact")
    assert told[-1][1] == ["performance"]
    watch.evaluated(WARM_UP + LEAST, {"success_rate": 1.0, "return_mean": 1.0})
    watch.evaluated(WARM_UP + 2 * LEAST, {"success_rate": 1.0, "return_mean": 1.0})
    decide(look, 10, "exact")
    assert told[-1][1] == []


def test_rows_of_a_long_run_are_few_and_reach_from_its_beginning_to_now(tmp_path):
    watch = LiveWarnings("r", Workspace(tmp_path))
    for decisions in range(100_000):
        watch._keep({}, decisions)
    kept = [row["decisions"] for row in watch._rows]
    assert len(kept) <= _MOST_ROWS
    assert kept[0] == 0
    assert kept[-1] == 99_999
    assert kept == sorted(set(kept))
    assert max(b - a for a, b in pairwise(kept)) <= 1_000
