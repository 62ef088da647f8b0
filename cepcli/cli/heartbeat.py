"""Shows that a command is still at work: a spinner in a terminal, elsewhere a line now and then.

The root command starts one for every command; whoever prints something tells it, so that it shows
only when nothing else was printed for a while.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

#: Without a terminal: seconds of silence after which a line comes, at the beginning and later.
FIRST_SECONDS = 2.0
NEXT_SECONDS = 4.5
_SPINNER_SECONDS = 1.0
_POLL_SECONDS = 0.1


#: The heartbeat of the running command; None where there is none, as with --quiet.
_CURRENT: "ContextVar[Heartbeat | None]" = ContextVar("heartbeat", default=None)


class Heartbeat:
    """Says on stderr what a command does and for how long, when nothing else is said.

    Args:
        doing: what it does until something else is told.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._began = self._said = time.monotonic()
        self._patience = FIRST_SECONDS
        self._pauses = 0
        self._spinner: Any = None
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._terminal = sys.stderr.isatty()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._token = _CURRENT.set(self)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        _CURRENT.reset(self._token)
        self._ended.set()
        self._thread.join()
        self._stop_spinner()

    def said(self, doing: str | None = None) -> None:
        """Something was shown, or is about to be; `doing` is what happens from now on."""
        with self._lock:
            self._stop_spinner()
            self._said = time.monotonic()
            self._patience = NEXT_SECONDS
            if doing is not None and doing != self._doing:
                self._doing, self._began = doing, self._said

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Something else shows that it lives, or a person is waited for."""
        with self._lock:
            self._pauses += 1
            self._stop_spinner()
        try:
            yield
        finally:
            with self._lock:
                self._pauses -= 1
            self.said()

    def _beat(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            with self._lock:
                if not self._pauses:
                    self._terminal_beat() if self._terminal else self._plain_beat()

    def _plain_beat(self) -> None:
        now = time.monotonic()
        if now - self._said >= self._patience:
            self._said, self._patience = now, NEXT_SECONDS
            print(f"{self._doing} … {now - self._began:.0f} s", file=sys.stderr, flush=True)

    def _terminal_beat(self) -> None:
        """Begin the spinner, which then turns by itself, or tell it the time."""
        now = time.monotonic()
        if self._spinner is None and now - self._said >= _SPINNER_SECONDS:
            self._spinner = _spinner()
            self._spinner.start()
        if self._spinner is not None:
            self._spinner.renderable.update(text=f"{self._doing} … {now - self._began:.0f} s")

    def _stop_spinner(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None


def _spinner() -> Any:
    """A line that turns; what is printed meanwhile appears above it."""
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner

    return Live(
        Spinner("dots"), console=Console(stderr=True), transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )  # fmt: skip


def said(doing: str | None = None) -> None:
    """Tell the heartbeat of the running command, if there is one; see `Heartbeat.said`."""
    heartbeat = _CURRENT.get()
    if heartbeat is not None:
        heartbeat.said(doing)


def paused() -> AbstractContextManager[None]:
    """Let the heartbeat of the running command be silent; see `Heartbeat.paused`."""
    heartbeat = _CURRENT.get()
    return nullcontext() if heartbeat is None else heartbeat.paused()
