"""How fast text environments are played and begun anew, by random actions, without any LLM.

A first round plays every instance that comes up once, because a generated game is made and compiled
once a workspace; what is timed comes after it. A rate is that of the best round, so that a busy
machine is told from a slow environment; of resets the median is told, and the 95th percentile.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from cepcli.envs.base import SymbolicEnv
from cepcli.envs.catalog import make_env, spec
from cepcli.errors import EnvError
from cepcli.seeding import generator


def bench_envs(
    env_ids: Sequence[str],
    workspace: Path,
    *,
    resets: int = 20,
    rounds: int = 3,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    notify: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """One row per environment: steps a second, median and 95th percentile of resets in ms.

    Args:
        env_ids: text environments.
        workspace: where games are kept.
        resets: episodes of a round.
        rounds: timed rounds.
        seed: of instances and actions; every round plays the same.
        options: of the environments; None for those that make a contract check quick.
        notify: told what takes seconds.

    Raises:
        EnvError: if an environment does not exist, or is one of continuous control.
    """
    known = [spec(env_id) for env_id in env_ids]
    for one in known:
        if one.kind == "control":
            raise EnvError(
                f"`{one.id}` is an environment of continuous control, expected one in text.",
                "Continuous control is timed with its learner: cep bench sac",
            )
    return [
        _bench(one.id, workspace, resets, rounds, seed,
               dict(one.check_options if options is None else options), notify)
        for one in known
    ]  # fmt: skip


def _bench(
    env_id: str,
    workspace: Path,
    resets: int,
    rounds: int,
    seed: int,
    options: dict[str, Any],
    notify: Callable[[str], None] | None,
) -> dict[str, Any]:
    env = make_env(env_id, workspace=workspace, options=options, progress=notify)
    try:
        _play(env, resets, seed)
        played = [_play(env, resets, seed) for _ in range(rounds)]
    finally:
        env.close()
    rates = [steps / seconds for steps, seconds, _ in played]
    began = 1e3 * np.concatenate([times for _, _, times in played])
    return {
        "env": env_id,
        "options": options,
        "steps": sum(steps for steps, _, _ in played),
        "steps_per_s": float(np.max(rates)),
        "reset_ms": {f"p{p}": float(np.percentile(began, p)) for p in (50, 95)},
    }


def _play(env: SymbolicEnv, resets: int, seed: int) -> tuple[int, float, np.ndarray]:
    """Steps, seconds that they took, and the seconds of each reset."""
    random = generator(seed, "bench/envs")
    steps, stepping, began = 0, 0.0, []
    for number in range(resets):
        start = perf_counter()
        _, info = env.reset(seed=seed if number == 0 else None)
        began.append(perf_counter() - start)
        ended = False
        while not ended:
            action = str(random.choice(info["actions"]))
            start = perf_counter()
            _, _, terminated, truncated, info = env.step(action)
            stepping += perf_counter() - start
            steps += 1
            ended = terminated or truncated
    return steps, stepping, np.array(began)
