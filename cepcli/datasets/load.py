"""From what the user types after `--dataset` to data.

`d4rl` is looked for where published files are, then among installed Minari datasets, and is else
the dataset of ours that stands for it; which of these it is, is said first.
"""

from pathlib import Path

from cepcli.datasets.collect import RECIPES
from cepcli.datasets.d4rl import read_d4rl
from cepcli.datasets.dataset import REFERENCE_RETURNS, ControlData, Notify, TextData
from cepcli.datasets.labels import with_labels
from cepcli.datasets.minari_data import installed, read_minari
from cepcli.datasets.stored import card_of, read_stored
from cepcli.envs.catalog import spec
from cepcli.errors import ArtifactError, DataError
from cepcli.registry import suggest
from cepcli.workspace.artifacts import Workspace
from cepcli.workspace.variables import data_folder

D4RL = "d4rl"
DEFAULT_ENV, DEFAULT_SPLIT = "walker2d", "medium-replay"
SPLITS = ("random", "medium", "medium-replay", "medium-expert", "expert", "full-replay")
#: D4RL's own variable and folder for downloaded files.
_D4RL_FOLDER = "D4RL_DATASET_DIR"
_D4RL_DEFAULT = "~/.d4rl/datasets"
_VERSIONS = ("v2", "v1", "v0")


def load_dataset(
    name: str,
    *,
    env: str | None = None,
    split: str | None = None,
    workspace: Workspace,
    notify: Notify,
    labels: str | None = None,
) -> ControlData | TextData:
    """The dataset of that name or path; its `source` says which data it is.

    Args:
        name: `d4rl`, the path of an HDF5 file, the id of a Minari dataset, or a dataset in the
            workspace.
        env: the environment that it is to be of; None for whichever it is of.
        split: which of D4RL's datasets of the environment, if `name` is `d4rl`.
        workspace: where our own datasets are, and large ones are stored for mapping.
        notify: told in one line which data this is, and about what is unusual in it.
        labels: the prior whose labels are wanted with it; None for none.

    Raises:
        ArtifactError: if there is none of that name, or no such labels.
        DataError: if it is malformed, or of another environment.
    """
    data = _found(name, env, split, workspace, notify)
    return data if labels is None else with_labels(data, name, labels, workspace)


def _found(
    name: str, env: str | None, split: str | None, workspace: Workspace, notify: Notify
) -> ControlData | TextData:
    if name == D4RL:
        return _d4rl(env or DEFAULT_ENV, split or DEFAULT_SPLIT, workspace, notify)
    if split is not None:
        raise DataError(
            f"`--split` is for D4RL only, not for the dataset `{name}`.",
            "Leave out --split, or pass --dataset d4rl.",
        )
    if name.endswith((".hdf5", ".h5")) or Path(name).is_file():
        path = Path(name).expanduser()
        places = (path, *(folder / name for folder in d4rl_folders(workspace)))
        path = next((place for place in places if place.is_file()), path)
        notify(f"Data: the file {path}")
        return read_d4rl(path, env=env, workspace=workspace, notify=notify)
    if "/" in name:
        return read_minari(name, env=env, workspace=workspace, notify=notify)
    try:
        artifact = workspace.open("dataset", name)
    except ArtifactError as error:
        others = [*workspace.names("dataset"), D4RL]
        if name in others:
            raise
        raise ArtifactError(
            error.message,
            f"{suggest(name, others)} Or give the path of an HDF5 file, or a Minari id.",
        ) from error
    notify(f"Data: {card_of(artifact)['source']}")
    return read_stored(artifact, env=env, workspace=workspace, notify=notify)


def d4rl_folders(workspace: Workspace) -> list[Path]:
    """Where published files are looked for, in that order."""
    folders = (workspace.root / "d4rl", data_folder(_D4RL_FOLDER), Path(_D4RL_DEFAULT).expanduser())
    return [folder for folder in folders if folder is not None]


def published_files(workspace: Workspace) -> list[Path]:
    """All HDF5 files there."""
    return [path for folder in d4rl_folders(workspace) for path in sorted(folder.glob("*.hdf5"))]


def _d4rl(env: str, split: str, workspace: Workspace, notify: Notify) -> ControlData | TextData:
    if env not in REFERENCE_RETURNS:
        env = spec(env).id
    if split not in SPLITS:
        raise DataError(f"D4RL has no split `{split}`.", suggest(split, SPLITS))
    folders = d4rl_folders(workspace)
    for version in _VERSIONS:
        for folder in folders:
            file = folder / f"{env}_{split.replace('-', '_')}-{version}.hdf5"
            if file.is_file():
                notify(f"Data: D4RL's published {file.name}, from {file.parent}")
                return read_d4rl(file, env=env, workspace=workspace, notify=notify)
    minari = [id_ for id_ in installed() if id_.startswith(f"mujoco/{env}/{split}-v")]
    if minari:
        return read_minari(max(minari), env=env, workspace=workspace, notify=notify)
    name = f"{env}-{split}".replace("/", "-")
    try:
        artifact = workspace.open("dataset", name)
    except ArtifactError as error:
        listed = ", ".join(f"`{folder}`" for folder in folders)
        raise ArtifactError(
            f"There is no D4RL file of {env} {split} in {listed}, no Minari dataset of it, and no "
            f"dataset `{name}` in `{workspace.root}`.",
            f"Put the file there, or collect one: cep offline collect --env {env}"
            + (f" --recipe {split}" if split in RECIPES else ""),
        ) from error
    source = card_of(artifact)["source"]
    notify(f"Data: {source}; not the published D4RL set, of which no file was found")
    return read_stored(artifact, env=env, workspace=workspace, notify=notify)
