"""Generated games are kept in the workspace: made once, whole or not at all."""

import fcntl
import tempfile
from collections.abc import Callable
from pathlib import Path

from cepcli.whole_files import discard, replace
from cepcli.workspace.artifacts import writing


def game_made_once(final: Path, workspace: Path, make: Callable[[Path], None]) -> Path:
    """The file `final`, made first if it is not there.

    Two processes that need the same file make it once.

    Args:
        final: the file.
        workspace: what it is part of, for the error.
        make: leaves a file of the name of `final` in the empty folder that it is given. Other
            files that it leaves are moved beside `final`, before it.

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
