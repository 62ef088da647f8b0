"""`cep envs`: list the environments, look at one, check that they keep the contract."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.options import (
    CommandGroup,
    EnvOptionsOption,
    ReadOptions,
    WorkspaceOption,
    env_options,
)
from cepcli.cli.output import note, open_workspace, print_json, print_rows
from cepcli.errors import ConfigError, EnvError
from cepcli.extras import install_command, missing_modules

if TYPE_CHECKING:
    from cepcli.envs.base import SymbolicEnv
    from cepcli.envs.catalog import EnvSpec

app = CommandGroup(no_args_is_help=True, help="The environments: list, show, check.")

_EXPERT_STEPS = 5


@app.command("list")
def list_envs(*, options: ReadOptions) -> None:
    """List the registered environments, broken plugins, and the games generated so far."""
    from cepcli.envs import catalog

    specs = [catalog.spec(env_id) for env_id in catalog.env_ids()]
    broken = [plugin for plugin in catalog.plugins() if plugin.error is not None]
    missing = [s for s in specs if s.extra and missing_modules(s.extra)]
    folder = options.space.root / "games"
    games = _games(folder)
    if options.json:
        found = [
            {"id": s.id, "family": s.family, "summary": s.summary}
            | ({"install": install_command(s.extra)} if s in missing and s.extra else {})
            for s in specs
        ]
        errors = [{"entry_point": p.name, "package": p.package, "error": p.error} for p in broken]
        print_json({"environments": found, "broken": errors, "games": games})
        return
    columns = {
        "id": lambda s: s.id, "family": lambda s: s.family, "summary": lambda s: s.summary,
    }  # fmt: skip
    print_rows("Environments", specs, columns)
    for plugin in broken:
        typer.echo(f"Broken: {plugin.error} {plugin.fix}")
    for extra in sorted({str(s.extra) for s in missing}):
        ids = ", ".join(s.id for s in missing if s.extra == extra)
        typer.echo(f"Not installed: {ids}. {install_command(extra)}")
    for family, count in games.items():
        typer.echo(f"{count} games of {family} generated: {folder / family}")


def _games(folder: Path) -> dict[str, int]:
    """How many generated games there are, by family; each is generated once."""
    counts = {
        family: sum(1 for _ in (folder / family).glob(f"*/*.{ending}"))
        for family, ending in (("textworld", "z8"), ("alfworld", "tw-pddl"))
    }
    return {family: games for family, games in counts.items() if games}


@app.command("show")
def show_env(
    env_id: Annotated[
        str, typer.Argument(help="An id of `cep envs list`, babyai/LEVEL or metaworld/TASK.")
    ],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the episode to show.")] = 0,
    set_: EnvOptionsOption = None,
    *,
    options: ReadOptions,
) -> None:
    """Show an environment: its options, a first state, and the expert's first steps."""
    from cepcli.envs import catalog

    spec, changed = catalog.spec(env_id), env_options(set_)
    if spec.kind == "control":
        shown = _control(spec, changed)
    else:
        env = _make(spec, "train", options.workspace, changed)
        try:
            shown = _describe(env, spec, seed, changed)
        finally:
            env.close()
    if options.json:
        print_json(shown)
        return
    _print_pairs({key: _cell(value) for key, value in shown.items()})


@app.command("check")
def check_envs(
    env_id: Annotated[
        str | None, typer.Argument(help="The environment; default all that are listed.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each kind to play.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of episodes and random actions.")] = 0,
    set_: EnvOptionsOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Play environments and check that they keep the contract.

    Families that generate games are checked with few of them, unless --set says how many.
    """
    from cepcli.envs import catalog

    typed = env_options(set_)
    if typed and env_id is None:
        raise ConfigError(
            "`--set` is an option of one environment, but all are to be checked.",
            "Name one: cep envs check ID --set KEY=VALUE",
        )
    ids = catalog.env_ids() if env_id is None else [env_id]
    failed = 0
    for spec in [catalog.spec(each) for each in ids]:
        options = {**spec.check_options, **typed}
        if env_id is None and spec.extra and missing_modules(spec.extra):
            typer.echo(f"{spec.id}: skipped, not installed: {install_command(spec.extra)}")
            continue
        told = f" (with {_cell(options)})" if options else ""
        try:
            _check(spec, workspace, episodes, seed, options)
        except EnvError as error:
            failed += 1
            typer.echo(f"{spec.id}: FAILED{told}: {error.message}")
        else:
            typer.echo(f"{spec.id}: ok{told}")
    if failed:
        raise EnvError(f"{failed} of {len(ids)} environments failed the check.")


def _check(
    spec: "EnvSpec", workspace: Path | None, episodes: int, seed: int, options: dict[str, Any]
) -> None:
    """Check an environment and its held-out split; raises EnvError."""
    if spec.kind == "control":
        from cepcli.envs.checker import check_control_env as check
    else:
        from cepcli.envs.checker import check_env as check

    env = _make(spec, "train", workspace, options)
    heldout = _make(spec, "heldout", workspace, options)
    try:
        check(env, heldout=heldout, episodes=episodes, seed=seed)
    finally:
        env.close()
        heldout.close()


def _make(spec: "EnvSpec", split: Any, workspace: Path | None, options: dict[str, Any]) -> Any:
    from cepcli.envs.catalog import make_control_env, make_env

    if spec.kind == "control":
        return make_control_env(spec.id, split=split, options=options)
    root = open_workspace(workspace).root
    return make_env(spec.id, split=split, workspace=root, options=options, progress=note)


def _control(spec: "EnvSpec", options: dict[str, Any]) -> dict[str, Any]:
    """What there is to know of a control environment; no simulator is loaded."""
    from cepcli.envs.catalog import control_spec, full_options

    known = control_spec(spec.id)
    return {
        "id": spec.id,
        "family": spec.family,
        "summary": spec.summary,
        "goal": known.goal,
        "max_episode_steps": known.max_episode_steps,
        "options": full_options(spec.id, options),
        "controls": f"{known.controls}, each in [-1, 1]",
        "features": [f"{f.name} [{f.unit}]: {f.meaning}" for f in known.features],
        "primitives": [f"{p.name}: {p.meaning}" for p in known.primitives],
    }


def _describe(
    env: "SymbolicEnv", spec: "EnvSpec", seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    from cepcli.envs.catalog import full_options

    text, info = env.reset(seed=seed)
    shown: dict[str, Any] = {
        "id": env.env_id,
        "family": env.family,
        "summary": spec.summary,
        "max_episode_steps": env.max_episode_steps,
        "options": full_options(spec.id, options),
        "observation space": str(env.observation_space),
        "action space": str(env.action_space),
        "instance": info["instance"],
        "goal": info["goal"],
        "text": text,
        "actions": list(info["actions"]),
    }
    expert, ended = [], False
    while not ended and len(expert) < _EXPERT_STEPS:
        expert.append(env.expert_action())
        _, _, terminated, truncated, _ = env.step(expert[-1])
        ended = terminated or truncated
    return {**shown, "expert": expert}


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "none"
    return "\n".join(value) if isinstance(value, list) else str(value)


def _print_pairs(pairs: dict[str, str]) -> None:
    """Names and values, a value as many lines as it has."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for pair in pairs.items():
        table.add_row(*pair)
    Console(markup=False, highlight=False).print(table)
