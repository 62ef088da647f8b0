"""`cep annotate`: states in words, with the motion primitive that each calls for.

Example: cep annotate serve --env walker2d
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli import heartbeat
from cepcli.cli.options import (
    ConfigOption,
    JsonOption,
    QuietOption,
    SetOption,
    WorkspaceOption,
    open_workspace,
    print_json,
    print_table,
)
from cepcli.cli.prior_display import interruptible, note

if TYPE_CHECKING:
    from cepcli.annotate.build import AnnotateConfig

app = typer.Typer(
    help="Say in words what states of continuous control look like, and what they call for."
)

EnvOption = Annotated[
    str | None,
    typer.Option(
        "--env",
        help="Environment id, several with commas, or metaworld for all that are listed; "
        "default walker2d.",
    ),
]
CountOption = Annotated[int | None, typer.Option("--count", help="States to sample.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of every random stream.")]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Name of the annotations; default: the family's.")
]


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is not None:
        return
    if not sys.stdin.isatty():
        typer.echo("No terminal to ask in: annotating walker2d by rules (cep annotate auto).")
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
            help="First take out what rules have said of it; answers of people stay.",
        ),
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Sample diverse states and let rules describe them; adds to annotations that are there."""
    from cepcli.annotate.build import annotate_by_rules

    settings = _settings(env, count, seed, config, set_)
    space = open_workspace(workspace)
    with interruptible("What was annotated before is kept; type the command again."):
        made = annotate_by_rules(
            settings, space, name or settings.family, overwrite=overwrite, notify=note(quiet)
        )
    if json:
        print_json({"env": settings.env, **made})
        return
    _say_what_was_added(made)
    if not made["added"]:
        typer.echo("Rules have annotated these states already; for others, choose another --seed.")
    typer.echo("Look at them: cep annotate stats --env " + settings.env)


