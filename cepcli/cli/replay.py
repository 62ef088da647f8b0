"""`cep cache replay`: what caches of other settings would have done with a recorded run.

With --resample it judges how often a cache keeps its error budget over runs drawn from the trace.

Example: cep cache replay my-run --cache lru,certified --threshold 0.9,0.95,0.99 --encoder hash
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.options import (
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
    from cepcli.cache.config import CacheConfig
    from cepcli.cache.replay.play import KeyTable, OwnValues
    from cepcli.cache.replay.resample import ResampleConfig
    from cepcli.cache.trace import Trace

_KEPT = "The runs played so far are kept; type the same command again to go on."


def replay(
    trace: Annotated[str, typer.Argument(help="A run made with --trace, or a trace's path.")],
    cache: Annotated[str, typer.Option(help="Modes, as exact,lru,certified.")] = "exact,lru",
    capacity: Annotated[str | None, typer.Option(help="Numbers of entries K.")] = None,
    threshold: Annotated[str | None, typer.Option(help="Similarity thresholds δ.")] = None,
    eviction: Annotated[str | None, typer.Option(help="lru, fifo, lfu, utility.")] = None,
    controller: Annotated[
        str | None,
        typer.Option(help="fixed, surrogate, certified: what moves the cache's parameters."),
    ] = None,
    gate: Annotated[str | None, typer.Option(help="words, off: see `cache.gate`.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Key encoder.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of audits, draws and drift.")] = 0,
    resample: Annotated[
        int, typer.Option(min=0, help="Judge by this many runs of episodes drawn anew.")
    ] = 0,
    drift: Annotated[
        str, typer.Option(help="none, states (they shift) or answers (another LLM half way).")
    ] = "none",
    jobs: Annotated[int, typer.Option(min=1, help="Processes for --resample.")] = 1,
    learner: Annotated[
        str | None,
        typer.Option(
            help="A finished run whose Q is asked anew for each side of a KL, under the cached and "
            "under the fresh prior, instead of the traced Q for both."
        ),
    ] = None,
    set_: SetOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to put the picture (PNG).")
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Replay a trace through caches, without the LLM: queries against KL, a row per setting."""
    from cepcli.cache.replay.resample import ResampleConfig
    from cepcli.cache.trace import read_trace
    from cepcli.config import require, resolve
    from cepcli.report.pareto import plot_pareto, rivals

    require(resample > 0 or jobs == 1, "`--jobs` is for the runs of `--resample`; name both.")
    require(not (resample and output), "`--resample` makes no picture; leave `--output` out.")
    require(not (resample and learner), "`--resample` asks no learner; leave `--learner` out.")
    course = resolve(
        ResampleConfig,
        flags={"runs": resample or None, "drift": drift, "seed": seed, "jobs": jobs},
    )
    lists = {
        "mode": cache, "capacity": capacity, "threshold": threshold, "eviction": eviction,
        "controller": controller, "gate": gate,
    }  # fmt: skip
    configs = _grid({k: v for k, v in lists.items() if v is not None}, encoder, set_ or [])
    space = open_workspace(workspace)
    recorded = read_trace(find_trace(trace, workspace))
    keys = _keys(recorded, configs, quiet)
    if resample:
        with interruptible(_KEPT):
            _judge(trace, recorded, configs, keys, course, space.root / "replays", json, quiet)
        return
    values = None if learner is None else _own_values(learner, workspace, quiet)
    rows = _rows(recorded, configs, keys, course, quiet, values)
    picture = plot_pareto(rows, output or space.root / "replay.png")
    if json:
        print_json(
            {"trace": trace, "env": recorded.env, "rows": rows, "rivals": rivals(rows),
             "picture": str(picture)}
        )  # fmt: skip
        return
    _print(rows, recorded)
    if learner is not None:
        hits, over = (sum(row[key] for row in rows) for key in ("semantic_hits", "kl_over_bound"))
        typer.echo(f"KL with each side's own Q, of `{learner}`: above span²/8 in {over} of {hits}.")
    for found in rivals(rows):
        typer.echo(_rival(found))
    typer.echo(f"Queries against KL: {picture}")


