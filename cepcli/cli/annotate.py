"""`cep annotate`: states in words, with the motion primitive that each calls for.

Example: cep annotate serve --env walker2d
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli import heartbeat
from cepcli.cli.options import (
    CommandGroup,
    QuietOption,
    ReadOptions,
    SeedOption,
    SettingsOptions,
    WorkOptions,
    WorkspaceOption,
)
from cepcli.cli.output import Column, print_json, print_rows, print_table
from cepcli.cli.stopping import interruptible, stop_on_interrupt

if TYPE_CHECKING:
    from cepcli.annotate.build import AnnotateConfig
    from cepcli.annotate.session import Session

app = CommandGroup(
    help="Describe states of continuous control in words, and say which primitive they call for."
)

EnvOption = Annotated[
    str | None,
    typer.Option(
        "--env",
        help="Environment id, several with commas, or metaworld for all of its tasks that are "
        "listed; default walker2d.",
    ),
]
CountOption = Annotated[int | None, typer.Option("--count", help="States to sample.")]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Name of the annotations; default the family's.")
]
_KEYS = (
    "Enter accepts it as shown; a number chooses a movement; t rewrites the text; s skips; "
    "u undoes; q quits."
)


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is not None:
        return
    if not sys.stdin.isatty():
        typer.echo("No terminal for questions: annotating walker2d by rules (cep annotate auto).")
        auto()
        return
    _ask()


@app.command()
def auto(
    env: EnvOption = None,
    count: CountOption = None,
    seed: SeedOption = None,
    name: NameOption = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="First remove what rules have annotated there; answers of people stay.",
        ),
    ] = False,
    *,
    settings: SettingsOptions,
    options: WorkOptions,
) -> None:
    """Sample diverse states and let rules describe them; adds to existing annotations."""
    from cepcli.annotate.build import annotate_by_rules

    config = _config(env, count, seed, settings)
    with interruptible("Earlier annotations are unchanged; type the command again."):
        made = annotate_by_rules(
            config, options.space, name or config.family, overwrite=overwrite,
            notify=options.notify,
        )  # fmt: skip
    if options.json:
        print_json({"env": config.env, **made})
        return
    _print_added(made)
    if not made["added"]:
        typer.echo("Rules have annotated these states already; for others, choose another --seed.")
    typer.echo("Look at them: cep annotate stats --env " + config.env)


@app.command()
def serve(
    env: EnvOption = None,
    count: CountOption = None,
    seed: SeedOption = None,
    name: NameOption = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    no_frames: Annotated[
        bool, typer.Option("--no-frames", help="Draw no pictures of the states.")
    ] = False,
    workspace: WorkspaceOption = None,
    quiet: QuietOption = False,
    *,
    settings: SettingsOptions,
) -> None:
    """Annotate on a web page served on this machine; every answer is saved at once."""
    from cepcli.annotate.frames import Frames
    from cepcli.annotate.server import AnnotationServer

    config = _config(env, count, seed, settings)
    with (
        _session(config, name, WorkOptions(workspace, quiet=quiet)) as session,
        Frames(wanted=not no_frames, tell=lambda why: typer.echo(why, err=True)) as frames,
    ):
        server = AnnotationServer(session, frames, f"cep annotate {config.env}", port)
        typer.echo(f"Open {server.address}")
        typer.echo("Ctrl-C ends it; an answer is saved when the page moves on.")
        sys.stdout.flush()
        with stop_on_interrupt() as requested, heartbeat.paused():
            server.serve_until(lambda: bool(requested))


@app.command()
def terminal(
    env: EnvOption = None,
    count: CountOption = None,
    seed: SeedOption = None,
    name: NameOption = None,
    workspace: WorkspaceOption = None,
    quiet: QuietOption = False,
    *,
    settings: SettingsOptions,
) -> None:
    """Annotate in the terminal, one state after another; every answer is saved at once."""
    config = _config(env, count, seed, settings)
    with _session(config, name, WorkOptions(workspace, quiet=quiet)) as session:
        try:
            with heartbeat.paused():
                _converse(session)
        except (KeyboardInterrupt, EOFError):
            typer.echo("")


@contextmanager
def _session(
    config: "AnnotateConfig", name: str | None, options: WorkOptions
) -> "Iterator[Session]":
    """The states to annotate; at the end says how many of them a person has answered."""
    from cepcli.annotate.build import opened_for_people
    from cepcli.annotate.session import Session

    opened = opened_for_people(config, options.space, name or config.family, options.notify)
    with opened as (file, known):
        session = Session(known, file, config.envs)
        yield session
        counts = session.overview()
        done = f"{counts['answered']} of {counts['total']} states are annotated by a person"
        typer.echo(f"{done}: {file.path}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines, or CSV with a header.")],
    env: Annotated[
        str | None,
        typer.Option(help="Environment of lines that name none; default the first line's."),
    ] = None,
    name: NameOption = None,
    *,
    options: WorkOptions,
) -> None:
    """Add annotations from a file; if a line of it is wrong, none is added."""
    from cepcli.annotate.build import import_annotations
    from cepcli.annotate.importing import read_foreign

    found = read_foreign(file, env)
    config = _config(found[0].env)
    made = import_annotations(found, config, options.space, name or config.family, options.notify)
    if options.json:
        print_json({"file": str(file), **made})
        return
    _print_added(made)


@app.command()
def stats(env: EnvOption = None, name: NameOption = None, *, options: ReadOptions) -> None:
    """Show the coverage of primitives and phrases, agreement between sources, and duplicates."""
    from cepcli.annotate.coverage import statistics
    from cepcli.annotate.records import FILE, none_of, read_annotations

    config = _config(env)
    artifact = options.space.open("annotations", name or config.family)
    wanted = [a for a in read_annotations(artifact.path / FILE, config.family)
              if env is None or a.env in config.envs]  # fmt: skip
    if not wanted:
        raise none_of(env or config.family, artifact.path / FILE, name)
    values = {"name": artifact.name, "path": str(artifact.path), **statistics(wanted)}
    print_json(values) if options.json else _print_statistics(values)


def _config(
    env: str | None,
    count: int | None = None,
    seed: int | None = None,
    settings: SettingsOptions = SettingsOptions(),  # noqa: B008 - frozen
) -> "AnnotateConfig":
    from cepcli.annotate.build import AnnotateConfig

    return settings.resolve(AnnotateConfig, {"env": env, "count": count, "seed": seed})


def _ask() -> None:
    """The questions of a bare `cep annotate`."""
    which = "Which environment? (halfcheetah, walker2d, ant, metaworld, metaworld/NAME)"
    ways = {"page": serve, "terminal": terminal}
    way, count = "", 0
    with heartbeat.paused():
        env = typer.prompt(which, default="walker2d")
        _config(env)  # a mistyped one is refused now
        while way not in ("rules", *ways):
            way = typer.prompt("Who annotates? rules; or you, on a page or in the terminal",
                               default="rules").strip()  # fmt: skip
        if way == "rules":
            count = typer.prompt("How many states?", default=250, type=int)
    if way == "rules":
        auto(env=env, count=count)
    else:
        ways[way](env=env)


def _converse(session: "Session") -> None:
    """Ask about one state after another until all are answered, or the person ends it."""
    typer.echo(_KEYS)
    skipped: set[str] = set()
    here = session.next_after(None)
    while here is not None:
        here = _ask_about(session, here, skipped)
    if session.next_after(None) is None:
        typer.echo("Every state is annotated.")


def _ask_about(session: "Session", here: str, skipped: set[str]) -> str | None:
    """Ask about one state; the next to ask about, None to end."""
    from cepcli.annotate.session import Conflict, described

    view = session.view(here)
    command, text, primitive = _decide(session, described(view))
    if command == "q":
        return None
    if command == "u":
        try:
            undone = session.undo()
        except Conflict as conflict:
            typer.echo(str(conflict))
            return here
        typer.echo("Nothing to undo." if undone is None else f"Undone: {undone.text}")
        return here if undone is None else undone.state
    if command == "s":
        skipped.add(here)
        return session.next_after(here, skipped)
    try:
        session.answer(here, view.revision, text, primitive)
    except Conflict:
        typer.echo("The file was edited meanwhile; this is what it contains now.")
        return here
    return session.next_after(here, skipped)


def _decide(session: "Session", shown: dict[str, Any]) -> tuple[str, str, str]:
    """What was typed: s, u or q, or empty for an answer; and the text and primitive as shown."""
    text, primitive = shown["shown"]["text"], shown["shown"]["primitive"]
    names = [each["name"] for each in shown["primitives"]]
    _show_state(session, shown)
    while True:
        typer.echo(f"\n  {text}")
        for number, each in enumerate(shown["primitives"], 1):
            mark = ">" if each["name"] == primitive else " "
            typer.echo(f" {mark} {number:2} {each['name']}: {each['meaning']}")
        typed = input("[Enter, number, t, s, u, q] ").strip()
        if typed in ("", "s", "u", "q"):
            return typed, text, primitive
        if typed == "t":
            text = input("text: ").strip() or text
        elif typed.isdecimal() and 1 <= int(typed) <= len(names):
            primitive = names[int(typed) - 1]
        else:
            typer.echo(_KEYS)


def _show_state(session: "Session", shown: dict[str, Any]) -> None:
    overview = session.overview()
    done = f"{overview['answered']} of {overview['total']} annotated"
    typer.echo(f"\n{done}. {shown['env']}: {shown['goal']}")
    if session.notice:
        typer.echo(session.notice)
    width = max(len(f["name"]) for f in shown["features"])
    for f in shown["features"]:
        typer.echo(f"  {f['name']:<{width}} {f['value']:>9.3f} {f['unit']:<6} {f['meaning']}")


def _print_added(made: dict[str, Any]) -> None:
    parts = [f"{made['added']} added"]
    parts += [f"{made['removed']} removed"] if made["removed"] else []
    parts += [f"{made['kept']} were there"] if made["kept"] else []
    typer.echo(f"Annotations {made['name']}: {', '.join(parts)}; in {made['path']}")


def _print_statistics(values: dict[str, Any]) -> None:
    plain = ("name", "path", "annotations", "states", "texts", "texts_with_several_primitives",
             "duplicates")  # fmt: skip
    rows = [[key.replace("_", " "), str(values[key])] for key in plain]
    for key in ("sources", "envs"):
        rows.append([key, ", ".join(f"{name} {count}" for name, count in values[key].items())])
    print_table("Annotations", ["quantity", "value"], rows)
    total = max(values["states"], 1)
    rows = [[name, str(n), f"{n / total:.0%}"] for name, n in values["primitives"].items()]
    print_table("States by primitive", ["primitive", "states", "share"], rows)
    rows = [
        [slot, phrase, str(n), f"{n / total:.0%}"]
        for slot, phrases in values["slots"].items()
        for phrase, n in phrases.items()
    ]
    print_table("States by phrase", ["slot", "phrase", "states", "share"], rows)
    if values["agreement"]:
        columns: dict[str, Column] = {
            "sources": lambda row: " and ".join(row["sources"]),
            "states": "states",
            "same primitive": "primitive:.0%",
            "same text": "text:.0%",
            "same phrase, by slot": lambda row: ", ".join(
                f"{slot} {share:.0%}" for slot, share in row["slots"].items()
            ),
        }
        print_rows("Agreement on the same states", values["agreement"], columns)
