"""What `cepcli` offers to Python beside the command line: environments, priors, training.

Everything here calls what the command of the same name calls, with the same defaults.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cepcli.config import build
from cepcli.envs import catalog
from cepcli.envs.base import SymbolicEnv
from cepcli.envs.control import ControlEnv
from cepcli.listener import Listener, Notify
from cepcli.prior import load
from cepcli.prior.base import Prior
from cepcli.prior.config import PriorConfig
from cepcli.report.frames import load_run
from cepcli.report.saved_runs import SavedRun
from cepcli.workspace.artifacts import Workspace
from cepcli.workspace.run_directory import is_offline
from cepcli.workspace.variables import workspace_root


def _unheard(text: str) -> None:
    """Progress goes nowhere unless somebody asks for it."""


def make_env(
    env: str,
    *,
    split: Literal["train", "heldout"] = "train",
    options: Mapping[str, Any] | None = None,
    workspace: str | Path | None = None,
    notify: Notify = _unheard,
) -> SymbolicEnv | ControlEnv:
    """A Gymnasium environment, of text or of continuous control, not yet reset.

    Args:
        env: its id; `cep envs list` shows them.
        split: which instances it draws; those of the two splits are disjoint.
        options: of its family; `cep envs show ID` lists them.
        workspace: where generated games are kept; default `$CEP_HOME`, else `./artifacts`.
        notify: told in one line about anything that takes seconds.

    Raises:
        EnvError: if there is no such environment, or it cannot be made.
        ConfigError: on an unknown option or a value that does not fit.
    """
    given = dict(options or {})
    if catalog.spec(env).kind == "control":
        return catalog.make_control_env(env, split=split, options=given)
    root = _workspace(workspace).root
    return catalog.make_env(env, split=split, workspace=root, options=given, progress=notify)


def load_prior(
    name: str,
    env: str,
    *,
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
    journal: bool = True,
    workspace: str | Path | None = None,
) -> Prior:
    """A language model as a prior over the actions of an environment; without a cache.

    Args:
        name: "uniform", "embedded", a tuned prior, a directory or GGUF file, a hub id, server:URL.
        env: the environment's id, which decides the prompt.
        settings: the keys of `llm` in docs/commands.md, such as `{"normalisation": "sum"}`.
        device: cpu, cuda or cuda:N.
        journal: whether repeated questions are answered from the workspace's journal.
        workspace: where tuned priors live; default `$CEP_HOME`, else `./artifacts`.

    Raises:
        PriorError: if there is no such prior, or it cannot be loaded.
        ConfigError: on an unknown setting or a value that does not fit.
    """
    space = _workspace(workspace)
    return load.load_prior(
        name,
        family=catalog.spec(env).family,
        workspace=space,
        config=build(PriorConfig, settings or {}),
        device=device,
        journal_path=space.root / "journal.sqlite" if journal else None,
    )


def train(
    env: str | None = None,
    *,
    agent: str | None = None,
    prior: str | None = None,
    cache: str | None = None,
    dataset: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workspace: str | Path | None = None,
    notify: Notify = _unheard,
) -> SavedRun:
    """Train an agent as `cep train` or `cep offline` does, to the end, and return its run.

    What the run needs and does not find is made first: the default abstraction of continuous
    control, and the labels of a dataset for cql-prior.

    Args:
        env: the environment's id; a dataset knows its own.
        agent: default posterior-q, hybrid-sac in continuous control; one of cql, cql-prior, bc,
            iql and td3-bc learns from a dataset alone.
        prior: default the agent's.
        cache: off, exact, lru, fifo, surrogate or certified.
        dataset: for agents that learn from one: d4rl (the default), a name, a file, a Minari id.
        steps: decisions to take, control steps, or gradient steps on a dataset.
        seed: of every random stream.
        device: cpu, cuda or cuda:N.
        settings: other settings by dotted key, as `{"posterior.temperature": 0.5}`.
        config: a TOML file with settings.
        name: the run's; default one that tells its settings.
        resume: go on where an unfinished run of the name stopped.
        overwrite: replace a run of the name.
        workspace: where the run goes; default `$CEP_HOME`, else `./artifacts`.
        notify: told in one line about anything that takes seconds.

    Raises:
        CepError: in one sentence: settings that cannot work, a name that is taken, a prior or an
            environment that is not there.
    """
    from cepcli.agents.offline_config import PRESETS
    from cepcli.errors import ConfigError
    from cepcli.report.plots import plot_run
    from cepcli.runs.engine import Hooks, default_name, start_run
    from cepcli.runs.preparation import chosen_offline_config, prepare, prepare_offline
    from cepcli.runs.settings import chosen_config

    space, listener = _workspace(workspace), Listener(notify=notify)
    named = {
        "env": env, "prior": prior, "cache.mode": cache, "dataset": dataset, "steps": steps,
        "seed": seed, "device": device,
    }  # fmt: skip
    flags = {**(settings or {}), **{k: v for k, v in named.items() if v is not None}}
    file = None if config is None else Path(config)
    if agent in PRESETS:
        chosen = chosen_offline_config(agent, file=file, flags=flags)
        chosen, _ = prepare_offline(chosen, space, listener)
    elif dataset is not None:
        raise ConfigError(
            "`dataset` is only for agents that learn from one.",
            f"Choose an agent: {', '.join(PRESETS)}.",
        )
    else:
        flags |= {} if agent is None else {"agent": agent}
        chosen = chosen_config(space, file=file, flags=flags, resume=resume, notify=notify)
        prepare(chosen, space, listener)
    label = name or default_name(chosen)
    start_run(
        chosen, space, label, resume=resume, overwrite=overwrite,
        hooks=Hooks(on_finish=plot_run), notify=notify,
    )  # fmt: skip
    return load_run(label, space.root)


def evaluate(
    run: str,
    *,
    episodes: int = 50,
    frozen_cache: bool = False,
    options: Mapping[str, Any] | None = None,
    workspace: str | Path | None = None,
    notify: Notify = _unheard,
) -> dict[str, Any]:
    """Play held-out episodes with a finished run, as `cep eval` and `cep offline eval` do.

    Args:
        run: its name; the run itself is not changed.
        episodes: how many are played.
        frozen_cache: answer from the run's cache, read-only; else the prior is asked each time.
        options: of the environment, over those that the run was trained with.
        workspace: where the run is; default `$CEP_HOME`, else `./artifacts`.
        notify: told in one line about anything that takes seconds.

    Returns:
        The summary that `--json` prints: `["eval"]["success_rate"]`, `["queries"]["total"]`, …

    Raises:
        ArtifactError: if there is no such run, or it is not finished.
        ConfigError: if a run of a dataset is given a cache or options, which it has none of.
    """
    from cepcli.errors import ConfigError

    space = _workspace(workspace)
    if is_offline(space, run):
        from cepcli.runs.engine import evaluate_offline_run

        if frozen_cache or options:
            raise ConfigError(
                f"`{run}` was trained on a dataset: it has no cache, and its environment no other "
                "options.",
                "Leave out `frozen_cache` and `options`.",
            )
        return evaluate_offline_run(space, run, episodes, notify)
    from cepcli.runs.engine import evaluate_run

    return evaluate_run(
        space,
        run,
        episodes,
        frozen_cache=frozen_cache,
        notify=notify,
        env_options=dict(options or {}),
    )


def _workspace(root: str | Path | None) -> Workspace:
    return Workspace(workspace_root(None if root is None else Path(root)))
