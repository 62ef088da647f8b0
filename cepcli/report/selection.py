"""Which runs a report is of: named, matched by a pattern, or those of an ablation."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cepcli.errors import ArtifactError, ConfigError
from cepcli.registry import suggest
from cepcli.report.sources import Run, read_run
from cepcli.workspace.artifacts import Workspace, read_json

_KINDS = ("run", "ablation")


@dataclass(frozen=True, slots=True)
class Sweep:
    """An ablation: what its artifact says of it.

    Attributes:
        name: of the ablation.
        baseline: the variant that the others are held against; None if it does not say.
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

    runs: list[Run] = field(default_factory=list)
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
            runs = [read_run(workspace, run) for run in _matching(workspace, plain)]
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
        raise _unknown(workspace, name)
    return ("ablation" if is_ablation else "run"), name


def _matching(workspace: Workspace, name: str) -> list[str]:
    """Names of runs, finished or not."""
    if not set(name) & set("*?["):
        return [name]
    known = sorted({*workspace.names("run"), *workspace.unfinished("run")})
    found = fnmatch.filter(known, name)
    if not found:
        raise ArtifactError(
            f"No run in `{workspace.root}` matches `{name}`.", "See which there are: cep runs list"
        )
    return found


def _unknown(workspace: Workspace, name: str) -> ArtifactError:
    known = {*workspace.names("run"), *workspace.unfinished("run"), *workspace.names("ablation")}
    hint = suggest(name, known) if known else "Make one: cep train --env ID"
    return ArtifactError(f"There is no run and no ablation `{name}` in `{workspace.root}`.", hint)


def _sweep(workspace: Workspace, name: str, prefix: str) -> tuple[Sweep, list[Run]]:
    """An ablation and those of its runs that are still there, labelled by their variants."""
    artifact = workspace.open("ablation", name)
    summary = read_json(artifact.path / "summary.json")
    variants = _variants(artifact.path / "runs.parquet")
    runs, gone = [], []
    for made_of in artifact.manifest["inputs"]:
        run = made_of["name"]
        if made_of["kind"] != "run":
            continue
        if not workspace.exists("run", run):
            gone.append(run)
            continue
        read = read_run(workspace, run)
        runs.append(replace(read, label=prefix + variants.get(run, read.label)))
    order = [prefix + row["variant"] for row in summary["rows"]]
    rank = {variant: number for number, variant in enumerate(order)}
    runs.sort(key=lambda run: (rank.get(run.label, len(rank)), run.seed))
    sweep = Sweep(
        name, summary.get("baseline"), prefix, summary["rows"], artifact.manifest["command"], gone
    )
    return sweep, runs


def _variants(path: Path) -> dict[str, str]:
    """Run → variant, by the data file; {} without one."""
    if not path.is_file():
        return {}
    from pyarrow import parquet

    columns = parquet.read_table(path, columns=["run", "variant"]).to_pydict()
    return dict(zip(columns["run"], columns["variant"], strict=True))
