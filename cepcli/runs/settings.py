"""The settings of a run: what the user chose, what a config.toml stores, what counts for nothing.

The command line and `cepcli.train` both come through here. Settings of older versions of cep are
read as ones of today, here and nowhere else. Needs no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from cepcli.agents.config import CONTROL, LEARNING, TrainConfig, reads_descriptions, training_config
from cepcli.agents.offline_config import OfflineConfig
from cepcli.cache.config import stored_settings
from cepcli.config import given, read_toml, refuse_idle
from cepcli.envs import catalog
from cepcli.envs.control import ControlSpec
from cepcli.errors import ArtifactError, ConfigError
from cepcli.prior.load import prior_inputs
from cepcli.prior.local.embedded import EMBEDDED
from cepcli.workspace.artifacts import Workspace
from cepcli.workspace.run_directory import build_stored, check_kind

T = TypeVar("T", TrainConfig, OfflineConfig)


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
        idle_training_settings(config),
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
                f"`{key}` has no effect here: no LLM is asked.",
                "Leave it out, or name a --prior.",
            )


# -- as stored ---------------------------------------------------------------------------------


def read_values(run: Path, kind: str = "agent") -> dict[str, Any]:
    """What a run's config.toml says, as nested plain values.

    Args:
        run: its directory.
        kind: the setting that only runs of the wanted kind have: "agent" of `cep train`,
            "algorithm" of `cep offline`.

    Raises:
        ArtifactError: if it is a run of the other kind, or of `cep bench sb3`, which cep compares
            and does not play.
        ConfigError: if the file cannot be read.
    """
    if not (run / "config.toml").exists() and (run / "settings.json").exists():
        raise ArtifactError(
            f"`{run.name}` is a run of Stable-Baselines3.",
            "Resume it with the command that started it and --resume; compare it with others with "
            "`cep runs compare`.",
        )
    values = read_toml(run / "config.toml")
    check_kind(run, values, kind)
    if isinstance(values.get("cache"), dict):
        values["cache"] = stored_settings(values["cache"])
    return values


def read_config(run: Path, cls: type[T] = TrainConfig) -> T:
    """The settings that a run was started with; what the file does not say has its default.

    Raises:
        ArtifactError: as `read_values`, or if the file has settings that cep does not know.
        ConfigError: if the file cannot be read.
    """
    kind = "agent" if cls is TrainConfig else "algorithm"
    return build_stored(cls, run, read_values(run, kind))


# -- that count for nothing --------------------------------------------------------------------

_LRU = ("lru", "fifo", "surrogate", "certified")
#: Keys of `cache` by the modes that they are for.
_OF_MODES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("capacity", "start", "eviction", "audit_penalty"), ("exact", *_LRU)),
    **dict.fromkeys(
        (
            "refresh_rate",
            "index",
            "encoder",
            "focus",
            "pool_goals",
            "head",
            "learn_head",
            "head_from",
            "learned",
        ),
        _LRU,
    ),
    **dict.fromkeys(("threshold", "gate"), ("lru", "fifo", "surrogate")),
    "surrogate": ("surrogate",),
    **dict.fromkeys(("most_capacity", "control_interval"), ("surrogate", "certified")),
}
#: Keys of `posterior` by the modes that they are for.
_OF_POSTERIORS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("candidates", "with_replacement"), ("k-candidates",)),
    **dict.fromkeys(("epsilon", "final_epsilon", "exploration"), ("epsilon-greedy",)),
    **dict.fromkeys(
        ("schedule", "temperature", "decay", "final_temperature"), ("exact", "k-candidates")
    ),
}
#: Keys of `posterior` by the schedules that they are for.
_OF_SCHEDULES: dict[str, tuple[str, ...]] = {
    "decay": ("hit-rate", "reliable-hit-rate"),
    "final_temperature": ("linear",),
}
#: What plain `sac` has none of: symbols.
_OF_SYMBOLS = ("symbol_steps", "relabel", "residual", "residual_starts")


def idle_training_settings(config: TrainConfig) -> dict[str, str]:
    """Why each key, or section, counts for nothing in this run; keys that count are not here."""
    return {
        **_of_the_agent(config),
        **_of_the_posterior(config),
        **_of_the_cache(config),
    }


def _of_the_agent(config: TrainConfig) -> dict[str, str]:
    agent, idle = config.agent, {}
    if agent not in LEARNING:
        idle["learner"] = f"agent `{agent}` does not use it"
    if agent not in (*LEARNING, "hybrid-sac"):
        idle["posterior"] = f"agent `{agent}` does not use it"
    if agent not in CONTROL:
        idle["sac"] = f"it is of continuous control, and agent `{agent}` is not"
    if agent == "sac":
        idle |= dict.fromkeys((f"sac.{key}" for key in _OF_SYMBOLS), "`sac` has no symbols")
    if config.prior == "uniform":
        idle["llm"] = "no LLM is asked"
    return idle


def _of_the_posterior(config: TrainConfig) -> dict[str, str]:
    posterior, idle = config.posterior, {}
    for key, schedules in _OF_SCHEDULES.items():
        if posterior.schedule not in schedules:
            idle[f"posterior.{key}"] = f"`posterior.schedule` is {posterior.schedule}"
    for key, modes in _OF_POSTERIORS.items():
        drawn = key in ("candidates", "with_replacement")
        drawn_in_backup = drawn and config.learner.backup == "max-candidates"
        if posterior.mode not in modes and not drawn_in_backup:
            idle[f"posterior.{key}"] = f"`posterior.mode` is {posterior.mode}"
    if not posterior.normalise_q:
        idle["posterior.q_range"] = "`posterior.normalise_q` is off"
    if config.learner.members == 1:
        idle["learner.doubt"] = "the ensemble has one network, which cannot disagree with itself"
    return idle


def _of_the_cache(config: TrainConfig) -> dict[str, str]:
    """All modes' audits are judged by κ and α of `certified`, which count wherever hits do."""
    if config.prior == "uniform":
        return {"cache": "no LLM is asked"}
    mode = config.cache.mode
    why = f"`cache.mode` is {mode}"
    idle = {f"cache.{key}": why for key, modes in _OF_MODES.items() if mode not in modes}
    if config.cache.head is not None or not config.cache.learn_head:
        idle |= dict.fromkeys(("cache.head_from", "cache.learned"), "no head is learned")
    if config.cache.gated:
        idle["cache.index"] = "`cache.gate` is words, and its index is always flat"
    if mode != "off" and config.cache.policy != "utility":
        idle["cache.audit_penalty"] = f"the eviction is {config.cache.policy}, not utility"
    return idle


