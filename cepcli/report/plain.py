"""A report as Markdown, and its runs as CSV."""

import csv
import io
from collections.abc import Iterator

from cepcli.report.document import Card, Report, Section, Table


def as_markdown(report: Report) -> str:
    """Headlines, tables, what could not be shown and why, and the commands that repeat it."""
    lines = [f"# {report.title}", "", report.made, ""]
    lines += _notes(report.notes)
    for table in (report.overview, *report.sweeps):
        lines += _table(table) if table is not None else []
    for section in report.sections:
        lines += _section(section)
    lines += ["## Every run", "", *_table(report.runs, heading=False)]
    lines += ["This report again:", "", "```console", report.command, "```"]
    return "\n".join(lines) + "\n"


def as_csv(report: Report) -> str:
    """A row for every run; numbers as they are, nothing where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(report.runs.columns)
    for row in report.runs.rows:
        writer.writerow(["" if cell.sort is None else cell.sort for cell in row])
    return text.getvalue()


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {section.title}", "", section.subtitle, "")
    yield from _notes(section.notes)
    for card in section.cards:
        yield from _card(card)
    yield ""
    for table in section.tables:
        yield from _table(table)
    missing = [f for panel in section.panels for f in panel.figures if f.empty]
    if missing:
        yield from ("Not shown:", "")
        yield from (f"- {figure.title}: {figure.empty}" for figure in missing)
        yield ""
    yield from ("Repeat:", "", "```console", *(each.command for each in section.repeats))
    yield from ("```", "")


def _card(card: Card) -> Iterator[str]:
    for line in card.lines:
        who = f" ({line.label})" if line.label and len(card.lines) > 1 else ""
        yield f"- {card.title}{who}: **{line.value}**, {line.detail}"
    if card.note:
        yield f"- {card.title}: {card.note}"


def _notes(notes: list[str]) -> Iterator[str]:
    for note in notes:
        yield f"> {note}"
        yield ""


def _table(table: Table, *, heading: bool = True) -> Iterator[str]:
    if heading:
        yield from (f"### {table.title}", "")
    yield from (table.about, "")
    yield _line(table.columns)
    yield _line(["---"] * len(table.columns))
    for row in table.rows:
        yield _line([cell.text for cell in row])
    yield ""


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
