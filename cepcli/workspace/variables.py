"""The environment variables that cep reads, and the folders that they name."""

import contextlib
import os
from pathlib import Path

from cepcli.errors import ConfigError

#: The variable with the models whose terms the user has accepted.
ACCEPT_TERMS = "CEP_ACCEPT_TERMS"
#: Seconds that the making of one game may be given: a timer takes no more for ever.
_MAX_GAME_SECONDS = 1_000_000


def workspace_root(option: Path | None = None) -> Path:
    """`--workspace`, else `$CEP_HOME`, else `./artifacts`."""
    return _absolute(option or os.environ.get("CEP_HOME") or "artifacts")


def cache_home() -> Path:
    """Where models made from packages are kept: `$CEP_CACHE`, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _absolute(os.environ.get("CEP_CACHE") or f"{base}/cep")


def data_folder(variable: str, option: str | None = None) -> Path | None:
    """A folder of published data: `option`, else the environment variable; None without both."""
    named = option or os.environ.get(variable)
    return _absolute(named) if named else None


def shipped_root() -> Path:
    """The `data/` that ships with cep: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "data"
    return inside if inside.is_dir() else package.parent / "data"


def accepted_terms() -> set[str]:
    """Names of the models whose terms the user has accepted, `$CEP_ACCEPT_TERMS`, with commas."""
    return {name.strip() for name in os.environ.get(ACCEPT_TERMS, "").split(",")}


def server_key() -> str | None:
    """The key for language model servers, `$CEP_SERVER_KEY`; never written or shown."""
    return os.environ.get("CEP_SERVER_KEY") or None


def game_seconds() -> float:
    """How long the making of one game may take: `$CEP_GAME_SECONDS`, else five minutes.

    Raises:
        ConfigError: if it is not a number of seconds.
    """
    text = os.environ.get("CEP_GAME_SECONDS") or "300"
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= _MAX_GAME_SECONDS:
            return float(text)
    raise ConfigError(
        f"CEP_GAME_SECONDS is `{text}`, expected a number of seconds above 0, at most "
        f"{_MAX_GAME_SECONDS}.",
        "Try CEP_GAME_SECONDS=300",
    )


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()
