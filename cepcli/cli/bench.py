"""`cep bench`: the measurements behind the claims; the last line under --json is one object."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from cepcli.cli.cache_tools import KEY_COLUMNS, POOL_GOALS, key_cells
from cepcli.cli.measured import kl_bound
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
from cepcli.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Measure scoring, cache and learners on this machine.")
app.command(name="kl-bound")(kl_bound)


@app.command()
def prior(
    candidates: Annotated[str, typer.Option(help="Numbers of candidate actions.")] = "4,8,20",
    repeats: Annotated[int, typer.Option(min=1, help="Timed repeats of each way.")] = 5,
    json: JsonOption = False,
) -> None:
    """Token-tree scoring against one forward pass of prompt + action per candidate."""
    from cepcli.bench.prior import bench_prior

    result = bench_prior(_numbers(candidates), repeats)
    rows = [
        [n, f"{result['ms'][n]['naive']:.0f}", f"{result['ms'][n]['tree']:.0f}", f"{speedup:.1f}×"]
        for n, speedup in result["speedup"].items()
    ]
    if not json:
        print_table("ms per state", ["candidates", "naive", "token tree", "speed-up"], rows)
        typer.echo(f"largest difference of a score: {result['max_abs_difference']:.1e}")
    else:
        print_json(result)


@app.command()
def cache(
    capacities: Annotated[
        str, typer.Option(help="Entries in the cache; 100,000 take most of the time to fill.")
    ] = "100,1000,10000,100000",
    json: JsonOption = False,
) -> None:
    """Look-up, insertion, eviction, audit and a whole hit, beside GPTCache and the LLM.

    Beside the look-up, in the same run: a matrix-vector product over the same
    keys, a dictionary probe, and GPTCache (SQLite and faiss) where the extra
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
    print_table("median µs in a full cache", *_columns(result, _STEPS))
    print_table("median µs of a look-up, and beside it", *_columns(result, _BESIDE))
    if result["gptcache_us"]:
        typer.echo(
            f"GPTCache was filled with up to {MOST_IN_GPTCACHE} entries; its look-up is mostly "
            "SQLite's, which commits to the disk that $TMPDIR is on."
        )
    typer.echo(f"LLM for the same decision: {result['llm_ms']:.0f} ms")