@app.command()
def serve(
    env: EnvOption = None,
    count: CountOption = None,
    seed: SeedOption = None,
    name: NameOption = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    no_frames: Annotated[
        bool, typer.Option("--no-frames", help="Draw no pictures of the states.")
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    quiet: QuietOption = False,
) -> None:
    """A page on this machine on which a person annotates; every answer is saved at once."""
    from cepcli.annotate.build import opened_for_people
    from cepcli.annotate.frames import Frames
    from cepcli.annotate.server import AnnotationServer
    from cepcli.annotate.session import Session
    from cepcli.cli.stopping import stop_on_interrupt

    settings = _settings(env, count, seed, config, set_)
    name = name or settings.family
    with opened_for_people(settings, open_workspace(workspace), name, note(quiet)) as (file, known):
        session = Session(known, file, settings.envs)
        with Frames(wanted=not no_frames, tell=lambda why: typer.echo(why, err=True)) as frames:
            server = AnnotationServer(session, frames, f"cep annotate {settings.env}", port)
            typer.echo(f"Open {server.address}")
            typer.echo("Ctrl-C ends it; every answer is saved when the page moves on.")
            sys.stdout.flush()
            with stop_on_interrupt() as requested, heartbeat.paused():
                server.serve_until(lambda: bool(requested))
        _say_where(session, file.path)


@app.command()
def terminal(
    env: EnvOption = None,
    count: CountOption = None,
    seed: SeedOption = None,
    name: NameOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    quiet: QuietOption = False,
) -> None:
    """Annotate in the terminal, one state after another; every answer is saved at once."""
    from cepcli.annotate.build import opened_for_people
    from cepcli.annotate.session import Session
    from cepcli.cli.annotate_terminal import converse

    settings = _settings(env, count, seed, config, set_)
    name = name or settings.family
    with opened_for_people(settings, open_workspace(workspace), name, note(quiet)) as (file, known):
        session = Session(known, file, settings.envs)
        try:
            with heartbeat.paused():
                converse(session)
        except (KeyboardInterrupt, EOFError):
            typer.echo("")
        _say_where(session, file.path)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines, or CSV with a header.")],
    env: Annotated[
        str | None,
        typer.Option(help="Environment of lines that name none; default: the first line's."),
    ] = None,
    name: NameOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Add annotations from a file; if a line of it is wrong, none is added."""
    from cepcli.annotate.build import import_annotations
    from cepcli.annotate.importing import read_foreign

    found = read_foreign(file, env)
    settings = _settings(found[0].env, None, None, None, None)
    space = open_workspace(workspace)
    made = import_annotations(found, settings, space, name or settings.family, note(quiet))
    if json:
        print_json({"file": str(file), **made})
        return
    _say_what_was_added(made)


@app.command()
def stats(
    env: EnvOption = None,
    name: NameOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Coverage of primitives and phrases, agreement between sources, duplicates."""
    from cepcli.annotate.coverage import statistics
    from cepcli.annotate.records import FILE, none_of, read_annotations

    settings = _settings(env, None, None, None, None)
    artifact = open_workspace(workspace).open("annotations", name or settings.family)
    wanted = [a for a in read_annotations(artifact.path / FILE, settings.family)
              if env is None or a.env in settings.envs]  # fmt: skip
    if not wanted:
        raise none_of(env or settings.family, artifact.path / FILE, name)
    values = {"name": artifact.name, "path": str(artifact.path), **statistics(wanted)}
    if json:
        print_json(values)
        return
    _print_statistics(values)


def _settings(
    env: str | None,
    count: int | None,
    seed: int | None,
    config: Path | None,
    set_: list[str] | None,
) -> "AnnotateConfig":
    from cepcli.annotate.build import AnnotateConfig
    from cepcli.config import resolve

    flags = {"env": env, "count": count, "seed": seed}
    return resolve(AnnotateConfig, file=config, overrides=set_ or [], flags=flags)


def _ask() -> None:
    """What a bare `cep annotate` wants to know."""
    which = "Which environment? (halfcheetah, walker2d, ant, metaworld, metaworld/NAME)"
    ways = {"page": serve, "terminal": terminal}
    way, count = "", 0
    with heartbeat.paused():
        env = typer.prompt(which, default="walker2d")
        _settings(env, None, None, None, None)  # a mistyped one is said now
        while way not in ("rules", *ways):
            way = typer.prompt("Who annotates? rules; or you, on a page or in the terminal",
                               default="rules").strip()  # fmt: skip
        if way == "rules":
            count = typer.prompt("How many states?", default=250, type=int)
    if way == "rules":
        auto(env=env, count=count)
    else:
        ways[way](env=env)


def _say_what_was_added(made: dict[str, Any]) -> None:
    parts = [f"{made['added']} added"]
    if made["removed"]:
        parts.append(f"{made['removed']} taken out")
    if made["kept"]:
        parts.append(f"{made['kept']} were there")
    typer.echo(f"Annotations {made['name']}: {', '.join(parts)}; in {made['path']}")


def _say_where(session: Any, path: Path) -> None:
    overview = session.overview()
    typer.echo(
        f"{overview['answered']} of {overview['total']} states are answered by a person: {path}"
    )


def _print_statistics(values: dict[str, Any]) -> None:
    listed = {
        key: ", ".join(f"{k} {n}" for k, n in values[key].items()) for key in ("sources", "envs")
    }
    plain = ("name", "path", "annotations", "states", "texts", "texts_with_several_primitives",
             "duplicates")  # fmt: skip
    rows = [[key.replace("_", " "), str(values[key])] for key in plain]
    rows += [[key, text] for key, text in listed.items()]
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
    rows = [
        [" and ".join(row["sources"]), str(row["states"]), f"{row['primitive']:.0%}",
         f"{row['text']:.0%}", ", ".join(f"{k} {v:.0%}" for k, v in row["slots"].items())]
        for row in values["agreement"]
    ]  # fmt: skip
    if rows:
        columns = ["sources", "states", "same primitive", "same text", "same phrase, by slot"]
        print_table("Agreement on the same states", columns, rows)
