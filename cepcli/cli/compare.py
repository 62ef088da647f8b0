"""`cep runs compare`: runs side by side, in one environment, several apart, or over all of them.

Example: cep runs compare 'walker2d-*_s?' 'ant-*_s?' --aggregate --baseline sac --floor random
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.options import (
    JsonOption,
    RunsArgument,
    WorkspaceOption,
    open_workspace,
    print_json,
    print_table,
)
from cepcli.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cepcli.report.comparison import Group
    from cepcli.workspace.artifacts import Workspace


def compare(
    runs: RunsArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to put the picture (PNG).")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Figures to show, as success,auc,queries; default all.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Which of them to relate the scores of the others to, without _s<seed>; with "
            "--group-by or --aggregate also without the environment."
        ),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Which figure to relate; default success, or return.")
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(help="Tell runs apart by env, by steps or by env,steps: a table for each."),
    ] = None,
    aggregate: Annotated[
        bool,
        typer.Option(
            "--aggregate",
            help="One row for runs that are called the same but for environment and seed: "
            "interquartile mean of scores, of which 1 is the mean of --baseline on the same task.",
        ),
    ] = False,
    floor: Annotated[
        str | None, typer.Option(help="--aggregate: of which the mean is 0, as random.")
    ] = None,
    above: Annotated[
        str | None,
        typer.Option(help="--aggregate: scores to count runs above; default 0.5,0.75,0.95."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Runs side by side, averaged over seeds, as a table and a picture of the learning curves."""
    from cepcli.report.aggregate import groupings
    from cepcli.report.comparison import figures_named, load_groups

    shown, keys = figures_named(columns), groupings(group_by)
    figures_named(by)
    _check(aggregate, {"columns": columns, "group-by": group_by}, {"floor": floor, "above": above})
    if baseline is None and (floor or (by and not aggregate)):
        flag, value = ("floor", floor) if floor else ("by", by)
        raise ConfigError(f"`--{flag} {value}` says what to relate to what.", "Add --baseline RUN.")
    space = open_workspace(workspace)
    groups = load_groups(space, runs, unfinished=True)
    _require_finished(groups)
    if aggregate:
        picture = output or space.root / "profile.png"
        found = _over_tasks(space, groups, baseline, floor, by, _levels(above), picture)
    else:
        picture = output or space.root / "comparison.png"
        found = _apart(space, groups, keys, baseline, by, picture)
    found["notes"] = _notes(groups)
    if json:
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
    _print_unfinished(groups)
    typer.echo(f"{'Runs above a score' if aggregate else 'Learning curves'}: {found['picture']}")


def _check(aggregate: bool, apart: dict[str, Any], together: dict[str, Any]) -> None:
    """Refuse options that mean nothing beside `--aggregate`, or without it."""
    for flag, value in (apart if aggregate else together).items():
        if value is not None:
            how = "nothing together with --aggregate" if aggregate else "nothing here"
            hint = "Leave one of them out." if aggregate else "Add --aggregate, or leave it out."
            raise ConfigError(f"`--{flag} {value}` means {how}.", hint)


def _levels(above: str | None) -> list[float] | None:
    """The numbers of a comma list."""
    try:
        return None if above is None else [float(level) for level in above.split(",")]
    except ValueError:
        raise ConfigError(
            f"`--above` is `{above}`, expected numbers.", "For example: --above 0.5,0.9"
        ) from None


def _require_finished(groups: "Sequence[Group]") -> None:
    """Refuse runs of which none is finished."""
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

    rows, pictures, warnings = [], {}, []
    for values, own in grouped(groups, keys).items():
        part = ", ".join(map(str, values))
        name = baseline_of(own, baseline) if keys and baseline else baseline
        rows += comparison(own, name, by)
        warnings += _warnings(space, own, name)
        if any(group.summaries for group in own):
            pictures[part] = _picture(own, picture, part)
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
    from cepcli.report.comparison import temperature_note
    from cepcli.report.versions import differences

    about_tau = temperature_note(
        (group.label, summary["settings"]) for group in groups for summary in group.summaries
    )
    notes = [] if about_tau is None else [about_tau]
    for own in grouped(groups, ["env"]).values():
        notes += differences({group.label: group.summaries for group in own})
    return list(dict.fromkeys(notes))


