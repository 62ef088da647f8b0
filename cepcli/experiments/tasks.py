"""The tasks of a sweep: commands of cep, what each leaves, and which come before."""

from pathlib import Path
from typing import Any, NamedTuple

from cepcli.experiments.ablation import FILE, Ablation, World
from cepcli.workspace.artifacts import Workspace


class Job(NamedTuple):
    """One run of a sweep.

    Attributes:
        variant: which.
        seed: of the run.
        run: its name.
        config: nested plain values of `cep train`, without what `settings` holds.
        settings: a file that is prepared and lies under the variant's own settings.
        own: the variant's own settings, which lie over those of the file.
    """

    variant: str
    seed: int
    run: str
    config: dict[str, Any]
    settings: Path | None
    own: dict[str, Any]


class Task(NamedTuple):
    """One command of a sweep.

    Attributes:
        key: identity within the sweep.
        what: for people.
        command: the arguments of `cep`, without workspace; those of a job are made when it runs.
        kind: of the artifact that it makes, or `FILE`.
        name: its name; of a file, the path.
        needs: keys of tasks that come before.
        job: the run, if it is one.
    """

    key: str
    what: str
    command: tuple[str, ...]
    kind: str
    name: str
    needs: tuple[str, ...]
    job: Job | None = None

    def is_done(self, workspace: Workspace) -> bool:
        """Whether what it makes is there."""
        if self.kind == FILE:
            return Path(self.name).is_file()
        if self.job is not None:
            return workspace.exists(self.kind, self.name)
        return self.name in workspace.names(self.kind)


class Plan(NamedTuple):
    """A sweep.

    Attributes:
        ablation: the table.
        world: the environment that is played.
        label: what the names of its runs begin with.
        usual: whether it is in the table's first world, with the settings of the table.
        whole: whether all variants of the table are played.
        tasks: each after those that it needs.
    """

    ablation: Ablation
    world: World
    label: str
    usual: bool
    whole: bool
    tasks: list[Task]

    @property
    def jobs(self) -> list[Job]:
        """The runs, one seed of every variant before the next seed."""
        return [task.job for task in self.tasks if task.job is not None]

    @property
    def name(self) -> str:
        """Of the artifact that holds the result."""
        name = self.ablation.name if self.usual else self.label.removeprefix("ablate-")
        return name if self.whole else f"{name}-part"

    def measured(self, job: Job) -> Path | None:
        """Where the measurement of a run lies; None where nothing is measured on it."""
        found = [task for task in self.tasks if task.key == measuring(job)]
        return Path(found[0].name) if found else None


def measuring(job: Job) -> str:
    """Key of the task that measures a run."""
    return f"measure {job.run}"
