"""Ctrl-C, SIGTERM and SIGHUP end commands alike: a sentence, state kept, 128 plus the signal."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import active_children

import pytest

from cepcli.cache.replay.resample import _in_parallel
from cepcli.cli.stopping import Stopped, exit_code, stop_on_interrupt, stoppable
from cepcli.workspace.artifacts import Workspace
from cepcli.workspace.checkpoint_files import checkpoints

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
#: Long commands, what each is doing when the signal comes, and how it says to go on.
COMMANDS = [
    ("envs check babyai/goto-redball", "cepcli.cli.envs._check", "do the rest"),
    ("prior demos --env babyai/goto-redball", "cepcli.datasets.demonstrations._play", "to go on"),
    ("prior finetune --env babyai/goto-redball", "cepcli.datasets.demonstrations._play",
     "to go on"),
    ("annotate auto --env walker2d", "cepcli.annotate.build.sample", "annotations are unchanged"),
    ("offline collect --env walker2d", "cepcli.datasets.collect._played", "to go on"),
    ("offline label --dataset walker2d-medium-replay --prior uniform",
     "cepcli.datasets.labelling._Labelling.run", "to go on"),
    ("bench envs", "cepcli.bench.envs.bench_envs", "do the rest"),
    ("bench sb3 --steps 10", "cepcli.experiments.sb3_run.train_sb3", "--resume"),
    ("cache train-head r -o h", "cepcli.experiments.replaying.find_trace", "do the rest"),
    ("cache replay r", "cepcli.experiments.replaying.find_trace", "do the rest"),
    ("eval r", "cepcli.runs.engine.evaluate_run", "do the rest"),
    ("ablate cache --prior goto-redball", "cepcli.experiments.sweep.make", "to go on"),
    ("train --agent random --steps 10", "cepcli.runs.assembly.make_env", "type the command again"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "doing", "way_on"), COMMANDS, ids=lambda given: given[:20])
def test_a_signal_ends_every_long_command_with_the_way_on(cep, monkeypatch, command, doing, way_on):
    def interrupted(*args, **kwargs):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0)  # where a handler that only takes note would let it go on
        raise KeyboardInterrupt

    monkeypatch.setattr(doing, interrupted)
    before = [signal.getsignal(number) for number in SIGNALS]
    done = cep(*command.split())
    assert done.code == 143, done.err
    assert way_on in done.err
    assert "Traceback" not in done.err
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_has_its_exit_code(number):
    with pytest.raises(KeyboardInterrupt) as error, stoppable():
        signal.raise_signal(number)
    assert exit_code(error.value) == 128 + number
    assert exit_code(KeyboardInterrupt()) == 130


def test_a_signal_that_is_ignored_stays_so(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable(), stop_on_interrupt() as requested:
            signal.raise_signal(signal.SIGHUP)
        assert requested == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_second_signal_stops_at_once():
    with stop_on_interrupt() as requested:
        signal.raise_signal(signal.SIGTERM)
        assert requested == [signal.SIGTERM]
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_a_sweep_that_is_stopped_ends_its_commands_with_their_state_kept(tmp_path):
    code = """
import sys
from pathlib import Path
from cepcli.workspace.artifacts import Workspace
from cepcli.cli.stopping import exit_code, stoppable
from cepcli.experiments.sweep import make
from cepcli.experiments.plan import Task

command = ("train", "--env", "babyai/goto-redball", "--agent", "random", "--steps", "1000000",
           "--name", "x", "--set", "eval_episodes=1", "--set", "log_interval=1")
task = Task("run x", "x", command, "run", "x_s0", ())
try:
    with stoppable():
        make([task], Workspace(Path(sys.argv[1])), 2)
except KeyboardInterrupt as error:
    sys.exit(exit_code(error))
"""
    space = Workspace(tmp_path)
    sweep = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=os.environ)
    try:
        metrics = space.partial("run", "x_s0") / "metrics.jsonl"
        end = time.monotonic() + 200
        while not (metrics.is_file() and metrics.stat().st_size):
            assert time.monotonic() < end, "the run did not begin"
            assert sweep.poll() is None
            time.sleep(0.1)
        sweep.send_signal(signal.SIGTERM)
        assert sweep.wait(100) == 143
    finally:
        sweep.kill()
    assert not space.is_locked("run", "x_s0"), "the command goes on"
    assert checkpoints(space.partial("run", "x_s0"))


def test_processes_in_parallel_end_with_an_interruption():
    def interrupted():
        with _in_parallel(2) as run_all:
            run_all(time.sleep, [5000, 5000])  # far beyond the time limit of a test
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert active_children() == []
