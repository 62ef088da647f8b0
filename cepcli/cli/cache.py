"""`cep cache`: look into a run's prior cache, and check it.

Example: cep cache stats my-run
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.cache_tools import export, merge, train_head
from cepcli.cli.measured import staleness
from cepcli.cli.options import (
    JsonOption,
    WorkspaceOption,
    open_workspace,
    print_json,
    print_table,
)
from cepcli.cli.replay import replay
from cepcli.cli.warm import warm

if TYPE_CHECKING:
    from cepcli.cache.disk.storage import Saved

app = typer.Typer(no_args_is_help=True, help="Look into a prior cache, and check it.")

app.command()(replay)
app.command(name="train-head")(train_head)
app.command()(export)
app.command()(merge)
app.command()(warm)
app.command()(staleness)

CacheArgument = Annotated[
    str, typer.Argument(metavar="CACHE", help="Name of a run, or path of a cache directory.")
]


@app.command()
def stats(
    cache: CacheArgument, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """What a cache holds, what it promises, and what it belongs to."""
    from cepcli.cache.disk import storage
    from cepcli.cli.certificate import in_words

    directory = find_cache(cache, workspace)
    values = _stats(directory, storage.read(directory))
    if json:
        print_json(values)
        return
    promise = {"certificate": in_words(values["certificate"], interval=True)}
    rows = [[key, promise.get(key) or _cell(value)] for key, value in values.items()]
    print_table("Prior cache", ["quantity", "value"], rows)


@app.command()
def inspect(
    cache: CacheArgument,
    goal: Annotated[str, typer.Option(help="Only goals that contain this.")] = "",
    text: Annotated[str, typer.Option(help="Only states whose text contains this.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Entries shown, last used first.")] = 20,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """The entries of a cache, last used first."""
    from cepcli.cache.disk import storage

    saved = storage.read(find_cache(cache, workspace))
    found = [e for e in reversed(saved.entries) if goal in e["goal"] and text in e["text"]]
    if json:
        print_json({"matching": len(found), "entries": found[:limit]})
        return
    rows = [_entry_row(entry) for entry in found[:limit]]
    title = f"{len(rows)} of {len(found)} matching entries, last used first"
    print_table(title, ["slot", "hits", "audits", "goal", "text", "best action", "actions"], rows)


@app.command()
def verify(
    cache: CacheArgument, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """Check a cache: file hashes, keys, texts, scores, order; exits with 2 if anything is wrong."""
    from cepcli.cache.disk import storage
    from cepcli.cache.disk.verify import defects
    from cepcli.errors import CacheError

    directory = find_cache(cache, workspace)
    saved = storage.read(directory)
    found = defects(saved)
    if json:
        print_json({"path": str(directory), "entries": len(saved.entries), "defects": found})
    if found:
        more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
        raise CacheError(
            f"The prior cache in `{directory}` is unsound: {found[0]}{more}",
            "Restore it from a copy, or start another cache.",
        )
    if not json:
        typer.echo(f"{directory}: {len(saved.entries)} entries, sound, of [{saved.namespace}]")


def find_cache(name: str, workspace: Path | None) -> Path:
    """The cache directory that `name` means; see `cepcli.cache.warm.find_cache`."""
    from cepcli.cache import warm

    return warm.find_cache(name, open_workspace(workspace))


def _stats(directory: Path, saved: "Saved") -> dict[str, Any]:
    from dataclasses import asdict

    entries = saved.entries
    namespace = asdict(saved.namespace)
    return {
        "path": str(directory),
        "mode": saved.mode,
        "entries": len(entries),
        "goals": len({entry["goal"] for entry in entries}),
        "scores": sum(len(entry["scores"]) for entry in entries),
        "scores_borrowed": sum(len(entry["borrowed"]) for entry in entries),
        "hits": sum(entry["hits"] for entry in entries),
        "entries_never_hit": sum(entry["hits"] == 0 for entry in entries),
        "audits": sum(entry["audits"] for entry in entries),
        "certificate": saved.state.get("certificate"),
        "key_dim": saved.dim if len(saved.keys) else None,
        "bytes": sum(path.stat().st_size for path in directory.iterdir()),
        **namespace.pop("scorer"),
        **namespace,
    }


def _entry_row(entry: dict[str, Any]) -> list[str]:
    scores = entry["scores"]
    best = max(scores, key=scores.__getitem__) if scores else "-"
    counts = [str(entry[key]) for key in ("slot", "hits", "audits")]
    return [*counts, *map(_cell, (entry["goal"], entry["text"], best, len(scores)))]


def _cell(value: object, width: int = 60) -> str:
    """One line of text, cut to `width`."""
    line = " ".join(str(value).split())
    return line if len(line) <= width else line[: width - 1] + "…"
