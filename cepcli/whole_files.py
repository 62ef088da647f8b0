"""Files and directories that are whole at every moment, whatever kills the process that writes.

New content is written beside its place and is on the disk before it gets its name. A file takes the
place of an older one in one step. No system call does that for directories: the older one is put
aside as `.NAME.old`, the new one gets its name, and the older is removed. A kill between the first
two steps leaves no NAME; `settle`, which every reader calls first, then gives it back to the older.
"""

import contextlib
import errno
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

#: What a directory that is being replaced is called, beside its own name.
_ASIDE, _DOOMED, _NEW = ".old", ".discarded", ".tmp"
#: What a file system says that cannot sync a directory.
_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP)
#: What renaming a directory says where another is in its place.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write into, which becomes `path` at the end; not after an exception.

    Processes that write the same file at once do not meet: the last one counts. An `OSError` names
    `path`, which the reader knows, not the file beside it.
    """
    named = path
    path = Path(os.path.realpath(path))  # a link stays one
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_NEW}"):
        if not lives(left.name.removesuffix(_NEW).rpartition(".")[2]):
            left.unlink(missing_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}{_NEW}")
    try:
        yield new
        replace(new, path)
    except OSError as error:
        if str(error.filename) == str(new):
            error.filename = str(named)
        raise
    finally:
        new.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    data = content.encode() if isinstance(content, str) else content
    with whole_file(path) as new:
        new.write_bytes(data)


def replace(new: Path, path: Path) -> None:
    """Give `new`, a file or a directory, the name `path`; what was there is removed afterwards."""
    sync_tree(new)
    if not new.is_dir():
        new.replace(path)
        sync(path.parent)
        return
    settle(path)
    if path.exists():  # else what a kill left aside would be in its way for ever
        discard(_aside(path))
    while not _renamed(new, path):  # somebody who read in between put the older one back
        pass
    sync(path.parent)
    discard(_aside(path))


def settle(path: Path) -> None:
    """Put back the directory `path` if a kill, while it was replaced, left it aside."""
    aside = _aside(path)
    if aside.is_dir() and not path.exists():
        with contextlib.suppress(FileNotFoundError):  # its writer was about to go on
            _move(aside, path)


def settle_all(folder: Path) -> None:
    """Put back every directory in `folder` that a kill left aside."""
    for aside in folder.glob(f".*{_ASIDE}"):
        settle(folder / aside.name.removeprefix(".").removesuffix(_ASIDE))


def clean(path: Path) -> None:
    """Put back or remove what kills left of replacing or discarding `path`.

    Nobody else may be writing it.
    """
    settle(path)
    discard(_aside(path))
    _remove(_doomed(path))


def discard(path: Path) -> None:
    """Remove a file or a directory; a kill in the middle leaves no half of it under its name."""
    if path.is_dir() and not path.is_symlink():
        doomed = _doomed(path)
        _remove(doomed)
        with contextlib.suppress(FileNotFoundError):
            path.replace(doomed)
            _remove(doomed)
    else:
        path.unlink(missing_ok=True)
        _remove(_doomed(path))


def sync_tree(path: Path) -> None:
    """Have a file, or a directory with all that is in it, written to the disk."""
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            if not inner.is_symlink():
                sync(inner)
    sync(path)


def sync(path: Path) -> None:
    """Have a file's content, or a directory's names, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def _renamed(new: Path, path: Path) -> bool:
    """Whether a directory got its name, after what had it was put aside."""
    if path.exists():
        _move(path, _aside(path))
    return _move(new, path)


def _move(source: Path, target: Path) -> bool:
    """Rename a directory; False where another one has the name."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        return False
    return True


def _remove(path: Path) -> None:
    """Remove a directory whose name means nothing."""
    if path.is_dir():
        shutil.rmtree(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}{_ASIDE}")


def _doomed(path: Path) -> Path:
    return (
        path
        if path.suffix == _DOOMED
        else path.with_name(f".{path.name.removeprefix('.')}{_DOOMED}")
    )


def lives(process: str) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
