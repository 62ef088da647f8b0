"""What caches of other settings would have done with a recorded run: a grid of replays.

Example: cep cache replay my-run --cache lru,certified --threshold 0.9,0.95,0.99 --encoder hash
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cepcli.agents.posterior_q import Policy, QLearner
from cepcli.cache.config import CacheConfig
from cepcli.cache.replay.play import KeyTable, OwnValues, replay
from cepcli.cache.replay.resample import ResampleConfig, course
from cepcli.cache.trace import Trace
from cepcli.config import require, resolve
from cepcli.errors import ConfigError
from cepcli.keys.key_encoder import make_key_encoder
from cepcli.listener import Notify
from cepcli.prior.base import PriorAnswer
from cepcli.registry import suggest
from cepcli.runs.engine import finished_run
from cepcli.types import TextState
from cepcli.workspace.artifacts import Workspace

#: Settings that make no difference to a mode.
_IDLE = {
    "off": ("threshold", "encoder", "gate"),
    "exact": ("threshold", "encoder", "gate"),
    "certified": ("threshold", "gate"),
}
_CONTROLLERS = ("fixed", "surrogate", "certified")


def find_trace(name: str, workspace: Workspace) -> Path:
    """The file or the run's directory that `name` means; the run may be unfinished."""
    if Path(name).exists():
        return Path(name)
    partial = workspace.partial("run", name)
    return partial if partial.is_dir() else workspace.open("run", name).path


def grid(
    choices: Mapping[str, Sequence[Any]], encoder: str | None, overrides: Sequence[str]
) -> list[CacheConfig]:
    """Every combination of settings, once; those that make no difference to a mode are left out.

    Args:
        choices: values by setting; "controller" (fixed, surrogate, certified) is taken into "mode".
        encoder: the key encoder; None for the default.
        overrides: `KEY=VALUE` each, for all of them.
    """
    configs = []
    for values in itertools.product(*choices.values()):
        flags = _controlled({**dict(zip(choices, values, strict=True)), "encoder": encoder})
        mode = resolve(CacheConfig, overrides=overrides, flags=flags).mode
        flags = {key: value for key, value in flags.items() if key not in _IDLE.get(mode, ())}
        config = resolve(CacheConfig, overrides=overrides, flags=flags)
        require(config.start is None, "A replay starts with an empty cache; leave `start` out.")
        if config not in configs:
            configs.append(config)
    return configs


def _controlled(flags: dict[str, Any]) -> dict[str, Any]:
    """`flags` with a controller taken into the mode; the mode's eviction stays."""
    controller = flags.pop("controller", "fixed")
    if controller not in _CONTROLLERS:
        raise ConfigError(
            f"There is no controller `{controller}`.", suggest(controller, _CONTROLLERS)
        )
    mode = flags.get("mode")
    if controller == "fixed" or mode in ("off", "exact"):
        return flags
    own = {"eviction": mode} if mode in ("lru", "fifo") else {}
    return {**own, **flags, "mode": controller}


def keys_of(trace: Trace, configs: Sequence[CacheConfig], notify: Notify) -> KeyTable | None:
    """The key of every text of the trace, if any of the caches compares texts."""
    first = next((config for config in configs if config.keyed), None)
    if first is None:
        return None
    states = {(d.state.goal, d.state.text) for d in trace.decisions}
    notify(f"Making the keys of {len(states)} texts ({first.encoder})")
    return KeyTable.of(trace, make_key_encoder(first.encoder, focus=first.focus, head=first.head))


def replayed(
    trace: Trace,
    configs: Sequence[CacheConfig],
    keys: KeyTable | None,
    how: ResampleConfig,
    values: OwnValues | None,
    notify: Notify,
) -> list[dict[str, Any]]:
    """The trace itself through each cache: a row for each."""
    decisions, change = course(trace, how)
    notify(f"Replaying {len(decisions)} decisions through {len(configs)} settings")
    rows = []
    for config in configs:
        found = replay(
            trace, config, keys if config.keyed else None, seed=how.seed, decisions=decisions,
            change=change, values=values,
        )  # fmt: skip
        rows.append(found.summary())
        notify(f"{len(rows)}/{len(configs)} settings replayed")
    return rows


def own_values(run: str, workspace: Workspace, notify: Notify) -> OwnValues:
    """The Q of a finished run's learner, of a state under a prior.

    Raises:
        ConfigError: if the run has no learner of texts.
    """
    parts, _ = finished_run(workspace, run, notify)
    learner, policy = parts.learner, parts.policy
    if not isinstance(learner, QLearner) or not isinstance(policy, Policy):
        raise ConfigError(
            f"`{run}` has no Q-function of texts, which a trace needs.",
            "Name a run of posterior-q. The Q-function of hybrid-sac needs observations: "
            f"cep bench kl-bound {run}",
        )

    def values(state: TextState, log_prior: Any) -> Any:
        rows = policy.rows(state, PriorAnswer(log_prior, log_prior, "miss"))
        assert rows is not None, "a learner has a table of texts"
        return learner.q_values(rows).double().numpy()

    return values
