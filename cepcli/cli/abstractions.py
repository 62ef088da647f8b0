"""Abstractions that commands work on: found in the workspace, or made while one waits."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cepcli.cli.prior_display import announce_first_use, note, progress_bar
from cepcli.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from numpy import ndarray

    from cepcli.abstraction.annotated import Rollout
    from cepcli.abstraction.build import AskPrior
    from cepcli.abstraction.states import Abstraction
    from cepcli.annotate.records import Annotation
    from cepcli.envs.control import ControlSpec
    from cepcli.keys.config import AbstractionConfig
    from cepcli.types import TextState
    from cepcli.workspace.artifacts import Artifact, Workspace

#: States per call of a prior: enough to fill rows, few enough to show progress.
_STATES_PER_CALL = 16
#: Steps of a rollout after which another policy plays.
_EPISODE_STEPS = 200
#: Rollouts are this many times longer than the states that are taken from them.
_STEPS_PER_STATE = 2


def abstraction_for(
    env: str, name: str, space: "Workspace", device: str, quiet: bool
) -> tuple["Abstraction", "Artifact"]:
    """The abstraction `name` for an environment; FAMILY/default is made if it is not there yet.

    Raises:
        ArtifactError: if there is none, or it was made for other states.
    """
    from cepcli.abstraction.build import REPORT
    from cepcli.abstraction.states import open_abstraction
    from cepcli.envs.catalog import control_spec
    from cepcli.keys.config import AbstractionConfig
    from cepcli.runs.settings import default_abstraction
    from cepcli.workspace.artifacts import read_json

    spec = control_spec(env)
    if name == default_abstraction(spec) and name not in space.names("abstraction"):
        note(quiet)(f"There is no abstraction `{name}` yet; making it (cep abstract train)")
        make_abstraction(AbstractionConfig(env=spec.id), space, None, device, False, quiet)
    abstraction, artifact = open_abstraction(
        space, name, env_id=spec.id, family=spec.family,
        feature_sha256=spec.feature_sha256, features=len(spec.features),
    )  # fmt: skip
    if spec.goal not in read_json(artifact.path / REPORT)["training"]["goals"]:
        note(quiet)(
            f"No state of {spec.id} was annotated for the abstraction `{name}`, and what it says "
            f"there is often wrong; better: cep annotate auto --env {spec.id}, then cep abstract "
            f"train --env {spec.id} --overwrite"
        )
    return abstraction, artifact


def make_abstraction(
    config: "AbstractionConfig", space: "Workspace", name: str | None, device: str,
    overwrite: bool, quiet: bool, insecure: bool = False,
) -> "Artifact":  # fmt: skip
    """Train an abstraction on annotations, rollouts and a prior; take it as it is if made so."""
    from dataclasses import replace

    from cepcli.abstraction.build import Sources, build_abstraction, is_made_so, require_enough
    from cepcli.abstraction.geometry import point_pairs
    from cepcli.annotate.records import open_annotations
    from cepcli.envs.catalog import control_ids, control_spec
    from cepcli.prior.load import prior_inputs
    from cepcli.runs.settings import default_abstraction, prior_for

    say, spec = note(quiet), control_spec(control_ids(config.env)[0])
    name = default_abstraction(spec) if name is None else _of_family(name, spec)
    annotations, found = open_annotations(space, spec.family, config.annotations)
    require_enough(len(found), spec.family, config.annotations)
    if not annotations.path.is_relative_to(space.root):
        say(f"Using the {len(found)} annotations of {spec.family} that ship with cep")
    prior = prior_for(spec, space, say) if config.prior is None else config.prior
    config = replace(config, env=spec.id, prior=prior)
    inputs = [annotations.reference, *(made.reference for made in prior_inputs(prior, space))]
    if not overwrite and is_made_so(space, name, config, inputs):
        say(f"Taking the abstraction `{name}` as it is: it was made so")
        return space.open("abstraction", name)
    with space.lock("abstraction", name):
        space.check_new("abstraction", name, overwrite=overwrite)
        ask = _asker(prior, spec.family, space, device, insecure, quiet)
        sources = Sources(
            family=spec.family,
            features=tuple(feature.name for feature in spec.features),
            feature_sha256=spec.feature_sha256,
            actions=spec.actions,
            annotated=labelled_states(found),
            rollouts=_rollouts(sorted({one.env for one in found}), config, space, say),
            pairs=point_pairs([(feature.name, feature.unit) for feature in spec.features]),
            prior=prior,
            inputs=inputs,
        )
        return build_abstraction(sources, config, space, name, ask, overwrite=overwrite, notify=say)


def labelled_states(annotations: Sequence["Annotation"]) -> Any:
    """Annotations as the abstraction takes them."""
    import numpy as np

    from cepcli.abstraction.annotated import Annotated
    from cepcli.envs.catalog import control_spec

    goals = {env: control_spec(env).goal for env in {one.env for one in annotations}}
    return Annotated(
        np.array([one.observation for one in annotations], np.float64),
        tuple(goals[one.env] for one in annotations),
        tuple(one.text for one in annotations),
        tuple(one.primitive for one in annotations),
        tuple(one.slots for one in annotations),
    )


def random_observations(env_id: str, steps: int, seed: int) -> "ndarray":
    """The first states of rollouts, one row each."""
    import numpy as np

    from cepcli.annotate.rollouts import rollouts
    from cepcli.envs.catalog import make_control_env

    env = make_control_env(env_id)
    played = rollouts(env, steps, _EPISODE_STEPS, seed)
    env.close()
    return np.concatenate([rollout.observations for rollout in played])


def observations_in(path: Path, features: int) -> "ndarray":
    """The observations in a .npy file, or in a JSON file as one list of numbers or several.

    Raises:
        ArtifactError: if they cannot be read, are not so many numbers each, or not finite.
    """
    import json

    import numpy as np

    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            values = json.loads(path.read_text(encoding="utf-8"))
        rows = np.atleast_2d(np.asarray(values, np.float64))
    except (OSError, EOFError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ArtifactError(
            f"Cannot read observations from `{path}`: {error}.",
            "Expected .npy, or JSON: [1.2, …] or [[1.2, …], …].",
        ) from error
    if rows.ndim != 2 or rows.shape[1] != features:
        raise ArtifactError(
            f"`{path}` holds observations of shape {rows.shape}, expected {features} numbers each."
        )
    broken = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(broken):
        raise ArtifactError(f"Observation {broken[0]} of `{path}` is not finite.")
    return rows


def _of_family(name: str, spec: "ControlSpec") -> str:
    """`name`, which must begin with the family."""
    if name.partition("/")[0] != spec.family or "/" not in name:
        raise ConfigError(
            f"`--name {name}` is not of the family of `{spec.id}`, expected {spec.family}/NAME.",
            f"Try --name {spec.family}/mine",
        )
    return name


def _rollouts(
    envs: Sequence[str], config: "AbstractionConfig", space: "Workspace", say: Any
) -> list["Rollout"]:
    """Rollouts of every annotated environment, together long enough for the states wanted.

    Rewards are in standard deviations of the environment's, so that tasks can be compared.
    """
    import numpy as np

    from cepcli.annotate.rollouts import rollouts
    from cepcli.envs.catalog import make_control_env

    if not config.rollout_states:
        return []
    steps = -(-_STEPS_PER_STATE * config.rollout_states // len(envs))
    say(f"Playing {steps} steps of {', '.join(envs)}")
    played: list[Rollout] = []
    for env_id in envs:
        env = make_control_env(env_id)
        found = rollouts(env, steps, _EPISODE_STEPS, config.seed)
        env.close()
        spread = np.concatenate([rollout.rewards for rollout in found]).std() or 1.0
        played += [rollout._replace(rewards=rollout.rewards / spread) for rollout in found]
    return played


def _asker(
    name: str, family: str, space: "Workspace", device: str, insecure: bool, quiet: bool
) -> "AskPrior":
    """Asks a prior through the journal, each distinct state once."""
    import numpy as np

    from cepcli.prior.config import PriorConfig, ServerConfig
    from cepcli.prior.load import find_prior, load_prior

    announce_first_use(find_prior(name, space).model, quiet)
    prior = load_prior(
        name, family=family, workspace=space,
        config=PriorConfig(server=ServerConfig(insecure=insecure)), device=device,
        journal_path=space.root / "journal.sqlite",
    )  # fmt: skip
    known: dict[TextState, ndarray] = {}

    def ask(states: Sequence["TextState"]) -> "ndarray":
        new = [state for state in dict.fromkeys(states) if state not in known]
        with progress_bar(f"Asking {name}", len(new), quiet) as advance:
            for start in range(0, len(new), _STATES_PER_CALL):
                part = new[start : start + _STATES_PER_CALL]
                answers = prior.log_probs(part)
                known.update(zip(part, (answer.log_prior for answer in answers), strict=True))
                advance(start + len(part))
        return np.array([known[state] for state in states])

    return ask