_CQL = ("cql", "cql-prior")
_WITH_CRITICS = (*_CQL, "iql", "td3-bc")
#: Sections and keys by the algorithms that they are for.
_OF_ALGORITHMS: dict[str, tuple[str, ...]] = {
    "cql": _CQL,
    "symbols": ("cql-prior",),
    "iql": ("iql",),
    "td3_bc": ("td3-bc",),
    "text": (*_CQL, "iql", "bc"),
    "llm": ("cql-prior",),
    **dict.fromkeys(("text.weight", "text.temperature"), _CQL),
    **dict.fromkeys(("text.discount", "text.members", "text.target_interval"), _WITH_CRITICS),
    **dict.fromkeys(("control.discount", "control.critic_rate", "control.polyak"), _WITH_CRITICS),
    **dict.fromkeys(
        ("control.entropy_rate", "control.entropy_weight", "control.entropy_per_control"), _CQL
    ),
}


def idle_offline_settings(config: OfflineConfig) -> dict[str, str]:
    """Why each key, or section, counts for nothing in this run; keys that count are not here."""
    idle = {
        key: f"`{config.algorithm}` does not use it"
        for key, algorithms in _OF_ALGORITHMS.items()
        if config.algorithm not in algorithms
    }
    if not config.cql.lagrange:
        why = "`cql.lagrange` is off"
        idle = {**dict.fromkeys(("cql.threshold", "cql.lagrange_rate"), why), **idle}
    return idle
