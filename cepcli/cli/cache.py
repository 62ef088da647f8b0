"""`cep cache`: look into prior caches, check, fill, join and replay them, and learn better keys.

Example: cep cache stats my-run
"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli import measured, replay
from cepcli.cli.options import (
    CommandGroup,
    DeviceOption,
    InsecureOption,
    ReadOptions,
    SetOption,
    TraceArgument,
    WorkOptions,
    WorkspaceOption,
)
from cepcli.cli.output import Column, open_workspace, print_json, print_rows, print_table
from cepcli.cli.stopping import interruptible
from cepcli.errors import CacheError, ConfigError

if TYPE_CHECKING:
    from cepcli.cache.disk.storage import Saved
    from cepcli.workspace.artifacts import Workspace

app = CommandGroup(no_args_is_help=True, help="Prior caches: look, check, fill, join, replay.")

app.command()(replay.replay)
app.command()(measured.staleness)

_DEMOS = 50
CacheArgument = Annotated[
    str, typer.Argument(metavar="CACHE", help="Name of a run, or path of a cache directory.")
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]
NewDirectoryOption = Annotated[Path, typer.Option("--output", "-o", help="A new directory.")]


@app.command()
def stats(cache: CacheArgument, *, options: ReadOptions) -> None:
    """Show what a cache holds, what its certificate promises, and what it belongs to."""
    from cepcli.cli.summaries import certificate

    directory, saved = _read(cache, options.space)
    values = _stats(directory, saved)
    if options.json:
        print_json(values)
        return
    promise = {"certificate": certificate(values["certificate"], interval=True)}
    rows = [[key, promise.get(key) or _cell(value)] for key, value in values.items()]
    print_table("Prior cache", ["quantity", "value"], rows)


@app.command()
def inspect(
    cache: CacheArgument,
    goal: Annotated[str, typer.Option(help="Show only goals that contain this.")] = "",
    text: Annotated[str, typer.Option(help="Show only states whose text contains this.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many entries.")] = 20,
    *,
    options: ReadOptions,
) -> None:
    """Show the entries of a cache, the most recently used first."""
    _, saved = _read(cache, options.space)
    found = [e for e in reversed(saved.entries) if goal in e["goal"] and text in e["text"]]
    if options.json:
        print_json({"matching": len(found), "entries": found[:limit]})
        return
    print_rows(
        f"{len(found[:limit])} of {len(found)} matching entries, the most recently used first",
        found[:limit],
        {
            "slot": "slot",
            "hits": "hits",
            "audits": "audits",
            "goal": lambda e: _cell(e["goal"]),
            "text": lambda e: _cell(e["text"]),
            "best action": lambda e: _cell(max(e["scores"], key=e["scores"].get, default="-")),
            "actions": lambda e: str(len(e["scores"])),
        },
    )


@app.command()
def verify(cache: CacheArgument, *, options: ReadOptions) -> None:
    """Check a cache: file hashes, keys, texts, scores, order. Exit code 2 if anything is wrong."""
    from cepcli.cache.disk.storage import defects

    directory, saved = _read(cache, options.space)
    found = defects(saved)
    if options.json:
        print_json({"path": str(directory), "entries": len(saved.entries), "defects": found})
    if found:
        more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
        raise CacheError(
            f"The prior cache in `{directory}` is unsound: {found[0]}{more}",
            "Restore it from a copy, or start another cache.",
        )
    if not options.json:
        typer.echo(f"{directory}: {len(saved.entries)} entries, sound, of [{saved.namespace}]")


@app.command()
def export(cache: CacheArgument, output: OutputOption, workspace: WorkspaceOption = None) -> None:
    """Write the entries of a cache to a Parquet file."""
    from cepcli.cache.disk.transfer import export_parquet

    _, saved = _read(cache, open_workspace(workspace))
    export_parquet(saved, output)
    typer.echo(f"{output}: {len(saved.entries)} entries")


@app.command()
def merge(
    caches: Annotated[
        list[str], typer.Argument(metavar="CACHE…", help="Runs, or cache directories.")
    ],
    output: NewDirectoryOption,
    capacity: Annotated[int, typer.Option(help="Keep at most this many entries.")] = 100_000,
    workspace: WorkspaceOption = None,
) -> None:
    """Merge caches of one namespace into a new one; it keeps the most recently used entries."""
    from cepcli.cache.disk import storage
    from cepcli.cache.disk.transfer import merge as merged

    storage.check_new(output)
    space = open_workspace(workspace)
    saved = merged([_read(cache, space)[1] for cache in caches], capacity=capacity)
    storage.write_new(output, saved)
    typer.echo(f"{output}: {len(saved.entries)} entries of {len(caches)} caches")


def _read(name: str, space: "Workspace") -> "tuple[Path, Saved]":
    """The cache directory that `name` means, and its content."""
    from cepcli.cache.disk import storage
    from cepcli.cache.warm import find_cache

    directory = find_cache(name, space)
    return directory, storage.read(directory)


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
        "hits": sum(entry["hits"] for entry in entries),
        "entries_never_hit": sum(entry["hits"] == 0 for entry in entries),
        "audits": sum(entry["audits"] for entry in entries),
        "certificate": saved.state.get("certificate"),
        "key_dim": saved.dim if len(saved.keys) else None,
        "bytes": sum(path.stat().st_size for path in directory.iterdir()),
        **namespace.pop("scorer"),
        **namespace,
    }


def _cell(value: object, width: int = 60) -> str:
    """One line of text, cut to `width`."""
    line = " ".join(str(value).split())
    return line if len(line) <= width else line[: width - 1] + "…"


@app.command()
def warm(
    output: NewDirectoryOption,
    trace: Annotated[
        str | None,
        typer.Option(help="Fill it from this trace, or run with --trace; asks no LLM."),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(help="Fill it by asking --prior about the expert's states here."),
    ] = None,
    demos: Annotated[
        int | None, typer.Option(min=1, help=f"With --env: episodes of the expert; {_DEMOS}.")
    ] = None,
    prior: Annotated[
        str | None, typer.Option(help="Whose scores: embedded, a tuned prior, or a model.")
    ] = None,
    capacity: Annotated[
        int | None, typer.Option(help="Keep at most this many entries, the last visited.")
    ] = None,
    insecure: InsecureOption = False,
    set_: SetOption = None,
    device: DeviceOption = None,
    *,
    options: WorkOptions,
) -> None:
    """Fill a cache ahead of a run, from a trace or by asking a prior about demonstrations.

    --set takes keys of the cache, such as encoder=static; its mode is certified by default.
    """
    from cepcli.cache.disk import storage
    from cepcli.config import given
    from cepcli.experiments.warming import fill, from_demos, from_trace, warm_config, warm_keys

    config = warm_config(given(overrides=set_ or [], flags={"capacity": capacity}))
    storage.check_new(output)
    keys = warm_keys(config, device or "cpu", options.notify)
    space = options.space
    with interruptible("Type the command again: what the LLM has answered is in the journal."):
        if trace is not None:
            for flag, value in {"--env": env, "--demos": demos}.items():
                if value is not None:
                    raise ConfigError(f"`{flag}` has no meaning beside `--trace`.", "Drop one.")
            source = from_trace(trace, prior, space)
        elif env is not None:
            source = from_demos(
                env, demos or _DEMOS, prior, config, space, device=device or "cpu",
                insecure=insecure, listener=options.listener,
            )  # fmt: skip
        else:
            raise ConfigError(
                "No source was named to fill the cache from.", "Add --trace RUN, or --env ID."
            )
        options.notify(f"Making the keys of {len(source.scores)} texts")
        cache = fill(source, config, keys, output)
    words = ["--env", source.env, "--prior", source.prior or "NAME", "--cache", config.mode]
    words += ["--cache-from", str(output), *_repeated(set_ or [], capacity)]
    following = f"cep train {shlex.join(words)}" + (
        "" if options.workspace is None else f" --workspace {shlex.quote(str(options.workspace))}"
    )
    if options.json:
        print_json(
            {"path": str(output), "entries": len(cache), "texts": len(source.scores),
             "queries": source.queries, "paid": source.paid, "head": bool(cache.key_head),
             "next": following}
        )  # fmt: skip
        return
    head = ", and a key head learned from them" if cache.key_head and not config.head else ""
    asked = "no LLM was asked"
    if source.queries:
        asked = f"{source.queries} LLM queries, {source.paid} of them paid now"
    typer.echo(f"{output}: {len(cache)} entries{head}; {asked}\nUse it: {following}")


def _repeated(sets: list[str], capacity: int | None) -> list[str]:
    """The settings of a cache as those of a run that starts from it."""
    sets = [one for one in sets if one.partition("=")[0].strip() != "mode"]
    sets += [] if capacity is None else [f"capacity={capacity}"]
    return [word for one in sets for word in ("--set", f"cache.{one}")]


POOL_GOALS = "Whether to compare texts of different goals; default only with --focus."
KEY_COLUMNS: dict[str, Column] = {
    "keys": "keys",
    "dimension": "dim",
    "L (99 % of pairs)": "lipschitz_q99:.2f",
    "δ": lambda row: "none" if row["threshold"] is None else f"{row['threshold']:.4f}",
    "hits": "hit_rate:.1%",
    "µs a key": "key_us:.0f",
}


@app.command()
def train_head(
    trace: TraceArgument,
    output: OutputOption,
    settings: Annotated[
        Path | None,
        typer.Option(help="A TOML file to write for `cep train --config`: keys and threshold."),
    ] = None,
    encoder: Annotated[str, typer.Option(help="minilm, static or hash.")] = "hash",
    focus: Annotated[
        bool, typer.Option("--focus/--no-focus", help="Mark what the goal names in the text.")
    ] = True,
    pool_goals: Annotated[
        bool | None, typer.Option("--pool-goals/--goals-apart", help=POOL_GOALS)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    set_: SetOption = None,
    *,
    options: WorkOptions,
) -> None:
    """Train a key head on a trace, and show how much it helps on texts it has not seen."""
    from cepcli.cache.replay.heads import train_on
    from cepcli.cache.trace import read_trace
    from cepcli.config import resolve
    from cepcli.experiments.replaying import find_trace
    from cepcli.keys.config import HeadConfig
    from cepcli.keys.key_encoder import make_key_encoder
    from cepcli.workspace.artifacts import check_writable

    for file in filter(None, (output, settings)):
        check_writable(file)
    config = resolve(HeadConfig, overrides=set_ or [])
    recorded = read_trace(find_trace(trace, options.space))
    keys = make_key_encoder(encoder, focus=focus, notify=options.notify)
    pooled = focus if pool_goals is None else pool_goals
    head, rows = train_on(
        recorded, keys, config, pool_goals=pooled, seed=seed, notify=options.notify
    )
    head.save(output)
    used = {"encoder": encoder, "focus": focus, "pool_goals": pooled, "head": str(output)}
    if settings is not None:
        threshold = rows[-1]["threshold"]
        _write_settings(settings, {**used, "threshold": 1.0 if threshold is None else threshold})
    if options.json:
        print_json({"head": str(output), "sha256": head.sha256, "rows": rows})
        return
    title = f"{encoder} keys on texts not trained on; hits where 95 % keep to 0.1 nats of KL"
    print_rows(title, rows, KEY_COLUMNS)
    sets = (f"cache.{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in used.items())
    typer.echo("Use it: cep train --cache certified " + " ".join(f"--set {one}" for one in sets))


def _write_settings(path: Path, cache: dict[str, Any]) -> None:
    """The section `cache` of a configuration."""
    import tomli_w

    from cepcli.whole_files import write_whole
    from cepcli.workspace.artifacts import writing

    with writing(path.parent):
        write_whole(path, tomli_w.dumps({"cache": cache}))
