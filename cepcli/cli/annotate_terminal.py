"""Annotating in a terminal: a state, what is suggested, and a line of input."""

from typing import TYPE_CHECKING, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from cepcli.annotate.session import Session

_HELP = (
    "Enter takes it as it stands; a number chooses a movement; t rewrites the text; "
    "s skips; u undoes; q ends."
)


class _Typed(NamedTuple):
    """What was decided about a state: s, u or q, or empty for an answer."""

    command: str
    text: str
    primitive: str


def converse(session: "Session") -> None:
    """Ask about one state after another until all are answered, or the person ends it."""
    typer.echo(_HELP)
    skipped: set[str] = set()
    here = session.next_after(None)
    while here is not None:
        here = _one(session, here, skipped)
    if session.next_after(None) is None:
        typer.echo("Every state is answered.")


def _one(session: "Session", here: str, skipped: set[str]) -> str | None:
    """Ask about one state; the next to ask about, None to end."""
    from cepcli.annotate.session import Conflict, described

    view = session.view(here)
    typed = _decide(session, described(view))
    if typed.command == "q":
        return None
    if typed.command == "u":
        try:
            undone = session.undo()
        except Conflict as conflict:
            typer.echo(str(conflict))
            return here
        typer.echo("Nothing to undo." if undone is None else f"Taken back: {undone.text}")
        return here if undone is None else undone.state
    if typed.command == "s":
        skipped.add(here)
        return session.next_after(here, skipped)
    try:
        session.answer(here, view.revision, typed.text, typed.primitive)
    except Conflict:
        typer.echo("The file was edited meanwhile; this is what it says now.")
        return here
    return session.next_after(here, skipped)


def _decide(session: "Session", shown: dict[str, Any]) -> _Typed:
    text, primitive = shown["shown"]["text"], shown["shown"]["primitive"]
    names = [each["name"] for each in shown["primitives"]]
    _show(session, shown)
    while True:
        typer.echo(f"\n  {text}")
        for number, each in enumerate(shown["primitives"], 1):
            mark = ">" if each["name"] == primitive else " "
            typer.echo(f" {mark} {number:2} {each['name']}: {each['meaning']}")
        typed = input("[Enter, number, t, s, u, q] ").strip()
        if typed in ("", "s", "u", "q"):
            return _Typed(typed, text, primitive)
        if typed == "t":
            text = input("text: ").strip() or text
        elif typed.isdecimal() and 1 <= int(typed) <= len(names):
            primitive = names[int(typed) - 1]
        else:
            typer.echo(_HELP)


def _show(session: "Session", shown: dict[str, Any]) -> None:
    overview = session.overview()
    done = f"{overview['answered']} of {overview['total']} answered"
    typer.echo(f"\n{done}. {shown['env']}: {shown['goal']}")
    if session.notice:
        typer.echo(session.notice)
    width = max(len(f["name"]) for f in shown["features"])
    for f in shown["features"]:
        typer.echo(f"  {f['name']:<{width}} {f['value']:>9.3f} {f['unit']:<6} {f['meaning']}")
