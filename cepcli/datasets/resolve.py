"""From what the user types after `--dataset` to data.

`d4rl` is looked for where published files are kept, then among installed Minari datasets, and is
else the dataset of ours that stands for it; which of these it is, is said first.
"""

from pathlib import Path

from cepcli.datasets.collect import RECIPES
from cepcli.datasets.d4rl import read_d4rl
from cepcli.datasets.dataset import REFERENCE_RETURNS, ControlData, Notify, TextData
from cepcli.datasets.stored import card_of, read_stored
from cepcli.envs.catalog import spec
from cepcli.errors import ArtifactError, DataError
from cepcli.registry import suggest
from cepcli.workspace.artifacts import Artifact, Workspace
from cepcli.workspace.variables import data_folder

D4RL = "d4rl"
DEFAULT_ENV, DEFAULT_SPLIT = "walker2d", "medium-replay"
SPLITS = ("random", "medium", "medium-replay", "medium-expert", "expert", "full-replay")
#: D4RL's own variable and folder for downloaded files.
_D4RL_FOLDER = "D4RL_DATASET_DIR"
_D4RL_DEFAULT = "~/.d4rl/datasets"
_VERSIONS = ("v2", "v1", "v0")
_SUFFIXES = (".hdf5", ".h5")


def find_dataset(
    name: str, *, env: str | None, split: str | None, workspace: Workspace, notify: Notify
) -> ControlData | TextData:
    """See `load_dataset`."""
    if name == D4RL:
        return _d4rl(env or DEFAULT_ENV, split or DEFAULT_SPLIT, workspace, notify)
    if split is not None:
        raise DataError(
            f"A split is one of D4RL's datasets, and `{name}` is a dataset.",
            "Leave --split away, or pass --dataset d4rl.",
        )
    if name.endswith(_SUFFIXES) or Path(name).is_file():
        path = _file(name, workspace)
        notify(f"Data: the file {path}")
        return read_d4rl(path, env=env, workspace=workspace, notify=notify)
    if "/" in name:
        from cepcli.datasets.minari_data import read_minari

        return read_minari(name, env=env, workspace=workspace, notify=notify)
    artifact = _opened(name, workspace)
    notify(f"Data: {card_of(artifact)['source']}")
    return read_stored(artifact, env=env, workspace=workspace, notify=notify)


def _file(name: str, workspace: Workspace) -> Path:
    """The file of that path, or of that name where published files are."""
    path = Path(name).expanduser()
    kept = [folder / name for folder in d4rl_folders(workspace)]
    return next((one for one in (path, *kept) if one.is_file()), path)


def d4rl_folders(workspace: Workspace) -> list[Path]:
    """Where published files are looked for, in that order."""
    named = data_folder(_D4RL_FOLDER)
    return [
        workspace.root / "d4rl",
        *([named] if named is not None else []),
        Path(_D4RL_DEFAULT).expanduser(),
    ]


def published_files(workspace: Workspace) -> list[Path]:
    """All HDF5 files there."""
    folders = d4rl_folders(workspace)
    return [path for folder in folders for path in sorted(folder.glob("*.hdf5"))]


def _opened(name: str, workspace: Workspace) -> Artifact:
    try:
        return workspace.open("dataset", name)
    except ArtifactError as error:
        others = [*workspace.names("dataset"), D4RL]
        if name in others:
            raise
        raise ArtifactError(
            error.message,
            f"{suggest(name, others)} Or give the path of an HDF5 file, or a Minari id.",
        ) from error


def _d4rl(env: str, split: str, workspace: Workspace, notify: Notify) -> ControlData | TextData:
    if env not in REFERENCE_RETURNS:
        env = spec(env).id
    if split not in SPLITS:
        raise DataError(f"D4RL has no split `{split}`.", suggest(split, SPLITS))
    for file in _published(env, split, workspace):
        notify(f"Data: D4RL's published {file.name}, from {file.parent}")
        return read_d4rl(file, env=env, workspace=workspace, notify=notify)
    minari = _installed_minari(env, split)
    if minari is not None:
        from cepcli.datasets.minari_data import read_minari

        return read_minari(minari, env=env, workspace=workspace, notify=notify)
    return _stand_in(env, split, workspace, notify)


def _published(env: str, split: str, workspace: Workspace) -> list[Path]:
    """The published file of an environment and split, newest version first."""
    names = [f"{env}_{split.replace('-', '_')}-{version}.hdf5" for version in _VERSIONS]
    found = [folder / name for name in names for folder in d4rl_folders(workspace)]
    return [path for path in found if path.is_file()]


def _installed_minari(env: str, split: str) -> str | None:
    """The id of an installed Minari dataset of that name."""
    from cepcli.datasets.minari_data import installed

    begins = f"mujoco/{env}/{split}-v"
    return max((id_ for id_ in installed() if id_.startswith(begins)), default=None)


def _stand_in(env: str, split: str, workspace: Workspace, notify: Notify) -> ControlData | TextData:
    """The dataset of ours of that environment and split; not D4RL's, and said to be not."""
    name = f"{env}-{split}".replace("/", "-")
    try:
        artifact = workspace.open("dataset", name)
    except ArtifactError as error:
        folders = ", ".join(f"`{folder}`" for folder in d4rl_folders(workspace))
        raise ArtifactError(
            f"There is no D4RL file of {env} {split} in {folders}, no Minari dataset of it, and "
            f"no dataset `{name}` in `{workspace.root}`.",
            f"Put the file there, or collect one: cep offline collect --env {env}"
            + (f" --recipe {split}" if split in RECIPES else ""),
        ) from error
    source = card_of(artifact)["source"]
    notify(f"Data: {source}; not the published D4RL set, of which no file was found")
    return read_stored(artifact, env=env, workspace=workspace, notify=notify)
