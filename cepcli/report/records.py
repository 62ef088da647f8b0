"""Records of runs: settings, result and metrics, without what a run needs to go on.

A record is a run of a few kilobytes in a workspace of its own, fit to be published: it is listed,
shown and compared like the run it was taken from, and its manifest says what made that, when and
where. It cannot be evaluated or resumed.

Example: cep runs export walker2d_s0 walker2d_s1 -o results
"""

import shlex
import shutil
from pathlib import Path

from cepcli.errors import ArtifactError
from cepcli.workspace.artifacts import Artifact, Workspace, write_json

FILES = ("config.toml", "settings.json", "summary.json", "metrics.jsonl")


def export_record(workspace: Workspace, name: str, to: Workspace, *, overwrite: bool) -> Artifact:
    """Put the record of a finished run into another workspace; that it is there already is fine.

    Raises:
        ArtifactError: if there is no such run, or another of that name is in `to` and `overwrite`
            is off.
    """
    if workspace.root.resolve() == to.root.resolve():
        raise ArtifactError(
            f"The record of `{name}` would lie in the workspace of the run itself, `{to.root}`.",
            "Name another directory: --output DIR",
        )
    run = workspace.open("run", name)
    kept = [output for output in run.manifest["outputs"] if output["file"] in FILES]
    command = _without_workspace(run.manifest["command"])
    manifest = {
        "record_of": run.reference.sha256, **run.manifest, "command": command, "outputs": kept,
    }  # fmt: skip
    with to.lock("run", name):
        if to.exists("run", name) and to.open("run", name).manifest == manifest:
            return to.open("run", name)

        def fill(path: Path) -> None:
            for output in kept:
                shutil.copyfile(run.path / output["file"], path / output["file"])
            write_json(path / "manifest.json", manifest)

        partial = to.begin("run", name, overwrite=overwrite, fill=fill)
        return to.put(partial, "run", name)


def _without_workspace(command: str) -> str:
    """The command without the workspace it was typed for: a folder of the machine that ran it."""
    try:
        words = shlex.split(command)
    except ValueError:  # written before commands were quoted
        return command
    kept, skip = [], False
    for word in words:
        if not skip and word != "--workspace" and not word.startswith("--workspace="):
            kept.append(word)
        skip = word == "--workspace"
    return shlex.join(kept) if len(kept) < len(words) else command


def is_record(run: Artifact) -> bool:
    """Whether a run is a record alone."""
    return "record_of" in run.manifest
