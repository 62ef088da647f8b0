"""Annotating in a terminal: a state, what is suggested, and a line of input."""

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cepcli.annotate.session import Session

_HELP = (
    "Enter takes it as it stands; a number chooses a movement; t rewrites the text; "
    "s skips; u undoes; q ends."
)


def converse(session: "Session") -> None:
    """Ask about one state after another until all are answered, or the person ends it."""
    typer.echo(_HELP)
    skipped: set[str] = set()
    here = session.next_after(None)
    while here is not None:
        here = _one(session, here, skipped)
    typer.echo("Every state is answered, or was skipped." if skipped else "Every state is answered.")


def _one(session: "Session", here: str, skipped: set[str]) -> str | None:
    """Ask about one state; the next to ask about, None to end."""
    from cepcli.annotate.session import Conflict, described

    view = session.view(here)
    shown = described(view)
    text, primitive = view.shown.text, view.shown.primitive
    _show(session, shown, text)
    while True:
        for number, each in enumerate(shown["primitives"], 1):
            mark = ">" if each["name"] == primitive else " "
            typer.echo(f" {mark} {number:2} {each['name']}: {each['meaning']}")
        typed = input("[Enter, number, t, s, u, q] ").strip()
        if typed == "q":
            raise EOFError
        if typed == "t":
            text = input("text: ").strip() or text
        elif typed.isdecimal() and 1 <= int(typed) <= len(shown["primitives"]):
            primitive = shown["primitives"][int(typed) - 1]["name"]
        elif typed == "u":
            undone = session.undo()
            typer.echo("Nothing to undo." if undone is None else f"Taken back: {undone.text}")
            if undone is not None:
                return undone.state
        elif typed in ("", "s"):
            break
        else:
            typer.echo(_HELP)
    if typed == "s":
        skipped.add(here)
    else:
        try:
            session.answer(here, view.revision, text, primitive)
        except Conflict:
            typer.echo("It was answered by hand in the file meanwhile; here is what it says now.")
            return here
    return session.next_after(here, skipped)


def _show(session: "Session", shown: dict[str, Any], text: str) -> None:
    overview = session.overview()
    typer.echo(f"\n{overview['answered']} of {overview['total']} answered. {shown['env']}: {shown['goal']}")
    if session.notice:
        typer.echo(session.notice)
    width = max(len(f["name"]) for f in shown["features"])
    for f in shown["features"]:
        typer.echo(f"  {f['name']:<{width}} {f['value']:>9.3f} {f['unit']:<6} {f['meaning']}")
    typer.echo(f"\n  {text}")
