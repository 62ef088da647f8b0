"""Soft actor-critic side by side: environment step and one gradient step, on one core.

Contenders take turns as in `turns`. All have a batch of 256, two layers of 256, float32 and
HalfCheetah-v5.

Where our time goes: nearly all of it into the products of the hidden layers, three passes of both
critics and one of the actor over two batches, then the backward passes; an actor's update goes back
through the smaller critic of each row alone. What is left is optimisers, first and last layers,
tanh-Gaussian and simulator, and Python, whose memory the products push out of the cache. With eight
symbols the rows in which a symbol is chosen are valued eight times, one row in `symbol_steps`.
"""

import importlib.util
from typing import Any

from cepcli.bench.turns import Notify, Slice, pinned_core, rates, serve, take_turns

ENVIRONMENT = "HalfCheetah-v5"
SYMBOLS = 8
OURS = ("sac", "hybrid-sac")
#: Contenders that are only timed where they are installed, and the module that tells.
THEIRS = {"stable-baselines3": "stable_baselines3", "sbx": "sbx"}
RATIOS = {
    "ratio_to_sb3": ("sac", "stable-baselines3"),
    "ratio_to_sbx": ("sac", "sbx"),
    "hybrid_to_sac": ("hybrid-sac", "sac"),
}


def not_installed() -> list[str]:
    """Contenders that this Python cannot run."""
    return [name for name, module in THEIRS.items() if not importlib.util.find_spec(module)]


def bench_sac(
    steps: int = 150, rounds: int = 7, *, core: int | None = None,
    notify: Notify = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """Time all contenders in `rounds` rounds of `steps` steps each.

    Args:
        steps: environment steps of a slice, each with one gradient step.
        rounds: slices of each contender; medians are over them.
        core: to pin to; None for the last one that this process may use.
        notify: told what is going on.

    Returns:
        What `rates` returns, with `RATIOS`, and what was run.

    Raises:
        ConfigError: if the core is not this process's to use.
    """
    core = pinned_core(core)
    absent = not_installed()
    names = [*OURS, *(name for name in THEIRS if name not in absent)]
    times = take_turns(  # the warm-up fills the replay, and compiles
        names, __spec__.name, steps=steps, rounds=rounds, warm_up=2 * steps, core=core,
        notify=notify,
    )  # fmt: skip
    return {
        **rates(times, steps, RATIOS), "not_installed": absent, "environment": ENVIRONMENT,
        "batch_size": 256, "hidden": [256, 256], "symbols": SYMBOLS, "steps": steps,
        "rounds": rounds, "core": core,
    }  # fmt: skip


def main(name: str, core: str) -> None:
    """The process of one of these contenders."""
    symbols = SYMBOLS if name == "hybrid-sac" else 1
    serve(core, lambda: _ours(symbols) if name in OURS else _theirs(name))


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
    import sys

    main(*sys.argv[1:])
