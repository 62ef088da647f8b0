"""Soft actor-critic side by side: environment step and one gradient step, on one core.

Every contender runs in a process of its own, pinned to the same core (XLA ignores OMP_NUM_THREADS),
and they take turns in short slices, so that what else the machine does falls on all alike. All have
a batch of 256, two layers of 256, float32 and HalfCheetah-v5.

Where our time goes: nearly all of it into the products of the hidden layers, three passes of both
critics and one of the actor over two batches, then the backward passes; an actor's update goes back
through the smaller critic of each row alone. What is left is optimisers, first and last layers,
tanh-Gaussian and simulator, and Python, whose memory the products push out of the cache. With eight
symbols the rows in which a symbol is chosen are valued eight times, one row in `symbol_steps`.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from cepcli.errors import ConfigError

ENVIRONMENT = "HalfCheetah-v5"
SYMBOLS = 8
OURS = ("sac", "hybrid-sac")
#: Contenders that are only timed where they are installed, and the module that tells.
THEIRS = {"stable-baselines3": "stable_baselines3", "sbx": "sbx"}

#: Runs that many environment steps, each with a gradient step.
Slice = Callable[[int], object]


def not_installed() -> list[str]:
    """Contenders that this Python cannot run."""
    return [name for name, module in THEIRS.items() if not importlib.util.find_spec(module)]


def bench_sac(
    steps: int = 150,
    rounds: int = 7,
    *,
    core: int | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Time all contenders in `rounds` rounds of `steps` steps each.

    Args:
        steps: environment steps of a slice, each with one gradient step.
        rounds: slices of each contender; medians are over them.
        core: to pin to; None for the last one that this process may use.
        notify: told what is going on.

    Returns:
        "steps_per_s" by contender (medians); "ratio_to_sb3", "ratio_to_sbx" and "hybrid_to_sac",
        medians of the ratios within a round, None for who is not installed; the same by seconds of
        the processor rather than of the wall clock under "cpu"; and what was run.

    Raises:
        ConfigError: if the core is not this process's to use.
    """
    core = pinned_core(core)
    absent = not_installed()
    names = [*OURS, *(name for name in THEIRS if name not in absent)]
    contenders: dict[str, Contender] = {}
    try:
        for name in names:
            notify(f"Starting {name}")
            contenders[name] = Contender(name, core, __spec__.name)
            contenders[name].run(2 * steps)  # fills the replay's warm-up, compiles
        times: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for number in range(rounds):
            notify(f"Round {number + 1} of {rounds}")
            for name in names:
                times[name].append(contenders[name].run(steps))
    finally:
        for contender in contenders.values():
            contender.stop()
    return {
        **_figures(times, steps, "wall"),
        "cpu": _figures(times, steps, "cpu"),
        "not_installed": absent,
        "environment": ENVIRONMENT,
        "batch_size": 256,
        "hidden": [256, 256],
        "symbols": SYMBOLS,
        "steps": steps,
        "rounds": rounds,
        "core": core,
    }


def pinned_core(core: int | None) -> int | None:
    """The core to pin to; None where this system cannot pin."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    usable = os.sched_getaffinity(0)
    if core is not None and core not in usable:
        raise ConfigError(
            f"Core {core} is not there: this process may use {sorted(usable)}.",
            "Leave --core out, or choose one of these.",
        )
    return max(usable) if core is None else core


def _figures(
    times: dict[str, list[dict[str, float]]], steps: int, clock: str
) -> dict[str, dict[str, float] | float | None]:
    import numpy as np

    seconds = {name: np.array([one[clock] for one in turns]) for name, turns in times.items()}

    def ratio(name: str, other: str) -> float | None:
        both = name in seconds and other in seconds
        return float(np.median(seconds[other] / seconds[name])) if both else None

    return {
        "ratio_to_sb3": ratio("sac", "stable-baselines3"),
        "ratio_to_sbx": ratio("sac", "sbx"),
        "hybrid_to_sac": ratio("hybrid-sac", "sac"),
        "steps_per_s": {name: float(np.median(steps / spent)) for name, spent in seconds.items()},
    }


class Contender:
    """A process that runs slices when told to, and waits meanwhile."""

    def __init__(self, name: str, core: int | None, module: str) -> None:
        """Args: `module` is run as a script, with the name and the core, and calls `serve`."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe could fill up; see stop
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, name, str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **threads, "JAX_PLATFORMS": "cpu"},
        )

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


def main(name: str, core: str) -> None:
    """The process of one of these contenders."""

    def begin() -> Slice:
        return _ours(SYMBOLS if name == "hybrid-sac" else 1) if name in OURS else _theirs(name)

    serve(core, begin)


def _theirs(name: str) -> Slice:
    import gymnasium as gym
    import torch

    torch.set_num_threads(1)
    if name == "sbx":
        from sbx import SAC  # pyright: ignore[reportMissingImports]
    else:
        from stable_baselines3 import SAC
    model = SAC("MlpPolicy", gym.make(ENVIRONMENT), seed=0, device="cpu")
    return lambda steps: model.learn(steps, reset_num_timesteps=False)


def _ours(symbols: int) -> Slice:
    import gymnasium as gym
    import numpy as np
    import torch

    from cepcli.agents.config import SACConfig
    from cepcli.agents.hybrid_sac import HybridSAC
    from cepcli.datasets.control_replay import ControlTransition
    from cepcli.device import flush_subnormals
    from cepcli.posterior import log_posterior, sample_action
    from cepcli.seeding import torch_generator

    torch.set_num_threads(1)
    flush_subnormals()
    config = SACConfig()
    env = gym.make(ENVIRONMENT)
    learner = HybridSAC(
        config, features=17, controls=6, symbols=symbols, nominal=False, q_range=0.3, seed=0
    )
    log_prior = np.full(symbols, -np.log(symbols), np.float32)
    acting = torch_generator(0, "acting")
    observation, _ = env.reset(seed=0)
    symbol, held, tau = 0, 0, 0.5

    def run(steps: int) -> None:
        nonlocal observation, symbol, held
        import torch

        for _ in range(steps):
            if held == 0 and symbols > 1:
                learner.arrive(log_prior)
                q_values = learner.symbol_values(observation, None, acting)
                log_policy = log_posterior(torch.from_numpy(log_prior), q_values, tau)
                symbol = int(sample_action(log_policy, acting))
            control = learner.control(observation, symbol, None, acting)
            following, reward, terminated, truncated, _ = env.step(control)
            held = (held + 1) % config.symbol_steps
            ended = terminated or truncated
            learner.step(
                ControlTransition(
                    observation, symbol, control, float(reward), following, terminated
                ),
                boundary=held == 0 and not ended,
            )
            observation = following
            if ended:
                observation, _ = env.reset()
                held = 0
            learner.learn(tau)

    return run


if __name__ == "__main__":
    main(*sys.argv[1:])
