"""The directory of a run, whatever it trains: its name is free, its settings are as they were.

`<workspace>/run/<name>/` holds config.toml, manifest.json, metrics.jsonl, TensorBoard events, the
last checkpoint, summary.json and curve.png; while it trains it is called `<name>.partial`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cepcli.config import build, read_toml, to_dict, write_toml
from cepcli.errors import ArtifactError, ConfigError
from cepcli.version import __version__
from cepcli.workspace.artifacts import Workspace, read_json
from cepcli.workspace.checkpoint_files import checkpoints, step_of

Notify = Callable[[str], None]
T = TypeVar("T")

#: By the key of config.toml that only such runs have: how they were trained, what evaluates them.
_KINDS = {
    "agent": ("in its environment, by `cep train`", "cep eval"),
    "algorithm": ("on a dataset, by `cep offline`", "cep offline eval"),
}


def summary_of(workspace: Workspace, name: str) -> dict[str, Any]:
    """What training a finished run came to."""
    return read_json(workspace.open("run", name).path / "summary.json")


def unfinished(workspace: Workspace) -> list[str]:
    """Names of runs that wait to be resumed."""
    return workspace.unfinished("run")


def is_offline(workspace: Workspace, name: str) -> bool:
    """Whether a run, finished or not, is one of `cep offline`."""
    for run in (workspace.partial("run", name), workspace.directory("run", name)):
        if (run / "config.toml").is_file():
            return "algorithm" in read_toml(run / "config.toml")
    return False


def check_kind(run: Path, values: Mapping[str, Any], key: str) -> None:
    """Refuse a run, by what its config.toml holds, that another command trained.

    `key` is "agent" or "algorithm", which the settings of the wanted kind have.

    Raises:
        ArtifactError: naming the command for it.
    """
    for other, (trained, command) in _KINDS.items():
        if other != key and other in values and key not in values:
            name = run.name.removesuffix(".partial")
            raise ArtifactError(
                f"`{name}` was trained {trained}.", f"Evaluate it with: {command} {name}"
            )


def build_stored(cls: type[T], run: Path, values: Mapping[str, Any]) -> T:
    """The configuration, a `cls`, that a run was started with, from what its config.toml holds.

    Raises:
        ArtifactError: naming the file, if `values` are not a configuration.
    """
    try:
        return build(cls, values)
    except ConfigError as error:
        raise ArtifactError(
            f"`{run / 'config.toml'}` has settings that cep {__version__} does not know: "
            f"{error.message}",
            "Restore it from a copy, or install the version of cep that wrote it.",
        ) from error


def check_new_run(workspace: Workspace, name: str, *, overwrite: bool) -> None:
    """Refuse a name that a run has, be it finished or not, unless it is to be overwritten."""
    partial = workspace.partial("run", name)
    if partial.is_dir() and not overwrite and checkpoints(partial):
        raise ArtifactError(
            f"An unfinished run `{name}` is in `{workspace.root}`.",
            "Add --resume to go on with it or --overwrite to start over, or choose another --name.",
        )
    workspace.check_new("run", name, overwrite=overwrite)


def run_directory(
    config: Any, workspace: Workspace, name: str, *, resume: bool, overwrite: bool
) -> Path:
    """Where the run is trained: what is there if it goes on, else a fresh one with its config."""
    partial = workspace.partial("run", name)
    if resume and partial.is_dir():
        return partial
    return workspace.begin(
        "run", name, overwrite=overwrite, fill=lambda run: write_toml(run / "config.toml", config)
    )


def check_same_settings(run: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse settings that differ from the run's; how a server is asked changes no result."""
    for settings in (before, now):
        settings["llm"].pop("server")
    changed = _first_difference(before, now)
    if changed:
        key, old, new = changed
        raise ArtifactError(
            f"The run in `{run}` was started with {key} = {old!r}, not {new!r}.",
            f"Go on with it as it was: cep runs resume {run.name.removesuffix('.partial')}",
        )


def tell_what_is_new(before: dict[str, Any], config: Any, notify: Notify) -> None:
    """Say which settings did not exist yet when a run was begun: their defaults hold from here.

    `before` is what its config.toml says, which leaves out what is None, too.
    """
    if new := sorted(_keys(to_dict(config)) - _keys(before)):
        notify(f"Begun by an earlier version, without {', '.join(new)}: going on with the defaults")


def tell_where_it_begins(run: Path, steps: int, notify: Notify) -> None:
    """Say at which step an unfinished run goes on, and how much is left of it."""
    found = checkpoints(run)
    step = step_of(found[-1]) if found else 0
    begins = f"Going on at step {step:,}" if found else "No checkpoint yet: beginning at step 0"
    notify(f"{begins} of {steps:,}, {steps - step:,} are left")


def _keys(settings: dict[str, Any], where: str = "") -> set[str]:
    """Every key with a value, as `section.key`; what `env_options` holds is the environment's."""
    found: set[str] = set()
    for key, value in settings.items():
        nested = isinstance(value, dict) and key != "env_options"
        found |= _keys(value, f"{where}{key}.") if nested else {where + key}
    return found


def _first_difference(
    before: dict[str, Any], now: dict[str, Any], where: str = ""
) -> tuple[str, Any, Any] | None:
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found = _first_difference(old, new, f"{where}{key}.")
            if found:
                return found
        elif old != new:
            return where + key, old, new
    return None
