"""Runs that differ in their seed alone, and those of one world and budget, which are comparable."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cepcli.report.comparison import Group, has_success
from cepcli.report.sources import Run
from cepcli.report.versions import check_seeds

#: How many colours figures have; then they come again with other dashes.
COLOURS = 8


@dataclass(frozen=True, slots=True)
class Setting:
    """Runs that differ in their seed alone.

    Attributes:
        label: their name without the seed.
        number: which one of its section it is; colour and shape follow from it.
        runs: finished ones and others.
    """

    label: str
    number: int
    runs: list[Run]

    @property
    def finished(self) -> list[Run]:
        """Those that have a result."""
        return [run for run in self.runs if run.summary is not None]

    @property
    def unfinished(self) -> list[Run]:
        """Those that go on or died."""
        return [run for run in self.runs if run.summary is None]

    @property
    def summaries(self) -> list[dict[str, Any]]:
        """Results of the finished ones."""
        return [run.summary for run in self.runs if run.summary is not None]

    @property
    def group(self) -> Group:
        """As comparisons take it."""
        return Group(self.label, self.summaries)

    @property
    def colour(self) -> str:
        """Name of its colour."""
        return f"g{self.number % COLOURS}"

    @property
    def asks(self) -> bool:
        """Whether its decisions had a prior that costs something."""
        counts = ("prior/queries", "cache/hits_exact", "cache/hits_semantic")
        return any(row.get(key) for run in self.runs for row in run.rows for key in counts)

    @property
    def caches(self) -> bool:
        """Whether its runs keep a cache."""
        return any(run.cache_mode != "off" for run in self.runs)


@dataclass(frozen=True, slots=True)
class World:
    """Settings of one environment, with the same options and number of steps."""

    env: str
    steps: int
    options: dict[str, Any]
    settings: list[Setting]

    @property
    def runs(self) -> list[Run]:
        """All of them."""
        return [run for setting in self.settings for run in setting.runs]

    @property
    def solvable(self) -> bool:
        """Whether success is its score; else the return is."""
        return any(
            has_success(run.summary)
            if run.summary is not None
            else any("eval/success_rate" in row for row in run.rows)
            for run in self.runs
        )


def worlds(runs: Sequence[Run]) -> list[World]:
    """Runs by environment, options and steps; the settings of each, in the order of the runs.

    Raises:
        ConfigError: if two runs of a setting have the same seed, or were played by different
            versions.
    """
    by_world: dict[tuple[str, int, str], dict[str, list[Run]]] = {}
    for run in runs:
        options = json.dumps(run.settings.get("env_options") or {}, sort_keys=True)
        settings = by_world.setdefault((run.env, run.steps, options), {})
        settings.setdefault(run.label, []).append(run)
    for settings in by_world.values():
        for label, pooled in settings.items():
            check_seeds(label, {run.name: run.summary for run in pooled if run.summary is not None})
    return [
        World(
            env, steps, json.loads(options),
            [Setting(label, n, of) for n, (label, of) in enumerate(settings.items())],
        )
        for (env, steps, options), settings in sorted(by_world.items(), key=lambda kv: kv[0][:2])
    ]  # fmt: skip


def title_of(world: World, others: Sequence[World]) -> str:
    """Its environment; and steps and options, where another has the same environment."""
    alike = [other for other in others if other.env == world.env and other is not world]
    title = world.env
    if any(other.steps != world.steps for other in alike):
        title += f", {world.steps:,} steps"
    if any(other.options != world.options for other in alike):
        told = {key for other in alike for key in {*other.options, *world.options}
                if other.options.get(key) != world.options.get(key)}  # fmt: skip
        title += "".join(f", {key} = {world.options.get(key)}" for key in sorted(told))
    return title
