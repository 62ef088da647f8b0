"""The making of games ends when it should: by the time limit, by a signal; never left running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cepcli.envs.textworld.make import CustomOptions, game_file
from cepcli.errors import ConfigError, EnvError
from cepcli.workspace.variables import game_seconds

#: Takes minutes, so that a test can end it.
ENDLESS = {"rooms": 5, "quest_length": 50}


def makers():
    """Processes that make games on this machine, by their ids."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if "cepcli.envs.game_making" in words:
            found[int(process.name)] = int(parent)
    return found


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_what_takes_too_long_is_a_sentence_and_nothing_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("CEP_GAME_SECONDS", "2")
    with pytest.raises(EnvError, match=r"quest50.* with seed 1 was not made within 2 s") as error:
        game_file(CustomOptions(**ENDLESS), 1, tmp_path, None)
    assert "CEP_GAME_SECONDS=4" in error.value.hint
    assert os.getpid() not in makers().values()
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"]


@pytest.mark.parametrize(
    "stop",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_making_of_a_game(tmp_path, stop):
    command = [
        "prior", "demos", "--env", "textworld/custom", "--workspace", str(tmp_path),
        *(f"--set=env_options.{key}={value}" for key, value in ENDLESS.items()),
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "cepcli", *command], stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: process.pid in makers().values())
        process.send_signal(stop)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + stop
    assert "cep: interrupted." in said
    assert "Traceback" not in said
    assert process.pid not in makers().values()


#: Python reads this when it starts: games are made by a program that takes its time.
SLOW_MAKER = """
import subprocess, sys, types

maker = types.ModuleType("cepcli.envs.textworld.make")
maker.make_game = lambda folder, request: subprocess.run(["sleep", "1000"])
sys.modules[maker.__name__] = maker
"""
#: Where nobody tells a child that its parent died.
UNTOLD = """
ends = types.ModuleType("cepcli.child_processes")
ends.end_with_parent = lambda parent, number: None
sys.modules[ends.__name__] = ends
"""


def session(leader):
    """What a process that leads a session has started, with itself, by name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (process / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if int(rest.split()[3]) == leader and rest.split()[0] != "Z":
            found.append(name)
    return found


@pytest.mark.parametrize(
    ("also", "limit"),
    [("", "300"), pytest.param(UNTOLD, "1", marks=pytest.mark.slow)],
    ids=["told", "untold"],
)
def test_a_process_that_was_killed_leaves_nothing_that_makes_games(tmp_path, also, limit):
    (tmp_path / "sitecustomize.py").write_text(SLOW_MAKER + also)
    code = (
        "from pathlib import Path; from cepcli.envs.game_making import make_apart;"
        "make_apart('textworld', Path(), {}, 'The game', 'Ask for a smaller one.')"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, "CEP_GAME_SECONDS": limit},
    )
    try:
        wait_for(lambda: process.pid in makers().values())
        [maker] = [pid for pid, parent in makers().items() if parent == process.pid]
        wait_for(lambda: "sleep" in session(maker))
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not session(maker))


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan", "1000001"])
def test_a_limit_that_is_no_number_of_seconds_is_refused(monkeypatch, text):
    monkeypatch.setenv("CEP_GAME_SECONDS", text)
    with pytest.raises(ConfigError, match=f"CEP_GAME_SECONDS is `{text}`"):
        game_seconds()


def test_a_quest_that_does_not_fit_its_world_is_refused():
    with pytest.raises(ConfigError, match="`quest_length` is 60, but an episode ends after 50"):
        CustomOptions(quest_length=60)
    with pytest.raises(ConfigError, match=r"rooms is 101, expected in \[1, 100\]"):
        CustomOptions(rooms=101)
    CustomOptions(quest_length=60, max_episode_steps=60)
