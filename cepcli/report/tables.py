"""The tables of a report: settings side by side, every run, ablations, what settings differ in."""

from collections.abc import Mapping, Sequence
from typing import Any

from cepcli.report.comparison import FIGURES, cell
from cepcli.report.document import Cell, Table
from cepcli.report.frames import flat
from cepcli.report.saved_runs import SavedRun
from cepcli.report.selection import Scenario, Setting, Sweep
from cepcli.report.versions import temperature_note

_DASH = "–"
_MEANS = (
    "Means over seeds, with Student's 95% intervals; of two seeds the range; over episodes where "
    "all seeds agree on a success rate."
)
#: Settings of a run that say nothing about what was tried.
_INCIDENTAL = ("seed", "device", "threads")


def comparison_table(
    scenario: Scenario, rows: Mapping[str, dict[str, Any]], baseline: str | None
) -> Table:
    """A row for each setting, every figure that one of them has; others come as dashes."""
    shown = [key for key in FIGURES if any(row[key] is not None for row in rows.values())]
    titles = [FIGURES[key][0] for key in shown]
    if any(row.get("score_to_baseline") for row in rows.values()):
        shown.append("score_to_baseline")
        titles.append(f"score against {baseline}")
    lines = [_row(setting, rows.get(setting.label), shown) for setting in scenario.settings]
    title = "Side by side" if len(lines) > 1 else "Result"
    note = temperature_note((s.label, run.config) for s in scenario.settings for run in s.runs)
    about = f"{_MEANS} {note}" if note else _MEANS
    return Table("comparison", title, about, ["run", "seeds", *titles], lines)


def differences_table(scenario: Scenario) -> Table | None:
    """The keys of the configuration that settings differ in; None with one setting."""
    told_by = {s.label: dict(flat(s.runs[0].config)) for s in scenario.settings}
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


def runs_table(runs: Sequence[SavedRun]) -> Table:
    """A row for every run, finished or not."""
    rows = [
        [
            _text(run.env or "unknown environment"), _text(run.name), _text(run.label),
            _text(run.standing),
            Cell(_DASH if run.seed is None else str(run.seed), run.seed),
            Cell(f"{run.step:,}", run.step), *(_single(run, key) for key in FIGURES),
        ]
        for run in runs
    ]  # fmt: skip
    titles = ["environment", "run", "setting", "state", "seed", "steps"]
    return Table(
        "runs", "Every run", "A row a run, by its summary; what is unfinished has no result.",
        [*titles, *(figure[0] for figure in FIGURES.values())], rows,
    )  # fmt: skip


def overview_table(found: Sequence[tuple[str, Scenario, Mapping[str, dict[str, Any]]]]) -> Table:
    """A row for each setting of each section, with the figures that mean the same everywhere."""
    shown = ("success", "return", "decisions", "queries", "queries_saved", "seconds_saved",
             "wall_seconds")  # fmt: skip
    lines = [
        [_text(title), *_row(setting, rows.get(setting.label), shown)]
        for title, scenario, rows in found for setting in scenario.settings
    ]  # fmt: skip
    titles = ["environment", "run", "seeds", *(FIGURES[key][0] for key in shown)]
    about = f"{_MEANS} Scores compare within one environment."
    return Table("overview", "Overview", about, titles, lines)


def sweep_table(sweep: Sweep) -> Table:
    """What `cep ablate` left: a row for each variant, also where its runs are gone."""
    shown = ["retention", *(key for key in FIGURES if any(row.get(key) for row in sweep.rows))]
    lines = [
        [_text(row["variant"]), Cell(str(row["seeds"]), row["seeds"]),
         *(_estimated(row, key) for key in shown)]
        for row in sweep.rows
    ]  # fmt: skip
    titles = ["variant", "seeds", "retention", *(FIGURES[key][0] for key in shown[1:])]
    against = f" Retention is against {sweep.baseline}." if sweep.baseline else ""
    about = f"{_MEANS}{against} Made by: {sweep.command}"
    return Table(f"ablation-{sweep.name}", f"Ablation: {sweep.name}", about, titles, lines)


def _row(setting: Setting, row: Mapping[str, Any] | None, shown: Sequence[str]) -> list[Cell]:
    """A setting's label, its seeds, and its figures."""
    finished, waiting = len(setting.finished), len(setting.unfinished)
    seeds = f"{finished} + {waiting} unfinished" if waiting else str(finished)
    cells = [_estimated(row, key) for key in shown]
    return [_text(setting.label), Cell(seeds, len(setting.runs)), *cells]


def _form(key: str) -> str:
    """How a figure is written; counts with their thousands apart."""
    form = _RELATED.get(key) or FIGURES[key][2]
    return f",{form}" if form == ".0f" else form


_RELATED = {"retention": ".0%", "score_to_baseline": "+.1%"}


def _text(text: str) -> Cell:
    return Cell(text, text)


def _estimated(row: Mapping[str, Any] | None, key: str) -> Cell:
    """A mean with its interval, sorted by the mean."""
    found = None if row is None else row.get(key)
    return Cell(_DASH, None) if found is None else Cell(cell(found, _form(key)), found["mean"])


def _single(run: SavedRun, key: str) -> Cell:
    """One figure of one run."""
    value = FIGURES[key][1](run.summary) if run.finished else None
    return Cell(_DASH if value is None else format(value, _form(key)), value)