def _picture(groups: "Sequence[Group]", path: Path, part: str) -> str:
    """Draw learning curves; the name of a part becomes part of the file's."""
    from cepcli.report.curves import plot_comparison
    from cepcli.workspace.artifacts import writing

    if part:
        slug = part.replace("/", "-").replace(", ", "-")
        path = path.with_stem(f"{path.stem}-{slug}")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        plot_comparison(groups, path)
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
    from cepcli.report.curves import plot_profiles
    from cepcli.workspace.artifacts import writing

    settings, scale = settings_of(groups), Scale(baseline, floor)
    rows = aggregated(settings, scale, by, levels or ABOVE)
    with writing(picture.parent):
        picture.parent.mkdir(parents=True, exist_ok=True)
        plot_profiles(normalised(settings, scale, by), picture)
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
    parts: dict[str, list[dict[str, Any]]] = {}
    for row in found["rows"]:
        parts.setdefault(", ".join(str(row[key]) for key in keys), []).append(row)
    for part, rows in parts.items():
        if part and markdown:
            typer.echo(f"\n#### {part}\n")
        print_comparison(rows, shown, part, markdown=markdown)


def print_comparison(
    rows: list[dict[str, Any]], shown: list[str], part: str = "", *, markdown: bool
) -> None:
    """The table of `cep runs compare`: means over seeds, with 95 % intervals."""
    from cepcli.report.comparison import FIGURES, cell

    columns = {key: (FIGURES[key][0], FIGURES[key][2]) for key in shown}
    if "score_to_baseline" in rows[0]:
        columns["score_to_baseline"] = ("against the baseline", "+.1%")
    table = [
        [
            row["run"],
            _seeds(str(row["seeds"]), row["unfinished"]),
            *(cell(row[key], form) for key, (_, form) in columns.items()),
        ]
        for row in rows
    ]
    titles = ["run", "seeds", *(title for title, _ in columns.values())]
    title = f"{part}: means" if part else "Means"
    _print(f"{title} over seeds [95 % interval]", titles, table, markdown=markdown)


def _print_aggregate(
    found: dict[str, Any], baseline: str | None, floor: str | None, *, markdown: bool
) -> None:
    """A row for each setting, its score in terms of the baseline's."""
    from cepcli.report.comparison import cell

    rows = found["rows"]
    levels = list(rows[0]["above"])
    table = [
        [
            row["run"],
            str(len(row["tasks"])),
            _seeds(_span(list(row["tasks"].values())), row["unfinished"]),
            cell(row["iqm"], ".3f"),
            cell(row["mean"], ".3f"),
            cell(row["improvement"], ".2f"),
            *(cell(row["above"][level], ".0%") for level in levels),
        ]
        for row in rows
    ]
    titles = ["run", "tasks", "seeds", "IQM", "mean", f"P(above {baseline or 'baseline'})"]
    titles += [f"runs above {level}" for level in levels]
    scale = "" if baseline is None else f", of which 1 is the mean of {baseline}"
    scale += "" if floor is None else f" and 0 that of {floor}"
    title = f"Scores ({found['score']}) over {', '.join(rows[0]['tasks'])}{scale}"
    _print(f"{title} [95 % interval]", titles, table, markdown=markdown)


def _span(counts: list[int]) -> str:
    """How many seeds several tasks have."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}–{high}"


def _seeds(count: str, unfinished: list[dict[str, Any]]) -> str:
    """How many seeds, and how many of them have yet to end."""
    return f"{count} + {len(unfinished)} unfinished" if unfinished else count


def _print(title: str, columns: list[str], rows: list[list[str]], *, markdown: bool) -> None:
    if not markdown:
        print_table(title, columns, rows)
        return
    for line in [columns, ["---"] * len(columns), *rows]:
        typer.echo("| " + " | ".join(line) + " |")


def _print_unfinished(groups: "Sequence[Group]") -> None:
    for group in groups:
        for found in group.unfinished:
            typer.echo(f"Not counted: {found.in_words()}")
