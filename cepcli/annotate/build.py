"""Artifacts of kind "annotations": made by rules, begun for a person, imported from a file.

One per family, unless it is named otherwise. One that ships with cep is copied into the workspace
before anything is added to it. Nothing here takes out what a person wrote.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cepcli.annotate import records, states
from cepcli.annotate.records import Annotation, suggestion, to_line
from cepcli.annotate.rules import rules_for
from cepcli.annotate.sampling import sample_states
from cepcli.annotate.states import State, append_states, keep_states, read_states
from cepcli.annotate.store import AnnotationFile
from cepcli.config import require, write_toml
from cepcli.envs.catalog import control_ids, control_spec
from cepcli.errors import ConfigError
from cepcli.workspace.artifacts import Workspace, writing

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AnnotateConfig:
    """Which states are sampled to be annotated."""

    env: str = field(
        default="walker2d",
        metadata={
            "help": "environment id, several with commas, or metaworld for all that are listed"
        },
    )
    count: int = field(default=250, metadata={"help": "states in all, >= 1"})
    pool: int = field(default=10, metadata={"help": "states visited for each that is chosen, >= 1"})
    seed: int = field(default=0, metadata={"help": "of instances, policies and the first choice"})

    def __post_init__(self) -> None:
        """Check ranges and that the environments are of one family."""
        for name in ("count", "pool"):
            value = getattr(self, name)
            require(value >= 1, f"`{name}` is {value}, expected at least 1.")
        require(self.seed >= 0, f"`seed` is {self.seed}, expected 0 or more.")
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
                f"`{self.env}` is of several families ({', '.join(sorted(families))}).",
                "Annotations are kept by family: annotate one after the other.",
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

    Args:
        config: which states.
        workspace: where the artifact goes.
        name: its name.
        overwrite: first take out what rules have said of these environments; only that.
        notify: told in one line what takes seconds.

    Returns:
        {"name", "path", "added", "removed", "kept"}: annotations.
    """
    envs = config.envs
    for env in envs:
        rules_for(control_spec(env))
    with workspace.lock("annotations", name):
        found = sample(config, notify)
        _begin(config, workspace, name, notify)
        made = [suggestion(control_spec(state.env), state.observation) for state in found]
        path = workspace.directory("annotations", name)
        file = AnnotationFile(path / records.FILE, config.family)
        _tell_defects(file, notify)
        before = len(file.annotations)
        if overwrite:
            were = {a.state for a in file.annotations}
            file.keep(lambda a: a.source != "auto" or a.env not in envs)
            gone = were - {a.state for a in file.annotations}
            keep_states(path / states.FILE, lambda state: state.id not in gone)
        kept = len(file.annotations)
        there = {a.state for a in file.annotations if a.source == "auto"}
        new = [annotation for annotation in made if annotation.state not in there]
        _add_states(path, found)
        file.append(new)
        changed = bool(new) or before > kept
        if changed:
            with writing(workspace.root):
                write_toml(path / "config.toml", config)
        workspace.restamp("annotations", name, seed=config.seed if changed else None)
        return _count(workspace, name, added=len(new), removed=before - kept, kept=kept)


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
        _begin(config, workspace, name, notify)
        path = workspace.directory("annotations", name)
        _add_states(path, first)
        known = read_states(path / states.FILE)
        file = AnnotationFile(path / records.FILE, config.family)
        _tell_defects(file, notify)
        there = {state.env for state in known} | {found.env for found in file.annotations}
        new = [env for env in config.envs if env not in there]
        if new:
            known += _add_states(path, sample(replace(config, env=",".join(new)), notify))
        elif not is_new and replace(config, env=AnnotateConfig().env) != AnnotateConfig():
            notify("States to annotate are there already; more of them: cep annotate auto")
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
        _begin(config, workspace, name, notify)
        path = workspace.directory("annotations", name)
        file = AnnotationFile(path / records.FILE, config.family)
        _tell_defects(file, notify)
        kept = {to_line(annotation) for annotation in file.annotations}
        before = len(file.annotations)
        new = list({to_line(a): a for a in annotations if to_line(a) not in kept}.values())
        file.append(new)
        workspace.restamp("annotations", name)
        return _count(workspace, name, added=len(new), removed=0, kept=before)


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
        AnnotationFile(folder / records.FILE, config.family).append(())
        with writing(workspace.root):
            write_toml(folder / "config.toml", config)
        workspace.finish("annotations", name, seed=config.seed)
        return
    shipped = workspace.open("annotations", name)
    notify(f"Beginning with the annotations `{name}` that ship with cep")

    def copy(folder: Path) -> None:
        for file in shipped.path.iterdir():
            if file.name != "manifest.json":
                shutil.copyfile(file, folder / file.name)

    workspace.begin("annotations", name, fill=copy)
    workspace.finish("annotations", name, seed=shipped.manifest["seed"], inputs=[shipped.reference])


def _tell_defects(file: AnnotationFile, notify: Notify) -> None:
    """Name the lines that are no annotations; they are kept as they are."""
    for defect in file.defects:
        notify(f"Leaving a line as it is: {file.path}:{defect.line}: {defect.message.rstrip('.')}")


def _add_states(path: Path, found: Sequence[State]) -> list[State]:
    there = {state.id for state in read_states(path / states.FILE)}
    new = [state for state in found if state.id not in there]
    append_states(path / states.FILE, new)
    return new


def _count(workspace: Workspace, name: str, **counts: int) -> dict[str, Any]:
    return {"name": name, "path": str(workspace.directory("annotations", name)), **counts}
