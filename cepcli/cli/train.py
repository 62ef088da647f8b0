"""`cep train`: train an agent, leave a run."""

from typing import Annotated, Any

import typer

from cepcli.cli.options import (
    ConfigOption,
    DeviceOption,
    InsecureOption,
    JsonOption,
    QuietOption,
    SetOption,
    WorkspaceOption,
    open_workspace,
    print_json,
)
from cepcli.errors import CacheError, EnvError, Interrupted, PriorError


def train(
    env: Annotated[
        str | None, typer.Option(help="Environment id; `cep envs list` shows them.")
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option(
            help="posterior-q, dqn, yan, direct-llm, react, random, expert; sac or hybrid-sac."
        ),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="embedded, gemma-3-270m, uniform, a tuned prior's name, a model's directory, "
            "GGUF file or hub id, server:URL."
        ),
    ] = None,
    cache: Annotated[
        str | None, typer.Option(help="off, exact, lru, fifo, surrogate or certified.")
    ] = None,
    cache_from: Annotated[
        str | None, typer.Option(help="Directory or run whose cache this run starts with.")
    ] = None,
    demos: Annotated[
        str | None,
        typer.Option(help="Demonstrations that the replay begins with: a name, or FILE.jsonl."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Decisions to take, or control steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random stream.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs, with consecutive seeds.")] = 1,
    name: Annotated[str | None, typer.Option(help="The run's name; _s<seed> is added.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run of that name, finished or not.")
    ] = False,
    no_journal: Annotated[
        bool, typer.Option("--no-journal", help="Ask the LLM live, even what it answered before.")
    ] = False,
    insecure: InsecureOption = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Record every decision for `cep cache replay`.")
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train an agent on one environment; leaves a run that can be evaluated and compared."""
    from dataclasses import replace

    from cepcli.agents.config import reads_descriptions
    from cepcli.cli.prior_display import accept_terms, note
    from cepcli.prior.load import find_prior
    from cepcli.runs.settings import chosen_config

    flags: dict[str, Any] = {
        "env": env, "agent": agent, "prior": prior, "cache.mode": cache, "steps": steps,
        "seed": seed, "device": device, "journal": False if no_journal else None,
        "trace": trace or None, "cache.start": cache_from, "demos": demos,
        "llm.server.insecure": insecure or None,
    }  # fmt: skip
    space = open_workspace(workspace)
    first = chosen_config(
        space, file=config, overrides=set_ or [], flags=flags, resume=resume, notify=note(quiet)
    )
    if reads_descriptions(first):
        from cepcli.cli.abstractions import abstraction_for

        abstraction_for(first.env, str(first.abstraction), space, first.device, quiet)
    accept_terms(find_prior(first.prior, space).model, quiet)
    summaries = []
    for number in range(first.seed, first.seed + seeds):
        one = replace(first, seed=number)
        label = None if name is None else f"{name}_s{number}"
        summaries.append(_train_one(one, workspace, label, resume, overwrite, quiet))
        if not json:
            print_summary(summaries[-1])
    if json:
        print_json(summaries[0] if seeds == 1 else {"runs": summaries})


def _train_one(
    config: Any, workspace: Any, name: str | None, resume: bool, overwrite: bool, quiet: bool
) -> dict[str, Any]:
    from cepcli.runs.engine import default_name, start_run

    space = open_workspace(workspace)
    name = default_name(config) if name is None else name
    return run_with_display(
        name,
        quiet,
        space,
        lambda hooks, notify: start_run(
            config, space, name, resume=resume, overwrite=overwrite, hooks=hooks, notify=notify
        ),
    )


def run_with_display(
    name: str, quiet: bool, space: Any, work: Any, begin: Any = None
) -> dict[str, Any]:
    """Run `work(hooks, notify)` under the live display; a signal ends it with the way on.

    `begin(display, requested)` makes the hooks of a loop that is not `cep train`'s.
    """
    from cepcli.cli.display import RunDisplay
    from cepcli.cli.stopping import Stopped, exit_code, stop_on_interrupt

    display = RunDisplay(name, quiet=quiet, workspace=space)
    with stop_on_interrupt() as requested, display:
        try:
            hooks = begin(display, requested) if begin else display.hooks(requested)
            return work(hooks, display.notify)
        except (KeyboardInterrupt, Interrupted) as error:
            typer.echo(f"Stopped. {_way_on(name, space)}", err=True)
            raise typer.Exit(exit_code(Stopped(requested[0]) if requested else error)) from None
        except (PriorError, CacheError, EnvError) as error:  # perhaps for a while only
            if not space.partial("run", name).is_dir():
                raise
            hint = f"{error.hint} {_way_on(name, space)}".lstrip()
            raise type(error)(error.message, hint) from error


def _way_on(name: str, space: Any) -> str:
    """What to type to go on with the run, if anything of it is kept."""
    if not space.partial("run", name).is_dir():
        return "Nothing had begun; type the command again."
    return f"Go on with: cep runs resume {name}{space.option}"


def evaluation_cost(cost: dict[str, Any]) -> str:
    """What the evaluations of a run took, in words; of an earlier cep's it is not known."""
    told = f"{cost['count']} evaluations took {cost['queries']} LLM queries"
    if cost["llm_tokens"] is None:
        return told
    return (
        f"{told} ({cost['llm_tokens']:,} tokens, {cost['llm_seconds']:.1f} s live, "
        f"{cost['llm_seconds_recorded']:.1f} s recorded)"
    )


def print_summary(summary: dict[str, Any]) -> None:
    """What a run came to, in a few lines."""
    from cepcli.cli.certificate import in_words
    from cepcli.cli.display import outcome
    from cepcli.report.comparison import seconds_saved

    evaluation, queries, hits = summary["eval"], summary["queries"], summary["hits"]
    typer.echo(
        f"{summary['run']}: {outcome(evaluation)} over {evaluation['episodes']} held-out episodes"
    )
    if not summary["decisions"]:  # plain control chooses no symbols
        typer.echo(f"  {summary['steps']} steps; wall {summary['wall_seconds']:.1f} s")
        return
    typer.echo(
        f"  {summary['decisions']} decisions, {queries['total']} LLM queries "
        f"({queries['misses']} misses, {queries['partial']} partial, {queries['audits']} audits), "
        f"hits {hits['exact']} exact + {hits['semantic']} semantic\n"
        f"  LLM {summary['llm_seconds']:.1f} s live, {summary['llm_seconds_recorded']:.1f} s "
        f"recorded, {seconds_saved(summary):.1f} s saved by hits; wall "
        f"{summary['wall_seconds']:.1f} s"
    )
    cost = summary.get("evaluations")
    if cost is not None and cost["queries"]:
        typer.echo(f"  besides, {evaluation_cost(cost)}")
    if summary.get("demos"):
        typer.echo(
            "  began with {episodes} demonstrated episodes of {decisions} decisions, whose priors "
            "took {queries} queries more".format(**summary["demos"])
        )
    if summary.get("warm_entries"):
        typer.echo(f"  started from a cache of {summary['warm_entries']} entries")
    if summary.get("certificate") is not None:
        typer.echo(f"  certificate: {in_words(summary['certificate'], interval=True)}")
