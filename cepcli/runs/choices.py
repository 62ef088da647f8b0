"""From what a user has set to the configuration of a run, with what they left to cep.

The command line and `cepcli.train` both come through here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cepcli.agents.config import CONTROL, TrainConfig, reads_descriptions, training_config
from cepcli.config import given, refuse_idle
from cepcli.envs import catalog
from cepcli.envs.control import ControlSpec
from cepcli.errors import ConfigError
from cepcli.prior.load import prior_inputs
from cepcli.prior.local.embedded import EMBEDDED
from cepcli.runs.idle import idle_settings
from cepcli.workspace.artifacts import Workspace


def chosen_config(
    workspace: Workspace,
    *,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any],
    resume: bool,
    notify: Callable[[str], None],
) -> TrainConfig:
    """The whole configuration of a run, of which nothing is made yet.

    Continuous control is learned by hybrid-sac, unless an agent is named; its prior is the one that
    was tuned for the family, and its abstraction FAMILY/default.

    Args:
        workspace: where priors are looked for.
        file: a TOML file with settings.
        overrides: `KEY=VALUE` each, over the file.
        flags: values by dotted key, over both; None is not set.
        resume: whether the run goes on, in which case it may have what no new run may.
        notify: told what was chosen.

    Raises:
        ConfigError: where settings do not exist, cannot work, or count for nothing.
        EnvError: if there is no such environment.
        PriorError: if there is no such prior.
    """
    flags = dict(flags)
    named = given(file=file, overrides=overrides, flags=flags)
    config = training_config(file=file, overrides=overrides, flags=flags)
    is_control = catalog.spec(config.env).kind == "control"
    if "agent" not in named and is_control and config.agent not in CONTROL:
        notify(f"`{config.env}` is continuous control: training hybrid-sac")
        flags["agent"] = "hybrid-sac"
        config = training_config(file=file, overrides=overrides, flags=flags)
    typed = given(overrides=overrides, flags=flags)  # a file may be of a run with other settings
    if config.prior == "uniform":
        _refuse_llm(typed)
    refuse_idle(
        {k: v for k, v in typed.items() if k != "cache" or v != {"mode": "off"}},
        idle_settings(config),
    )
    if not resume:  # a setting that no run begins with is said before anything is made for it
        config.check_new()
    if reads_descriptions(config):
        known = catalog.control_spec(config.env)
        if "prior" not in named:
            config = replace(config, prior=prior_for(known, workspace, notify))
        prior_inputs(config.prior, workspace)  # a misspelt one is said before anything is made
        config = replace(config, abstraction=config.abstraction or default_abstraction(known))
    return replace(config, env_options=catalog.full_options(config.env, config.env_options))


def default_abstraction(known: ControlSpec) -> str:
    """The abstraction of an environment unless it is named otherwise."""
    return f"{known.family}/default"


def prior_for(known: ControlSpec, workspace: Workspace, notify: Callable[[str], None]) -> str:
    """The prior that has the family's name, tuned for it; else the untuned embedded one."""
    if known.family in workspace.names("prior"):
        return known.family
    notify(
        f"No prior is named `{known.family}`: asking the untuned one (tune one first: cep prior "
        f"finetune --env {known.id} --shots 20 --name {known.family})"
    )
    return EMBEDDED


def _refuse_llm(typed: Mapping[str, Any]) -> None:
    """Refuse what was typed for an LLM where none is asked."""
    idle = {
        "cache.mode": typed.get("cache", {}).get("mode", "off") != "off",
        "trace": typed.get("trace", False),
        "abstraction": "abstraction" in typed,
    }
    for key, is_idle in idle.items():
        if is_idle:
            raise ConfigError(
                f"`{key}` was set, but means nothing here: no LLM is asked.",
                "Leave it out, or name a --prior.",
            )
