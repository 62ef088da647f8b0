"""Artifacts: one directory each, complete or absent, with a manifest written last.

`<workspace>/<kind>/<name>/` holds `manifest.json`, `config.toml` and data in open formats. Work in
progress lives in `<name>.partial/` and is renamed when done; a kill in between leaves the older
artifact or the new one (`whole_files`). What ships with `cep` (adapters) is
found in `data/` under the same layout, after the workspace, and is read-only.
"""

import contextlib
import errno
import fcntl
import fnmatch
import functools
import hashlib
import json
import os
import platform
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from cepcli.errors import ArtifactError
from cepcli.registry import suggest
from cepcli.version import __version__
from cepcli.whole_files import clean, discard, replace, settle, settle_all, write_whole
from cepcli.workspace.variables import shipped_root, workspace_root

SCHEMA_VERSION = 1
KINDS = (
    "annotations", "abstraction", "prior", "demos", "cache", "dataset", "labels", "run", "ablation",
    "report",
)  # fmt: skip
#: Kinds of which each family of environments, or each dataset, has its own: their names are
#: FAMILY/NAME and DATASET/PRIOR.
GROUPED = ("abstraction", "labels")
#: Kinds that people edit, so that their files need not be as the manifest says.
EDITABLE = ("annotations",)
#: Kinds whose names are plurals, for sentences.
PLURAL = ("annotations", "demos", "labels")
#: What makes an artifact of a kind, for the hint of "it doesn't exist".
MADE_BY = {
    "abstraction": "cep abstract train --env {family} --name {name}",
    "annotations": "cep annotate auto --env ID",
    "prior": "cep prior finetune --env ID",
    "demos": "cep prior demos --env ID",
    "run": "cep train --env ID",
    "cache": "cep train --env ID --cache lru",
    "dataset": "cep offline collect --env ID",
    "labels": "cep offline label --dataset NAME --prior PRIOR",
}
LIBRARIES = (
    "torch", "transformers", "peft", "gymnasium", "minigrid", "textworld", "alfworld", "mujoco",
    "metaworld", "minari", "stable-baselines3", "numpy",
)  # fmt: skip
_LONGEST_NAME = 150
#: Names of files that editors leave beside what they edit, and of what is being written.
_BACKUP = re.compile(r"\..*|.*~|#.*#|.*\.(bak|swp|orig|tmp)")
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_LONGEST_NAME - 1}}}")
#: Files up to this size are compared by content, larger ones by size, when an artifact is opened.
_HASHED_BYTES = 2**20


class Input(NamedTuple):
    """What an artifact was made from; by path where that is outside the workspace.

    `sha256` is of the file that binds its others by their hashes.
    """

    kind: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished artifact on disk."""

    path: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """The artifact's name, its directory's; with its family's where the kind is grouped."""
        grouped = self.manifest["kind"] in GROUPED
        return "/".join(self.path.parts[-2:]) if grouped else self.path.name

    @property
    def reference(self) -> Input:
        """What another artifact's manifest says of it."""
        kind = self.manifest["kind"]
        if kind in EDITABLE:
            listed = json.dumps([(o["file"], o["sha256"]) for o in _outputs(self.path)])
            return Input(kind, self.name, hashlib.sha256(listed.encode()).hexdigest())
        return Input(kind, self.name, sha256(self.path / "manifest.json"))


