"""`cep runs compare`: runs side by side, in one environment, several apart, or over all of them.

Example: cep runs compare 'walker2d-*_s?' 'ant-*_s?' --aggregate --baseline sac --floor random
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.options import ReadOptions, RunsArgument
from cepcli.cli.output import Column, estimate, print_json, print_rows
from cepcli.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cepcli.report.comparison import Group
    from cepcli.workspace.artifacts import Workspace


def compare(
    runs: RunsArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File of the picture (PNG).")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Figures to show, as success,auc,queries; default all.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Run that the scores of the others are relative to, without _s<seed>; with "
            "--group-by or --aggregate also without the environment."
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="Score to compare with the baseline's; default success, or return."),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Make a table for each env, for each number of steps, or for each pair "
            "of both: env, steps or env,steps."
        ),
    ] = None,
    aggregate: Annotated[
        bool,
        typer.Option(
            "--aggregate",
            help="Make one row of all runs whose names differ only in environment and seed: the "
            "interquartile mean of scores, where 1 is the mean of --baseline on the same task.",
        ),
    ] = False,
    floor: Annotated[
        str | None,
        typer.Option(help="With --aggregate: run whose mean has the score 0, as random."),
    ] = None,
    above: Annotated[
        str | None,
        typer.Option(help="With --aggregate: scores to count runs above; default 0.5,0.75,0.95."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    *,
    options: ReadOptions,
) -> None:
    """Compare runs, averaged over seeds, in a table and a picture of the learning curves."""
    from cepcli.report.aggregate import groupings
    from cepcli.report.comparison import figures_named, load_groups

    shown, keys = figures_named(columns), groupings(group_by)
    figures_named(by)
    _check(aggregate, {"columns": columns, "group-by": group_by}, {"floor": floor, "above": above})
    if baseline is None and (floor or (by and not aggregate)):
        flag, value = ("floor", floor) if floor else ("by", by)
        raise ConfigError(f"`--{flag} {value}` needs a baseline.", "Add --baseline RUN.")
    space = options.space
    groups = load_groups(space, runs, unfinished=True)
    _require_finished(groups)
    if aggregate:
        picture = output or space.root / "profile.png"
        found = _over_tasks(space, groups, baseline, floor, by, _levels(above), picture)
    else:
        picture = output or space.root / "comparison.png"
        found = _apart(space, groups, keys, baseline, by, picture)
    found["notes"] = _notes(groups)
    if options.json:
        print_json(found)
        return
    if aggregate:
        _print_aggregate(found, baseline, floor, markdown=markdown)
    else:
        _print_apart(found, keys, shown, markdown=markdown)
    for note in found["notes"]:
        typer.echo(f"Note: {note}")
    for warning in found["warnings"]:
        typer.echo(
            "Warning about {run}: {seen}. Likely cause: {cause}. Next: {command}".format(**warning)
        )
    for one in (one for group in groups for one in group.unfinished):
        typer.echo(f"Not counted: {one.in_words()}")
    typer.echo(f"{'Runs above a score' if aggregate else 'Learning curves'}: {found['picture']}")


def _check(aggregate: bool, apart: dict[str, Any], together: dict[str, Any]) -> None:
    """Refuse options that have no effect with `--aggregate`, or without it."""
    for flag, value in (apart if aggregate else together).items():
        if value is not None:
            how = "together with" if aggregate else "without"
            hint = "Leave one of them out." if aggregate else "Add --aggregate, or leave it out."
            raise ConfigError(f"`--{flag} {value}` has no effect {how} --aggregate.", hint)


def _levels(above: str | None) -> list[float] | None:
    """The numbers of a comma list."""
    try:
        return None if above is None else [float(level) for level in above.split(",")]
    except ValueError:
        raise ConfigError(
            f"`--above` is `{above}`, expected numbers.", "For example: --above 0.5,0.9"
        ) from None


def _require_finished(groups: "Sequence[Group]") -> None:
    if not any(group.summaries for group in groups):
        first = groups[0].unfinished[0]
        raise ArtifactError(
            f"None of these runs is finished; {first.in_words().partition(':')[0]}.",
            "Wait for it." if first.running else f"Finish it: {first.resume}",
        )


def _apart(
    space: "Workspace",
    groups: "Sequence[Group]",
    keys: list[str],
    baseline: str | None,
    by: str | None,
    picture: Path,
) -> dict[str, Any]:
    """Rows of every group, and a picture; of groups by `keys` a picture each."""
    from cepcli.report.aggregate import baseline_of, grouped
    from cepcli.report.comparison import comparison
    from cepcli.report.plots import plot_comparison

    rows, pictures, warnings = [], {}, []
    for values, own in grouped(groups, keys).items():
        part = ", ".join(map(str, values))
        name = baseline_of(own, baseline) if keys and baseline else baseline
        rows += comparison(own, name, by)
        warnings += _warnings(space, own, name)
        slug = part.replace("/", "-").replace(", ", "-")
        file = picture.with_stem(f"{picture.stem}-{slug}") if part else picture
        if any(group.summaries for group in own):
            pictures[part] = _draw(lambda path, own=own: plot_comparison(own, path), file)
    found = {"rows": rows, "picture": ", ".join(pictures.values()), "warnings": warnings}
    return {**found, "pictures": pictures} if keys else found


def _warnings(
    space: "Workspace", groups: "Sequence[Group]", baseline: str | None
) -> list[dict[str, Any]]:
    """What there is to warn of, where the baseline is the same without a cache."""
    from dataclasses import asdict

    from cepcli.report.warnings import group_warnings

    reference = [group for group in groups if group.label == baseline]
    return [
        asdict(warning)
        for uncached in reference
        for group in groups
        for warning in group_warnings(space, group, uncached)
    ]


def _notes(groups: "Sequence[Group]") -> list[str]:
    """In what the compared differ besides: τ that follows the hit rate, versions of libraries."""
    from cepcli.report.aggregate import grouped
    from cepcli.report.versions import differences, temperature_note

    about_tau = temperature_note(
        (group.label, summary["settings"]) for group in groups for summary in group.summaries
    )
    notes = [] if about_tau is None else [about_tau]
    for own in grouped(groups, ["env"]).values():
        notes += differences({group.label: group.summaries for group in own})
    return list(dict.fromkeys(notes))


def _draw(plot: Callable[[Path], object], path: Path) -> str:
    """Draw a picture into a file whose folder may be missing."""
    from cepcli.workspace.artifacts import writing

    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        plot(path)
    return str(path)


def _over_tasks(
    space: "Workspace",
    groups: "Sequence[Group]",
    baseline: str | None,
    floor: str | None,
    by: str | None,
    levels: list[float] | None,
    picture: Path,
) -> dict[str, Any]:
    """Rows of every setting, and a picture of the shares of runs above each score."""
    from cepcli.report.aggregate import (
        ABOVE,
        Scale,
        aggregated,
        baseline_of,
        grouped,
        normalised,
        settings_of,
    )
    from cepcli.report.plots import plot_profiles

    settings, scale = settings_of(groups), Scale(baseline, floor)
    rows = aggregated(settings, scale, by, levels or ABOVE)
    _draw(lambda path: plot_profiles(normalised(settings, scale, by), path), picture)
    warnings = []
    if baseline is not None:
        for own in grouped(groups, ["env"]).values():
            warnings += _warnings(space, own, baseline_of(own, baseline))
    return {
        "rows": rows,
        "score": by or "success, or return where nothing can be solved",
        "one": baseline,
        "zero": floor,
        "picture": str(picture),
        "warnings": warnings,
    }


def _print_apart(
    found: dict[str, Any], keys: list[str], shown: list[str], *, markdown: bool
) -> None:
    """The rows as a table, a table for each group by `keys`."""
    from cepcli.report.comparison import FIGURES

    parts: dict[str, list[dict[str, Any]]] = {}
    for row in found["rows"]:
        parts.setdefault(", ".join(str(row[key]) for key in keys), []).append(row)
    for part, rows in parts.items():
        if part and markdown:
            typer.echo(f"\n#### {part}\n")
        columns: dict[str, Column] = {"run": "run", "seeds": _seeds}
        columns |= {FIGURES[key][0]: estimate(key, FIGURES[key][2]) for key in shown}
        if "score_to_baseline" in rows[0]:
            columns["against the baseline"] = estimate("score_to_baseline", "+.1%")
        title = f"{part}: means" if part else "Means"
        print_rows(f"{title} over seeds [95 % interval]", rows, columns, markdown=markdown)


def _print_aggregate(
    found: dict[str, Any], baseline: str | None, floor: str | None, *, markdown: bool
) -> None:
    """A row for each setting, its score in terms of the baseline's."""
    from cepcli.report.comparison import cell

    rows = found["rows"]
    columns: dict[str, Column] = {
        "run": "run",
        "tasks": lambda row: str(len(row["tasks"])),
        "seeds": _seeds,
        "IQM": estimate("iqm", ".3f"),
        "mean": estimate("mean", ".3f"),
        f"P(above {baseline or 'baseline'})": estimate("improvement", ".2f"),
    }
    for level in rows[0]["above"]:
        columns[f"runs above {level}"] = lambda row, level=level: cell(row["above"][level], ".0%")
    scale = "" if baseline is None else f", of which 1 is the mean of {baseline}"
    scale += "" if floor is None else f" and 0 that of {floor}"
    title = f"Scores ({found['score']}) over {', '.join(rows[0]['tasks'])}{scale}"
    print_rows(f"{title} [95 % interval]", rows, columns, markdown=markdown)


def _seeds(row: dict[str, Any]) -> str:
    """How many seeds each task has, and how many of them have yet to end."""
    counts = row["tasks"].values() if "tasks" in row else [row["seeds"]]
    low, high = min(counts), max(counts)
    count = str(low) if low == high else f"{low}–{high}"
    return f"{count} + {len(row['unfinished'])} unfinished" if row["unfinished"] else count
