"""Conservative Q-learning side by side: sampling a batch and one gradient step, on one core.

Contenders take turns as in `turns`. All learn from the halfcheetah dataset that ships with cep,
with a batch of 256, two layers of 256, float32, 10 sampled controls of each kind, the same learning
rates and no Lagrange factor.

Where the time goes: into the products of the critics' hidden layers over 30 controls a state. Ours
takes them in passes that stay in the cache, and leaves most of the small shares of the softmax
out of the backward pass, by chance and without bias; "cql, every draw" does not. `cql-prior` values
one control a primitive.

d3rlpy requires gymnasium 1.0.0 exactly, and cep 1.4 or later: pip cannot install both, though
d3rlpy's learners work with either. It is therefore no part of an extra; see `INSTALL`.
"""

import importlib.util
from dataclasses import replace
from typing import Any

from cepcli.bench.turns import Notify, Slice, pinned_core, rates, serve, take_turns

OURS = ("cql", "cql, every draw", "cql-prior")
D3RLPY = "d3rlpy"
SYMBOLS = 8
RATIOS = {
    "ratio_to_d3rlpy": ("cql", D3RLPY),
    "every_draw_ratio_to_d3rlpy": ("cql, every draw", D3RLPY),
    "prior_ratio_to_cql": ("cql-prior", "cql"),
}
_ENV, _SPLIT = "halfcheetah", "medium-replay"
#: What to type for d3rlpy beside cep. Its own requirement of gymnasium is what stands in the way.
INSTALL = (
    "It requires gymnasium==1.0.0 and cep a later one, so pip must be told to leave that be: "
    "pip install 'cepcli[d3rlpy]' && pip install --no-deps d3rlpy==2.8.1"
)


def d3rlpy_is_installed() -> bool:
    """Whether this Python has d3rlpy."""
    return importlib.util.find_spec(D3RLPY) is not None


def bench_cql(
    steps: int = 20, rounds: int = 7, *, warm_up: int = 50, core: int | None = None,
    notify: Notify = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """Time all contenders in `rounds` rounds of `steps` gradient steps each.

    Args:
        steps: gradient steps of a slice, each with its batch.
        rounds: slices of each contender; medians are over them.
        warm_up: gradient steps before the first slice.
        core: to pin to; None for the last one that this process may use.
        notify: told what is going on.

    Returns:
        What `rates` returns, with `RATIOS`, and what was run.

    Raises:
        ConfigError: if the core is not this process's to use, or a contender ends.
    """
    core = pinned_core(core)
    names = [*OURS, *([D3RLPY] if d3rlpy_is_installed() else [])]
    times = take_turns(
        names, __spec__.name, steps=steps, rounds=rounds, warm_up=warm_up, core=core, notify=notify
    )
    return {
        **rates(times, steps, RATIOS), "not_installed": [] if D3RLPY in names else [D3RLPY],
        "dataset": f"{_ENV} {_SPLIT}", "batch_size": 256, "hidden": [256, 256], "samples": 10,
        "symbols": SYMBOLS, "steps": steps, "rounds": rounds, "warm_up": warm_up, "core": core,
    }  # fmt: skip


def _data() -> Any:
    from cepcli.datasets.load import load_dataset
    from cepcli.workspace.artifacts import Workspace
    from cepcli.workspace.variables import shipped_root

    return load_dataset(
        f"{_ENV}-{_SPLIT}", env=_ENV, workspace=Workspace(shipped_root()), notify=lambda line: None
    )


def _ours(name: str) -> Slice:
    import numpy as np
    import torch

    from cepcli.agents.cql import ControlCQL
    from cepcli.agents.offline_config import CQLConfig, OfflineConfig
    from cepcli.datasets.batches import ControlBatches
    from cepcli.device import flush_subnormals

    torch.set_num_threads(1)
    flush_subnormals()
    by_prior = name == "cql-prior"
    config = OfflineConfig(algorithm="cql-prior" if by_prior else "cql")
    if name == "cql, every draw":
        config = replace(config, cql=CQLConfig(share_floor=0.0))
    symbols = tuple(f"primitive {number}" for number in range(SYMBOLS)) if by_prior else ()
    batches = ControlBatches(_data(), symbols=symbols, normalise=False)
    learner = ControlCQL(config, features=17, controls=6, symbols=len(symbols), seed=0)
    sampling = np.random.default_rng(0)

    def run(steps: int) -> None:
        for _ in range(steps):
            learner.update(batches.sample(config.control.batch_size, sampling))

    return run


def _theirs() -> Slice:
    """d3rlpy's defaults, with what its script for D4RL sets: no Lagrange factor."""
    import numpy as np
    import torch
    from d3rlpy.algos import CQLConfig  # type: ignore[import-not-found] - it is optional
    from d3rlpy.dataset import MDPDataset  # type: ignore[import-not-found] - it is optional

    torch.set_num_threads(1)
    data = _data()
    dataset = MDPDataset(
        data.observations, data.controls, data.rewards[:, None],
        data.terminated.astype(np.float32), timeouts=data.truncated.astype(np.float32),
    )  # fmt: skip
    learner = CQLConfig(alpha_learning_rate=0.0).create(device=False)
    learner.build_with_dataset(dataset)

    def run(steps: int) -> None:
        for _ in range(steps):
            learner.update(dataset.sample_transition_batch(256))

    return run


def main(name: str, core: str) -> None:
    """A contender's process."""
    serve(core, lambda: _theirs() if name == D3RLPY else _ours(name))


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
