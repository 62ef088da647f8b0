"""`cep envs`: list the environments, look at one, check that they keep the contract."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.options import JsonOption, WorkspaceOption, print_json, print_table
from cepcli.errors import EnvError

if TYPE_CHECKING:
    from cepcli.envs.base import SymbolicEnv
    from cepcli.envs.catalog import EnvSpec

app = typer.Typer(no_args_is_help=True, help="The environments: list, show, check.")

_EXPERT_STEPS = 5


@app.command("list")
def list_envs(json: JsonOption = False) -> None:
    """List the registered environments."""
    from cepcli.envs import catalog

    specs = [catalog.spec(env_id) for env_id in catalog.env_ids()]
    if json:
        print_json([{"id": s.id, "family": s.family, "summary": s.summary} for s in specs])
        return
    rows = [[s.id, s.family, s.summary] for s in specs]
    print_table("Environments", ["id", "family", "summary"], rows)


@app.command("show")
def show_env(
    env_id: Annotated[
        str, typer.Argument(help="An id of `cep envs list`, babyai/LEVEL or metaworld/TASK.")
    ],
    seed: Annotated[int, typer.Option(min=0, help="Which episode to show.")] = 0,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Show an environment: its options, a first state, and the expert's first steps."""
    from cepcli.envs import catalog

    spec = catalog.spec(env_id)
    shown = _control(spec) if spec.kind == "control" else _text(spec, workspace, seed)
    if json:
        print_json(shown)
        return
    _print_pairs({key: _cell(value) for key, value in shown.items()})


@app.command("check")
def check_envs(
    env_id: Annotated[
        str | None, typer.Argument(help="One environment; all listed ones if absent.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each kind to play.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of episodes and random actions.")] = 0,
    workspace: WorkspaceOption = None,
) -> None:
    """Play each environment and check that it keeps the contract."""
    from cepcli.envs import catalog

    ids = catalog.env_ids() if env_id is None else [env_id]
    failed = 0
    for spec in [catalog.spec(each) for each in ids]:
        try:
            _check(spec, workspace, episodes, seed)
        except EnvError as error:
            failed += 1
            typer.echo(f"{spec.id}: FAILED: {error.message}")
        else:
            typer.echo(f"{spec.id}: ok")
    if failed:
        raise EnvError(f"{failed} of {len(ids)} environments failed the check.")


def _text(spec: "EnvSpec", workspace: Path | None, seed: int) -> dict[str, Any]:
    env = _make(spec, "train", workspace, {})
    try:
        return _describe(env, spec, seed)
    finally:
        env.close()


def _control(spec: "EnvSpec") -> dict[str, Any]:
    """What there is to know of a control environment; no simulator is loaded."""
    from cepcli.config import to_dict
    from cepcli.envs.catalog import control_spec

    known = control_spec(spec.id)
    return {
        "id": spec.id,
        "family": spec.family,
        "summary": spec.summary,
        "goal": known.goal,
        "max_episode_steps": known.max_episode_steps,
        "options": to_dict(spec.options()),
        "controls": f"{known.controls}, each in [-1, 1]",
        "features": [f"{f.name} [{f.unit}]: {f.meaning}" for f in known.features],
        "primitives": [f"{p.name}: {p.meaning}" for p in known.primitives],
    }


def _check(spec: "EnvSpec", workspace: Path | None, episodes: int, seed: int) -> None:
    if spec.kind == "control":
        _check_control(spec, episodes, seed)
    else:
        _check_text(spec, workspace, episodes, seed)


def _check_control(spec: "EnvSpec", episodes: int, seed: int) -> None:
    from cepcli.envs.catalog import make_control_env
    from cepcli.envs.control_checker import check_control_env

    env, heldout = make_control_env(spec.id), make_control_env(spec.id, split="heldout")
    try:
        check_control_env(env, heldout=heldout, episodes=episodes, seed=seed)
    finally:
        env.close()
        heldout.close()


def _check_text(spec: "EnvSpec", workspace: Path | None, episodes: int, seed: int) -> None:
    from cepcli.envs.checker import check_env

    env = _make(spec, "train", workspace, dict(spec.check_options))
    heldout = _make(spec, "heldout", workspace, dict(spec.check_options))
    try:
        check_env(env, heldout=heldout, episodes=episodes, seed=seed)
    finally:
        env.close()
        heldout.close()


def _make(
    spec: "EnvSpec", split: Any, workspace: Path | None, options: dict[str, Any]
) -> "SymbolicEnv":
    from cepcli.artifacts import workspace_root
    from cepcli.envs.catalog import make_env

    root = workspace_root(workspace)
    return make_env(spec.id, split=split, workspace=root, options=options, progress=_note)


def _note(line: str) -> None:
    typer.echo(line, err=True)


def _describe(env: "SymbolicEnv", spec: "EnvSpec", seed: int) -> dict[str, Any]:
    from cepcli.config import to_dict

    text, info = env.reset(seed=seed)
    shown: dict[str, Any] = {
        "id": env.env_id,
        "family": env.family,
        "summary": spec.summary,
        "max_episode_steps": env.max_episode_steps,
        "options": to_dict(spec.options()),
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
