"""What a run needs that may have to be made first: an abstraction, labels of a dataset.

`cep train`, `cep abstract train`, `cep offline` and `cepcli.train` come through here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from cepcli.abstraction.annotated import Annotated, Rollout
from cepcli.abstraction.build import (
    REPORT,
    AskPrior,
    Sources,
    build_abstraction,
    is_made_so,
    require_enough,
)
from cepcli.abstraction.states import Abstraction, open_abstraction
from cepcli.agents.config import TrainConfig, reads_descriptions
from cepcli.agents.offline_config import PRESETS, OfflineConfig
from cepcli.annotate.records import Annotation, open_annotations
from cepcli.annotate.sampling import rollouts
from cepcli.config import build, given, merge, refuse_idle, resolve
from cepcli.datasets.dataset import ControlData, TextData
from cepcli.datasets.labelling import LabelConfig
from cepcli.datasets.labelling import label as label_states
from cepcli.datasets.labels import labels_of
from cepcli.datasets.load import load_dataset
from cepcli.envs import catalog
from cepcli.envs.catalog import control_ids, control_spec, make_control_env
from cepcli.envs.control import ControlSpec
from cepcli.errors import ConfigError, DataError
from cepcli.keys.config import AbstractionConfig
from cepcli.listener import SILENT, Listener, Notify
from cepcli.prior import load
from cepcli.prior.config import PriorConfig, ServerConfig
from cepcli.prior.load import UNIFORM, find_prior, prior_inputs
from cepcli.prior.local.embedded import EMBEDDED
from cepcli.runs.settings import default_abstraction, idle_offline_settings, prior_for
from cepcli.types import TextState
from cepcli.workspace.artifacts import Artifact, Workspace, read_json

#: States per call of a prior: enough to fill rows, few enough to show progress.
_STATES_PER_CALL = 16
#: Steps of a rollout after which another policy plays.
EPISODE_STEPS = 200
#: Rollouts are this many times longer than the states that are taken from them.
_STEPS_PER_STATE = 2


def prepare(config: TrainConfig, workspace: Workspace, listener: Listener) -> None:
    """Make what an online run needs and does not find: FAMILY/default, its abstraction."""
    if reads_descriptions(config):
        abstraction_for(config.env, str(config.abstraction), workspace, config.device, listener)
    listener.before_model(find_prior(config.prior, workspace).model)


def abstraction_for(
    env: str, name: str, workspace: Workspace, device: str, listener: Listener
) -> tuple[Abstraction, Artifact]:
    """The abstraction `name` for an environment; FAMILY/default is made if it is missing.

    Raises:
        ArtifactError: if there is none, or it was made for other states.
    """
    known = control_spec(env)
    if name == default_abstraction(known) and name not in workspace.names("abstraction"):
        listener.notify(f"There is no abstraction `{name}` yet; making it (cep abstract train)")
        make_abstraction(
            AbstractionConfig(env=known.id), workspace, device=device, listener=listener
        )
    abstraction, artifact = open_abstraction(workspace, name, known)
    if known.goal not in read_json(artifact.path / REPORT)["training"]["goals"]:
        listener.notify(
            f"The abstraction `{name}` was trained without annotated states of {known.id}, so its "
            f"descriptions are often wrong there; better: cep annotate auto --env {known.id}, then "
            f"cep abstract train --env {known.id} --overwrite"
        )
    return abstraction, artifact


def make_abstraction(
    config: AbstractionConfig,
    workspace: Workspace,
    name: str | None = None,
    *,
    device: str = "cpu",
    overwrite: bool = False,
    insecure: bool = False,
    listener: Listener = SILENT,
) -> Artifact:
    """Train an abstraction on annotations, rollouts and a prior; one that was made so is taken."""
    say, known = listener.notify, control_spec(control_ids(config.env)[0])
    name = default_abstraction(known) if name is None else _of_family(name, known)
    annotations, found = open_annotations(workspace, known.family, config.annotations)
    require_enough(len(found), known.family, config.annotations)
    if not annotations.path.is_relative_to(workspace.root):
        say(f"Using the {len(found)} annotations of {known.family} that ship with cep")
    prior = prior_for(known, workspace, say) if config.prior is None else config.prior
    config = replace(config, env=known.id, prior=prior)
    inputs = [annotations.reference, *(made.reference for made in prior_inputs(prior, workspace))]
    if not overwrite and is_made_so(workspace, name, config, inputs):
        say(f"Using the existing abstraction `{name}`: it has the same settings and inputs")
        return workspace.open("abstraction", name)
    with workspace.lock("abstraction", name):
        workspace.check_new("abstraction", name, overwrite=overwrite)
        ask = _asker(prior, known.family, workspace, device, insecure, listener)
        played = _rollouts(sorted({one.env for one in found}), config, say)
        sources = Sources(known, _annotated(found), played, prior, inputs)
        return build_abstraction(
            sources, config, workspace, name, ask, overwrite=overwrite, notify=say
        )


def _annotated(annotations: Sequence[Annotation]) -> Annotated:
    """Annotations as the abstraction takes them."""
    goals = {env: control_spec(env).goal for env in {one.env for one in annotations}}
    return Annotated(
        np.array([one.observation for one in annotations], np.float64),
        tuple(goals[one.env] for one in annotations),
        tuple(one.text for one in annotations),
        tuple(one.primitive for one in annotations),
        tuple(one.slots for one in annotations),
    )


def _of_family(name: str, known: ControlSpec) -> str:
    """`name`, which must begin with the family."""
    if name.partition("/")[0] != known.family or "/" not in name:
        raise ConfigError(
            f"`--name {name}` is not of the family of `{known.id}`, expected {known.family}/NAME.",
            f"Try --name {known.family}/mine",
        )
    return name


def _rollouts(envs: Sequence[str], config: AbstractionConfig, say: Notify) -> list[Rollout]:
    """Rollouts of every annotated environment, together long enough for the states wanted.

    Rewards are in standard deviations of the environment's, so that tasks can be compared.
    """
    if not config.rollout_states:
        return []
    steps = -(-_STEPS_PER_STATE * config.rollout_states // len(envs))
    say(f"Playing {steps} steps of {', '.join(envs)}")
    played: list[Rollout] = []
    for env_id in envs:
        env = make_control_env(env_id)
        found = rollouts(env, steps, EPISODE_STEPS, config.seed)
        env.close()
        spread = np.concatenate([rollout.rewards for rollout in found]).std() or 1.0
        played += [rollout._replace(rewards=rollout.rewards / spread) for rollout in found]
    return played


def _asker(
    name: str, family: str, workspace: Workspace, device: str, insecure: bool, listener: Listener
) -> AskPrior:
    """Asks a prior through the journal, each distinct state once."""
    listener.before_model(find_prior(name, workspace).model)
    prior = load.load_prior(
        name, family=family, workspace=workspace,
        config=PriorConfig(server=ServerConfig(insecure=insecure)), device=device,
        journal_path=workspace.root / "journal.sqlite",
    )  # fmt: skip
    known: dict[TextState, ndarray] = {}

    def ask(states: Sequence[TextState]) -> ndarray:
        new = [state for state in dict.fromkeys(states) if state not in known]
        with listener.progress(f"Asking {name}", len(new)) as advance:
            for start in range(0, len(new), _STATES_PER_CALL):
                part = new[start : start + _STATES_PER_CALL]
                answers = prior.log_probs(part)
                known.update(zip(part, (answer.log_prior for answer in answers), strict=True))
                advance(start + len(part))
        return np.array([known[state] for state in states])

    return ask


def chosen_offline_config(
    algorithm: str,
    *,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any],
) -> OfflineConfig:
    """The configuration of an offline run, from what a user has set.

    Raises:
        ConfigError: where settings name another algorithm, do not exist, cannot work, or have no
            effect.
    """
    named = given(file=file, overrides=overrides)
    if named.get("algorithm", algorithm) != algorithm:
        raise ConfigError(
            f"`algorithm` is set to {named['algorithm']}, but the command is {algorithm}.",
            f"Type: cep offline {named['algorithm']}",
        )
    flags = {**flags, "algorithm": None if "algorithm" in named else algorithm}
    config = resolve(
        OfflineConfig, file=file, overrides=overrides, flags=flags,
        presets=PRESETS, preset_key="algorithm",
    )  # fmt: skip
    refuse_idle(given(overrides=overrides, flags=flags), idle_offline_settings(config))
    return config


def prepare_offline(
    config: OfflineConfig, workspace: Workspace, listener: Listener
) -> tuple[OfflineConfig, dict[str, Any] | None]:
    """`config` with its prior, and the figures of the labels that had to be made for it.

    Only cql-prior needs labels; a dataset that has none by its prior is labelled.
    """
    if config.algorithm != "cql-prior" or config.prior == UNIFORM:
        return config, None
    data = load_dataset(
        config.dataset, env=config.env, split=config.split, workspace=workspace,
        notify=lambda text: None,
    )  # fmt: skip
    if config.prior is None:
        if data.env is None:
            raise ConfigError(
                "The dataset does not name its environment, so it has no default prior.",
                "Name one of them: --env ID or --prior NAME",
            )
        config = replace(config, prior=default_prior(data.env, workspace, listener.notify))
    assert config.prior is not None
    find_prior(config.prior, workspace)
    if config.prior in labels_of(data, workspace):
        return config, None
    listener.notify(f"The dataset has no labels by `{config.prior}` yet; making them once")
    how = LabelConfig(prior=config.prior, device=config.device, llm=config.llm)
    return config, label(config.dataset, data, how, workspace, listener=listener)


def chosen_label_config(
    dataset: str,
    data: ControlData | TextData,
    values: Mapping[str, Any],
    workspace: Workspace,
    notify: Notify,
) -> LabelConfig:
    """The configuration of a labelling from what was set, with the default prior and cache."""
    known = _env_of(dataset, data)
    values = merge({"cache": {"mode": "certified"}}, values)
    if "prior" not in values:
        values["prior"] = default_prior(known, workspace, notify)
    return build(LabelConfig, values)


def label(
    dataset: str,
    data: ControlData | TextData,
    config: LabelConfig,
    workspace: Workspace,
    *,
    overwrite: bool = False,
    listener: Listener,
) -> dict[str, Any]:
    """Label the states of a dataset of a known environment; the figures of the labels.

    States of continuous control are described by an abstraction: FAMILY/default unless one is
    named, which is made if it is missing.
    """
    known, words = catalog.spec(_env_of(dataset, data)).control, None
    if known is not None and config.prior != UNIFORM:
        name = config.abstraction or default_abstraction(known)
        words = abstraction_for(known.id, name, workspace, config.device, listener)
        config = replace(config, abstraction=name)
    listener.before_model(find_prior(config.prior, workspace).model)
    with listener.progress(f"Labelling {dataset}", config.states or len(data)) as advance:
        return label_states(
            data, config, workspace, words=words, overwrite=overwrite, advance=advance,
            notify=listener.notify,
        )  # fmt: skip


def _env_of(dataset: str, data: ControlData | TextData) -> str:
    if data.env is None:
        raise DataError(
            f"The dataset `{dataset}` does not name its environment, so nothing describes its "
            "states.",
            "Name it: --env ID",
        )
    return data.env


def default_prior(env: str, workspace: Workspace, notify: Notify) -> str:
    """The prior of an environment unless another is named: the one tuned for it, or embedded."""
    known = catalog.spec(env).control
    return EMBEDDED if known is None else prior_for(known, workspace, notify)
