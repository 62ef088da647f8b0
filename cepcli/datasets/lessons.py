"""Labelled decisions to tune and judge a prior by, found in the workspace or recorded."""

from pathlib import Path

from cepcli.annotate.records import open_annotations
from cepcli.config import resolve
from cepcli.datasets.demonstrations import (
    DemosConfig,
    are_of_env,
    default_demos_name,
    demos_decisions,
    open_demos,
    record_demos,
)
from cepcli.envs import catalog
from cepcli.envs.catalog import control_spec
from cepcli.listener import Listener
from cepcli.prior.tuning.lessons import (
    TuningData,
    check_shots,
    lessons_in_file,
    split_heldout,
    split_labelled,
)
from cepcli.types import TextState
from cepcli.workspace.artifacts import Artifact, Workspace, read_json


def lessons_for(
    env: str, name: str | None, shots: int, workspace: Workspace, listener: Listener
) -> TuningData:
    """Labelled decisions: an expert's, or for continuous control those of annotated states.

    Args:
        env: the environment's id.
        name: demonstrations, annotations, or a file `….jsonl` of decisions; the default is the
            environment's demonstrations, recorded if too few, or the family's annotations.
        shots: how many are needed.
        workspace: where they are.
        listener: told while demonstrations are recorded.
    """
    found = catalog.spec(env)
    if name is not None and name.endswith(".jsonl"):
        return lessons_in_file(Path(name), found.id, found.family)
    if found.kind == "control":
        artifact, labelled = annotated_states(found.id, name, workspace)
        split = split_labelled(labelled, found.id)
        check_shots(split.train, shots, found.id)
        return TuningData(found.id, found.family, *split, artifact.reference)
    demos = demos_for(env, name, shots, workspace, listener)
    train = demos_decisions(demos, "train")
    validation, test = split_heldout(demos_decisions(demos, "heldout"))
    return TuningData(env, found.family, train, validation, test, demos.reference)


def annotated_states(
    env: str, name: str | None, workspace: Workspace
) -> tuple[Artifact, list[tuple[TextState, str]]]:
    """The annotations of the family of `env`, as the prior is asked and should answer.

    Those of every environment of the family, each under its own goal.
    """
    artifact, annotations = open_annotations(workspace, control_spec(env).family, name)
    specs = {one.env: control_spec(one.env) for one in annotations}
    return artifact, [
        (TextState(specs[one.env].goal, one.text, specs[one.env].actions), one.primitive)
        for one in annotations
    ]


def demos_for(
    env: str, name: str | None, episodes: int, workspace: Workspace, listener: Listener
) -> Artifact:
    """The demonstrations `name`, else those of the default name, recorded if there are none.

    Too few of the default name are left as they are; more are recorded beside them.
    """
    catalog.spec(env)  # an unknown environment is the first error
    if name is not None:
        return open_demos(workspace, name, env)
    config = resolve(DemosConfig, flags={"env": env})
    config = resolve(DemosConfig, flags={"env": env, "episodes": max(episodes, config.episodes)})
    name = default_demos_name(env)
    if name in workspace.names("demos"):
        found = workspace.open("demos", name)
        lack = _lack(found, env, episodes)
        if not lack:
            return found
        listener.notify(f"Leaving the demonstrations `{name}` as they are: {lack}")
        name = f"{name}-{config.episodes}"
        if name in workspace.names("demos"):
            return open_demos(workspace, name, env)
    listener.notify(f"Recording {config.episodes} demonstrations of {env} as `{name}`")
    return record(config, workspace, name, listener=listener)


def _lack(found: Artifact, env: str, episodes: int) -> str:
    """Why demonstrations do not do for `episodes` shots of `env`; empty when they do."""
    if not are_of_env(found, env):
        return f"they are not of {env}"
    there = read_json(found.path / "summary.json")["train"]["episodes"]
    return "" if there >= episodes else f"{there} episodes, {episodes} needed"


def record(
    config: DemosConfig,
    workspace: Workspace,
    name: str,
    *,
    overwrite: bool = False,
    listener: Listener,
) -> Artifact:
    """Record demonstrations under a progress bar; see `record_demos`."""
    total = config.episodes + config.heldout_episodes
    with listener.progress("Playing the expert", total) as advance:

        def progress(split: str, solved: int, _wanted: int) -> None:
            advance(solved if split == "train" else config.episodes + solved)

        return record_demos(
            config, workspace, name, overwrite=overwrite, progress=progress,
            notify=listener.notify,
        )  # fmt: skip
