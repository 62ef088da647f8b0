"""Runs as pandas tables, for notebooks, scripts and `cep runs export`.

    runs = cepcli.load_runs()
    runs.groupby(["env", "agent"])["success"].mean()
    cepcli.load_run("demo_s0").metrics["train/success_rate"].plot()

Runs that are not finished are there, too: their `state` says so, and they have no result.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cepcli.errors import ArtifactError
from cepcli.report.comparison import FIGURES
from cepcli.report.saved_runs import SavedRun, read_run
from cepcli.whole_files import whole_file
from cepcli.workspace.artifacts import Workspace, writing
from cepcli.workspace.variables import workspace_root

if TYPE_CHECKING:
    from pandas import DataFrame

#: Columns that every table of runs begins with; those of `FIGURES` and of the summary follow.
ABOUT = (
    "run", "state", "env", "agent", "prior", "cache", "seed", "step", "steps", "version", "created",
    "command",
)  # fmt: skip


def load_run(name: str, workspace: str | Path | None = None) -> SavedRun:
    """A run, finished or not.

    Args:
        name: of the run, as `cep runs list` shows it.
        workspace: where artifacts live; default `$CEP_HOME`, else `./artifacts`.

    Raises:
        ArtifactError: if there is no such run, or one of its files is damaged.
    """
    run = read_run(_workspace(workspace), name)
    _ = run.metrics  # damage is said here, not at the first use
    return run


def load_runs(
    workspace: str | Path | None = None, names: Sequence[str] | str | None = None
) -> "DataFrame":
    """A table of runs, a row each: what it is, how far it is, and its result in numbers.

    The columns are those of `ABOUT`, then the figures of `cep runs compare` by their `--columns`
    names, then what else summary.json holds, as `eval.episodes`, then the settings, as
    `config.posterior.decay`. Curves are left to `load_run`.

    Args:
        workspace: where artifacts live; default `$CEP_HOME`, else `./artifacts`.
        names: names, or patterns such as `walker2d-*_s?`; default: all runs.

    Raises:
        ArtifactError: if there is no such run, or a file of one is damaged.
    """
    import pandas as pd

    space = _workspace(workspace)
    rows = [_row(space, name) for name in _names(space, names)]
    found = list(dict.fromkeys(key for row in rows for key in row))
    settings = [key for key in found if key.startswith("config.")]
    columns = dict.fromkeys([*ABOUT, *FIGURES, *(k for k in found if k not in settings), *settings])
    return pd.DataFrame(rows, columns=list(columns))


def load_metrics(
    workspace: str | Path | None = None, names: Sequence[str] | str | None = None
) -> "DataFrame":
    """Every logged number of runs in a long table: run, step, metric, value.

    Args:
        workspace: where artifacts live; default `$CEP_HOME`, else `./artifacts`.
        names: names, or patterns such as `walker2d-*_s?`; default: all runs.

    Raises:
        ArtifactError: if there is no such run, or its metrics are damaged.
    """
    import pandas as pd

    space = _workspace(workspace)
    rows = [
        (name, row["step"], metric, value)
        for name in _names(space, names)
        for row in read_run(space, name).rows
        for metric, value in row.items()
        if metric != "step" and value is not None
    ]
    return pd.DataFrame(rows, columns=["run", "step", "metric", "value"])


def write_frame(frame: "DataFrame", path: Path, form: Literal["csv", "parquet"]) -> None:
    """Write a table to a file, whole or not at all.

    Raises:
        ArtifactError: if the file cannot be written.
    """
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as new:
            if form == "csv":
                frame.to_csv(new, index=False)
            else:
                _of_one_type_each(frame).to_parquet(new, index=False)


def _of_one_type_each(frame: "DataFrame") -> "DataFrame":
    """The table with text in columns that mix types, which Parquet has no column for."""
    import pandas as pd

    mixed = [c for c in frame if pd.api.types.infer_dtype(frame[c]).startswith("mixed")]
    text = frame[mixed].map(str, na_action="ignore")
    return frame.assign(**{str(column): text[column] for column in mixed})


def flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested settings or results, each by its dotted key."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _workspace(root: str | Path | None) -> Workspace:
    return Workspace(workspace_root(None if root is None else Path(root)))


def _names(space: Workspace, names: Sequence[str] | str | None) -> list[str]:
    if names is None:
        return sorted({*space.names("run"), *space.unfinished("run")})
    return space.matching("run", [names] if isinstance(names, str) else names, unfinished=True)


def _row(space: Workspace, name: str) -> dict[str, Any]:
    """What a table of runs says of one."""
    run = read_run(space, name)
    config, manifest = run.config, run.manifest
    about = {
        "run": name, "state": run.state, "env": config.get("env"),
        "agent": config.get("agent", config.get("algorithm")), "prior": config.get("prior"),
        "cache": config.get("cache", {}).get("mode"), "seed": config.get("seed"), "step": run.step,
        "steps": config.get("steps"), "version": manifest.get("cep_version"),
        "created": manifest.get("created"), "command": manifest.get("command"),
    }  # fmt: skip
    if run.finished:
        about |= _scalars(run.summary) | {"run": name} | _figures(name, run.summary)
    return about | {f"config.{key}": value for key, value in _scalars(config).items()}


def _figures(name: str, summary: dict[str, Any]) -> dict[str, Any]:
    """What `cep runs compare` shows of a run."""
    try:
        return {key: FIGURES[key][1](summary) for key in FIGURES}
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"summary.json of the run `{name}` lacks figures that this version of cep reads: "
            f"{error}.",
            "Install the version of cep that wrote it, or name the runs to load without it.",
        ) from error


def _scalars(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and words; what is None is left out, and so are lists, which no cell can hold."""
    return {k: v for k, v in flat(nested) if v is not None and not isinstance(v, list)}