@app.command()
def envs(
    env: Annotated[
        list[str] | None,
        typer.Option("--env", help="Text environment; again for more. Default: one a family."),
    ] = None,
    resets: Annotated[int, typer.Option(min=1, help="Episodes of a round.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of instances and random actions.")] = 0,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Steps a second and time of a reset of text environments, by random actions.

    Games are made and compiled before the clock runs; `--set games=20` and the
    like set options, which otherwise are those of `cep envs check`.
    """
    from cepcli.bench.envs import bench_envs
    from cepcli.config import given

    rows = bench_envs(
        env or _ONE_A_FAMILY, open_workspace(workspace).root, resets=resets, rounds=rounds,
        seed=seed, options=given(overrides=set_) if set_ else None,
        notify=note(False),
    )  # fmt: skip
    if json:
        print_json(rows)
        return
    cells = [
        [row["env"], str(row["steps"]), f"{row['steps_per_s']:.0f}",
         *(_figure(row["reset_ms"][name]) for name in ("p50", "p95"))]
        for row in rows
    ]  # fmt: skip
    columns = ["environment", "steps", "steps/s", "reset ms", "95 % below"]
    print_table("text environments, random actions", columns, cells)


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


def _columns(result: dict[str, Any], names: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows, one by number of entries; without what was not measured at all."""
    shown = {heading: result[name] for heading, name in names.items() if result[name]}
    rows = [
        [k, *(_figure(values[k]) if k in values else "" for values in shown.values())]
        for k in result["lookup_us"]
    ]
    return ["entries", *shown], rows


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


@app.command()
def sac(
    steps: Annotated[int, typer.Option(min=60, help="Environment steps of a slice.")] = 150,
    rounds: Annotated[int, typer.Option(min=1, help="Slices of each contender.")] = 7,
    core: Annotated[int | None, typer.Option(help="Core to pin to; default: the last one.")] = None,
    json: JsonOption = False,
) -> None:
    """Environment step and gradient step of soft actor-critic, beside other libraries, one core.

    Takes turns with Stable-Baselines3 and SBX (JAX) where the extra `bench` is
    installed, on HalfCheetah-v5 with a batch of 256 and two layers of 256.
    """
    from cepcli.bench.sac import bench_sac, not_installed

    absent = not_installed()
    if absent:
        line = "pip install 'cepcli[bench]' sbx-rl"
        typer.echo(f"Not compared with {' and '.join(absent)}: {line}", err=True)
    result = bench_sac(steps, rounds, core=core, notify=note(False))
    if json:
        print_json(result)
        return
    cpu = result["cpu"]["steps_per_s"]
    rows = [[k, f"{v:.1f}", f"{cpu[k]:.1f}"] for k, v in result["steps_per_s"].items()]
    print_table("steps per second", ["", "wall clock", "processor"], rows)
    shown = {
        "sac is {:.2f}× Stable-Baselines3": result["ratio_to_sb3"],
        "sac is {:.2f}× SBX": result["ratio_to_sbx"],
        "hybrid-sac with 8 primitives is {:.2f}× sac": result["hybrid_to_sac"],
    }
    for words, ratio in shown.items():
        if ratio is not None:
            typer.echo(words.format(ratio))


@app.command()
def cql(
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps of a slice.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Slices of each contender.")] = 7,
    warm_up: Annotated[
        int, typer.Option(min=1, help="Gradient steps of each before it is timed.")
    ] = 50,
    core: Annotated[int | None, typer.Option(help="Core to pin to; default: the last one.")] = None,
    json: JsonOption = False,
) -> None:
    """Gradient steps of conservative Q-learning, plain and by a prior, beside d3rlpy, one core.

    Takes turns with d3rlpy where it is installed, on the halfcheetah dataset that
    ships with cep, with a batch of 256, two layers of 256 and 10 sampled controls
    of each kind.
    """
    from cepcli.bench.cql import INSTALL, bench_cql, d3rlpy_is_installed

    if not d3rlpy_is_installed():
        typer.echo(f"Not compared with d3rlpy, which is not installed. {INSTALL}", err=True)
    result = bench_cql(
        steps, rounds, warm_up=warm_up, core=core,
        notify=note(False),
    )  # fmt: skip
    if json:
        print_json(result)
        return
    cpu = result["cpu"]["steps_per_s"]
    rows = [[k, f"{v:.1f}", f"{cpu[k]:.1f}"] for k, v in result["steps_per_s"].items()]
    print_table("gradient steps per second", ["", "wall clock", "processor"], rows)
    shown = {
        "cql is {:.2f}× d3rlpy": result["ratio_to_d3rlpy"],
        "cql with every draw kept is {:.2f}× d3rlpy": result["every_draw_ratio_to_d3rlpy"],
        "cql-prior with 8 primitives is {:.2f}× cql": result["prior_ratio_to_cql"],
    }
    for words, ratio in shown.items():
        if ratio is not None:
            typer.echo(words.format(ratio))


@app.command()
def sb3(
    env: Annotated[str, typer.Option(help="Environment of continuous control.")] = "halfcheetah",
    steps: Annotated[int, typer.Option(min=1, help="Control steps.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Of its training.")] = 0,
    name: Annotated[
        str | None, typer.Option(help="The run's name, _s<seed> is added; default ENV-sb3.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run of that name, finished or not.")
    ] = False,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train Stable-Baselines3's SAC, its defaults, and keep it as a run beside those of `sac`.

    It is evaluated as `cep train --agent sac` would be, on the same episodes.
    """
    from cepcli.agents.config import training_config
    from cepcli.cli.train import print_summary
    from cepcli.config import given
    from cepcli.envs.catalog import full_options
    from cepcli.experiments.sb3_run import COUNTING, train_sb3

    for key in given(overrides=set_ or []):
        if key not in COUNTING:
            raise ConfigError(
                f"`{key}` means nothing to Stable-Baselines3, which keeps to its own defaults.",
                f"Leave it out; what counts: {', '.join(COUNTING)}.",
            )
    config = training_config(
        overrides=set_ or [], flags={"env": env, "agent": "sac", "steps": steps, "seed": seed}
    )
    config = replace(config, env_options=full_options(config.env, config.env_options))
    label = f"{name or config.env.replace('/', '-') + '-sb3'}_s{config.seed}"
    with interruptible("The last evaluation's state is kept; add --resume to the same command."):
        summary = train_sb3(
            config, open_workspace(workspace), label, resume=resume, overwrite=overwrite,
            notify=note(quiet),
        )  # fmt: skip
    print_json(summary) if json else print_summary(summary)


@app.command()
def keys(
    trace: Annotated[str, typer.Argument(help="A run made with --trace, or a trace's path.")],
    encoders: Annotated[str, typer.Option(help="Key encoders.")] = "hash,static,minilm",
    pool_goals: Annotated[
        bool | None, typer.Option("--pool-goals/--goals-apart", help=POOL_GOALS)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the training.")] = 0,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Key encoders with and without focus and learned head, on episodes held out of a trace."""
    from cepcli.cache.replay.heads import train_on
    from cepcli.cache.trace import read_trace
    from cepcli.cli.replay import find_trace
    from cepcli.config import resolve
    from cepcli.keys.config import HeadConfig
    from cepcli.keys.key_encoder import make_key_encoder

    config = resolve(HeadConfig, overrides=set_ or [])
    recorded = read_trace(find_trace(trace, workspace))
    rows: list[dict[str, Any]] = []
    for encoder in encoders.split(","):
        for focus in (False, True):
            note(False)(f"{encoder}{', focus' if focus else ''}")
            made = make_key_encoder(encoder.strip(), focus=focus)
            _, judged = train_on(
                recorded,
                made,
                config,
                pool_goals=focus if pool_goals is None else pool_goals,
                seed=seed,
            )
            rows += [{"encoder": encoder, "focus": focus, **row} for row in judged]
    if json:
        print_json({"trace": trace, "env": recorded.env, "rows": rows})
        return
    cells = [
        [row["encoder"], "yes" if row["focus"] else "no", row["keys"], str(row["dim"]),
         *key_cells(row)]
        for row in rows
    ]  # fmt: skip
    columns = ["encoder", "focus", "keys", "dimension", *KEY_COLUMNS]
    title = f"{recorded.env}: texts of held-out episodes; hits where 95 % keep to 0.1 nats of KL"
    print_table(title, columns, cells)


def _numbers(text: str) -> tuple[int, ...]:

    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) >= 1 for part in parts):
        raise ConfigError(f"`{text}` is not a comma list of whole numbers, like 4,8,20.")
    return tuple(int(part) for part in parts)
