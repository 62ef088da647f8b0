"""Games are made in a process of their own, which ends, with all that it started, when it should.

What makes games (TextWorld's generator, Inform, Fast Downward) takes seconds, or may search for
ever. So there is a time limit, `$CEP_GAME_SECONDS`, and whatever ends the command ends the making.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from cepcli.artifacts import game_seconds
from cepcli.errors import CepError, EnvError

#: What can be made: the module whose `make_game(folder, request)` does.
_MAKERS = {
    "textworld": "cepcli.envs.textworld_make",
    "alfworld": "cepcli.envs.alfworld_compile",
}


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
        child = subprocess.Popen(
            [sys.executable, "-m", __name__, maker, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, "TMPDIR": scratch}, start_new_session=True,
        )  # fmt: skip
        try:
            answer, said = child.communicate(json.dumps(request), limit)
        except subprocess.TimeoutExpired as error:
            raise EnvError(
                f"{what} was not made within {limit:g} s.",
                f"{smaller} Or wait longer: CEP_GAME_SECONDS={2 * limit:g}",
            ) from error
        finally:
            _end(child)
    if child.returncode:
        told = json.loads(answer) if answer else None
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise EnvError(*(told or (f"{what} cannot be made: {last[-300:]}", smaller)))


def _end(child: "subprocess.Popen[str]") -> None:
    """End a process that leads a session, with all that it started; nothing if it has ended."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def main(maker: str, folder: str) -> None:
    """Make the game that stdin asks for; what is wrong with it goes to stdout."""
    signal.alarm(int(game_seconds()) + 5)  # for a parent that was killed
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get in between
    make = importlib.import_module(_MAKERS[maker]).make_game
    try:
        make(Path(folder), json.load(sys.stdin))
    except CepError as error:
        json.dump([error.message, error.hint], answer)
        answer.flush()
        sys.exit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
