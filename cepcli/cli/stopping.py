"""How a command ends when it is asked to: by Ctrl-C, a SIGTERM, or a terminal that closes.

All three raise KeyboardInterrupt, so that what a command does on Ctrl-C it does on each; the exit
code is 128 plus the signal's number: 130, 143, 129.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from cepcli.errors import ServerError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


def exit_code(error: BaseException) -> int:
    """What a command exits with that `error` ended."""
    return 128 + (error.signal if isinstance(error, Stopped) else signal.SIGINT)


@contextmanager
def interruptible(hint: str) -> Iterator[None]:
    """Ctrl-C, SIGTERM or SIGHUP ends the command with one sentence and its exit code.

    The hint says what is saved and how to continue; it is added to the error of a server, too.
    """
    try:
        yield
    except ServerError as error:
        raise ServerError(error.message, f"{error.hint} {hint}") from error
    except KeyboardInterrupt as error:
        typer.echo(f"cep: interrupted. {hint}", err=True)
        raise typer.Exit(exit_code(error)) from None


@contextmanager
def stoppable() -> Iterator[None]:
    """Let each of the signals raise; one that is ignored (nohup) stays so."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    with _handling(handle):
        yield


@contextmanager
def stop_on_interrupt() -> Iterator[list[int]]:
    """The first signal asks to stop at the next good moment; the second one stops at once.

    Yields:
        The signals so far, of which the caller takes note.
    """
    requested: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if requested:
            raise Stopped(number)
        requested.append(number)

    with _handling(handle):
        yield requested


@contextmanager
def _handling(handle: "signal._HANDLER") -> Iterator[None]:
    before = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere Python allows none
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        before = {number: old for number, old in before.items() if old != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
