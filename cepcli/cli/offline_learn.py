"""`cep offline cql, cql-prior, bc, iql, td3-bc, eval`: learning from a dataset alone."""

from collections.abc import Callable
from dataclasses import replace
from inspect import Signature, signature
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.offline_data import DataEnvOption, DatasetOption, SplitOption
from cepcli.cli.offline_label import default_prior
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
from cepcli.cli.prior_display import note
from cepcli.errors import ConfigError

if TYPE_CHECKING:
    from cepcli.agents.offline_config import OfflineConfig
    from cepcli.workspace.artifacts import Workspace

_StepsOption = Annotated[int | None, typer.Option("--steps", help="Gradient steps.")]
_SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of every random stream.")]
_SeedsOption = Annotated[int, typer.Option("--seeds", min=1, help="Runs, with consecutive seeds.")]
_NameOption = Annotated[
    str | None, typer.Option("--name", help="The run's name; _s<seed> is added.")
]
_EvalEnvOption = Annotated[
    bool | None,
    typer.Option(
        "--eval-env/--no-eval-env", help="Evaluate in the environment, or where there is none not."
    ),
]
_ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")]
_OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace a run of that name, finished or not.")
]
_PriorOption = Annotated[
    str | None,
    typer.Option(
        "--prior", help="Whose labels; by default the prior tuned for the family, or embedded."
    ),
]


def _learn(
    algorithm: str,
    *,
    dataset: DatasetOption = "d4rl",
    prior: _PriorOption = None,
    env: DataEnvOption = None,
    split: SplitOption = None,
    steps: _StepsOption = None,
    seed: _SeedOption = None,
    seeds: _SeedsOption = 1,
    name: _NameOption = None,
    eval_env: _EvalEnvOption = None,
    insecure: InsecureOption = False,
    resume: _ResumeOption = False,
    overwrite: _OverwriteOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """One run for each seed, and its summary."""
    from cepcli.agents.offline_config import PRESETS, OfflineConfig
    from cepcli.config import given, refuse_idle, resolve
    from cepcli.runs.settings import idle_offline_settings

    named = given(file=config, overrides=set_ or [])
    if named.get("algorithm", algorithm) != algorithm:
        raise ConfigError(
            f"`algorithm` is set to {named['algorithm']}, but the command is {algorithm}.",
            f"Type: cep offline {named['algorithm']}",
        )
    flags = {
        "algorithm": None if "algorithm" in named else algorithm,
        "dataset": None if dataset == "d4rl" and "dataset" in named else dataset,
        "env": env, "split": split, "steps": steps, "seed": seed, "eval_env": eval_env,
        "device": device, "prior": prior, "llm.server.insecure": insecure or None,
    }  # fmt: skip
    first = resolve(
        OfflineConfig, file=config, overrides=set_ or [], flags=flags,
        presets=PRESETS, preset_key="algorithm",
    )  # fmt: skip
    refuse_idle(given(overrides=set_ or []), idle_offline_settings(first))
    space = open_workspace(workspace)
    first = _labelled(first, space, quiet)
    summaries = []
    for number in range(first.seed, first.seed + seeds):
        one = replace(first, seed=number)
        label = None if name is None else f"{name}_s{number}"
        summaries.append(_learn_one(one, space, label, resume, overwrite, quiet))
        if not json:
            print_offline_summary(summaries[-1])
    if json:
        print_json(summaries[0] if seeds == 1 else {"runs": summaries})


def _command(algorithm: str, about: str) -> Callable[..., None]:
    """The command of an algorithm, with `_learn`'s options; a prior's only where one is used."""

    def command(**typed: Any) -> None:
        _learn(algorithm, **typed)

    absent = {"algorithm"} if algorithm == "cql-prior" else {"algorithm", "prior", "insecure"}
    taken = [p for p in signature(_learn).parameters.values() if p.name not in absent]
    command.__doc__ = about
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in taken}
    vars(command)["__signature__"] = Signature(taken)
    return command


cql = _command("cql", "Conservative Q-learning, of controls or of text; no prior is asked.")
cql_prior = _command(
    "cql-prior",
    """Conservative Q-learning whose regulariser takes its actions from the prior.

    A dataset without that prior's labels is labelled first, as by `cep offline label`.
    """,
)
bc = _command("bc", "Behaviour cloning, of controls or of text.")
iql = _command("iql", "Implicit Q-learning, of controls or of text.")
td3_bc = _command("td3-bc", "TD3 with behaviour cloning, of controls.")


