"""The demonstrations that commands work on: found in the workspace, or recorded while one waits."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cepcli.cli.prior_display import note, progress_bar

if TYPE_CHECKING:
    from cepcli.prior.tuning.lessons import TuningData
    from cepcli.types import TextState
    from cepcli.workspace.artifacts import Artifact, Workspace


def lessons_for(
    env: str, name: str | None, shots: int, space: "Workspace", quiet: bool
) -> "TuningData":
    """Labelled decisions: an expert's, or for continuous control those of annotated states.

    `name` is of demonstrations or of annotations, or a file `….jsonl` of decisions; the family's
    annotations are the default.
    """
    from cepcli.datasets.demonstrations import demos_decisions
    from cepcli.envs.catalog import spec
    from cepcli.prior.tuning.lessons import TuningData, lessons_in_file, split_heldout

    found = spec(env)  # a mistyped environment is said first
    if name is not None and name.endswith(".jsonl"):
        return lessons_in_file(Path(name), found.id, found.family)
    if found.kind == "control":
        return _annotated_lessons(found.id, name, shots, space)
    demos = demos_for(env, name, shots, space, quiet)
    train = demos_decisions(demos, "train")
    validation, test = split_heldout(demos_decisions(demos, "heldout"))
    return TuningData(env, found.family, train, validation, test, demos.reference)


def annotated_states(
    env: str, name: str | None, space: "Workspace"
) -> tuple["Artifact", list[tuple["TextState", str]]]:
    """The annotations of the family of `env`, as the prior is asked and should answer.

    Those of every environment of the family, each under its own goal.
    """
    from cepcli.annotate.records import open_annotations
    from cepcli.envs.catalog import control_spec
    from cepcli.types import TextState

    artifact, annotations = open_annotations(space, control_spec(env).family, name)
    specs = {one.env: control_spec(one.env) for one in annotations}
    return artifact, [
        (TextState(specs[one.env].goal, one.text, specs[one.env].actions), one.primitive)
        for one in annotations
    ]


def _annotated_lessons(env: str, name: str | None, shots: int, space: "Workspace") -> "TuningData":
    from cepcli.envs.catalog import spec
    from cepcli.prior.tuning.lessons import TuningData, check_shots, split_labelled

    artifact, labelled = annotated_states(env, name, space)
    split = split_labelled(labelled, env)
    check_shots(split.train, shots, env)
    return TuningData(env, spec(env).family, *split, artifact.reference)


def demos_for(
    env: str, name: str | None, episodes: int, space: "Workspace", quiet: bool
) -> "Artifact":
    """The demonstrations to use: `name`, else those of default name, recorded if there are none.

    What has the default name but does not suffice is kept; more are recorded beside it.
    """
    from cepcli.config import resolve
    from cepcli.datasets.demonstrations import DemosConfig, default_demos_name, open_demos
    from cepcli.envs.catalog import spec

    spec(env)  # a mistyped environment is said first
    if name is not None:
        return open_demos(space, name, env)
    config = resolve(DemosConfig, flags={"env": env})
    config = resolve(DemosConfig, flags={"env": env, "episodes": max(episodes, config.episodes)})
    name = default_demos_name(env)
    if name in space.names("demos"):
        found = space.open("demos", name)
        lack = _lack(found, env, episodes)
        if not lack:
            return found
        note(quiet)(f"Leaving the demos `{name}` as they are: {lack}")
        name = f"{name}-{config.episodes}"
        if name in space.names("demos"):
            return open_demos(space, name, env)
    note(quiet)(f"Recording {config.episodes} demonstrations of {env} as `{name}`")
    return record(config, space, name, False, quiet)


def _lack(found: "Artifact", env: str, episodes: int) -> str:
    """Why demonstrations do not do for `episodes` shots of `env`; empty when they do."""
    from cepcli.datasets.demonstrations import are_of_env
    from cepcli.workspace.artifacts import read_json

    if not are_of_env(found, env):
        return f"they are not of {env}"
    there = read_json(found.path / "summary.json")["train"]["episodes"]
    return "" if there >= episodes else f"{there} episodes, {episodes} needed"


def record(config: Any, space: "Workspace", name: str, overwrite: bool, quiet: bool) -> "Artifact":
    """Record demonstrations under a progress bar, as `config`, a `DemosConfig`, says."""
    from cepcli.datasets.demonstrations import record_demos

    total = config.episodes + config.heldout_episodes
    with progress_bar("Playing the expert", total, quiet) as advance:

        def progress(split: str, solved: int, _wanted: int) -> None:
            advance(solved if split == "train" else config.episodes + solved)

        return record_demos(
            config, space, name, overwrite=overwrite, progress=progress, notify=note(quiet)
        )