def _own_values(run: str, workspace: Path | None, quiet: bool) -> "OwnValues":
    """The Q of a finished run's learner, of a state under a prior."""
    from cepcli.agents.policy import Policy
    from cepcli.agents.q_learner import QLearner
    from cepcli.cli.prior_display import note
    from cepcli.errors import ConfigError
    from cepcli.prior.base import PriorAnswer
    from cepcli.runs.engine import finished_run
    from cepcli.types import TextState

    parts, _ = finished_run(open_workspace(workspace), run, note(quiet))
    learner, policy = parts.learner, parts.policy
    if not isinstance(learner, QLearner) or not isinstance(policy, Policy):
        hint = "Name a run of posterior-q; of hybrid-sac, whose Q needs observations: "
        raise ConfigError(
            f"`{run}` has no Q of text to ask about the states of a trace.",
            hint + f"cep bench kl-bound {run}",
        )

    def values(state: TextState, log_prior: Any) -> Any:
        rows = policy.rows(state, PriorAnswer(log_prior, log_prior, "miss"))
        assert rows is not None, "a learner has a table of texts"
        return learner.q_values(rows).double().numpy()

    return values


def _rival(found: dict[str, Any]) -> str:
    """One line on what fixed thresholds need at the error of a certified row."""
    asked, best = found["queries_per_decision"], found["best"]
    begin = f"certified: {asked:.3f} queries per decision at a KL p95 of {found['kl_p95']:.4f}; "
    if best is None:
        return begin + "every fixed threshold tried errs more."
    least = best["queries_per_decision"]
    return begin + (
        f"the best fixed threshold that errs no more, δ {best['threshold']:g}, needs {least:.3f} "
        f"({asked / least - 1:+.0%} for certified)."
    )


def _rows(
    trace: "Trace",
    configs: "list[CacheConfig]",
    keys: "KeyTable | None",
    course: "ResampleConfig",
    quiet: bool,
    values: "OwnValues | None",
) -> list[dict[str, Any]]:
    """The trace itself through each cache."""
    from cepcli.cache.replay import resample
    from cepcli.cache.replay.play import replay as play

    decisions, change = resample.course(trace, course)
    note(quiet)(f"Replaying {len(decisions)} decisions through {len(configs)} settings")
    rows = []
    for config in configs:
        known = keys if config.keyed else None
        found = play(
            trace, config, known, seed=course.seed, decisions=decisions, change=change,
            values=values,
        )  # fmt: skip
        rows.append(found.summary())
        note(quiet)(f"{len(rows)}/{len(configs)} settings replayed")
    return rows


def _judge(
    name: str,
    trace: "Trace",
    configs: "list[CacheConfig]",
    keys: "KeyTable | None",
    course: "ResampleConfig",
    folder: Path,
    json: bool,
    quiet: bool,
) -> None:
    """Resampled runs through each cache: how often it kept its budget."""
    from cepcli.cache.replay.resample import resample

    say = note(quiet)
    say(f"Replaying {course.runs} runs through each of {len(configs)} settings")
    rows = resample(trace, configs, keys, course, say, folder)
    if json:
        print_json({"trace": name, "env": trace.env, "drift": course.drift, "rows": rows})
        return
    columns = ["cache", "gate", "K", "δ", "eviction", "kept", "interval", "kept by bound",
               "interval", "KL over κ", "worst run", "in force", "hand-overs", "alarms",
               "semantic hits",
               "queries/decision"]  # fmt: skip
    cells = [
        [row["cache"], row["gate"] or "–", str(row["capacity"]), _configured(row), row["eviction"],
         *_share(row, "kept"), *_share(row, "bound_kept"), f"{row['share_over_kappa']:.2%}",
         f"{row['share_over_kappa_max']:.2%}",
         "–" if row["in_force"] is None else f"{row['in_force']:.1%}",
         f"{row['hand_overs']:.1f}", f"{row['alarms']:.2f}", f"{row['semantic_hits']:.0f}",
         f"{row['queries_per_decision']:.3f}"]
        for row in rows
    ]  # fmt: skip
    first = rows[0]
    print_table(
        f"{course.runs} runs of {trace.env}, drift {course.drift}; kept: at most "
        f"{100 * first['alpha']:g}% of the semantic hits over {first['kappa']:g} nats",
        columns,
        cells,
    )


def _share(row: dict[str, Any], name: str) -> tuple[str, str]:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:.1%}", f"{low:.1%} to {high:.1%}"


