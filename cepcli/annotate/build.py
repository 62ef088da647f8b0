"""Artifacts of kind "annotations": made by rules, begun for a person, imported from a file.

One per family, unless it is named otherwise. One that ships with cep is copied into the workspace
before anything is added to it. Nothing here takes out what a person wrote.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cepcli.annotate.records import FILE, Annotation, State, suggestion, to_line
from cepcli.annotate.rules import rules_for
from cepcli.annotate.sampling import sample_states
from cepcli.annotate.store import (
    STATES,
    AnnotationFile,
    append_states,
    keep_states,
    read_states,
)
from cepcli.config import AT_LEAST_ONE, NOT_NEGATIVE, Settings, check_bounds, setting, write_toml
from cepcli.envs.catalog import control_ids, control_spec
from cepcli.errors import ConfigError
from cepcli.workspace.artifacts import Workspace, writing

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AnnotateConfig(Settings):
    """Which states are sampled to be annotated."""

    env: str = setting(
        "walker2d", "environment id, several with commas, or metaworld for all that are listed"
    )
    count: int = setting(250, "states in all", AT_LEAST_ONE)
    pool: int = setting(10, "states visited for each that is chosen", AT_LEAST_ONE)
    seed: int = setting(0, "of instances, policies and the first choice", NOT_NEGATIVE)

    def __post_init__(self) -> None:
        """Check ranges and that the environments are of one family."""
        check_bounds(self)
        self.family  # noqa: B018 - raises where environments do not go together

    @property
    def envs(self) -> tuple[str, ...]:
        """Ids of the environments, in the order given."""
        named = (control_ids(name.strip()) for name in self.env.split(","))
        return tuple(dict.fromkeys(one for ids in named for one in ids))

    @property
    def family(self) -> str:
        """The family of the environments."""
        families = {control_spec(env).family for env in self.envs}
        if len(families) > 1:
            raise ConfigError(
                f"`{self.env}` names several families ({', '.join(sorted(families))}).",
                "Annotations are stored per family: annotate one family at a time.",
            )
        return families.pop()


def annotate_by_rules(
    config: AnnotateConfig,
    workspace: Workspace,
    name: str,
    *,
    overwrite: bool = False,
    notify: Notify = lambda text: None,
) -> dict[str, Any]:
    """Sample states and let the rules annotate them; adds to what is there.

    With `overwrite`, what rules have said of these environments is taken out first; only that.

    Returns:
        {"name", "path", "added", "removed", "kept"}: annotations.
    """
    envs = config.envs
    for env in envs:
        rules_for(control_spec(env))
    with workspace.lock("annotations", name):
        found = sample(config, notify)
        file = _opened(config, workspace, name, notify)
        made = [suggestion(control_spec(state.env), state.observation) for state in found]
        before = len(file.annotations)
        if overwrite:
            were = {a.state for a in file.annotations}
            file.keep(lambda a: a.source != "auto" or a.env not in envs)
            gone = were - {a.state for a in file.annotations}
            keep_states(file.path.with_name(STATES), lambda state: state.id not in gone)
        left = len(file.annotations)
        there = {a.state for a in file.annotations if a.source == "auto"}
        new = [annotation for annotation in made if annotation.state not in there]
        append_states(file.path.with_name(STATES), found)
        file.append(new)
        changed = bool(new) or before > left
        if changed:
            with writing(workspace.root):
                write_toml(file.path.with_name("config.toml"), config)
        workspace.restamp("annotations", name, seed=config.seed if changed else None)
        return _count(file, name, added=len(new), removed=before - left, kept=left)


@contextmanager
def opened_for_people(
    config: AnnotateConfig,
    workspace: Workspace,
    name: str,
    notify: Notify = lambda text: None,
) -> Iterator[tuple[AnnotationFile, list[State]]]:
    """The annotation file and the states to annotate, held against other processes.

    States are sampled of those environments that have none there yet; where there are no
    annotations at all, before anything is made, so that an interruption leaves nothing.
    """
    with workspace.lock("annotations", name):
        is_new = name not in workspace.names("annotations")
        first = sample(config, notify) if is_new else []
        file = _opened(config, workspace, name, notify)
        states = file.path.with_name(STATES)
        append_states(states, first)
        known = read_states(states)
        there = {state.env for state in known} | {found.env for found in file.annotations}
        new = [env for env in config.envs if env not in there]
        if new:
            known += append_states(states, sample(replace(config, env=",".join(new)), notify))
        elif not is_new and replace(config, env=AnnotateConfig().env) != AnnotateConfig():
            notify("There are states to annotate already; for more: cep annotate auto")
        try:
            yield file, known
        finally:
            workspace.restamp("annotations", name)


def import_annotations(
    annotations: Sequence[Annotation],
    config: AnnotateConfig,
    workspace: Workspace,
    name: str,
    notify: Notify = lambda text: None,
) -> dict[str, Any]:
    """Add annotations that were read from elsewhere; those that are there already only once."""
    with workspace.lock("annotations", name):
        file = _opened(config, workspace, name, notify)
        there = {to_line(annotation) for annotation in file.annotations}
        before = len(file.annotations)
        new = list({to_line(a): a for a in annotations if to_line(a) not in there}.values())
        file.append(new)
        workspace.restamp("annotations", name)
        return _count(file, name, added=len(new), removed=0, kept=before)


def sample(config: AnnotateConfig, notify: Notify) -> list[State]:
    """States of the environments of `config`, `count` in all, evenly divided."""
    found = []
    for number, env in enumerate(config.envs):
        share = len(range(number, config.count, len(config.envs)))
        if share:
            notify(f"Sampling {share} states of {env}")
            found += sample_states(env, share, pool=config.pool, seed=config.seed)
    return found


def _begin(config: AnnotateConfig, workspace: Workspace, name: str, notify: Notify) -> None:
    """Make the artifact if the workspace has none: a copy of what ships, or with no annotation."""
    if workspace.exists("annotations", name):
        return
    if name not in workspace.names("annotations"):
        folder = workspace.begin("annotations", name)
        AnnotationFile(folder / FILE, config.family).append(())
        with writing(workspace.root):
            write_toml(folder / "config.toml", config)
        workspace.finish("annotations", name, seed=config.seed)
        return
    shipped = workspace.open("annotations", name)
    notify(f"Starting from the annotations `{name}` that ship with cep")

    def copy(folder: Path) -> None:
        for file in shipped.path.iterdir():
            if file.name != "manifest.json":
                shutil.copyfile(file, folder / file.name)

    workspace.begin("annotations", name, fill=copy)
    workspace.finish("annotations", name, seed=shipped.manifest["seed"], inputs=[shipped.reference])


def _opened(
    config: AnnotateConfig, workspace: Workspace, name: str, notify: Notify
) -> AnnotationFile:
    """The file of the artifact, which is begun if there is none.

    Lines that are no annotations are named; they stay as they are.
    """
    _begin(config, workspace, name, notify)
    file = AnnotationFile(workspace.directory("annotations", name) / FILE, config.family)
    for defect in file.defects:
        where = f"{file.path}:{defect.line}"
        notify(f"Leaving an invalid line unchanged: {where}: {defect.message.rstrip('.')}")
    return file


def _count(file: AnnotationFile, name: str, **counts: int) -> dict[str, Any]:
    return {"name": name, "path": str(file.path.parent), **counts}
