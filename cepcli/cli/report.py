"""`cep report`: runs and ablations as one page to read, or as Markdown, CSV or a picture.

Example: cep report 'walker2d-*_s?' -o report.html
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cepcli.cli.options import ReadOptions
from cepcli.cli.output import print_json
from cepcli.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from cepcli.report.document import Report


class Format(StrEnum):
    """What a report is written as; also the ending of its file."""

    HTML = "html"
    MARKDOWN = "md"
    CSV = "csv"
    PNG = "png"


def report(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|ABLATION…",
            help="Names of runs, finished or not, patterns such as 'walker2d-*_s?', and ablations.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file; default report.html in the workspace."),
    ] = None,
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="html, md, csv or png; default by the ending of --output."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Run that scores are compared with, without _s<seed>; default the baseline of the "
            "ablation, or a run that differs from another only in its cache."
        ),
    ] = None,
    *,
    options: ReadOptions,
) -> None:
    """Write one page on runs and ablations: headlines, figures, tables, commands to repeat them."""
    from cepcli.report.build import build_report
    from cepcli.report.selection import select
    from cepcli.workspace.artifacts import typed_command

    space = options.space
    path, kind = _place(output, format_, space.root)
    command = typed_command()
    made = build_report(select(space, names), space, command, baseline)
    _write(made, path, kind)
    if options.json:
        sections = [section.title for section in made.sections]
        print_json({"path": str(path), "runs": len(made.runs.rows), "sections": sections})
        return
    for note in [*made.notes, *(note for section in made.sections for note in section.notes)]:
        typer.echo(note, err=True)
    typer.echo(f"Report: {path}")


def _place(output: Path | None, format_: Format | None, root: Path) -> tuple[Path, Format]:
    """The file to write, and as what."""
    if output is None:
        kind = format_ or Format.HTML
        return root / f"report.{kind}", kind
    ending = output.suffix.removeprefix(".").lower()
    known = {kind.value for kind in Format}
    if format_ is None and ending not in known:
        raise ConfigError(
            f"The ending of `{output}` is `{output.suffix}`, expected one of "
            f"{', '.join(sorted(known))}.",
            "Add --format html, or name it report.html",
        )
    if format_ is not None and ending in known and ending != format_:
        raise ConfigError(
            f"`{output}` ends in `.{ending}`, but `--format {format_}` was given.",
            "Leave out one of them.",
        )
    if format_ == Format.PNG and ending != Format.PNG:
        raise ConfigError(f"`{output}` cannot hold a picture.", "Name a file that ends in .png")
    if output.is_dir():
        raise ArtifactError(f"`{output}` is a directory.", "Name a file: -o report.html")
    return output, format_ or Format(ending)


def _write(made: "Report", path: Path, kind: Format) -> None:
    """The whole file or nothing of it."""
    from cepcli.whole_files import write_whole
    from cepcli.workspace.artifacts import writing

    if kind == Format.PNG:
        from cepcli.report.drawing import save_report_picture

        save_report_picture(made, path)
        return
    if kind == Format.HTML:
        from cepcli.report.writers import render_page as render
    elif kind == Format.MARKDOWN:
        from cepcli.report.writers import as_markdown as render
    else:
        from cepcli.report.writers import as_csv as render
    text = render(made)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
