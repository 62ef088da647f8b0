"""A report as one HTML page, as Markdown, and its runs as CSV.

The page needs nothing else: no network, no other file. Its security policy lets nothing run or be
drawn but the script, the style and the pictures that are in it.
"""

import base64
import csv
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cepcli.report.document import Card, Figure, Report, Section, Table

_FOLDER = Path(__file__).parent / "page"
#: Markers of settings beside their names, as figures draw them; hollow after the first eight.
_SWATCHES = "●■▲◆✚▼✖▬○□△◇✚▽✖▭"


def render_page(report: Report) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style, script = (
        (_FOLDER / name).read_text(encoding="utf-8") for name in ("report.css", "report.js")
    )
    return environment.get_template("report.html.j2").render(
        report=report, style=Markup(style), script=Markup(script), policy=_policy(style, script),
        drawing=_drawing, picture=_picture, swatch=lambda shape: _SWATCHES[shape % len(_SWATCHES)],
    )  # fmt: skip


def _policy(style: str, script: str) -> str:
    """What the page may do: nothing but what is in it, told by hashes."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _drawing(figure: Figure, uid: str) -> Markup:
    from cepcli.report.svg import draw_svg

    return Markup(draw_svg(figure, uid))


def _picture(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode()


def as_csv(report: Report) -> str:
    """A row for every run; numbers as they are, nothing where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(report.runs.columns)
    for row in report.runs.rows:
        writer.writerow(["" if cell.sort is None else cell.sort for cell in row])
    return text.getvalue()


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
        yield from ("Not shown:", "", *(f"- {f.title}: {f.empty}" for f in missing), "")
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
        yield from (f"> {note}", "")


def _table(table: Table, *, heading: bool = True) -> Iterator[str]:
    if heading:
        yield from (f"### {table.title}", "")
    rows = [table.columns, ["---"] * len(table.columns)]
    rows += [[cell.text for cell in row] for row in table.rows]
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    yield from (table.about, "", *(f"| {' | '.join(line)} |" for line in lines), "")
