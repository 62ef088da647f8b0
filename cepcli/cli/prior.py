"""`cep prior`: record demonstrations, tune a language model on them, judge and look at priors."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.finetune import finetune, print_quality, reported_on
from cepcli.cli.models import accept_terms
from cepcli.cli.options import (
    CommandGroup,
    DeviceOption,
    EnvOption,
    LLMOptions,
    OverwriteOption,
    QuietOption,
    ReadOptions,
    SeedOption,
    SettingsOptions,
    WorkOptions,
)
from cepcli.cli.output import note, print_json, print_rows, print_table
from cepcli.cli.stopping import interruptible
from cepcli.errors import ConfigError, PriorError

if TYPE_CHECKING:
    from cepcli.prior.base import Prior, PriorAnswer, ReadTokens, Token
    from cepcli.types import TextState
    from cepcli.workspace.artifacts import Workspace

app = CommandGroup(no_args_is_help=True, help="Language models as priors: tune, judge, look.")
app.command()(finetune)

PriorArgument = Annotated[
    str,
    typer.Argument(
        help="uniform, embedded, gemma-3-270m, a tuned prior, a directory, a GGUF file, a hub id "
        "or server:URL."
    ),
]
_BAR_WIDTH = 40
#: Tokens of a prompt that are shown at its beginning and at its end.
_SHOWN_TOKENS = (4, 8)


@app.command()
def demos(
    env: EnvOption,
    episodes: Annotated[int | None, typer.Option(help="Solved training episodes.")] = None,
    heldout_episodes: Annotated[int | None, typer.Option(help="Solved held-out episodes.")] = None,
    seed: SeedOption = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the demonstrations.")] = None,
    overwrite: OverwriteOption = False,
    *,
    settings: SettingsOptions,
    options: WorkOptions,
) -> None:
    """Record what the expert of an environment does: training and held-out decisions."""
    from cepcli.datasets.demonstrations import DemosConfig, default_demos_name
    from cepcli.datasets.lessons import record
    from cepcli.envs.catalog import spec
    from cepcli.workspace.artifacts import read_json

    flags = {"env": env, "episodes": episodes, "heldout_episodes": heldout_episodes, "seed": seed}
    config = settings.resolve(DemosConfig, flags)
    if spec(env).kind == "control":
        raise ConfigError(
            f"`{env}` is continuous control, which has annotated states instead of demonstrations.",
            f"Tune on them: cep prior finetune --env {env}",
        )
    name = default_demos_name(env) if name is None else name
    with interruptible("The episodes so far are saved; type the command again to go on."):
        artifact = record(
            config, options.space, name, overwrite=overwrite, listener=options.listener
        )
    summary = read_json(artifact.path / "summary.json")
    if options.json:
        print_json({"name": name, "path": str(artifact.path), **summary})
        return
    rows = [[split, *map(str, counts.values())] for split, counts in summary.items()]
    columns = ["split", "episodes", "decisions", "dropped"]
    print_table(f"Demonstrations {name} of {env}", columns, rows)


@app.command("eval")
def evaluate(
    env: EnvOption,
    name: PriorArgument = "embedded",
    demos: Annotated[
        str | None, typer.Option("--demos", help="Name of demonstrations or annotations to use.")
    ] = None,
    device: DeviceOption = None,
    *,
    llm: LLMOptions,
    settings: SettingsOptions,
    options: WorkOptions,
) -> None:
    """Judge a prior by held-out decisions of an expert, on which no tuning was stopped."""
    from cepcli.datasets.lessons import lessons_for
    from cepcli.prior.tuning.evaluate import evaluate_prior
    from cepcli.prior.tuning.tuned import measure_uniform, report_row

    prior = _loaded(name, env, device, llm, settings, options)
    data = lessons_for(env, demos, 1, options.space, options.listener)
    with options.progress(f"Asking {name}", len(data.test)) as advance:
        found = evaluate_prior(prior, data.test, advance)
    uniform = measure_uniform(data.lessons(data.test)).quality
    rows = [report_row("uniform", uniform), report_row(name, found)]
    if options.json:
        print_json({"env": env, **rows[-1]})
        return
    print_quality(f"{name} on {reported_on([env])}", [[row] for row in rows])


@app.command()
def score(
    env: EnvOption,
    text: Annotated[
        str | None, typer.Option(help="Description of the state; default that of a real one.")
    ] = None,
    goal: Annotated[str | None, typer.Option(help="The task; default that of the state.")] = None,
    prior: Annotated[str, typer.Option(help="A prior, as for `cep prior eval`.")] = "embedded",
    seed: Annotated[int, typer.Option(min=0, help="Which episode the state is from.")] = 0,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Show the tokens that the model reads, too.")
    ] = False,
    device: DeviceOption = None,
    *,
    llm: LLMOptions,
    settings: SettingsOptions,
    options: ReadOptions,
) -> None:
    """Show a prior over the actions of one state."""
    work = WorkOptions(options.workspace, options.json, quiet=options.json)
    loaded = _loaded(prior, env, device, llm, settings, work)
    state = _state_of(env, text, goal, seed, options.space)
    read = _tokens_of(loaded, state, prior) if tokens else None
    [answer] = loaded.log_probs([state])
    pairs = zip(state.actions, answer.log_prior.tolist(), answer.scores.tolist(), strict=True)
    rows = sorted(pairs, key=lambda row: -row[1])
    if options.json:
        actions = [{"action": a, "log_prior": lp, "score": s} for a, lp, s in rows]
        shown = {"goal": state.goal, "text": state.text, "prior": prior, "actions": actions}
        print_json(shown if read is None else shown | {"tokens": _tokens_row(state, read)})
        return
    _print_bars(state, rows, answer)
    if read is not None:
        _print_tokens(state, read, [action for action, *_ in rows])


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="embedded or gemma-3-270m.")] = "embedded",
    accept: Annotated[
        bool, typer.Option("--accept-terms", help="Accept the terms of the model, if it has any.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch a model that comes in packages, ahead of its first use."""
    from cepcli.prior.local.embedded import EMBEDDED_MODELS
    from cepcli.registry import suggest

    if name not in EMBEDDED_MODELS:
        raise PriorError(f"No packages hold a model `{name}`.", suggest(name, EMBEDDED_MODELS))
    if not accept:
        accept_terms(name, quiet)
    with interruptible("Nothing of it is saved; type the command again to start over."):
        path = EMBEDDED_MODELS[name].path(
            terms_accepted=accept, notify=lambda text: note(text, quiet=quiet)
        )
    typer.echo(f"{name}: {path}")


