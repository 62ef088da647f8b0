"""From an ablation's table to the tasks that answer it: commands of cep, and what comes first."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from cepcli.agents.config import TrainConfig, with_presets
from cepcli.config import build, merge
from cepcli.envs.catalog import spec
from cepcli.errors import ConfigError
from cepcli.experiments.ablation import FILE, Ablation, Preparation, Setup
from cepcli.prior.load import find_prior
from cepcli.prior.local.embedded import EMBEDDED
from cepcli.registry import suggest
from cepcli.report.frames import flat
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


class SweepPlan(NamedTuple):
    """A sweep.

    Attributes:
        ablation: the table.
        setup: the environment that is played.
        label: what the names of its runs begin with.
        usual: whether it is the table's first setup, with the settings of the table.
        whole: whether all variants of the table are played.
        tasks: each after those that it needs.
    """

    ablation: Ablation
    setup: Setup
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
        found = [task.name for task in self.tasks if task.key == f"measure {job.run}"]
        return Path(found[0]) if found else None


def plan(
    ablation: Ablation,
    seeds: Sequence[int],
    workspace: Workspace,
    *,
    env: str | None = None,
    prior: str | None = None,
    only: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> SweepPlan:
    """All that a sweep does, checked before anything of it runs.

    Args:
        ablation: the table.
        seeds: of every variant.
        workspace: where it happens.
        env: another environment than the table's first.
        prior: another prior than the one tuned for the environment.
        only: variants to play, and the baseline; all if empty.
        changes: settings of `cep train` under those of the variants, as nested plain values.

    Raises:
        ConfigError: if a setting doesn't exist or cannot work, or is what the variants vary, or the
            ablation says nothing about environments of that kind.
        EnvError: if there is no such environment.
    """
    changes = dict(changes or {})
    entire = _setup(ablation, env)
    setup = _part(entire, only)
    _check_unvaried(ablation, setup, changes)
    steps = changes.get("steps", setup.base["steps"])
    label = _label(ablation, setup.env, steps, {**changes, **({"prior": prior} if prior else {})})
    names = {**_names(setup.env, prior, label, workspace), "steps": str(steps)}
    runs = []
    for seed in seeds:
        filled = {**names, "seed": str(seed)}
        under = merge(merge(_filled(setup.base, filled), {"env": setup.env}), changes)
        for variant, one in setup.variants.items():
            own = merge(_filled(one.config, filled), {"seed": seed})
            config = merge(under, own)
            build(TrainConfig, with_presets(config)).check_new()
            file = one.settings and Path(names["folder"]) / one.settings.format(**filled)
            run = f"{label}-{variant.replace('%', 'pct')}_s{seed}"
            job = Job(variant, seed, run, config, file or None, own)
            before = tuple(f"prepare {key}" for key in one.needs)
            runs.append(
                Task(f"run {run}", f"{variant}, seed {seed}", ("train",), "run", run, before, job)
            )
    preparations = [_prepared(key, one, names) for key, one in setup.preparations.items()]
    tasks = [
        *_needed(preparations, runs), *runs, *_measurements(ablation, setup, runs, workspace)
    ]  # fmt: skip
    first = ablation.setups[0]
    usual = label == _label(ablation, first.env, first.base["steps"], {})
    whole = len(setup.variants) == len(entire.variants)
    return SweepPlan(ablation, setup, label, usual, whole, tasks)


def _setup(ablation: Ablation, env: str | None) -> Setup:
    """The setup of an environment: its own, or that of the first of its kind."""
    if env is None:
        return ablation.setups[0]
    found = spec(env)
    for setup in ablation.setups:
        if setup.env == found.id:
            return setup
    for setup in ablation.setups:
        if spec(setup.env).kind == found.kind:
            return replace(setup, env=found.id)
    words = {"text": "worlds of text", "control": "continuous control"}
    [kind] = {spec(setup.env).kind for setup in ablation.setups}
    raise ConfigError(
        f"The ablation `{ablation.name}` is about {words[kind]}; `{env}` is {words[found.kind]}.",
        f"Try --env {ablation.setups[0].env}",
    )


def _part(setup: Setup, only: Sequence[str]) -> Setup:
    """The setup with some of its variants, and the baseline."""
    for name in only:
        if name not in setup.variants:
            raise ConfigError(f"There is no variant `{name}`.", suggest(name, setup.variants))
    wanted = {*only, setup.baseline} if only else {*setup.variants}
    return replace(setup, variants={k: v for k, v in setup.variants.items() if k in wanted})


def _check_unvaried(ablation: Ablation, setup: Setup, changes: Mapping[str, Any]) -> None:
    """Refuse to set what the variants set: it would be ignored in them."""
    varied = {key for one in setup.variants.values() for key, _ in flat(one.config)} - {"prior"}
    for key, _ in flat(changes):
        if key in varied:
            raise ConfigError(
                f"`{key}` is what the variants of the ablation `{ablation.name}` vary.",
                "Leave it out; for one value of it: cep train",
            )


def _label(ablation: Ablation, env: str, steps: int, changes: Mapping[str, Any]) -> str:
    """What the names of runs begin with: another for other settings, so that none is mistaken."""
    label = f"ablate-{ablation.name}-{env.rpartition('/')[2]}-{steps}"
    rest = {key: value for key, value in changes.items() if key not in ("env", "steps")}
    if not rest:
        return label
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True, default=str).encode()).hexdigest()
    return f"{label}-{digest[:6]}"


def _names(env: str, prior: str | None, label: str, workspace: Workspace) -> dict[str, str]:
    if prior is not None:  # a misspelt one is said before the runs that do without it
        find_prior(prior, workspace)
    return {
        "env": env,
        "family": spec(env).family,
        "slug": env.replace("/", "-"),
        "prior": prior or usual_prior(env, workspace),
        "label": label,
        "folder": str(workspace.root / "ablation" / ".prepared"),
    }


def usual_prior(env: str, workspace: Workspace) -> str:
    """The prior that has the name of the environment or its family; else the untuned one."""
    known = workspace.names("prior")
    wanted = (env.rpartition("/")[2], env.replace("/", "-"), spec(env).family)
    return next((name for name in wanted if name in known), EMBEDDED)


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    """A table's value with the words in braces replaced."""
    if isinstance(value, str):
        return value.format(**names)
    if isinstance(value, Mapping):
        return {key: _filled(inner, names) for key, inner in value.items()}
    return value


