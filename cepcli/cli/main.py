"""The `cep` command: registers the subcommands and turns `CepError` into one clear sentence.

Subcommands import the library inside their functions, so that `cep --help` loads no torch.
"""

import sys
import traceback
from contextlib import nullcontext
from itertools import takewhile
from typing import Any

import typer
from typer.core import TyperGroup

from cepcli.cli import abstract, annotate, bench, cache, envs, offline, prior, runs
from cepcli.cli.ablate import ablate
from cepcli.cli.doctor import doctor
from cepcli.cli.heartbeat import Heartbeat
from cepcli.cli.options import CommandGroup
from cepcli.cli.report import report
from cepcli.cli.stopping import exit_code, stoppable
from cepcli.cli.train import evaluate, train
from cepcli.errors import CepError
from cepcli.version import __version__


class _Commands(TyperGroup):
    """The root group: a signal that no command handles ends it with a sentence.

    With --debug the traceback of an error comes before its sentence.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with stoppable():
            try:
                return super().invoke(ctx)
            except CepError:
                if ctx.params.get("debug"):
                    typer.echo(traceback.format_exc(), err=True)
                raise
            except KeyboardInterrupt as error:
                typer.echo(
                    "cep: interrupted. Generated games and answers of the LLM are saved; type the "
                    "command again to do the rest.",
                    err=True,
                )
                raise typer.Exit(exit_code(error)) from None


app = CommandGroup(
    name="cep",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A large language model as an affordable action prior for reinforcement learning.",
)
app.command()(train)
app.command(name="eval")(evaluate)
app.add_typer(runs.app, name="runs")
app.add_typer(abstract.app, name="abstract")
app.add_typer(prior.app, name="prior")
app.add_typer(envs.app, name="envs")
app.add_typer(annotate.app, name="annotate")
app.add_typer(cache.app, name="cache")
app.add_typer(offline.app, name="offline")
app.add_typer(bench.app, name="bench")
app.command()(ablate)
app.command()(report)
app.command()(doctor)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    if version:
        typer.echo(f"cep {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: exit codes 0 ok, 2 the user can fix it, 1 our bug, 128 + N by signal N.

    Unless it is to be quiet, a long command says now and then what it is doing.
    """
    words = sys.argv[1:]
    command = " ".join(["cep", *takewhile(lambda word: not word.startswith("-"), words[:2])])
    quiet = {"-q", "--quiet"} & set(words)
    try:
        with nullcontext() if quiet else Heartbeat(command):
            app()
    except CepError as error:
        typer.echo(f"cep: {error.message}", err=True)
        if error.hint:
            typer.echo(f"     {error.hint}", err=True)
        sys.exit(2)
