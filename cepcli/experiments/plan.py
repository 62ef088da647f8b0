"""From an ablation's table to the tasks that answer it: commands of cep, and what comes first."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cepcli.agents.config import TrainConfig, with_presets
from cepcli.config import build, merge
from cepcli.envs.catalog import spec
from cepcli.errors import ConfigError
from cepcli.experiments.ablation import FILE, Ablation, Preparation, World
from cepcli.experiments.tasks import Job, Plan, Task, measuring
from cepcli.prior.load import find_prior
from cepcli.prior.local.embedded import EMBEDDED
from cepcli.registry import suggest
from cepcli.workspace.artifacts import Workspace


def plan(
    ablation: Ablation,
    seeds: Sequence[int],
    workspace: Workspace,
    *,
    env: str | None = None,
    prior: str | None = None,
    only: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> Plan:
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
    all_of_it = _world(ablation, env)
    world = _part(all_of_it, only)
    _check_unvaried(ablation, world, changes)
    steps = changes.get("steps", world.base["steps"])
    label = _label(ablation, world.env, steps, {**changes, **({"prior": prior} if prior else {})})
    names = {**_names(world.env, prior, label, workspace), "steps": str(steps)}
    preparations = {
        key: _prepared(key, one, names, workspace) for key, one in world.preparations.items()
    }
    runs = []
    for seed in seeds:
        for variant, one in world.variants.items():
            filled = {**names, "seed": str(seed)}
            under = merge(merge(_filled(world.base, filled), {"env": world.env}), changes)
            own = merge(_filled(one.config, filled), {"seed": seed})
            config = merge(under, own)
            _check(config)
            settings = None
            if one.settings is not None:
                settings = Path(names["folder"]) / one.settings.format(**filled)
            job = Job(variant, seed, f"{label}-{_name(variant)}_s{seed}", config, settings, own)
            runs.append(_run(job, one.needs))
    measurements = [_measurement(ablation, world, task, runs, workspace) for task in runs]
    needed = _needed(preparations, runs)
    tasks = [*needed, *runs, *(found for found in measurements if found)]
    first = ablation.worlds[0]
    usual = label == _label(ablation, first.env, first.base["steps"], {})
    whole = len(world.variants) == len(all_of_it.variants)
    return Plan(ablation, world, label, usual, whole, tasks)


def _world(ablation: Ablation, env: str | None) -> World:
    """The world of an environment: its own, or that of the first of its kind."""
    if env is None:
        return ablation.worlds[0]
    found = spec(env)
    for world in ablation.worlds:
        if world.env == found.id:
            return world
    for world in ablation.worlds:
        if spec(world.env).kind == found.kind:
            return replace(world, env=found.id)
    words = {"text": "worlds of text", "control": "continuous control"}
    [kind] = {spec(world.env).kind for world in ablation.worlds}
    raise ConfigError(
        f"The ablation `{ablation.name}` is about {words[kind]}; `{env}` is {words[found.kind]}.",
        f"Try --env {ablation.worlds[0].env}",
    )


def _part(world: World, only: Sequence[str]) -> World:
    """The world with some of its variants, and the baseline."""
    for name in only:
        if name not in world.variants:
            raise ConfigError(f"There is no variant `{name}`.", suggest(name, world.variants))
    wanted = {*only, world.baseline} if only else {*world.variants}
    return replace(world, variants={k: v for k, v in world.variants.items() if k in wanted})


def _check_unvaried(ablation: Ablation, world: World, changes: Mapping[str, Any]) -> None:
    """Refuse to set what the variants set: it would be ignored in them."""
    varied = {key for one in world.variants.values() for key in _leaves(one.config)} - {"prior"}
    for key in _leaves(changes):
        if key in varied:
            raise ConfigError(
                f"`{key}` is what the variants of the ablation `{ablation.name}` vary.",
                "Leave it out; for one value of it: cep train",
            )


def _leaves(values: Mapping[str, Any], where: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{where}{key}.")
        else:
            yield where + key


def _label(ablation: Ablation, env: str, steps: int, changes: Mapping[str, Any]) -> str:
    """What the names of runs begin with: another for other settings, so that none is mistaken."""
    label = f"ablate-{ablation.name}-{env.rpartition('/')[2]}-{steps}"
    rest = {key: value for key, value in changes.items() if key not in ("env", "steps")}
    if not rest:
        return label
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True, default=str).encode()).hexdigest()
    return f"{label}-{digest[:6]}"


def _names(env: str, prior: str | None, label: str, workspace: Workspace) -> dict[str, str]:
    slug = env.replace("/", "-")
    if prior is not None:  # a misspelt one is said before the runs that do without it
        find_prior(prior, workspace)
    return {
        "env": env,
        "family": spec(env).family,
        "slug": slug,
        "prior": prior or usual_prior(env, workspace),
        "label": label,
        "folder": str(workspace.root / "ablation" / ".prepared"),
    }


def usual_prior(env: str, workspace: Workspace) -> str:
    """The prior that has the name of the environment or its family; else the untuned one."""
    known = workspace.names("prior")
    slug = env.replace("/", "-")
    wanted = (env.rpartition("/")[2], slug, spec(env).family)
    return next((name for name in wanted if name in known), EMBEDDED)


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    """A table's value with the words in braces replaced."""
    if isinstance(value, str):
        return value.format(**names)
    if isinstance(value, Mapping):
        return {key: _filled(inner, names) for key, inner in value.items()}
    return value


