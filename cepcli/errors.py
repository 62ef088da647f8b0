"""The errors a user can fix: each says what was wrong and what to type next."""

#: Characters of somebody else's message that are shown; `--debug` shows all of it.
_LONGEST = 300


class CepError(Exception):
    """A mistake the user can fix; `cep` prints it in one or two lines and exits with 2.

    Args:
        message: what was wrong, the value, where it was, what was expected.
        hint: what to type next, or empty when the message already says it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def in_one_line(error: BaseException) -> str:
    """The class and message of an error of somebody else's code, on one line."""
    try:
        said = " ".join(str(error).split()).removesuffix(".")
    except Exception:  # its own `__str__` is broken
        said = ""
    if len(said) > _LONGEST:
        said = f"{said[:_LONGEST]}…"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


class Interrupted(Exception):
    """The user asked to stop; what was in progress is on disk and can go on."""


class ConfigError(CepError):
    """A flag, configuration key or value that does not fit."""


class ArtifactError(CepError):
    """An artifact that is missing, truncated, foreign, or in use."""


class EnvError(CepError):
    """An environment that does not exist, cannot be built, or breaks the contract."""


class PriorError(CepError):
    """A language model or adapter that cannot be had or used."""


class ServerError(PriorError):
    """A server that gave no usable answer in the end, perhaps for a while only."""


class CacheError(CepError):
    """A prior cache or score journal that cannot be opened or used."""


class DataError(CepError):
    """A dataset that is missing, malformed, or of something else than is asked for."""