def _grid(lists: dict[str, str], encoder: str | None, sets: list[str]) -> "list[CacheConfig]":
    """Every combination; what makes no difference to a mode is left out of it."""
    import itertools

    from cepcli.cache.config import CacheConfig
    from cepcli.config import require, resolve

    configs = []
    for values in itertools.product(*(text.split(",") for text in lists.values())):
        numbers = {key: _number(key, value) for key, value in zip(lists, values, strict=True)}
        flags = _controlled({**numbers, "encoder": encoder})
        mode = resolve(CacheConfig, overrides=sets, flags=flags).mode
        for key in _MEANINGLESS.get(mode, ()):
            flags.pop(key, None)
        config = resolve(CacheConfig, overrides=sets, flags=flags)
        require(config.start is None, "A replay starts with an empty cache; leave `start` out.")
        if config not in configs:
            configs.append(config)
    return configs


#: What makes no difference to a mode.
_MEANINGLESS = {
    "off": ("threshold", "encoder", "gate"),
    "exact": ("threshold", "encoder", "gate"),
    "certified": ("threshold", "gate"),
}


def _controlled(flags: dict[str, Any]) -> dict[str, Any]:
    """`flags` with a controller taken into the mode; the mode's eviction stays."""
    from cepcli.errors import ConfigError
    from cepcli.registry import suggest

    controller = flags.pop("controller", "fixed")
    known = ("fixed", "surrogate", "certified")
    if controller not in known:
        raise ConfigError(f"There is no controller `{controller}`.", suggest(controller, known))
    mode = flags.get("mode")
    if controller == "fixed" or mode in ("off", "exact"):
        return flags
    own = {"eviction": mode} if mode in ("lru", "fifo") else {}
    return {**own, **flags, "mode": controller}


def _number(key: str, text: str) -> Any:
    from cepcli.errors import ConfigError

    if key in ("mode", "eviction", "controller", "gate"):
        return text.strip()
    try:
        return int(text) if key == "capacity" else float(text)
    except ValueError as error:
        raise ConfigError(f"`--{key}` has `{text}` in it, expected numbers.") from error


def find_trace(trace: str, workspace: Path | None) -> Path:
    """The file or the run's directory that `trace` means; an unfinished run will do."""
    if Path(trace).exists():
        return Path(trace)
    space = open_workspace(workspace)
    partial = space.partial("run", trace)
    return partial if partial.is_dir() else space.open("run", trace).path


def _keys(trace: "Trace", configs: "list[CacheConfig]", quiet: bool) -> "KeyTable | None":
    """The key of every text of the trace, if any of the caches compares texts."""
    from cepcli.cache.replay.play import KeyTable
    from cepcli.keys.key_encoder import make_key_encoder

    keyed = [config for config in configs if config.keyed]
    if not keyed:
        return None
    states = {(d.state.goal, d.state.text) for d in trace.decisions}
    note(quiet)(f"Making the keys of {len(states)} texts ({keyed[0].encoder})")
    first = keyed[0]
    encoder = make_key_encoder(first.encoder, focus=first.focus, head=first.head)
    return KeyTable.of(trace, encoder)


def _print(rows: list[dict[str, Any]], trace: "Trace") -> None:
    columns = ["cache", "gate", "K", "δ", "eviction", "hits", "queries/decision", "KL mean",
               "KL p95", "KL over κ", "bound over κ", "decisions/s"]  # fmt: skip
    cells = [
        [row["cache"], row["gate"] or "–", str(row["capacity"]), _threshold(row), row["eviction"],
         f"{row['hit_rate']:.1%}", f"{row['queries_per_decision']:.3f}", f"{row['kl_mean']:.4f}",
         f"{row['kl_p95']:.4f}", f"{row['share_over_kappa']:.2%}",
         f"{row['share_bound_over_kappa']:.2%}", f"{row['decisions_per_second']:.0f}"]
        for row in rows
    ]  # fmt: skip
    title = f"{len(trace.decisions)} decisions of {trace.env}; KL of semantic hits in nats"
    print_table(title, columns, cells)


def _threshold(row: dict[str, Any]) -> str:
    """δ as configured, or where the controller ended."""
    if row["certificate"] is not None:
        end = row["certificate"]["threshold"]
        return "closed" if end is None else f"→ {end:g}"
    return _configured(row)


def _configured(row: dict[str, Any]) -> str:
    return "" if row["cache"] in ("off", "exact", "certified") else f"{row['threshold']:g}"
