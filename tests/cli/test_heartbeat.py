"""No command is silent for long, and one that speaks for itself is not talked over."""

import sys
import threading
import time
from io import StringIO
from types import SimpleNamespace

import pytest

from cepcli.cli import display, heartbeat, summaries
from cepcli.cli.heartbeat import Heartbeat


@pytest.fixture
def clock(monkeypatch):
    """The heartbeat's time, which stands still until a test moves it."""
    found = SimpleNamespace(now=100.0, monotonic=lambda: found.now)
    monkeypatch.setattr(heartbeat, "time", found)
    monkeypatch.setattr(heartbeat, "_POLL_SECONDS", 0.005)
    return found


def soon(happened):
    """Wait for something that another thread does."""
    until = time.monotonic() + 60.0
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)


def line(capsys):
    """The next line."""
    said = []
    soon(lambda: said.append(capsys.readouterr().err) or said[-1].endswith("\n"))
    return "".join(said)


def test_silence_is_broken_by_what_is_done(clock, capsys):
    with Heartbeat("cep train"):
        clock.now += 3.0
        assert line(capsys) == "cep train … 3 s\n"
        heartbeat.said("Loading the prior")
        clock.now += 5.0
        assert line(capsys) == "Loading the prior … 5 s\n"
        clock.now += 5.0
        assert line(capsys) == "Loading the prior … 10 s\n", "again and again"
    clock.now += 100.0
    assert capsys.readouterr().err == ""


def test_nothing_is_said_beside_what_is_said(clock, capsys):
    with Heartbeat("cep train"):
        for _ in range(20):
            heartbeat.said()
            clock.now += 1.9
            time.sleep(0.01)
        with heartbeat.paused():
            clock.now += 60.0
            time.sleep(0.1)
            assert capsys.readouterr().err == ""
        clock.now += 5.0
        assert line(capsys), "a pause ends"


def test_a_long_command_names_what_takes_long(cep, monkeypatch):
    spoke = threading.Event()

    def heard(*given, **where):
        print(*given, **where)
        spoke.set()

    def slow(*given):
        assert spoke.wait(60.0)
        return []

    monkeypatch.setattr(heartbeat, "FIRST_SECONDS", 0.2)
    monkeypatch.setattr(heartbeat, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(heartbeat, "print", heard, raising=False)
    monkeypatch.setattr("cepcli.envs.catalog.env_ids", slow)
    assert cep("envs", "list").err.startswith("cep envs list … ")


def test_quiet_commands_stay_quiet(cep, monkeypatch):
    monkeypatch.setattr(heartbeat, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(heartbeat, "_POLL_SECONDS", 0.01)
    assert " … " not in cep("eval", "nothing", "--quiet").err


def test_a_terminal_gets_a_spinner_that_ends(monkeypatch):
    started, texts = [], []

    class Live:
        def __init__(self):
            self.renderable = self

        def update(self, text):
            texts.append(text)

        def start(self):
            started.append(True)

        def stop(self):
            started.append(False)

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(heartbeat, "_SPINNER_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(heartbeat, "_spinner", Live)
    with Heartbeat("cep train"):
        soon(lambda: texts)
        heartbeat.said("Loading")
    assert started[:2] == [True, False]
    assert started[-1] is False
    assert texts[0].startswith("cep train … ")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "under 1 s"), (1.2, "1 s"), (119.0, "119 s"), (600.0, "10 min"), (9000.0, "2 h 30 min")],
)
def test_how_long_is_said_as_people_do(seconds, said):
    assert summaries.duration(seconds) == said


def test_no_time_is_promised_before_there_is_a_rate(workspace_root, monkeypatch, capsys):
    from cepcli.workspace.artifacts import Workspace

    monkeypatch.setattr(display, "_PLAIN_SECONDS", 0.0)
    with display.RunDisplay("a", quiet=False, workspace=Workspace(workspace_root)) as shown:
        shown.advance(1, 10, lambda rate: {})
        time.sleep(0.02)
        shown.advance(2, 10, lambda rate: {})
        shown.advance(10, 10, lambda rate: {})
    first, second, last = capsys.readouterr().err.splitlines()
    assert (first, last) == ("step 1/10", "step 10/10")
    assert second.startswith("step 2/10, ETA ")
    assert "ETA 0 s" not in second


def test_an_evaluation_says_how_far_it_is(workspace_root, monkeypatch, capsys):
    from cepcli.workspace.artifacts import Workspace

    monkeypatch.setattr(display, "_PLAIN_SECONDS", 0.0)
    with display.RunDisplay("a", quiet=False, workspace=Workspace(workspace_root)) as shown:
        shown.round(50, 3, 20, 120)
        shown.round(50, 4, 20)
    assert capsys.readouterr().err.splitlines() == [
        "step 50: evaluating, 3 of 20 episodes, 120 LLM queries",
        "step 50: evaluating, 4 of 20 episodes",
    ]


def test_a_terminal_is_told_what_is_done_while_figures_stand_still(
    workspace_root, monkeypatch, clock
):
    from rich.console import Console

    from cepcli.workspace.artifacts import Workspace

    drawn = StringIO()
    console = Console(file=drawn, force_terminal=True, width=100)
    monkeypatch.setattr("rich.console.Console", lambda **given: console)
    monkeypatch.setattr(display, "_SILENT_SECONDS", 0.5)
    monkeypatch.setattr(display, "time", clock)
    with display.RunDisplay("a", quiet=False, workspace=Workspace(workspace_root)) as shown:
        shown.notify("Loading the prior")
        clock.now += 0.9
        soon(lambda: "Loading the prior … under 1 s" in drawn.getvalue())
        shown.round(0, 3, 20, 120)
        shown.advance(1, 10, lambda rate: {"queries": "7"})
    assert "queries" in drawn.getvalue()
