"""Contenders timed side by side: each in a process of its own, on one core, in short turns.

All are pinned to the same core (XLA ignores OMP_NUM_THREADS), and they take turns in short slices,
so that what else the machine does falls on all alike. A module of contenders is run as a script,
with the contender's name and the core, and calls `serve`.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cepcli.errors import ConfigError

#: Runs that many steps.
Slice = Callable[[int], object]
#: The seconds of each turn of a contender, by the "wall" clock and of the "cpu".
Turns = Mapping[str, Sequence[Mapping[str, float]]]
Notify = Callable[[str], None]


def take_turns(
    names: Sequence[str], module: str, *, steps: int, rounds: int, warm_up: int, core: int | None,
    notify: Notify,
) -> Turns:  # fmt: skip
    """Time contenders in `rounds` rounds of `steps` steps each, after `warm_up` steps of each.

    Raises:
        ConfigError: if a contender ends before it is told to.
    """
    contenders: dict[str, Contender] = {}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    try:
        for name in names:
            notify(f"Starting {name}")
            contenders[name] = Contender(name, core, module)
            contenders[name].run(warm_up)
        for number in range(rounds):
            notify(f"Round {number + 1} of {rounds}")
            for name in names:
                times[name].append(contenders[name].run(steps))
    finally:
        for contender in contenders.values():
            contender.stop()
    return times


def rates(times: Turns, steps: int, ratios: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Steps per second of each contender, and how many times faster one is than another.

    Returns:
        "steps_per_s" by contender (medians) and each of `ratios`, pairs of names: medians of the
        ratios within a round, None for who was not timed; the same by seconds of the processor
        rather than of the wall clock under "cpu".
    """
    import numpy as np

    def by(clock: str) -> dict[str, Any]:
        seconds = {name: np.array([one[clock] for one in turns]) for name, turns in times.items()}
        found: dict[str, Any] = {
            key: float(np.median(seconds[other] / seconds[name]))
            if {name, other} <= seconds.keys()
            else None
            for key, (name, other) in ratios.items()
        }
        medians = {name: float(np.median(steps / spent)) for name, spent in seconds.items()}
        return {**found, "steps_per_s": medians}

    return {**by("wall"), "cpu": by("cpu")}


def pinned_core(core: int | None) -> int | None:
    """The core to pin to: by default the last one; None where this system cannot pin.

    Raises:
        ConfigError: if the core is not this process's to use.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    usable = os.sched_getaffinity(0)
    if core is not None and core not in usable:
        raise ConfigError(
            f"Core {core} is not available: this process may use {sorted(usable)}.",
            "Leave --core out, or choose one of these.",
        )
    return max(usable) if core is None else core


class Contender:
    """A process that runs slices when told to, and waits meanwhile."""

    def __init__(self, name: str, core: int | None, module: str) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe could fill up; see stop
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, name, str(core)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env={**os.environ, **threads, "JAX_PLATFORMS": "cpu"},
        )  # fmt: skip

    def run(self, steps: int) -> dict[str, float]:
        """Seconds of `steps` steps, by the "wall" clock and of the "cpu".

        Raises:
            ConfigError: if the process has ended, with the last line that it wrote.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(f"{steps}\n")
            stdin.flush()
            return json.loads(stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            self._process.communicate()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["nothing"])[-1]
            raise ConfigError(
                f"`{self._name}` cannot be timed here; it said: {last}",
                "Install what is compared again: pip install 'cepcli[bench]' sbx-rl",
            ) from error

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def serve(core: str, begin: Callable[[], Slice]) -> None:
    """A contender's process: reads numbers of steps, writes the seconds that they took."""
    if core != "None":
        os.sched_setaffinity(0, {int(core)})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like an answer
    run = begin()
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        run(int(line))
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        answers.write(json.dumps(spent) + "\n")
        answers.flush()
