"""Optional parts of an installation, and what to type where one is missing.

`pip install cepcli` brings what comes as wheels. What has to be compiled, or only one family of
environments or one format of datasets needs, is an extra.
"""

from importlib.util import find_spec

from cepcli.errors import CepError, DataError, EnvError

#: The modules that each extra brings.
EXTRAS = {
    "textworld": ("textworld", "jericho"),
    "alfworld": ("alfworld", "textworld", "fast_downward"),
    "minari": ("minari",),
}


def install_command(extra: str) -> str:
    """What to type to install an extra."""
    return f"pip install 'cepcli[{extra}]'"


def missing_modules(extra: str) -> list[str]:
    """The modules of an extra that are not installed; nothing is imported."""
    return [name for name in EXTRAS[extra] if not _is_there(name)]


def require_extra(extra: str, what: str, error: type[CepError] = EnvError) -> None:
    """Raise an error that names the line to type, unless the extra is installed.

    Args:
        extra: a key of `EXTRAS`.
        what: what needs it, the beginning of the sentence.
        error: the class of the error.
    """
    missing = missing_modules(extra)
    if missing:
        names = " and ".join(f"`{name}`" for name in missing)
        plural = "s" if len(missing) > 1 else ""
        raise error(
            f"{what} needs the package{plural} {names}; install with {install_command(extra)}"
        )


def require_minari(what: str) -> None:
    """See `require_extra`; for datasets in Minari's format."""
    require_extra("minari", what, DataError)


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # a finder refuses it, or it was blocked by hand
        return False