def check_name(name: str, kind: str = "") -> str:
    """`name` if it can name an artifact of that kind, else an `ArtifactError`."""
    parts = name.split("/") if kind in GROUPED else [name]
    if kind in GROUPED and len(parts) != 2:
        raise ArtifactError(
            f"`{name}` cannot name an {kind}, expected FAMILY/NAME.", "Try walker2d/default"
        )
    if not all(map(_NAME.fullmatch, parts)) or name.endswith((".partial", ".lock")):
        raise ArtifactError(
            f"`{name}` cannot name an artifact.",
            f"Use at most {_LONGEST_NAME} letters, digits, dots, dashes and underscores.",
        )
    return name


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of cep, Python and the libraries that results depend on; nothing is imported."""
    found = {"cep": __version__, "python": platform.python_version()}
    return found | _library_versions()


@functools.cache
def _library_versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[library] = metadata.version(library)
    return found


def typed_command() -> str:
    """The command that is running, as a shell reads it; a Python script by its name."""
    program, *words = sys.argv or [""]
    ours = Path(program).name in ("cep", "__main__.py")
    return shlex.join(["cep", *words] if ours else ["python", program, *words])


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    write_whole(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file that cep wrote.

    Raises:
        ArtifactError: if it is missing, truncated or not JSON; the file is left untouched.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"Cannot read `{path}`: {error.strerror}.") from error
    except ValueError as error:
        raise ArtifactError(
            f"`{path}` is not complete JSON ({error}); it was left untouched.",
            "Remove it, or restore it from a copy.",
        ) from error


@dataclass(frozen=True)
class Workspace:
    """The directory that holds all artifacts of a project."""

    root: Path

    @property
    def option(self) -> str:
        """` --workspace DIR`, for a command that is to be typed; empty for the usual workspace."""
        usual = self.root == workspace_root()
        return "" if usual else f" --workspace {shlex.quote(str(self.root))}"

    def directory(self, kind: str, name: str) -> Path:
        """Where an artifact is, or would be; what a kill left aside is put back first."""
        assert kind in KINDS, kind
        return self._settled(self.root / kind / check_name(name, kind))

    def partial(self, kind: str, name: str) -> Path:
        """Where an unfinished artifact is, or would be."""
        final = self.directory(kind, name)
        return self._settled(final.with_name(final.name + ".partial"))

    def _settled(self, path: Path) -> Path:
        with writing(self.root):
            settle(path)
        return path

    def _settle_all(self, kind: str) -> None:
        with writing(self.root):
            for folder in (self.root / kind).glob("*/") if kind in GROUPED else [self.root / kind]:
                settle_all(folder)

    def exists(self, kind: str, name: str) -> bool:
        """Whether a finished artifact is in the workspace (shipped ones do not count)."""
        return (self.directory(kind, name) / "manifest.json").is_file()

    def names(self, kind: str) -> list[str]:
        """Finished artifacts of a kind, in the workspace and shipped, by name."""
        self._settle_all(kind)
        found = set()
        pattern = "*/*/manifest.json" if kind in GROUPED else "*/manifest.json"
        for root in (self.root, shipped_root()):
            found |= {p.parent.relative_to(root / kind) for p in (root / kind).glob(pattern)}
        return sorted(
            path.as_posix() for path in found
            if all(map(_NAME.fullmatch, path.parts)) and path.suffix != ".partial"
        )  # fmt: skip

    def unfinished(self, kind: str) -> list[str]:
        """Names of artifacts that are being made, or whose making died or was stopped."""
        self._settle_all(kind)
        found = (path.stem for path in self.root.glob(f"{kind}/*.partial"))
        return sorted(name for name in found if _NAME.fullmatch(name))

    def matching(self, kind: str, names: Sequence[str], *, unfinished: bool = False) -> list[str]:
        """What names, or patterns with `*`, `?` and `[…]`, stand for; each artifact once.

        With `unfinished`, patterns stand for unfinished artifacts, too.

        Raises:
            ArtifactError: if nothing matches a pattern; a plain name is not looked up.
        """
        found: list[str] = []
        known = sorted({*self.names(kind), *(self.unfinished(kind) if unfinished else ())})
        for name in names:
            matches = fnmatch.filter(known, name) if set(name) & set("*?[") else [name]
            found += matches
            if not matches:
                runs = f"See which there are: cep runs list{self.option}"
                raise ArtifactError(
                    f"No finished {kind} in `{self.root}` matches `{name}`.",
                    runs if kind == "run" else suggest(name, known),
                )
        return list(dict.fromkeys(found))

    def open(self, kind: str, name: str) -> Artifact:
        """A finished artifact, from the workspace or else shipped.

        Raises:
            ArtifactError: if there is none, or it is foreign, truncated, or of a newer schema.
        """
        for path in (self.directory(kind, name), shipped_root() / kind / name):
            if (path / "manifest.json").is_file():
                return Artifact(path, _check_manifest(path, kind))
        if self.partial(kind, name).is_dir():
            resume = f"Finish it: cep runs resume {name}{self.option}"
            raise ArtifactError(
                f"The {kind} `{name}` in `{self.root}` is unfinished.",
                resume if kind == "run" else "Make it again.",
            )
        known = self.names(kind)
        made_by = MADE_BY.get(kind, "cep --help").format(name=name, family=name.partition("/")[0])
        hint = suggest(name, known) if known else f"Make one: {made_by}"
        are = "are" if kind in PLURAL else "is"
        raise ArtifactError(f"There {are} no {kind} `{name}` in `{self.root}`.", hint)

    @contextlib.contextmanager
    def lock(self, kind: str, name: str) -> Iterator[None]:
        """Hold an artifact's name; a second process is told so. Released by any kind of death.

        Raises:
            ArtifactError: if another process holds it, or the workspace cannot be written.
        """
        path = self._lock_file(kind, name)
        with writing(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = path.open("w")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ArtifactError(
                    f"Another process is working on the {kind} `{name}` in `{self.root}`.",
                    "Wait for it, or choose another --name.",
                ) from error
            with writing(self.root):
                clean(self.directory(kind, name))
                clean(self.partial(kind, name))
            yield

    def is_locked(self, kind: str, name: str) -> bool:
        """Whether a process is working on an artifact at this moment."""
        try:
            handle = self._lock_file(kind, name).open()
        except OSError:  # nothing has ever been made under that name, or nobody may look
            return False
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def _lock_file(self, kind: str, name: str) -> Path:
        final = self.directory(kind, name)
        return final.with_name(f".{final.name}.lock")

    def check_new(self, kind: str, name: str, *, overwrite: bool) -> None:
        """Refuse a name that a finished artifact has, unless it may be replaced."""
        if self.exists(kind, name) and not overwrite:
            exist = "exist" if kind in PLURAL else "exists"
            other = "P" if kind == "labels" else "Choose another --name, or p"
            raise ArtifactError(
                f"The {kind} `{name}` {exist} already in `{self.root}`.",
                f"{other}ass --overwrite to replace {'them' if kind in PLURAL else 'it'}.",
            )

    def begin(
        self,
        kind: str,
        name: str,
        *,
        overwrite: bool = False,
        fill: Callable[[Path], None] = lambda path: None,
    ) -> Path:
        """A fresh `<name>.partial` directory to write into, with what `fill` puts there at once.

        Raises:
            ArtifactError: if a finished artifact has the name and `overwrite` is off.
        """
        self.check_new(kind, name, overwrite=overwrite)
        path = self.partial(kind, name)
        with writing(self.root):
            new = path.with_name(f".{path.stem}.new")
            discard(new)
            new.mkdir(parents=True)
            fill(new)
            replace(new, path)
        return path

    def finish(
        self, kind: str, name: str, *, seed: int | None, inputs: Sequence[Input] = ()
    ) -> Artifact:
        """Write the manifest of `<name>.partial`, put it in its final place, return it."""
        partial = self.partial(kind, name)
        with writing(self.root):
            write_json(partial / "manifest.json", _manifest(partial, kind, seed, inputs))
        return self.put(partial, kind, name)

    def put(self, partial: Path, kind: str, name: str) -> Artifact:
        """Give a directory that has its manifest its final place, return what is there then."""
        final = self.directory(kind, name)
        with writing(self.root):
            replace(partial, final)
        return self.open(kind, name)

    def restamp(self, kind: str, name: str, *, seed: int | None = None) -> Artifact:
        """Bring the manifest of an artifact that people edit up to date with its files.

        `seed` is what it was made with last; None leaves what the manifest says.
        """
        assert kind in EDITABLE, kind
        old = self.open(kind, name).manifest
        path = self.directory(kind, name)
        made_of = [Input(**found) for found in old["inputs"]]
        seed = old["seed"] if seed is None else seed
        with writing(self.root):
            write_json(path / "manifest.json", _manifest(path, kind, seed, made_of))
        return self.open(kind, name)


@contextlib.contextmanager
def writing(root: Path) -> Iterator[None]:
    """Turn a full disk or a read-only workspace into one clear sentence."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EROFS: "the file system is read-only",
            errno.EACCES: "permission was denied",
            errno.EPERM: "permission was denied",
            errno.ENOTDIR: "a part of the path is not a directory",
            errno.EISDIR: "it is a directory",
            errno.EEXIST: "a file is in its place",
            errno.ENAMETOOLONG: "the path is too long",
            errno.ELOOP: "links in the path lead in a circle",
            errno.EIO: "the disk reports an error",
        }
        if error.errno not in reasons:
            raise
        raise ArtifactError(
            f"Cannot write to `{error.filename or root}`: {reasons[error.errno]}.",
            "Free some space or pass --workspace DIR; what was finished before is kept.",
        ) from error


