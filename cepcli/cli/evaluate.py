"""`cep eval`: play held-out episodes with a finished run, compare caches, show decisions."""

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.options import (
    EnvOptionsOption,
    JsonOption,
    QuietOption,
    WorkspaceOption,
    env_options_of,
    open_workspace,
    print_json,
    print_table,
)
from cepcli.cli.prior_display import note, progress_bar
from cepcli.cli.train import print_summary
from cepcli.errors import ConfigError

if TYPE_CHECKING:
    from cepcli.agents.policy import Decision
    from cepcli.types import TextState

#: Actions whose probability is shown; the likeliest.
_SHOWN_ACTIONS = 5


def evaluate(
    run: str,
    episodes: Annotated[int, typer.Option(min=1, help="Held-out episodes to play.")] = 50,
    frozen_cache: Annotated[
        bool,
        typer.Option("--frozen-cache", help="Answer from the run's cache, read-only."),
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            help="Play the same episodes through the frozen cache and without any, and compare; "
            "without: `off`, the same agent, or another run's.",
        ),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Show every decision: state, thought, prior, Q and action."),
    ] = False,
    set_: EnvOptionsOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Evaluate a finished run on held-out instances; the run itself is not changed.

    With --set they are of the same environment under other options than the run's.
    """
    from cepcli.experiments.retention import retention
    from cepcli.runs.engine import evaluate_run
    from cepcli.runs.online import unwatched

    notify = note(quiet)
    space = open_workspace(workspace)
    options = env_options_of(set_)
    if against is not None:
        _refuse_beside_against({"--show": show, "--set": bool(options)})
        found = retention(space, run, against, episodes, notify)
        print_json(found) if json else _print_retention(found)
        return
    seen: dict[int, list[dict[str, Any]]] = {}

    def watch(episode: int, state: "TextState", decision: "Decision") -> None:
        seen.setdefault(episode, []).append(_as_json(state, decision))

    with progress_bar("Episodes", episodes, quiet) as advance:
        summary = evaluate_run(
            space, run, episodes, frozen_cache=frozen_cache, notify=notify,
            watch=watch if show else unwatched, env_options=options,
            before_round=lambda done, queries: advance(done, f"{queries} LLM queries"),
        )  # fmt: skip
    shown = [{"episode": episode, "decisions": seen[episode]} for episode in sorted(seen)]
    if json:
        print_json({**summary, **({"shown": shown} if show else {})})
        return
    if show and not shown:
        notice = f"There is nothing to show: agent `{summary['agent']}` decides without a prior."
        typer.echo(notice, err=True)
    for one in shown:
        _print_episode(one["episode"], one["decisions"])
    print_summary(summary)
    if options:
        typer.echo("  played with " + ", ".join(f"{key}={value}" for key, value in options.items()))


def _refuse_beside_against(given: dict[str, bool]) -> None:
    for flag, is_given in given.items():
        if is_given:
            raise ConfigError(f"`{flag}` and `--against` exclude each other.", "Keep one of them.")


def _as_json(state: "TextState", decision: "Decision") -> dict[str, Any]:
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


_RETAINED = ("success", "return", "decisions", "queries_per_decision")


def _print_retention(found: dict[str, Any]) -> None:
    """The table of `cep eval --against`."""
    from cepcli.report.comparison import FIGURES, cell, figure_cell

    ran = {"off": "asked each time", "cached": "frozen cache"}
    rows = []
    for name, how in ran.items():
        cells = [figure_cell(found[name], key) for key in _RETAINED]
        rows.append([found[name]["run"], how, *cells])
    title = f"The same {found['episodes']} held-out episodes"
    print_table(title, ["run", "prior", *(FIGURES[key][0] for key in _RETAINED)], rows)
    fewer = [
        f"{found[key]:.1f} times fewer queries {when}"
        for key, when in (("training_query_reduction", "in training"), ("query_reduction", "here"))
        if found[key] is not None
    ]
    typer.echo(f"Retention of {found['of']} {'; '.join([cell(found['retention'], '.1%'), *fewer])}")
