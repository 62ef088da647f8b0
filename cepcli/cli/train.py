"""`cep train` and `cep eval`: train an agent, and play held-out episodes with it."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.options import (
    DeviceOption,
    EnvOptionsOption,
    LLMOptions,
    SeedOption,
    SeriesOptions,
    SettingsOptions,
    WorkOptions,
    env_options,
)
from cepcli.cli.output import print_json, print_rows
from cepcli.errors import CacheError, ConfigError, EnvError, Interrupted, PriorError

if TYPE_CHECKING:
    from cepcli.agents.posterior_q import Choice
    from cepcli.listener import Notify
    from cepcli.runs.engine import Hooks
    from cepcli.types import TextState

#: Actions whose probability `--show` prints; the likeliest.
_SHOWN_ACTIONS = 5


def train(
    env: Annotated[str | None, typer.Option(help="Environment id; see `cep envs list`.")] = None,
    agent: Annotated[
        str | None,
        typer.Option(
            help="posterior-q, dqn, yan, direct-llm, react, random, expert, sac or hybrid-sac."
        ),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="embedded, gemma-3-270m, uniform, the name of a tuned prior, a model's directory, "
            "GGUF file or hub id, or server:URL."
        ),
    ] = None,
    cache: Annotated[
        str | None, typer.Option(help="off, exact, lru, fifo, surrogate or certified.")
    ] = None,
    cache_from: Annotated[
        str | None, typer.Option(help="Start with the cache of this directory or run.")
    ] = None,
    demos: Annotated[
        str | None,
        typer.Option(
            help="Demonstrations to start the replay memory with: their name, or FILE.jsonl."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Decisions to take; control steps in continuous control.")
    ] = None,
    seed: SeedOption = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="Record every decision for `cep cache replay`.")
    ] = False,
    device: DeviceOption = None,
    *,
    series: SeriesOptions,
    llm: LLMOptions,
    settings: SettingsOptions,
    options: WorkOptions,
) -> None:
    """Train an agent in one environment.

    The run that it leaves can be evaluated (`cep eval`) and compared (`cep runs compare`).
    """
    from cepcli.runs.preparation import prepare
    from cepcli.runs.settings import chosen_config

    flags: dict[str, Any] = {
        "env": env, "agent": agent, "prior": prior, "cache.mode": cache, "steps": steps,
        "seed": seed, "device": device, "trace": trace or None, "cache.start": cache_from,
        "demos": demos, **llm.flags(),
    }  # fmt: skip
    space = options.space
    config = chosen_config(
        space, file=settings.config, overrides=settings.set_ or [], flags=flags,
        resume=series.resume, notify=options.notify,
    )  # fmt: skip
    prepare(config, space, options.listener)
    train_series(config, series, options)


def train_series(first: Any, series: SeriesOptions, options: WorkOptions) -> None:
    """One run for each seed, and its summary; `first` is the configuration of the first."""
    from dataclasses import replace

    from cepcli.cli.summaries import print_summary
    from cepcli.runs.engine import default_name, start_run

    summaries = []
    for seed in range(first.seed, first.seed + series.seeds):
        config = replace(first, seed=seed)
        name = default_name(config) if series.name is None else f"{series.name}_s{seed}"

        def work(hooks: "Hooks", notify: "Notify", config: Any = config, name: str = name) -> Any:
            return start_run(
                config, options.space, name, resume=series.resume, overwrite=series.overwrite,
                hooks=hooks, notify=notify,
            )  # fmt: skip

        summaries.append(_run_with_display(name, options, work))
        if not options.json:
            print_summary(summaries[-1])
    if options.json:
        print_json(summaries[0] if series.seeds == 1 else {"runs": summaries})


def resume_run(name: str, options: WorkOptions) -> dict[str, Any]:
    """Continue an unfinished run; its summary."""
    from cepcli.runs.engine import resume_run as resume

    return _run_with_display(
        name, options, lambda hooks, notify: resume(options.space, name, hooks, notify)
    )


def _run_with_display(
    name: str, options: WorkOptions, work: "Callable[[Hooks, Notify], dict[str, Any]]"
) -> dict[str, Any]:
    """Call `work(hooks, notify)` under the live display; if it ends early, say how to continue."""
    from cepcli.cli.display import RunDisplay
    from cepcli.cli.stopping import Stopped, exit_code, stop_on_interrupt

    space = options.space
    display = RunDisplay(name, quiet=options.quiet, workspace=space)

    def way_on() -> str:
        if not space.partial("run", name).is_dir():
            return "Nothing had begun; type the command again."
        return f"Continue with: cep runs resume {name}{space.option}"

    with stop_on_interrupt() as requested, display:
        try:
            return work(display.hooks(requested), display.notify)
        except (KeyboardInterrupt, Interrupted) as error:
            typer.echo(f"Stopped. {way_on()}", err=True)
            raise typer.Exit(exit_code(Stopped(requested[0]) if requested else error)) from None
        except (PriorError, CacheError, EnvError) as error:  # perhaps for a while only
            if not space.partial("run", name).is_dir():
                raise
            raise type(error)(error.message, f"{error.hint} {way_on()}".lstrip()) from error


def evaluate(
    run: Annotated[str, typer.Argument(help="A finished run.")],
    episodes: Annotated[int, typer.Option(min=1, help="Held-out episodes to play.")] = 50,
    frozen_cache: Annotated[
        bool,
        typer.Option("--frozen-cache", help="Answer from the run's cache, read-only."),
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            help="Compare with play without the cache: `off` for the same agent, or another run. "
            "The run itself plays with its cache frozen, both on the same episodes.",
        ),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Show every decision: state, thought, prior, Q and action."),
    ] = False,
    set_: EnvOptionsOption = None,
    *,
    options: WorkOptions,
) -> None:
    """Evaluate a finished run on held-out episodes; the run itself is not changed.

    With --set they are played under other options of the environment than the run's.
    """
    from cepcli.cli.summaries import print_summary
    from cepcli.experiments.retention import retention
    from cepcli.runs.engine import evaluate_run
    from cepcli.runs.online import unwatched

    changed = env_options(set_)
    if against is not None:
        for flag, is_given in {"--show": show, "--set": bool(changed)}.items():
            if is_given:
                raise ConfigError(f"`{flag}` and `--against` exclude each other.", "Drop one.")
        found = retention(options.space, run, against, episodes, options.notify)
        print_json(found) if options.json else _print_retention(found)
        return
    seen: dict[int, list[dict[str, Any]]] = {}

    def watch(episode: int, state: "TextState", decision: "Choice") -> None:
        seen.setdefault(episode, []).append(_as_json(state, decision))

    with options.progress("Episodes", episodes) as advance:
        summary = evaluate_run(
            options.space, run, episodes, frozen_cache=frozen_cache, notify=options.notify,
            watch=watch if show else unwatched, env_options=changed,
            before_round=lambda done, queries: advance(done, f"{queries} LLM queries"),
        )  # fmt: skip
    if options.json:
        shown = [{"episode": number, "decisions": seen[number]} for number in sorted(seen)]
        print_json({**summary, **({"shown": shown} if show else {})})
        return
    if show and not seen:
        notice = f"There is nothing to show: the agent `{summary['agent']}` uses no prior."
        typer.echo(notice, err=True)
    for number in sorted(seen):
        _print_episode(number, seen[number])
    print_summary(summary)
    if changed:
        typer.echo("  played with " + ", ".join(f"{key}={value}" for key, value in changed.items()))


def _as_json(state: "TextState", decision: "Choice") -> dict[str, Any]:
    """A decision and what it was made from, as JSON values."""
    answer = decision.answer
    return {
        "goal": state.goal,
        "text": state.text,
        "thought": answer.thought,
        "answered": answer.kind,
        "prior": dict(zip(state.actions, map(math.exp, answer.log_prior.tolist()), strict=True)),
        "q_values": decision.q_values,
        "action": state.actions[decision.action],
    }


def _print_episode(number: int, decisions: list[dict[str, Any]]) -> None:
    typer.echo(f"Episode {number}. Goal: {decisions[0]['goal']}")
    for step, decision in enumerate(decisions, 1):
        typer.echo(f"\n{step}. {decision['text'].strip()}")
        if decision["thought"]:
            typer.echo(f"   Thought: {decision['thought']}")
        ranked = sorted(decision["prior"].items(), key=lambda pair: -pair[1])[:_SHOWN_ACTIONS]
        rest = len(decision["prior"]) - len(ranked)
        priors = ", ".join(f"{action} {share:.2f}" for action, share in ranked)
        typer.echo(f"   Prior ({decision['answered']}): {priors}" + (f", {rest} more" * (rest > 0)))
        if decision["q_values"] is not None:
            values = dict(zip(decision["prior"], decision["q_values"], strict=True))
            told = ", ".join(f"{action} {values[action]:+.2f}" for action, _ in ranked)
            typer.echo(f"   Q: {told}")
        typer.echo(f"   Action: {decision['action']}")
    typer.echo("")


def _print_retention(found: dict[str, Any]) -> None:
    """The table of `cep eval --against`."""
    from cepcli.report.comparison import FIGURES, cell, figure_cell

    rows = [(found["off"], "asked each time"), (found["cached"], "frozen cache")]
    figures = ("success", "return", "decisions", "queries_per_decision")
    print_rows(
        f"The same {found['episodes']} held-out episodes",
        rows,
        {"run": lambda row: row[0]["run"], "prior": lambda row: row[1]}
        | {FIGURES[key][0]: lambda row, key=key: figure_cell(row[0], key) for key in figures},
    )
    fewer = [
        f"{found[key]:.1f} times fewer queries {when}"
        for key, when in (("training_query_reduction", "in training"), ("query_reduction", "here"))
        if found[key] is not None
    ]
    typer.echo(f"Retention of {found['of']} {'; '.join([cell(found['retention'], '.1%'), *fewer])}")