def check_writable(path: Path) -> None:
    """Refuse a place that cannot be written, before the work whose result goes there.

    Raises:
        ArtifactError: naming `path`; nothing is left there.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    with writing(path):
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            error.filename = str(path)
            raise


def _manifest(path: Path, kind: str, seed: int | None, inputs: Sequence[Input]) -> dict[str, Any]:
    config = path / "config.toml"
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "cep_version": __version__,
        "command": typed_command(),
        "config_sha256": sha256(config) if config.is_file() else None,
        "seed": seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(),
        "inputs": [made_of._asdict() for made_of in inputs],
        "outputs": _outputs(path),
    }


def _outputs(path: Path) -> list[dict[str, Any]]:
    return [
        {"file": str(p.relative_to(path)), "bytes": p.stat().st_size, "sha256": sha256(p)}
        for p in sorted(path.rglob("*"))
        if p.is_file() and p.name != "manifest.json" and not _BACKUP.fullmatch(p.name)
    ]


def _check_manifest(path: Path, kind: str) -> dict[str, Any]:
    manifest = read_json(path / "manifest.json")
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        raise ArtifactError(f"`{path}` is not a {kind}: its manifest says otherwise.")
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(
            f"`{path}` has schema version {manifest.get('schema_version')}, "
            f"this cep {__version__} reads {SCHEMA_VERSION}.",
            "Install the version of cep that wrote it.",
        )
    command = manifest.get("command")
    outputs = manifest.get("outputs")
    if not isinstance(command, str) or not isinstance(outputs, list):
        raise ArtifactError(f"`{path / 'manifest.json'}` is not a manifest that cep wrote.")
    for output in () if kind in EDITABLE else outputs:
        if not _intact(path, output):
            raise ArtifactError(
                f"`{path / str(output.get('file', '?'))}` is missing, truncated or changed since "
                "it was written; it was left untouched.",
                f"Restore it from a copy, or make it again: {command} --overwrite",
            )
    return manifest


def _intact(path: Path, output: dict[str, Any]) -> bool:
    """Whether an output is as the manifest says; large files are judged by their size."""
    if not {"file", "bytes", "sha256"} <= output.keys():
        return False
    file = path / output["file"]
    if not file.is_file() or file.stat().st_size != output["bytes"]:
        return False
    return output["bytes"] > _HASHED_BYTES or sha256(file) == output["sha256"]
