"""The tables of a report: settings side by side, every run, ablations, what settings differ in."""

from collections.abc import Mapping, Sequence
from typing import Any

from cepcli.report.comparison import FIGURES, cell, temperature_note
from cepcli.report.document import Cell, Table
from cepcli.report.frames import flat
from cepcli.report.selection import Sweep
from cepcli.report.settings import World
from cepcli.report.sources import Run

_DASH = "–"
_MEANS = (
    "Means over seeds, with Student's 95% intervals; of two seeds the range; over episodes where "
    "all seeds agree on a success rate."
)
#: Settings of a run that say nothing about what was tried.
_INCIDENTAL = ("seed", "device", "threads")


def comparison_table(
    world: World, rows: Mapping[str, dict[str, Any]], baseline: str | None
) -> Table:
    """A row for each setting, every figure that one of them has; others come as dashes."""
    shown = [key for key in FIGURES if any(row[key] is not None for row in rows.values())]
    related = any(row.get("score_to_baseline") for row in rows.values())
    lines = []
    for setting in world.settings:
        row = rows.get(setting.label)
        line = [_text(setting.label), Cell(_seeds(setting.runs), len(setting.runs))]
        line += [_estimated(row, key, _form(key)) for key in shown]
        if related:
            line.append(_estimated(row, "score_to_baseline", "+.1%"))
        lines.append(line)
    titles = ["run", "seeds", *(FIGURES[key][0] for key in shown)]
    if related:
        titles.append(f"score against {baseline}")
    title = "Side by side" if len(lines) > 1 else "Result"
    note = temperature_note((s.label, run.settings) for s in world.settings for run in s.runs)
    return Table("comparison", title, f"{_MEANS} {note}" if note else _MEANS, titles, lines)


def differences_table(world: World) -> Table | None:
    """The keys of the configuration that settings differ in; None with one setting."""
    told_by = {s.label: dict(flat(s.runs[0].settings)) for s in world.settings}
    keys = dict.fromkeys(key for values in told_by.values() for key in values)
    rows = []
    for key in keys:
        told = [values.get(key) for values in told_by.values()]
        if key not in _INCIDENTAL and any(value != told[0] for value in told):
            cells = [_text(_DASH if value is None else str(value)) for value in told]
            rows.append([_text(key), *cells])
    if not rows:
        return None
    return Table(
        "differences", "What they differ in", "Keys of config.toml whose values are not the same.",
        ["key", *told_by], rows,
    )  # fmt: skip


def runs_table(runs: Sequence[Run]) -> Table:
    """A row for every run, finished or not."""
    rows = [
        [
            _text(run.env), _text(run.name), _text(run.label), _text(run.standing),
            Cell(_DASH if run.seed is None else str(run.seed), run.seed),
            Cell(f"{run.step:,}", run.step), *(_single(run, key) for key in FIGURES),
        ]
        for run in runs
    ]  # fmt: skip
    titles = ["environment", "run", "setting", "state", "seed", "steps"]
    return Table(
        "runs", "Every run", "A row a run, by its summary; what is unfinished has no result.",
        [*titles, *(title for title, _, _ in FIGURES.values())], rows,
    )  # fmt: skip


def overview_table(worlds: Sequence[tuple[str, World, Mapping[str, dict[str, Any]]]]) -> Table:
    """A row for each setting of each section, with the figures that mean the same everywhere."""
    shown = ("success", "return", "decisions", "queries", "queries_saved", "seconds_saved",
             "wall_seconds")  # fmt: skip
    rows = []
    for title, world, found in worlds:
        for setting in world.settings:
            row = found.get(setting.label)
            cells = [_estimated(row, key, _form(key)) for key in shown]
            seeds = Cell(_seeds(setting.runs), len(setting.runs))
            rows.append([_text(title), _text(setting.label), seeds, *cells])
    titles = ["environment", "run", "seeds", *(FIGURES[key][0] for key in shown)]
    return Table("overview", "Overview", f"{_MEANS} Scores compare within one environment.",
                 titles, rows)  # fmt: skip


def sweep_table(sweep: Sweep) -> Table:
    """What `cep ablate` left: a row for each variant, also where its runs are gone."""
    shown = [key for key in FIGURES if any(row.get(key) for row in sweep.rows)]
    lines = []
    for row in sweep.rows:
        line = [_text(row["variant"]), Cell(str(row["seeds"]), row["seeds"])]
        line.append(_estimated(row, "retention", ".0%"))
        lines.append([*line, *(_estimated(row, key, _form(key)) for key in shown)])
    titles = ["variant", "seeds", "retention", *(FIGURES[key][0] for key in shown)]
    against = f" Retention is against {sweep.baseline}." if sweep.baseline else ""
    about = f"{_MEANS}{against} Made by: {sweep.command}"
    return Table(f"ablation-{sweep.name}", f"Ablation: {sweep.name}", about, titles, lines)


def _form(key: str) -> str:
    """How a figure is written; counts with their thousands apart."""
    form = FIGURES[key][2]
    return f",{form}" if form == ".0f" else form


def _text(text: str) -> Cell:
    return Cell(text, text)


def _estimated(row: Mapping[str, Any] | None, key: str, form: str) -> Cell:
    """A mean with its interval, sorted by the mean."""
    found = None if row is None else row.get(key)
    return Cell(_DASH, None) if found is None else Cell(cell(found, form), found["mean"])


def _single(run: Run, key: str) -> Cell:
    """One figure of one run."""
    if run.summary is None:
        return Cell(_DASH, None)
    value = FIGURES[key][1](run.summary)
    return Cell(_DASH if value is None else format(value, _form(key)), value)


def _seeds(runs: Sequence[Run]) -> str:
    """How many seeds are finished, and how many are not."""
    finished = sum(run.summary is not None for run in runs)
    waiting = len(runs) - finished
    return f"{finished} + {waiting} unfinished" if waiting else str(finished)
