"""The settings that a run of `cep train` was started with, as its config.toml keeps them.

Settings of older versions of cep are read as ones of today, here and nowhere else. Needs no torch.
"""

from pathlib import Path
from typing import Any

from cepcli.agents.config import TrainConfig
from cepcli.cache.config import stored_settings
from cepcli.config import read_toml
from cepcli.errors import ArtifactError
from cepcli.workspace.run_directory import build_stored, check_kind


def read_values(run: Path) -> dict[str, Any]:
    """What the file says, as nested plain values.

    Raises:
        ArtifactError: if it is a run of `cep offline`, or of `cep bench sb3`, which cep compares
            and does not play.
        ConfigError: if the file cannot be read.
    """
    if not (run / "config.toml").exists() and (run / "settings.json").exists():
        raise ArtifactError(
            f"`{run.name}` is a run of Stable-Baselines3.",
            "Go on with it by the command that began it, with --resume; compare it with others by "
            "`cep runs compare`.",
        )
    values = read_toml(run / "config.toml")
    check_kind(run, values, "agent")
    if isinstance(values.get("cache"), dict):
        values["cache"] = stored_settings(values["cache"])
    return values


def read_config(run: Path) -> TrainConfig:
    """The configuration; what the file does not say has its default.

    Raises:
        ArtifactError: as `read_values`, or if the file holds what is no configuration.
        ConfigError: if the file cannot be read.
    """
    return build_stored(TrainConfig, run, read_values(run))
