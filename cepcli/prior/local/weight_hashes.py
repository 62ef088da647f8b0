"""SHA-256 of weight files, which are large: remembered while the files do not change."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cepcli.whole_files import write_whole
from cepcli.workspace.artifacts import sha256
from cepcli.workspace.variables import cache_home


def known_hashes(files: Sequence[Path]) -> list[str]:
    """SHA-256 of each of the files, read again only when one of them has changed."""
    state = []
    for file in files:
        found = file.stat()
        # a copy can keep size and time of modification; nobody can set that of the last change
        state.append([file.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns])
    where = "\n".join(str(file.resolve()) for file in files)
    key = hashlib.sha256(where.encode()).hexdigest()[:32]
    note = cache_home() / "revisions" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = json.loads(note.read_text())
        if known["files"] == state:
            return known["each"]
    each = [sha256(file) for file in files]
    with contextlib.suppress(OSError):  # an unwritable cache folder only costs time
        note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, json.dumps({"files": state, "each": each}))
    return each


def directory_revision(path: Path) -> str:
    """SHA-256 over the weight files of a model's directory."""
    files = sorted([*path.glob("*.safetensors"), *path.glob("*.bin")])
    return hashlib.sha256("".join(known_hashes(files)).encode()).hexdigest()


def not_loaded(report: dict[str, Any]) -> list[str]:
    """Names of the weights that transformers would fill at random; tied ones are not among them."""
    misfits = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
    return sorted({*report["missing_keys"], *misfits})
