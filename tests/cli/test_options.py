import io

import pytest
from rich.console import Console

from cepcli.cli import output

COLUMNS = ["run", "success", "area under curve", "LLM queries", "queries saved"]
ROWS = [["goto-redball-posterior-q", "0.97", "0.98 [0.97, 0.99]", "174", "57% [50%, 61%]"]]


@pytest.fixture
def terminal(monkeypatch):
    """Makes stdout a terminal of some width for `print_table`; what rich drew on it."""

    def make(width):
        drawn = io.StringIO()

        def console(**settings):
            settings.setdefault("width", width)
            return Console(file=drawn, force_terminal=True, no_color=True, **settings)

        monkeypatch.setattr("rich.console.Console", console)
        return drawn

    return make


def test_a_table_that_is_piped_folds_no_cell_however_wide(capsys):
    name = "a-run-of-a-very-long-name-" * 12
    output.print_table("Runs", COLUMNS, [[name, *ROWS[0][1:]]])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if name in line and "57% [50%, 61%]" in line]


def test_a_table_too_wide_for_the_terminal_becomes_records(terminal, capsys):
    drawn = terminal(60)
    output.print_table("Runs", COLUMNS, ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert "  area under curve  0.98 [0.97, 0.99]" in lines
    assert max(map(len, lines)) <= 60
    assert not drawn.getvalue()


def test_a_table_that_fits_the_terminal_is_a_table(terminal, capsys):
    drawn = terminal(120)
    output.print_table("Runs", COLUMNS, ROWS)
    assert "━" in drawn.getvalue()
    assert capsys.readouterr().out == "Runs\n"


def test_no_cell_and_no_title_is_taken_for_markup(capsys):
    output.print_table("Runs in /tmp/a[/b]", ["run", "note"], [["r[old]", "[bold]x[/bold]"]])
    out = capsys.readouterr().out
    assert "Runs in /tmp/a[/b]" in out
    assert "r[old]" in out
    assert "[bold]x[/bold]" in out
