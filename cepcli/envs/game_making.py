"""Generated games: each is made once a workspace, whole or not at all, by a process of its own.

What makes games (TextWorld's generator, Inform, Fast Downward) takes seconds, or may search for
ever. So there is a time limit, `$CEP_GAME_SECONDS`, and whatever ends the command ends the making.
"""

import fcntl
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from cepcli.child_processes import end_with_parent
from cepcli.errors import CepError, EnvError
from cepcli.whole_files import discard, replace
from cepcli.workspace.artifacts import writing
from cepcli.workspace.variables import game_seconds

#: What can be made: the module whose `make_game(folder, request)` does.
_MAKERS = {
    "textworld": "cepcli.envs.textworld.make",
    "alfworld": "cepcli.envs.alfworld.compile",
}


def game_made_once(final: Path, workspace: Path, make: Callable[[Path], None]) -> Path:
    """The file `final`, made first if it is not there.

    Two processes that need the same file make it once. `make` leaves a file of that name in the
    empty folder that it is given; other files that it leaves are moved beside it, before it.

    Raises:
        ArtifactError: if the workspace cannot be written.
    """
    if final.is_file():
        return final
    directory, name = final.parent, final.name
    with writing(workspace):
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / f".{final.stem}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not final.is_file():
                for left_over in directory.glob(f".{final.stem}.partial-*"):
                    discard(left_over)
                partial = tempfile.mkdtemp(dir=directory, prefix=f".{final.stem}.partial-")
                try:
                    make(Path(partial))
                    for file in sorted(Path(partial).iterdir(), key=lambda file: file.name == name):
                        replace(file, directory / file.name)
                finally:
                    discard(Path(partial))
    return final


def make_apart(maker: str, folder: Path, request: dict[str, Any], what: str, smaller: str) -> None:
    """Have a game made in `folder`.

    Args:
        maker: a key of `_MAKERS`.
        folder: where the game goes.
        request: plain values, for the maker.
        what: the game, for sentences.
        smaller: what to ask for if it takes too long.

    Raises:
        EnvError: what the maker raised, or that it took too long.
        ConfigError: if the time limit is no number.
    """
    limit = game_seconds()
    with tempfile.TemporaryDirectory() as scratch:
        child = None
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", __name__, maker, str(folder), str(os.getpid())],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, env={**os.environ, "TMPDIR": scratch}, start_new_session=True,
            )  # fmt: skip
            answer, said = child.communicate(json.dumps(request), limit)
            failed = child.returncode != 0
        except subprocess.TimeoutExpired as error:
            raise EnvError(
                f"{what} was not made within {limit:g} s.",
                f"{smaller} Or wait longer: CEP_GAME_SECONDS={2 * limit:g}",
            ) from error
        finally:
            if child is not None:  # else a signal came as it began; it ends with this process
                _end(child)
    if failed:
        told = json.loads(answer) if answer else None
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise EnvError(*(told or (f"{what} cannot be made: {last[-300:]}", smaller)))


def _end(child: "subprocess.Popen[str]") -> None:
    """End a process that leads a session, with all that it started; nothing if it has ended."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def main(maker: str, folder: str, parent: str) -> None:
    """Make the game that stdin asks for; what is wrong with it goes to stdout.

    A second process makes it. This one only waits, so that it can end both, and all that they
    started, at any moment: a handler in Python would wait for Fast Downward, which may search for
    ever. The thread of `parent` that began this waits for it in `make_apart`, so it lives as long.
    """
    making = os.fork()
    if not making:
        _make(maker, Path(folder))
        return
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _end_all)
    signal.alarm(int(game_seconds()) + 5)  # for a parent that was killed where nobody tells us
    end_with_parent(int(parent), signal.SIGTERM)
    _, status = os.waitpid(making, 0)
    sys.exit(1 if os.waitstatus_to_exitcode(status) else 0)


def _end_all(number: int, frame: FrameType | None) -> None:
    """End the session that this process leads."""
    os.killpg(os.getpid(), signal.SIGKILL)


def _make(maker: str, folder: Path) -> None:
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get in between
    make = importlib.import_module(_MAKERS[maker]).make_game
    try:
        make(folder, json.load(sys.stdin))
    except CepError as error:
        json.dump([error.message, error.hint], answer)
        answer.flush()
        sys.exit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
