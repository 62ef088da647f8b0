"""`cep envs`: list the environments, look at one, check that they keep the contract."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cepcli.errors import EnvError

if TYPE_CHECKING:
    from cepcli.envs.base import SymbolicEnv
    from cepcli.envs.catalog import EnvSpec

app = typer.Typer(no_args_is_help=True, help="The environments: list, show, check.")

_WORKSPACE = typer.Option(None, "--workspace", help="Where generated games are kept.")
_JSON = typer.Option(False, "--json", help="Print JSON instead of a table.")
_EXPERT_STEPS = 5


@app.command("list")
def list_envs(as_json: bool = _JSON) -> None:
    """List the registered environments."""
    from cepcli.envs import catalog

    specs = [catalog.spec(env_id) for env_id in catalog.env_ids()]
    if as_json:
        rows = [{"id": s.id, "family": s.family, "summary": s.summary} for s in specs]
        typer.echo(json.dumps(rows, indent=1))
        return
    _print_table(["id", "family", "summary"], [[s.id, s.family, s.summary] for s in specs])


@app.command("show")
def show_env(
    env_id: str = typer.Argument(help="An id of `cep envs list`, or babyai/LEVEL."),
    seed: int = typer.Option(0, "--seed", min=0, help="Which episode to show."),
    as_json: bool = _JSON,
    workspace: Path | None = _WORKSPACE,
) -> None:
    """Show an environment: its options, a first state, and the expert's first steps."""
    from cepcli.envs import catalog

    spec = catalog.spec(env_id)
    env = _make(spec, "train", workspace, {})
    try:
        shown = _describe(env, spec, seed)
    finally:
        env.close()
    if as_json:
        typer.echo(json.dumps(shown, indent=1))
        return
    rows = [[key, _cell(value)] for key, value in shown.items()]
    _print_table(["", ""], rows)


@app.command("check")
def check_envs(
    env_id: str | None = typer.Argument(None, help="One environment; all listed ones if absent."),
    episodes: int = typer.Option(2, "--episodes", min=1, help="Episodes of each kind to play."),
    seed: int = typer.Option(0, "--seed", min=0, help="Seeds environment and actions."),
    workspace: Path | None = _WORKSPACE,
) -> None:
    """Play each environment and check that it keeps the contract."""
    from cepcli.envs import catalog

    ids = [env_id] if env_id else catalog.env_ids()
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


def _check(spec: "EnvSpec", workspace: Path | None, episodes: int, seed: int) -> None:
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


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=None, show_header=any(header), pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)
