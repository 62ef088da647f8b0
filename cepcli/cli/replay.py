"""`cep cache replay`: what caches of other settings would have done with a recorded run.

With --resample it judges how often a cache keeps its error budget over runs drawn from the trace.

Example: cep cache replay my-run --cache lru,certified --threshold 0.9,0.95,0.99 --encoder hash
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cepcli.cli.options import SetOption, TraceArgument, WorkOptions
from cepcli.cli.output import Column, print_json, print_rows
from cepcli.cli.stopping import interruptible


def replay(
    trace: TraceArgument,
    cache: Annotated[str, typer.Option(help="Modes, as exact,lru,certified.")] = "exact,lru",
    capacity: Annotated[str | None, typer.Option(help="Capacities K, in entries.")] = None,
    threshold: Annotated[str | None, typer.Option(help="Similarity thresholds δ.")] = None,
    eviction: Annotated[str | None, typer.Option(help="lru, fifo, lfu, utility.")] = None,
    controller: Annotated[
        str | None,
        typer.Option(help="What adapts the parameters of the cache: fixed, surrogate, certified."),
    ] = None,
    gate: Annotated[
        str | None, typer.Option(help="Gates of semantic hits: words, off; see `cache.gate`.")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Key encoder.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of audits, draws and drift.")] = 0,
    resample: Annotated[
        int, typer.Option(min=0, help="Judge by this many runs of resampled episodes.")
    ] = 0,
    drift: Annotated[
        str, typer.Option(help="none, states (they shift) or answers (another LLM half way).")
    ] = "none",
    jobs: Annotated[int, typer.Option(min=1, help="Processes for --resample.")] = 1,
    learner: Annotated[
        str | None,
        typer.Option(
            help="Compute each side of a KL with the Q-function of this finished run, under the "
            "cached and the fresh prior, instead of the traced Q for both."
        ),
    ] = None,
    set_: SetOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File of the picture (PNG).")
    ] = None,
    *,
    options: WorkOptions,
) -> None:
    """Replay a trace through caches of other settings, without the LLM: queries against KL.

    Options that take several values, separated by commas, make one row for each combination.
    """
    from cepcli.cache.replay.resample import ResampleConfig
    from cepcli.cache.replay.resample import resample as judge
    from cepcli.cache.trace import read_trace
    from cepcli.config import require, resolve
    from cepcli.experiments.replaying import find_trace, grid, keys_of, own_values, replayed
    from cepcli.report.plots import plot_pareto, rivals

    require(resample > 0 or jobs == 1, "`--jobs` works only together with `--resample`.")
    require(not (resample and output), "`--resample` makes no picture; leave `--output` out.")
    require(not (resample and learner), "`--resample` asks no learner; leave `--learner` out.")
    how = resolve(
        ResampleConfig,
        flags={"runs": resample or None, "drift": drift, "seed": seed, "jobs": jobs},
    )
    lists = {
        "mode": cache, "capacity": capacity, "threshold": threshold, "eviction": eviction,
        "controller": controller, "gate": gate,
    }  # fmt: skip
    choices = {key: _values(key, text) for key, text in lists.items() if text is not None}
    configs = grid(choices, encoder, set_ or [])
    space, notify = options.space, options.notify
    recorded = read_trace(find_trace(trace, space))
    keys = keys_of(recorded, configs, notify)
    if resample:
        notify(f"Replaying {how.runs} runs through each of {len(configs)} settings")
        with interruptible("The runs so far are saved; type the same command again to go on."):
            rows = judge(recorded, configs, keys, how, notify, space.root / "replays")
        found = {"trace": trace, "env": recorded.env, "drift": how.drift, "rows": rows}
        print_json(found) if options.json else _print_judged(rows, recorded.env, how)
        return
    values = None if learner is None else own_values(learner, space, notify)
    rows = replayed(recorded, configs, keys, how, values, notify)
    picture = plot_pareto(rows, output or space.root / "replay.png")
    if options.json:
        print_json(
            {"trace": trace, "env": recorded.env, "rows": rows, "rivals": rivals(rows),
             "picture": str(picture)}
        )  # fmt: skip
        return
    title = f"{len(recorded.decisions)} decisions of {recorded.env}; KL of semantic hits in nats"
    print_rows(title, rows, _REPLAYED)
    if learner is not None:
        hits, over = (sum(row[key] for row in rows) for key in ("semantic_hits", "kl_over_bound"))
        typer.echo(f"KL with each side's own Q, of `{learner}`: above span²/8 in {over} of {hits}.")
    for rival in rivals(rows):
        typer.echo(_rival(rival))
    typer.echo(f"Queries against KL: {picture}")


def _values(key: str, text: str) -> list[Any]:
    """What stands between the commas: names or numbers."""
    from cepcli.errors import ConfigError

    kind = {"capacity": int, "threshold": float}.get(key, str.strip)
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"`--{key}` is `{text}`, expected numbers, separated by commas."
        ) from None


def _configured(row: Mapping[str, Any]) -> str:
    return "" if row["cache"] in ("off", "exact", "certified") else f"{row['threshold']:g}"


def _threshold(row: Mapping[str, Any]) -> str:
    """δ as configured, or where the controller ended."""
    if row["certificate"] is not None:
        end = row["certificate"]["threshold"]
        return "closed" if end is None else f"→ {end:g}"
    return _configured(row)


def _interval(name: str) -> Column:
    return lambda row: f"{row[f'{name}_low']:.1%} to {row[f'{name}_high']:.1%}"


_SETTING: dict[str, Column] = {
    "cache": "cache",
    "gate": lambda row: row["gate"] or "–",
    "K": "capacity",
}
_REPLAYED: dict[str, Column] = {
    **_SETTING,
    "δ": _threshold,
    "eviction": "eviction",
    "hits": "hit_rate:.1%",
    "queries/decision": "queries_per_decision:.3f",
    "KL mean": "kl_mean:.4f",
    "KL p95": "kl_p95:.4f",
    "KL over κ": "share_over_kappa:.2%",
    "bound over κ": "share_bound_over_kappa:.2%",
    "decisions/s": "decisions_per_second:.0f",
}
_JUDGED: dict[str, Column] = {
    **_SETTING,
    "δ": _configured,
    "eviction": "eviction",
    "kept": "kept:.1%",
    "interval": _interval("kept"),
    "kept by bound": "bound_kept:.1%",
    "interval by bound": _interval("bound_kept"),
    "KL over κ": "share_over_kappa:.2%",
    "worst run": "share_over_kappa_max:.2%",
    "in force": "in_force:.1%",
    "hand-overs": "hand_overs:.1f",
    "alarms": "alarms:.2f",
    "semantic hits": "semantic_hits:.0f",
    "queries/decision": "queries_per_decision:.3f",
}


def _print_judged(rows: list[dict[str, Any]], env: str, how: Any) -> None:
    alpha, kappa = 100 * rows[0]["alpha"], rows[0]["kappa"]
    print_rows(
        f"{how.runs} runs of {env}, drift {how.drift}; kept: at most {alpha:g}% of the "
        f"semantic hits over {kappa:g} nats",
        rows,
        _JUDGED,
    )


def _rival(found: Mapping[str, Any]) -> str:
    """One line on what fixed thresholds need at the error of a certified row."""
    asked, best = found["queries_per_decision"], found["best"]
    begin = f"certified: {asked:.3f} queries per decision at a KL p95 of {found['kl_p95']:.4f}; "
    if best is None:
        return begin + "every fixed threshold tried has a larger error."
    least = best["queries_per_decision"]
    return begin + (
        f"the best fixed threshold with no larger error, δ {best['threshold']:g}, needs "
        f"{least:.3f} ({asked / least - 1:+.0%} for certified)."
    )