@app.command("list")
def list_priors(*, options: ReadOptions) -> None:
    """List the priors of the workspace, and the models that come in packages."""
    from cepcli.prior.load import UNIFORM
    from cepcli.prior.local.embedded import EMBEDDED_MODELS
    from cepcli.workspace.artifacts import read_json

    columns = ["name", "what", "licence", "tokens", "fetched"]
    found = [(UNIFORM, "every admissible action alike; asks no model")]
    found += [
        (
            model.prior, f"{model.title}, untuned", model.package.licence, model.tokens,
            "yes" if model.package.is_ready() else f"no, {model.megabytes} MB",
        )
        for model in EMBEDDED_MODELS.values()
    ]  # fmt: skip
    for name in options.space.names("prior"):
        card = read_json(options.space.open("prior", name).path / "prior.json")
        found.append((name, f"{card['model']}, {card['shots']} shots of {card['env']}"))
    rows = [dict(zip(columns, (*row, "", "", ""), strict=False)) for row in found]
    if options.json:
        print_json(rows)
        return
    print_rows("Priors", rows, dict(zip(columns, columns, strict=True)))


def _loaded(
    name: str,
    env: str,
    device: str | None,
    llm: LLMOptions,
    settings: SettingsOptions,
    options: WorkOptions,
) -> "Prior":
    """The prior; its answers are those of the workspace's journal, where it has them."""
    from cepcli.envs.catalog import spec
    from cepcli.prior.config import PriorConfig
    from cepcli.prior.load import find_prior, load_prior

    config = settings.resolve(PriorConfig, {"server.insecure": llm.insecure or None})
    space = options.space
    options.before_model(find_prior(name, space).model)
    return load_prior(
        name, family=spec(env).family, workspace=space, config=config, device=device or "cpu",
        journal_path=None if llm.no_journal else space.root / "journal.sqlite",
    )  # fmt: skip