def evaluate_offline(
    run: str,
    episodes: Annotated[int, typer.Option(min=1, help="Held-out episodes to play.")] = 10,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Evaluate a finished offline run on held-out episodes; the run itself is not changed."""
    from cepcli.runs.engine import evaluate_offline_run

    summary = evaluate_offline_run(open_workspace(workspace), run, episodes, note(quiet))
    print_json(summary) if json else print_offline_summary(summary)


def _labelled(config: "OfflineConfig", space: "Workspace", quiet: bool) -> "OfflineConfig":
    """`config` with its prior, whose labels of the dataset are made if they are missing."""
    if config.algorithm != "cql-prior":
        return config
    from cepcli.cli.offline_label import labelled, print_labels
    from cepcli.datasets.dataset import load_dataset
    from cepcli.datasets.labelling import LabelConfig
    from cepcli.datasets.labels import labels_of
    from cepcli.prior.load import UNIFORM, find_prior

    if config.prior == UNIFORM:
        return config
    data = load_dataset(
        config.dataset, env=config.env, split=config.split, workspace=space, notify=lambda _: None
    )
    if config.prior is None:
        if data.env is None:
            raise ConfigError(
                "The dataset does not say of which environment it is, so no prior is known for it.",
                "Name one of them: --env ID or --prior NAME",
            )
        config = replace(config, prior=default_prior(data.env, space, quiet))
    find_prior(str(config.prior), space)
    if config.prior not in labels_of(data, space):
        note(quiet)(
            f"No labels of `{config.prior}` yet: asking it about the dataset's states, once"
        )
        how = LabelConfig(prior=str(config.prior), device=config.device, llm=config.llm)
        found = labelled(config.dataset, data, how, space, overwrite=False, quiet=quiet)
        if not quiet:
            print_labels(config.dataset, found)
    return config


def _learn_one(
    config: "OfflineConfig",
    space: "Workspace",
    name: str | None,
    resume: bool,
    overwrite: bool,
    quiet: bool,
) -> dict[str, Any]:
    from cepcli.runs.engine import default_name, start_run

    name = default_name(config) if name is None else name
    return _with_display(
        name, space, quiet,
        lambda hooks, notify: start_run(
            config, space, name, resume=resume, overwrite=overwrite, hooks=hooks, notify=notify
        ),
    )  # fmt: skip


def resume_offline(name: str, space: "Workspace", quiet: bool) -> dict[str, Any]:
    """Go on with an unfinished run of `cep offline`."""
    from cepcli.runs.engine import resume_run

    return _with_display(
        name, space, quiet, lambda hooks, notify: resume_run(space, name, hooks, notify)
    )


def _with_display(
    name: str, space: "Workspace", quiet: bool, work: Callable[[Any, Any], dict[str, Any]]
) -> dict[str, Any]:
    """Run `work(hooks, notify)`, showing how far it is; Ctrl-C ends with 130 and the way on."""
    from cepcli.cli.train import run_with_display
    from cepcli.runs.engine import Hooks

    def begin(display: Any, requested: list[bool]) -> Hooks:
        return Hooks(
            on_step=lambda parts, progress: display.advance(
                progress.step, parts.config.steps, lambda rate: {"gradient steps/s": f"{rate:.1f}"}
            ),
            on_round=display.round,
            on_evaluation=display.evaluation,
            on_finish=display.finish,
            stop_requested=lambda: bool(requested),
        )

    return run_with_display(name, quiet, space, work, begin)


def print_offline_summary(summary: dict[str, Any]) -> None:
    """What an offline run came to, in a few lines."""
    from cepcli.cli.display import outcome

    evaluation = summary["eval"]
    if evaluation["episodes"]:
        score = evaluation["normalised_score"]
        told = "" if score is None else f", normalised score {score:.1f}"
        typer.echo(
            f"{summary['run']}: {outcome(evaluation)}{told} over {evaluation['episodes']} held-out "
            "episodes"
        )
    else:
        typer.echo(f"{summary['run']}: evaluated nowhere")
    rate = summary["steps"] / max(summary["learning_seconds"], 1e-9)
    prior = f", prior {summary['prior']}" if summary["agent"] == "cql-prior" else ""
    typer.echo(
        f"  {summary['steps']} gradient steps of {summary['agent']}{prior}, {rate:.1f} a second; "
        f"wall {summary['wall_seconds']:.1f} s"
    )
    typer.echo(f"  {summary['dataset']['source']}")
