"""A replay of resampled runs that was ended goes on, and ends as one that never was."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cepcli.cache.config import CacheConfig
from cepcli.cache.replay import resample as resampling
from cepcli.cache.replay.play import KeyTable
from cepcli.cache.replay.resample import PlayedRuns, ResampleConfig, resample
from cepcli.errors import ArtifactError, CacheError
from tests.cache.worlds import keys_of, smooth_world, trace_of

FIXED = CacheConfig(mode="lru", gate="off", threshold=0.9)
EXACT = CacheConfig(mode="exact")
RUNS = ResampleConfig(runs=5)
TEXTS = [f"t{number:03}" for number in range(60)]


@pytest.fixture(scope="module")
def world():
    keys, scores = smooth_world(np.random.default_rng(0), clusters=10, members=6)
    return trace_of(TEXTS, scores, range(60)), keys_of(TEXTS, keys)


@pytest.fixture
def played(monkeypatch):
    """The numbers of the runs as they are played; the command is interrupted before `stop_at`."""
    real = resampling._figures

    class Played(list):
        stop_at = None

    numbers = Played()

    def counted(*given):
        if len(numbers) == numbers.stop_at:
            raise KeyboardInterrupt
        numbers.append(given[-1])
        return real(*given)

    monkeypatch.setattr(resampling, "_figures", counted)
    return numbers


def interrupt(played, world, caches, folder, after, config=RUNS):
    played.stop_at = after
    with pytest.raises(KeyboardInterrupt):
        resample(world[0], caches, world[1], config, folder=folder)
    played.stop_at = None
    played.clear()


@pytest.mark.parametrize("cut", [b"", b'{"run": 2, "figures": {"in_fo', b'{"run": 4'])
def test_an_interrupted_replay_plays_only_what_is_missing(world, played, tmp_path, cut):
    whole = resample(world[0], [FIXED], world[1], RUNS)
    played.clear()
    interrupt(played, world, [FIXED], tmp_path, 2)
    [file] = tmp_path.iterdir()
    with file.open("ab") as end:
        end.write(cut)
    interrupt(played, world, [FIXED], tmp_path, 1)  # writes its line after the one that was cut
    told = []
    assert resample(world[0], [FIXED], world[1], RUNS, told.append, tmp_path) == whole
    assert played == [3, 4]
    assert told == ["3 of 5 runs were played before", "1/1 settings, 5 runs each"]
    assert list(tmp_path.iterdir()) == []


def test_each_cache_has_its_own_runs(world, played, tmp_path):
    whole = resample(world[0], [EXACT, FIXED], world[1], RUNS)
    played.clear()
    interrupt(played, world, [EXACT, FIXED], tmp_path, 7)
    assert resample(world[0], [EXACT, FIXED], world[1], RUNS, folder=tmp_path) == whole
    assert played == [2, 3, 4]
    assert list(tmp_path.iterdir()) == []


def test_more_runs_of_the_same_question_begin_with_those_that_were_played(world, played, tmp_path):
    interrupt(played, world, [FIXED], tmp_path, 2)
    resample(world[0], [FIXED], world[1], replace(RUNS, runs=7), folder=tmp_path)
    assert played == [2, 3, 4, 5, 6]


def other_scores(world):
    scores = {state: {a: s + 1e-9 for a, s in known.items()} for state, known in
              world[0].scores.items()}  # fmt: skip
    return replace(world[0], scores=scores)


OTHERS = {
    "seed": lambda world: (world[0], FIXED, world[1], replace(RUNS, seed=1)),
    "drift": lambda world: (world[0], FIXED, world[1], replace(RUNS, drift="states")),
    "cache": lambda world: (world[0], replace(FIXED, threshold=0.91), world[1], RUNS),
    "keys": lambda world: (
        world[0], FIXED, KeyTable(world[1]._rows, world[1]._vectors, "others"), RUNS,
    ),
    "scores": lambda world: (other_scores(world), FIXED, world[1], RUNS),
    "decisions": lambda world: (
        replace(world[0], decisions=world[0].decisions[::-1]), FIXED, world[1], RUNS,
    ),
    "namespace": lambda world: (
        replace(world[0], namespace=replace(world[0].namespace, env_family="other")),
        FIXED, world[1], RUNS,
    ),
    "shape": lambda world: (
        replace(world[0], shape=replace(world[0].shape, temperature=2.0)), FIXED, world[1], RUNS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_runs_of_another_question_are_not_taken(world, played, tmp_path, other):
    interrupt(played, world, [FIXED], tmp_path, 2)
    trace, cache, keys, config = other(world)
    resample(trace, [cache], keys, config, folder=tmp_path)
    assert played == [0, 1, 2, 3, 4]
    assert len(list(tmp_path.iterdir())) == 1


def test_runs_of_another_version_are_not_taken(world, played, tmp_path, monkeypatch):
    interrupt(played, world, [FIXED], tmp_path, 2)
    monkeypatch.setattr("cepcli.workspace.artifacts.__version__", "0.0.1")
    resample(world[0], [FIXED], world[1], RUNS, folder=tmp_path)
    assert played == [0, 1, 2, 3, 4]


def test_a_run_that_another_process_plays_is_refused(world, tmp_path):
    interrupted = PlayedRuns(tmp_path / "x.jsonl")
    with interrupted.held():
        with pytest.raises(CacheError, match="Another process is playing these runs"):
            interrupted.held().__enter__()
        interrupted.add(0, {"alarms": 1.0})
    with interrupted.held():
        assert interrupted.read() == {0: {"alarms": 1.0}}


def test_a_replay_that_cannot_begin_leaves_no_file(world, tmp_path):
    unscored = replace(world[0], scores={})
    with pytest.raises(CacheError, match="no fresh score"):
        resample(unscored, [FIXED], world[1], RUNS, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_sentence(world, tmp_path):
    (tmp_path / "replays").write_text("a file")
    with pytest.raises(ArtifactError, match="Cannot write to"):
        resample(world[0], [FIXED], world[1], RUNS, folder=tmp_path / "replays" / "deeper")


SIDE_BY_SIDE = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.cache.replay.test_played_runs import *

if __name__ == "__main__":
    keys, scores = smooth_world(np.random.default_rng(0), clusters=10, members=6)
    world = trace_of(TEXTS, scores, range(60)), keys_of(TEXTS, keys)
    resample(world[0], [FIXED], world[1], ResampleConfig(runs=5000, jobs=2),
             folder=Path(sys.argv[1]))
"""


def children(parent):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, of = (process / "stat").read_text().rpartition(")")[2].split()[:2]
            words = (process / "cmdline").read_text()
        except OSError:
            continue
        if int(of) == parent and state != "Z" and "spawn_main" in words:
            found.append(process)
    return found


@pytest.mark.slow
def test_processes_side_by_side_keep_their_runs_and_end_with_a_killed_parent(world, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SIDE_BY_SIDE, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        end = time.monotonic() + 200
        while not {0, 2500} <= stored(tmp_path).keys():
            assert time.monotonic() < end, "no runs were played"
            assert process.poll() is None
            time.sleep(0.05)
        workers = children(process.pid)
        assert len(workers) == 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    end = time.monotonic() + 60
    while any(worker.exists() for worker in workers):
        assert time.monotonic() < end, "the workers go on"
        time.sleep(0.05)
    known = stored(tmp_path)
    for number in (0, 2500):
        alone = resampling._figures(world[0], None, FIXED, world[1], RUNS, number)
        assert repr(known[number]) == repr(alone)


def stored(folder):
    found = {}
    for file in folder.iterdir():
        found |= PlayedRuns(file).read()
    return found