def _tokens_of(prior: "Prior", state: "TextState", name: str) -> "ReadTokens":
    from cepcli.prior.llm import LLMPrior

    if not isinstance(prior, LLMPrior):
        raise PriorError(
            f"The prior `{name}` reads no text, so it has no tokens to show.",
            "Leave --tokens out, or name a language model: --prior embedded",
        )
    return prior.tokens(state)


def _state_of(
    env: str, text: str | None, goal: str | None, seed: int, space: "Workspace"
) -> "TextState":
    """The first state of an episode, with its text and goal replaced where they are given.

    In continuous control an annotated state, which has a text already.
    """
    from cepcli.datasets.lessons import annotated_states
    from cepcli.envs.base import text_state
    from cepcli.envs.catalog import control_spec, make_env, spec
    from cepcli.types import TextState

    if spec(env).kind == "control":
        goal = control_spec(env).goal if goal is None else goal
        labelled = annotated_states(env, None, space)[1]
        own = [state for state, _ in labelled if state.goal == goal] or [s for s, _ in labelled]
        state = own[seed % len(own)]
    else:
        made = make_env(env, split="heldout", workspace=space.root, progress=note)
        state = text_state(made.reset(seed=seed)[1])
        made.close()
    return TextState(
        state.goal if goal is None else goal, state.text if text is None else text, state.actions
    )


def _print_bars(
    state: "TextState", rows: Sequence[tuple[str, float, float]], answer: "PriorAnswer"
) -> None:
    """A state and the prior over its actions as bars, likeliest first."""
    typer.echo(f"Goal: {state.goal}\n{state.text}\n")
    width = max(len(action) for action, _, _ in rows)
    for action, log_prior, _ in rows:
        probability = math.exp(log_prior)
        bar = "█" * round(probability * _BAR_WIDTH)
        typer.echo(f"{action:<{width}}  {probability:6.3f}  {bar}")
    free = answer.seconds > 0 and answer.live_seconds == 0
    remark = " when first asked; now from the journal" if free else ""
    cost = f"{answer.tokens:.0f} tokens, {1e3 * answer.seconds:.0f} ms"
    typer.echo(f"\n{cost}{remark}", err=True)


def _print_tokens(state: "TextState", read: "ReadTokens", order: Sequence[str]) -> None:
    """Both ends of the prompt and each action, token by token, with log-probabilities."""
    first, last = _SHOWN_TOKENS
    prompt = [_written(token) for token in read.prompt]
    if len(prompt) > first + last:
        prompt = [*prompt[:first], "…", *prompt[-last:]]
    typer.echo(f"\nThe prompt has {len(read.prompt)} tokens:\n  {'  '.join(prompt)}")
    typer.echo("Scored after it, each with its log-probability:")
    for action in order:
        place = state.actions.index(action)
        scored = [f"{_written(t)} {t.log_prob:.2f}" for t in read.actions[place]]
        dropped = read.dropped[place]
        joined = f"  (in place of the prompt's last {dropped})" if dropped else ""
        typer.echo(f"  {action}:  {'  '.join(scored)}{joined}")


def _written(token: "Token") -> str:
    """A token's number and piece; a line break stays in its line."""
    piece = token.piece if token.piece.isprintable() else repr(token.piece)[1:-1]
    return f"{token.id} `{piece}`" if piece else str(token.id)


def _tokens_row(state: "TextState", read: "ReadTokens") -> dict[str, Any]:
    """What `_print_tokens` shows, whole, for JSON."""
    prompt = [{"id": token.id, "piece": token.piece} for token in read.prompt]
    pairs = zip(state.actions, read.actions, read.dropped, strict=True)
    actions = [
        {"action": action, "dropped": dropped, "tokens": [token._asdict() for token in tokens]}
        for action, tokens, dropped in pairs
    ]
    return {"prompt": prompt, "actions": actions}