def _check(config: Mapping[str, Any]) -> None:
    build(TrainConfig, with_presets(config)).check_new()


def _name(variant: str) -> str:
    """A variant as part of a run's name."""
    return variant.replace("%", "pct")


def _prepared(key: str, one: Preparation, names: Mapping[str, str], workspace: Workspace) -> Task:
    name = one.name.format(**names)
    what = f"{one.kind} `{name}`"
    if one.kind == FILE:
        name = str(Path(names["folder"]) / name)
    command = tuple(part.format(**names) for part in one.command)
    needs = tuple(f"prepare {other}" for other in one.needs)
    return Task(f"prepare {key}", what, command, one.kind, name, needs)


def _run(job: Job, needs: Sequence[str]) -> Task:
    before = tuple(f"prepare {key}" for key in needs)
    what = f"{job.variant}, seed {job.seed}"
    return Task(f"run {job.run}", what, ("train",), "run", job.run, before, job)


def _measurement(
    ablation: Ablation, world: World, task: Task, runs: Sequence[Task], workspace: Workspace
) -> Task | None:
    """What is measured on a run, after it and the baseline's of the same seed."""
    job, measurement = task.job, ablation.measurement
    assert job is not None
    if measurement is None or (measurement.on and job.variant not in measurement.on):
        return None
    [baseline] = [
        one.job for one in runs
        if one.job and (one.job.variant, one.job.seed) == (world.baseline, job.seed)
    ]  # fmt: skip
    file = workspace.root / "ablation" / ".measured" / f"{job.run}.json"
    names = {"run": job.run, "baseline": baseline.run}
    command = (*(part.format(**names) for part in measurement.command), "-o", str(file))
    needs = tuple(dict.fromkeys([task.key, f"run {baseline.run}"]))
    what = f"measuring {job.variant}, seed {job.seed}"
    return Task(measuring(job), what, command, FILE, str(file), needs)


def _needed(preparations: Mapping[str, Task], runs: Sequence[Task]) -> list[Task]:
    """The preparations that runs need, each after those that it needs itself."""
    found: dict[str, Task] = {}

    def add(key: str) -> None:
        task = preparations[key.removeprefix("prepare ")]
        for before in task.needs:
            add(before)
        found.setdefault(task.key, task)

    for run in runs:
        for key in run.needs:
            add(key)
    return list(found.values())
