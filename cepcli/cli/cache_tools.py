"""`cep cache train-head|export|merge`: learn better keys, take caches elsewhere.

Example: cep cache train-head my-run --encoder hash --focus -o head.safetensors
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from cepcli.cli.options import (
    JsonOption,
    QuietOption,
    SetOption,
    WorkspaceOption,
    print_json,
    print_table,
)
from cepcli.cli.prior_display import note

POOL_GOALS = "Whether texts of different goals are compared; default: only with focus."
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Where to write it.")]


def train_head(
    trace: Annotated[str, typer.Argument(help="A run made with --trace, or a trace's path.")],
    output: OutputOption,
    settings: Annotated[
        Path | None,
        typer.Option(help="A TOML file for `cep train --config`: these keys, and their threshold."),
    ] = None,
    encoder: Annotated[str, typer.Option(help="minilm, static or hash.")] = "hash",
    focus: Annotated[
        bool, typer.Option("--focus/--no-focus", help="Mark what the goal names in the text.")
    ] = True,
    pool_goals: Annotated[
        bool | None, typer.Option("--pool-goals/--goals-apart", help=POOL_GOALS)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the training.")] = 0,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a key head on a trace, and show what it buys on texts it has not seen."""
    from cepcli.cache.replay.heads import train_on
    from cepcli.cache.trace import read_trace
    from cepcli.cli.replay import find_trace
    from cepcli.config import resolve
    from cepcli.keys.config import HeadConfig
    from cepcli.keys.key_encoder import make_key_encoder
    from cepcli.workspace.artifacts import check_writable

    for file in filter(None, (output, settings)):
        check_writable(file)
    notify = note(quiet)
    config = resolve(HeadConfig, overrides=set_ or [])
    recorded = read_trace(find_trace(trace, workspace))
    keys = make_key_encoder(encoder, focus=focus, notify=notify)
    pooled = focus if pool_goals is None else pool_goals
    head, rows = train_on(recorded, keys, config, pool_goals=pooled, seed=seed, notify=notify)
    head.save(output)
    if settings is not None:
        threshold = rows[-1]["threshold"]
        _write_settings(
            settings,
            {"encoder": encoder, "focus": focus, "pool_goals": pooled, "head": str(output),
             "threshold": 1.0 if threshold is None else threshold},
        )  # fmt: skip
    if json:
        print_json({"head": str(output), "sha256": head.sha256, "rows": rows})
        return
    cells = [[row["keys"], str(row["dim"]), *key_cells(row)] for row in rows]
    title = f"{encoder} keys on texts not trained on; hits where 95 % keep to 0.1 nats of KL"
    print_table(title, ["keys", "dimension", *KEY_COLUMNS], cells)
    typer.echo(
        f"Use it: cep train --cache certified --set cache.encoder={encoder} "
        f"--set cache.focus={str(focus).lower()} --set cache.pool_goals={str(pooled).lower()} "
        f"--set cache.head={output}"
    )


def _write_settings(path: Path, cache: dict[str, Any]) -> None:
    """The section `cache` of a configuration."""
    import tomli_w

    from cepcli.whole_files import write_whole
    from cepcli.workspace.artifacts import writing

    with writing(path.parent):
        write_whole(path, tomli_w.dumps({"cache": cache}))


KEY_COLUMNS = ["L (99 % of pairs)", "δ", "hits", "µs a key"]


def key_cells(row: dict[str, Any]) -> list[str]:
    """How good keys are, under `KEY_COLUMNS`."""
    return [
        f"{row['lipschitz_q99']:.2f}",
        "none" if row["threshold"] is None else f"{row['threshold']:.4f}",
        f"{row['hit_rate']:.1%}",
        f"{row['key_us']:.0f}",
    ]


def export(
    cache: Annotated[str, typer.Argument(help="Name of a run, or path of a cache directory.")],
    output: OutputOption,
    workspace: WorkspaceOption = None,
) -> None:
    """Write a cache's entries as a Parquet file."""
    from cepcli.cache.disk import storage
    from cepcli.cache.disk.transfer import export_parquet
    from cepcli.cli.cache import find_cache

    saved = storage.read(find_cache(cache, workspace))
    export_parquet(saved, output)
    typer.echo(f"{output}: {len(saved.entries)} entries")


def merge(
    caches: Annotated[list[str], typer.Argument(metavar="CACHE…", help="Runs or directories.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A new directory.")],
    capacity: Annotated[int, typer.Option(help="Most entries of the result.")] = 100_000,
    workspace: WorkspaceOption = None,
) -> None:
    """Merge caches of one namespace into one; the most recently used entries stay."""
    from cepcli.cache.disk import storage
    from cepcli.cache.disk.transfer import merge as merged
    from cepcli.cli.cache import find_cache

    storage.check_new(output)
    saved = merged(
        [storage.read(find_cache(cache, workspace)) for cache in caches], capacity=capacity
    )
    storage.write_new(output, saved)
    typer.echo(f"{output}: {len(saved.entries)} entries of {len(caches)} caches")