def _prepared(key: str, one: Preparation, names: Mapping[str, str]) -> Task:
    name = one.name.format(**names)
    path = str(Path(names["folder"]) / name) if one.kind == FILE else name
    command = tuple(part.format(**names) for part in one.command)
    needs = tuple(f"prepare {other}" for other in one.needs)
    return Task(f"prepare {key}", f"{one.kind} `{name}`", command, one.kind, path, needs)


def _measurements(
    ablation: Ablation, setup: Setup, runs: Sequence[Task], workspace: Workspace
) -> list[Task]:
    """What is measured on runs, each after its run and the baseline's of the same seed."""
    measurement = ablation.measurement
    if measurement is None:
        return []
    jobs = [task.job for task in runs if task.job is not None]
    baselines = {job.seed: job.run for job in jobs if job.variant == setup.baseline}
    found = []
    for job in jobs:
        if measurement.on and job.variant not in measurement.on:
            continue
        baseline = baselines[job.seed]
        file = str(workspace.root / "ablation" / ".measured" / f"{job.run}.json")
        words = [part.format(run=job.run, baseline=baseline) for part in measurement.command]
        needs = tuple(dict.fromkeys([f"run {job.run}", f"run {baseline}"]))
        what = f"measuring {job.variant}, seed {job.seed}"
        found.append(Task(f"measure {job.run}", what, (*words, "-o", file), FILE, file, needs))
    return found


def _needed(preparations: Sequence[Task], runs: Sequence[Task]) -> list[Task]:
    """The preparations that runs need, each after those that it needs itself."""
    known = {task.key: task for task in preparations}
    found: dict[str, Task] = {}

    def add(task: Task) -> None:
        for key in task.needs:
            add(known[key])
            found.setdefault(key, known[key])

    for run in runs:
        add(run)
    return list(found.values())
