from itertools import pairwise

import pytest

from cepcli.artifacts import Workspace
from cepcli.cli.display import RunDisplay
from cepcli.cli.live_warnings import _MOST_ROWS, LiveWarnings
from cepcli.report.warnings import LEAST, WARM_UP
from tests.report import stored


@pytest.fixture
def trained(corridor, tmp_path):
    """Train in the corridor, and hand every step's parts and progress to `look`."""

    def train(look, **flags):
        settings = {"steps": WARM_UP + LEAST + 60, "cache.threshold": 1.0, **flags}
        corridor.run(tmp_path / "w", "r-lru_s0", on_step=look, **settings)

    return train


class Clock:
    """Lets the display redraw at every step."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 60.0
        return self.now


@pytest.fixture
def display(monkeypatch, tmp_path):
    monkeypatch.setattr("cepcli.cli.display.time.monotonic", Clock())
    return RunDisplay("r-lru_s0", quiet=False, workspace=Workspace(tmp_path / "w"))


def miss_always(parts):
    """As if every answer had been a miss."""
    counts = parts.telemetry.counts
    counts["miss"], counts["exact"] = counts["miss"] + counts["exact"], 0


def test_a_warning_is_told_once_and_never_while_the_cache_warms_up(trained, display, capsys):
    def look(parts, progress):
        miss_always(parts)
        display.step(parts, progress)

    trained(look, **{"cache.mode": "lru"})
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Warning")]
    assert len(lines) == 1
    assert "less than 60%" in lines[0]
    assert "Next: cep train --config" in lines[0]
    step = int(lines[0].split("at step ")[1].split(":")[0])
    assert WARM_UP + LEAST <= step < WARM_UP + LEAST + 60


def test_a_run_that_does_well_is_not_warned_of(trained, display, capsys):
    trained(display.step, **{"cache.mode": "exact"})
    assert "Warning" not in capsys.readouterr().err


def test_a_score_below_the_uncached_run_is_told_where_both_have_been_evaluated(trained, tmp_path):
    space = Workspace(tmp_path / "w")
    about = {
        "env": "test/corridor", "prior": "embedded", "cache": "off", "steps": WARM_UP + LEAST + 60,
    }  # fmt: skip
    stored.finished(space, "r-off", 0, 1.0, **about)
    watch, told = LiveWarnings("r-lru_s0", space), []

    def look(parts, progress):
        if progress.step % 50 == 0:
            watch.evaluated(progress.step, {"success_rate": 0.5, "return_mean": 0.5})
        told.append((progress.step, [one.kind for one in watch.judge(parts, progress)]))

    trained(look, **{"cache.mode": "lru", "prior": "embedded"})
    assert told[-1][1] == ["performance"]
    assert all(not kinds for step, kinds in told if step < WARM_UP + LEAST)


def test_rows_of_a_long_run_are_few_and_reach_from_its_beginning_to_now(tmp_path):
    watch = LiveWarnings("r", Workspace(tmp_path))
    for decisions in range(100_000):
        watch._keep({}, decisions)
    kept = [row["decisions"] for row in watch._rows]
    assert len(kept) <= _MOST_ROWS
    assert kept[0] == 0
    assert kept[-1] == 99_999
    assert kept == sorted(set(kept))
    assert max(b - a for a, b in pairwise(kept)) < 10_000
