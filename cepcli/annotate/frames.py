"""Pictures of states, drawn by a process of its own.

Graphics libraries fail in ways that end a process, and answers are not to be lost with it: a child
(`python -m cepcli.annotate.frames`) draws. A JSON line goes in; out come two parts, each after its
length: a PNG, and why there is none.
"""

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from threading import Lock
from typing import IO

import numpy as np

from cepcli.annotate.records import State
from cepcli.envs.catalog import make_control_env
from cepcli.envs.control import ControlEnv
from cepcli.errors import CepError

_LENGTH_BYTES = 4
_NO_SNAPSHOT = "No picture: this state came without the simulator's own state."
_SWITCHED_OFF = "No pictures: they were switched off with --no-frames."


class Frames:
    """Draws states; says why where it cannot, once and for all.

    Args:
        wanted: whether to draw at all.
        tell: told the `reason` when drawing turns out to be impossible; empty until then.
    """

    def __init__(
        self, *, wanted: bool = True, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self.reason = "" if wanted else _SWITCHED_OFF
        self._tell = tell
        self._child: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._drawn: dict[str, bytes] = {}
        self._lock = Lock()

    def __enter__(self) -> "Frames":
        return self

    def __exit__(self, *error: object) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
        if self._errors is not None:
            self._errors.close()

    def png(self, state: State) -> tuple[bytes, str]:
        """A picture as PNG; or nothing, and why."""
        if not state.snapshot:
            return b"", _NO_SNAPSHOT
        with self._lock:
            if not self.reason and state.id not in self._drawn:
                picture, wrong = self._ask(state)
                if wrong:
                    return b"", f"No picture: the simulator cannot take this state ({wrong})."
                if picture:
                    self._drawn[state.id] = picture
                else:
                    self.reason = self._why()
                    self._tell(self.reason)
            return self._drawn.get(state.id, b""), self.reason

    def _ask(self, state: State) -> tuple[bytes, str]:
        """The child's picture, or what is wrong with the state; both empty if it has died."""
        if self._child is None:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
            self._child = subprocess.Popen(
                [sys.executable, "-m", "cepcli.annotate.frames"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is for the server
            )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        request = {"env": state.env, "instance": state.instance, "snapshot": state.snapshot}
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            return b"", ""
        picture, wrong = (_read_part(self._child.stdout) for _ in range(2))
        return picture, wrong.decode()

    def _why(self) -> str:
        assert self._errors is not None
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        last = said[-1].strip() if said else "the drawing process ended without a word"
        return (
            f"No pictures: this machine has no GL to draw with ({last}). Annotating works without; "
            "with Debian or Ubuntu, `apt install libegl1` may help, or another MUJOCO_GL."
        )


def main() -> None:
    """Draw what stdin asks for, until it ends."""
    from PIL import Image

    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # what libraries print must not get in between
    envs: dict[str, ControlEnv] = {}
    for line in sys.stdin:
        request = json.loads(line)
        name = request["env"]
        if name not in envs:
            envs[name] = make_control_env(name)
        picture, wrong = b"", ""
        try:
            envs[name].reset(options={"instance": request["instance"]})
            envs[name].restore(np.array(request["snapshot"], np.float64))
        except (CepError, ValueError, TypeError, IndexError, AssertionError) as error:
            wrong = " ".join(str(error).split()) or type(error).__name__
        else:
            buffer = io.BytesIO()
            Image.fromarray(np.asarray(envs[name].render())).save(buffer, "PNG")
            picture = buffer.getvalue()
        for part in (picture, wrong.encode()):
            out.write(len(part).to_bytes(_LENGTH_BYTES, "big") + part)
        out.flush()


def _read_part(stream: IO[bytes]) -> bytes:
    return stream.read(int.from_bytes(stream.read(_LENGTH_BYTES), "big"))


if __name__ == "__main__":
    main()
