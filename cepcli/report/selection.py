"""Which runs a report is of, and how they belong together.

Runs are named, matched by a pattern, or those of an ablation. Those that differ in their seed alone
are one setting; settings of one environment and budget are comparable.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cepcli.errors import ArtifactError, ConfigError
from cepcli.registry import suggest
from cepcli.report.comparison import Group, has_success
from cepcli.report.saved_runs import SavedRun, read_run
from cepcli.report.versions import check_seeds
from cepcli.workspace.artifacts import Workspace, read_json

_KINDS = ("run", "ablation")
#: How many colours figures have; then they come again with other dashes.
COLOURS = 8


@dataclass(frozen=True, slots=True)
class Sweep:
    """An ablation: what its artifact says of it.

    Attributes:
        name: of the ablation.
        baseline: the variant that the others are compared with; None if it does not say.
        prefix: of its variants' labels, where a report is of more than one ablation alone.
        rows: of its table, as `cep ablate` left it.
        command: that made it.
        gone: names of its runs that are not in the workspace any more.
    """

    name: str
    baseline: str | None
    prefix: str
    rows: list[dict[str, Any]]
    command: str
    gone: list[str]


@dataclass(frozen=True, slots=True)
class Selection:
    """The runs of a report, each once, and the ablations that some of them belong to."""

    runs: list[SavedRun] = field(default_factory=list)
    sweeps: list[Sweep] = field(default_factory=list)


def select(workspace: Workspace, names: Sequence[str]) -> Selection:
    """What names and patterns stand for; `run/NAME` and `ablation/NAME` where a name is of both.

    Raises:
        ArtifactError: if something does not exist or is damaged.
        ConfigError: if a name is a run's and an ablation's.
    """
    found, sweeps = {}, []
    for name in names:
        kind, plain = _kind_of(workspace, name)
        if kind == "ablation":
            prefix = f"{plain}: " if len(names) > 1 else ""
            sweep, runs = _sweep(workspace, plain, prefix)
            sweeps.append(sweep)
        else:
            matching = workspace.matching("run", [plain], unfinished=True)
            runs = [read_run(workspace, run) for run in matching]
        for run in runs:
            found.setdefault(run.name, run)
    return Selection(list(found.values()), sweeps)


def _kind_of(workspace: Workspace, name: str) -> tuple[str, str]:
    """Whether it names a run or an ablation, and its plain name."""
    kind, slash, plain = name.partition("/")
    if slash and kind in _KINDS:
        return kind, plain
    if set(name) & set("*?["):
        return "run", name
    is_run = workspace.exists("run", name) or workspace.partial("run", name).is_dir()
    is_ablation = name in workspace.names("ablation")
    if is_run and is_ablation:
        raise ConfigError(
            f"`{name}` is a run and an ablation in `{workspace.root}`.",
            f"Say which: run/{name} or ablation/{name}",
        )
    if not is_run and not is_ablation:
        runs = {*workspace.names("run"), *workspace.unfinished("run")}
        known = runs.union(workspace.names("ablation"))
        raise ArtifactError(
            f"There is no run and no ablation `{name}` in `{workspace.root}`.",
            suggest(name, known) if known else "Make one: cep train --env ID",
        )
    return ("ablation" if is_ablation else "run"), name


def _sweep(workspace: Workspace, name: str, prefix: str) -> tuple[Sweep, list[SavedRun]]:
    """An ablation and those of its runs that are still there, labelled by their variants."""
    artifact = workspace.open("ablation", name)
    summary = read_json(artifact.path / "summary.json")
    variants = _variants(artifact.path / "runs.parquet")
    names = [one["name"] for one in artifact.manifest["inputs"] if one["kind"] == "run"]
    gone = [run for run in names if not workspace.exists("run", run)]
    found = (read_run(workspace, run) for run in names if run not in gone)
    runs = [replace(run, label=prefix + variants.get(run.name, run.label)) for run in found]
    order = [prefix + row["variant"] for row in summary["rows"]]
    rank = {variant: number for number, variant in enumerate(order)}
    runs.sort(key=lambda run: (rank.get(run.label, len(rank)), run.summary["seed"]))
    sweep = Sweep(
        name, summary.get("baseline"), prefix, summary["rows"], artifact.manifest["command"], gone
    )
    return sweep, runs


def _variants(path: Path) -> dict[str, str]:
    """Run → variant, by the data file; {} without one."""
    if not path.is_file():
        return {}
    import pandas as pd

    return pd.read_parquet(path, columns=["run", "variant"]).set_index("run")["variant"].to_dict()


@dataclass(frozen=True, slots=True)
class Setting:
    """Runs that differ in their seed alone, finished or not.

    Attributes:
        label: their name without the seed.
        number: which one of its section it is; colour and shape follow from it.
        runs: all of them.
    """

    label: str
    number: int
    runs: list[SavedRun]

    @property
    def finished(self) -> list[SavedRun]:
        """Those that have a result."""
        return [run for run in self.runs if run.finished]

    @property
    def unfinished(self) -> list[SavedRun]:
        """Those that go on or died."""
        return [run for run in self.runs if not run.finished]

    @property
    def summaries(self) -> list[dict[str, Any]]:
        """Results of the finished ones."""
        return [run.result for run in self.finished]

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
class Scenario:
    """Settings of one environment, with the same options and number of steps."""

    env: str
    steps: int
    options: dict[str, Any]
    settings: list[Setting]

    @property
    def runs(self) -> list[SavedRun]:
        """All of them."""
        return [run for setting in self.settings for run in setting.runs]

    @property
    def solvable(self) -> bool:
        """Whether success is its score; else the return is."""
        return any(
            has_success(run.summary)
            if run.finished
            else any("eval/success_rate" in row for row in run.rows)
            for run in self.runs
        )


def scenarios(runs: Sequence[SavedRun]) -> list[Scenario]:
    """Runs by environment, options and steps; the settings of each, in the order of the runs.

    Raises:
        ConfigError: if two runs of a setting have the same seed, or were played by different
            versions.
    """
    found: dict[tuple[str, int, str], dict[str, list[SavedRun]]] = {}
    for run in runs:
        options = json.dumps(run.config.get("env_options") or {}, sort_keys=True)
        budget = run.step if run.steps is None else run.steps
        settings = found.setdefault((run.env or "unknown environment", budget, options), {})
        settings.setdefault(run.label, []).append(run)
    for settings in found.values():
        for label, pooled in settings.items():
            check_seeds(label, {run.name: run.result for run in pooled if run.finished})
    return [
        Scenario(
            env, steps, json.loads(options),
            [Setting(label, n, of) for n, (label, of) in enumerate(settings.items())],
        )
        for (env, steps, options), settings in sorted(found.items(), key=lambda kv: kv[0][:2])
    ]  # fmt: skip


def title_of(scenario: Scenario, others: Sequence[Scenario]) -> str:
    """Its environment; and steps and options, where another has the same environment."""
    alike = [one for one in others if one.env == scenario.env and one is not scenario]
    title, options = scenario.env, scenario.options
    if any(other.steps != scenario.steps for other in alike):
        title += f", {scenario.steps:,} steps"
    differ = {key for other in alike for key in {*other.options, *options}
              if other.options.get(key) != options.get(key)}  # fmt: skip
    return title + "".join(f", {key} = {options.get(key)}" for key in sorted(differ))
