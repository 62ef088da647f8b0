"""`cep bench`: the measurements behind the claims; the last line under --json is one object."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from cepcli.cli.cache import KEY_COLUMNS, POOL_GOALS
from cepcli.cli.measured import kl_bound
from cepcli.cli.options import (
    CommandGroup,
    JsonOption,
    OverwriteRunOption,
    ReadOptions,
    ResumeOption,
    SetOption,
    TraceArgument,
    WorkOptions,
)
from cepcli.cli.output import note, print_json, print_rows, print_table
from cepcli.cli.stopping import interruptible
from cepcli.errors import ConfigError

app = CommandGroup(
    no_args_is_help=True, help="Measure scoring, cache, keys and learners on this machine."
)
app.command()(kl_bound)

RoundsOption = Annotated[int, typer.Option(min=1, help="Slices of each contender.")]
CoreOption = Annotated[int | None, typer.Option(help="CPU core to pin to; default the last one.")]


@app.command()
def prior(
    candidates: Annotated[str, typer.Option(help="Numbers of candidate actions.")] = "4,8,20",
    repeats: Annotated[int, typer.Option(min=1, help="Timed repeats of each method.")] = 5,
    json: JsonOption = False,
) -> None:
    """Time token-tree scoring against one forward pass of prompt + action per candidate."""
    from cepcli.bench.prior import bench_prior

    result = bench_prior(_numbers(candidates), repeats)
    if json:
        print_json(result)
        return
    rows = [
        [n, f"{result['ms'][n]['naive']:.0f}", f"{result['ms'][n]['tree']:.0f}", f"{speedup:.1f}×"]
        for n, speedup in result["speedup"].items()
    ]
    print_table("ms per state", ["candidates", "naive", "token tree", "speed-up"], rows)
    typer.echo(f"largest difference of a score: {result['max_abs_difference']:.1e}")


@app.command()
def cache(
    capacities: Annotated[
        str, typer.Option(help="Entries in the cache; 100,000 take most of the time to fill.")
    ] = "100,1000,10000,100000",
    json: JsonOption = False,
) -> None:
    """Time look-up, insertion, eviction, audit and a whole hit, beside GPTCache and the LLM.

    In the same run, look-up is compared with a matrix-vector product over the
    same keys, a dictionary, and GPTCache (SQLite and faiss) where the extra
    `bench` is installed.
    """
    from cepcli.bench.cache import MOST_IN_GPTCACHE, bench_cache
    from cepcli.bench.gptcache import gptcache_is_installed

    if not gptcache_is_installed():
        typer.echo("To compare with GPTCache: pip install 'cepcli[bench]'", err=True)
    result = bench_cache(_numbers(capacities))
    if json:
        print_json(result)
        return
    for title, names in (
        ("median µs in a full cache", _STEPS),
        ("median µs of a look-up, and of what it is compared with", _BESIDE),
    ):
        measured = {heading: result[name] for heading, name in names.items() if result[name]}
        rows = [
            [k, *(_figure(values[k]) if k in values else "" for values in measured.values())]
            for k in result["lookup_us"]
        ]
        print_table(title, ["entries", *measured], rows)
    if result["gptcache_us"]:
        typer.echo(
            f"GPTCache was filled with up to {MOST_IN_GPTCACHE} entries; its look-up is mostly "
            "SQLite, which commits to the disk that $TMPDIR is on."
        )
    typer.echo(f"LLM for the same decision: {result['llm_ms']:.0f} ms")


@app.command()
def envs(
    env: Annotated[
        list[str] | None,
        typer.Option("--env", help="Text environment; repeatable; default one per family."),
    ] = None,
    resets: Annotated[int, typer.Option(min=1, help="Episodes of a round.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of instances and random actions.")] = 0,
    set_: SetOption = None,
    *,
    options: ReadOptions,
) -> None:
    """Time steps and resets of text environments under random actions.

    Games are generated and compiled before the clock starts. `--set games=20`
    and the like set environment options, which default to those of
    `cep envs check`.
    """
    from cepcli.bench.envs import bench_envs
    from cepcli.config import given

    rows = bench_envs(
        env or _ONE_A_FAMILY, options.space.root, resets=resets, rounds=rounds, seed=seed,
        options=given(overrides=set_) if set_ else None, notify=note,
    )  # fmt: skip
    if options.json:
        print_json(rows)
        return
    columns = {
        "environment": "env",
        "steps": "steps",
        "steps/s": "steps_per_s:.0f",
        "reset ms": lambda row: _figure(row["reset_ms"]["p50"]),
        "95 % below": lambda row: _figure(row["reset_ms"]["p95"]),
    }
    print_rows("text environments, random actions", rows, columns)


_ONE_A_FAMILY = ["babyai/goto-local", "textworld/coin", "alfworld", "webshop"]
_STEPS = {
    "look-up": "lookup_us",
    "gate": "gate_us",
    "insert": "insert_us",
    "evict": "evict_us",
    "audit": "audit_us",
    "exact hit": "exact_posterior_us",
    "semantic hit": "lookup_posterior_us",
}
_BESIDE = {
    "look-up": "lookup_us",
    "matrix product": "matvec_us",
    "dictionary": "dict_us",
    "GPTCache": "gptcache_us",
    "look-up/product": "matvec_ratio",
    "GPTCache/look-up": "gptcache_ratio",
}


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


@app.command()
def sac(
    steps: Annotated[int, typer.Option(min=60, help="Environment steps of a slice.")] = 150,
    rounds: RoundsOption = 7,
    core: CoreOption = None,
    json: JsonOption = False,
) -> None:
    """Time steps of soft actor-critic beside other libraries, on one core.

    A step is one environment step and one gradient step on HalfCheetah-v5, with
    a batch of 256 and two layers of 256. Takes turns with Stable-Baselines3 and
    SBX (JAX) where the extra `bench` is installed.
    """
    from cepcli.bench.sac import bench_sac, not_installed

    absent = not_installed()
    if absent:
        line = "pip install 'cepcli[bench]' sbx-rl"
        typer.echo(f"Not compared with {' and '.join(absent)}: {line}", err=True)
    ratios = {
        "sac is {:.2f}× Stable-Baselines3": "ratio_to_sb3",
        "sac is {:.2f}× SBX": "ratio_to_sbx",
        "hybrid-sac with 8 primitives is {:.2f}× sac": "hybrid_to_sac",
    }
    result = bench_sac(steps, rounds, core=core, notify=note)
    _print_rates("steps per second", result, ratios, json)


@app.command()
def cql(
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps of a slice.")] = 20,
    rounds: RoundsOption = 7,
    warm_up: Annotated[
        int, typer.Option(min=1, help="Untimed gradient steps of each library first.")
    ] = 50,
    core: CoreOption = None,
    json: JsonOption = False,
) -> None:
    """Time gradient steps of conservative Q-learning, with and without a prior, beside d3rlpy.

    Runs on one core and on the halfcheetah dataset that ships with cep, with a
    batch of 256, two layers of 256 and 10 sampled controls of each kind. Takes
    turns with d3rlpy where it is installed.
    """
    from cepcli.bench.cql import INSTALL, bench_cql, d3rlpy_is_installed

    if not d3rlpy_is_installed():
        typer.echo(f"Not compared with d3rlpy, which is not installed. {INSTALL}", err=True)
    ratios = {
        "cql is {:.2f}× d3rlpy": "ratio_to_d3rlpy",
        "cql with every draw kept is {:.2f}× d3rlpy": "every_draw_ratio_to_d3rlpy",
        "cql-prior with 8 primitives is {:.2f}× cql": "prior_ratio_to_cql",
    }
    result = bench_cql(steps, rounds, warm_up=warm_up, core=core, notify=note)
    _print_rates("gradient steps per second", result, ratios, json)


def _print_rates(
    title: str, result: Mapping[str, Any], ratios: Mapping[str, str], json: bool
) -> None:
    """Steps per second of each contender, and the ratios that were measured, in words."""
    if json:
        print_json(result)
        return
    cpu = result["cpu"]["steps_per_s"]
    rows = [[k, f"{v:.1f}", f"{cpu[k]:.1f}"] for k, v in result["steps_per_s"].items()]
    print_table(title, ["", "wall clock", "processor"], rows)
    for words, key in ratios.items():
        if result[key] is not None:
            typer.echo(words.format(result[key]))


@app.command()
def sb3(
    env: Annotated[str, typer.Option(help="Environment of continuous control.")] = "halfcheetah",
    steps: Annotated[int, typer.Option(min=1, help="Control steps.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the run, followed by _s<seed>; default ENV-sb3."),
    ] = None,
    resume: ResumeOption = False,
    overwrite: OverwriteRunOption = False,
    set_: SetOption = None,
    *,
    options: WorkOptions,
) -> None:
    """Train SAC of Stable-Baselines3 with its defaults, as a run to compare with those of `sac`.

    It is evaluated as `cep train --agent sac` would be, on the same episodes.
    """
    from cepcli.agents.config import training_config
    from cepcli.cli.summaries import print_summary
    from cepcli.config import given
    from cepcli.envs.catalog import full_options
    from cepcli.experiments.sb3_run import COUNTING, train_sb3

    for key in given(overrides=set_ or []):
        if key not in COUNTING:
            raise ConfigError(
                f"`{key}` has no effect on Stable-Baselines3, which uses its own defaults.",
                f"Leave it out; these have one: {', '.join(COUNTING)}.",
            )
    config = training_config(
        overrides=set_ or [], flags={"env": env, "agent": "sac", "steps": steps, "seed": seed}
    )
    config = replace(config, env_options=full_options(config.env, config.env_options))
    label = f"{name or config.env.replace('/', '-') + '-sb3'}_s{config.seed}"
    with interruptible("The state at the last evaluation is saved; add --resume to go on."):
        summary = train_sb3(
            config, options.space, label, resume=resume, overwrite=overwrite,
            notify=options.notify,
        )  # fmt: skip
    print_json(summary) if options.json else print_summary(summary)


@app.command()
def keys(
    trace: TraceArgument,
    encoders: Annotated[str, typer.Option(help="Key encoders.")] = "hash,static,minilm",
    pool_goals: Annotated[
        bool | None, typer.Option("--pool-goals/--goals-apart", help=POOL_GOALS)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    set_: SetOption = None,
    *,
    options: ReadOptions,
) -> None:
    """Compare key encoders, with and without focus and learned head, on a trace's held-out part."""
    from cepcli.cache.replay.heads import train_on
    from cepcli.cache.trace import read_trace
    from cepcli.config import resolve
    from cepcli.experiments.replaying import find_trace
    from cepcli.keys.config import HeadConfig
    from cepcli.keys.key_encoder import make_key_encoder

    config = resolve(HeadConfig, overrides=set_ or [])
    recorded = read_trace(find_trace(trace, options.space))
    rows: list[dict[str, Any]] = []
    for encoder in encoders.split(","):
        for focus in (False, True):
            note(f"{encoder}{', focus' if focus else ''}")
            made = make_key_encoder(encoder.strip(), focus=focus)
            pooled = focus if pool_goals is None else pool_goals
            _, judged = train_on(recorded, made, config, pool_goals=pooled, seed=seed)
            rows += [{"encoder": encoder, "focus": focus, **row} for row in judged]
    if options.json:
        print_json({"trace": trace, "env": recorded.env, "rows": rows})
        return
    title = f"{recorded.env}: texts of held-out episodes; hits where 95 % keep to 0.1 nats of KL"
    focus_column = {"focus": lambda row: "yes" if row["focus"] else "no"}
    print_rows(title, rows, {"encoder": "encoder", **focus_column, **KEY_COLUMNS})


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) >= 1 for part in parts):
        raise ConfigError(f"`{text}` is not a comma-separated list of whole numbers, like 4,8,20.")
    return tuple(int(part) for part in parts)
