"""Minari datasets: those that are installed, those that can be downloaded, and our own, written.

They are in `$MINARI_DATASETS_PATH`, else in `~/.minari/datasets`, where Minari itself keeps them.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cepcli.artifacts import Workspace, data_folder
from cepcli.envs.catalog import env_ids
from cepcli.errors import DataError
from cepcli.offline.checks import (
    check_env,
    check_finite,
    check_plausible,
    check_some,
    check_widths,
    in_range,
    known_spec,
)
from cepcli.offline.columns import Columns, columns_of_file
from cepcli.offline.dataset import REFERENCE_RETURNS, ControlData, Notify
from cepcli.registry import suggest

if TYPE_CHECKING:
    from minari import MinariDataset

_FOLDER = "MINARI_DATASETS_PATH"
_DEFAULT = "~/.minari/datasets"
_HINT = f"Put it there by hand, or point {_FOLDER} to where it is."
#: Seconds after which a server that does not answer is taken to be out of reach.
_PATIENCE = 5.0
_SERVERS = {"gcp": "https://storage.googleapis.com"}
#: Gymnasium's names, without version, of the environments that have one of ours.
_GYMNASIUM = {
    "HalfCheetah": "halfcheetah",
    "Walker2d": "walker2d",
    "Hopper": "hopper",
    "Ant": "ant",
}
_VERSION = "v5"
#: What Minari has of them, to tell a misspelt id by where no server can be asked.
_PUBLISHED = tuple(
    f"mujoco/{env}/{level}-v0"
    for env in _GYMNASIUM.values()
    for level in ("simple", "medium", "expert")
)


def minari_folder() -> Path:
    """Where Minari keeps datasets."""
    return data_folder(_FOLDER, None) or Path(_DEFAULT).expanduser()


def installed(folder: Path | None = None) -> list[str]:
    """The ids of the datasets in a folder, by default in Minari's own."""
    folder = folder or minari_folder()
    found = folder.glob("**/data/metadata.json")
    return sorted(path.parents[1].relative_to(folder).as_posix() for path in found)


def read_minari(id_: str, *, env: str | None, workspace: Workspace, notify: Notify) -> ControlData:
    """The transitions of the dataset of that id, which is downloaded if it is not installed.

    Raises:
        DataError: if there is none, no server can be reached, or it is malformed or of another
            environment.
    """
    if id_ not in installed():
        _download(id_, notify)
    notify(f"Data: the Minari dataset {id_}, from {minari_folder()}")
    folder, source = minari_folder() / id_ / "data", f"the Minari dataset {id_}"
    return _read(folder, id_, env=env, workspace=workspace, notify=notify, source=source)


def read_minari_folder(
    folder: Path, *, env: str | None, workspace: Workspace, notify: Notify, source: str
) -> ControlData:
    """The transitions of the only dataset in a folder that holds Minari datasets.

    Raises:
        DataError: if there is not exactly one, or it is malformed.
    """
    ids = installed(folder)
    if len(ids) != 1:
        raise DataError(f"There are {len(ids)} Minari datasets in `{folder}`, expected one.")
    data = folder / ids[0] / "data"
    return _read(data, ids[0], env=env, workspace=workspace, notify=notify, source=source)


def _read(
    folder: Path, id_: str, *, env: str | None, workspace: Workspace, notify: Notify, source: str
) -> ControlData:
    reader = _Reader(_opened(folder, id_), id_, env, notify)
    columns = columns_of_file(
        folder / "metadata.json", reader.env, reader.shape, reader.fill, workspace
    )
    check_plausible(reader.where, reader.known, columns.observations)
    return ControlData(reader.env, source, *columns, origins=(folder,))


def _opened(folder: Path, id_: str) -> "MinariDataset":
    from minari import MinariDataset

    try:
        found = MinariDataset(folder)
        _ = found.spec  # reads what is written about it
        return found
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise DataError(
            f"The Minari dataset `{id_}` in `{folder.parent}` cannot be read ({error}).",
            "Remove it, and download or collect it again.",
        ) from error


class _Reader:
    """One dataset whose spaces have been checked."""

    def __init__(self, dataset: "MinariDataset", id_: str, env: str | None, notify: Notify) -> None:
        self.where = f"the Minari dataset `{id_}`"
        self._dataset = dataset
        self._notify = notify
        spec = dataset.spec.env_spec
        recorded = None if spec is None else _our_name(spec.id)
        check_env(self.where.capitalize(), recorded, env)
        ours = recorded in (*env_ids(), *REFERENCE_RETURNS)
        self.env = env or (recorded if ours else None)
        self.known = known_spec(self.env)
        self._features = self._width("observations", dataset.observation_space)
        self._controls = self._width("actions", dataset.action_space)
        check_widths(self.where, self.known, self._features, self._controls)
        self._check_range(dataset.action_space)

    def shape(self) -> tuple[int, int, int]:
        """Transitions, features, controls."""
        return int(self._dataset.total_steps), self._features, self._controls

    def fill(self, columns: Columns) -> None:
        """Copy one episode after the other."""
        check_some(self.where.capitalize(), columns.terminated)
        start = 0
        for episode in self._dataset.iterate_episodes():
            steps = len(episode.rewards)
            if not steps:
                continue
            if start + steps > len(columns.rewards):
                raise self._miscounted()
            to = slice(start, start + steps)
            states = self._numbers("observations", start, episode.observations)
            if len(states) != steps + 1 or len(episode.actions) != steps:
                raise DataError(
                    f"Episode {episode.id} of {self.where} has {len(states)} observations and "
                    f"{len(episode.actions)} actions to {steps} rewards, expected {steps + 1} and "
                    f"{steps}."
                )
            columns.observations[to], columns.next_observations[to] = states[:-1], states[1:]
            controls = self._numbers("actions", start, episode.actions)
            columns.controls[to] = in_range(self.where, start, controls)
            columns.rewards[to] = self._numbers("rewards", start, episode.rewards)
            columns.terminated[to] = episode.terminations
            columns.truncated[to] = episode.truncations & ~episode.terminations
            start += steps
            columns.truncated[start - 1] = not columns.terminated[start - 1]
        if start != len(columns.rewards):
            raise self._miscounted()

    def _miscounted(self) -> DataError:
        return DataError(
            f"The episodes of {self.where} do not have the {self._dataset.total_steps} steps that "
            "are written of it.",
            "Remove it, and download or collect it again.",
        )

    def _numbers(self, name: str, start: int, values: Any) -> np.ndarray:
        with np.errstate(over="ignore"):  # what does not fit is refused as not finite
            found = np.asarray(values).astype(np.float32)
        check_finite(self.where, name, start, found)
        return found

    def _width(self, name: str, space: Any) -> int:
        from gymnasium.spaces import Box

        if not isinstance(space, Box) or len(space.shape) != 1:
            raise DataError(
                f"The {name} of {self.where} are {space}, expected a row of numbers a step.",
                "Continuous control is learned from rows of numbers only.",
            )
        return space.shape[0]

    def _check_range(self, space: Any) -> None:
        if (space.low != -1).any() or (space.high != 1).any():
            raise DataError(
                f"The actions of {self.where} go from {space.low.min():g} to {space.high.max():g}, "
                "expected -1 to 1.",
                "Scale them to the range of the environment's actions.",
            )


def _our_name(id_: str) -> str:
    name = id_.rpartition("/")[2].partition("-v")[0]
    return _GYMNASIUM.get(name, id_)


def _download(id_: str, notify: Notify) -> None:
    """Fetch a dataset from Minari's server.

    Raises:
        DataError: soon, if the server does not answer; or if it has no such dataset.
    """
    here = minari_folder()
    missing = f"The Minari dataset `{id_}` is not installed in `{here}`"
    _check_id(id_)
    near = suggest(id_, {*installed(), *_PUBLISHED}) if id_ not in _PUBLISHED else _HINT
    server = _server()
    if server is None:
        raise DataError(f"{missing}, and downloads are switched off (HF_HUB_OFFLINE).", near)
    import httpx

    try:
        httpx.head(server, timeout=_PATIENCE, follow_redirects=True)
    except httpx.HTTPError as error:
        raise DataError(
            f"{missing}, and {server} cannot be reached ({error or type(error).__name__}).", near
        ) from error
    notify(f"Downloading the Minari dataset {id_}")
    _fetch(id_, missing)


def _fetch(id_: str, missing: str) -> None:
    import httpx
    import minari
    from minari.storage.remotes import get_cloud_storage

    try:
        with contextlib.redirect_stdout(sys.stderr):
            known = list(get_cloud_storage().list_datasets())
            if id_ not in known:
                raise DataError(f"{missing}, and Minari has none of that id.", suggest(id_, known))
            minari.download_dataset(id_)
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        raise DataError(f"{missing}, and cannot be downloaded ({error}).", _HINT) from error


def _check_id(id_: str) -> None:
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(id_)
    except (TypeError, ValueError) as error:  # the former where it has no version
        raise DataError(
            f"`{id_}` names no file, and is no id of a Minari dataset (NAMESPACE/NAME-vN).",
            suggest(id_, {*installed(), *_PUBLISHED}),
        ) from error


def _server() -> str | None:
    """What must answer for a download; None where the user has switched downloads off."""
    from huggingface_hub import constants
    from minari.storage.remotes import get_cloud_storage

    kind = type(get_cloud_storage()).__module__.rpartition(".")[2]
    if kind in _SERVERS:
        return _SERVERS[kind]
    return None if constants.HF_HUB_OFFLINE else constants.ENDPOINT


def write_minari(folder: Path, data: ControlData, *, recipe: str, about: str) -> str:
    """Write transitions as a Minari dataset below a folder; returns its id.

    Args:
        folder: what MINARI_DATASETS_PATH is to be set to.
        data: the transitions.
        recipe: of the behaviour, part of the id.
        about: the dataset's description.
    """
    import gymnasium
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    env = (data.env or "unknown").replace("/", "-")
    id_ = f"cep/{env}/{recipe}-v0"
    path = folder / id_ / "data"
    path.mkdir(parents=True)
    names = {ours: name for name, ours in _GYMNASIUM.items()}
    spec = None
    if data.env in names:
        spec = gymnasium.spec(f"{names[data.env]}-{_VERSION}")
    storage = MinariStorage.new(
        path,
        observation_space=Box(-np.inf, np.inf, data.observations.shape[1:], np.float32),
        action_space=Box(-1, 1, data.controls.shape[1:], np.float32),
        env_spec=spec,
    )
    metadata = {"dataset_id": id_, "algorithm_name": recipe, "description": about}
    if data.env in REFERENCE_RETURNS:
        low, high = REFERENCE_RETURNS[data.env]
        metadata |= {"ref_min_score": low, "ref_max_score": high, "num_episodes_average_score": 100}
    import minari

    storage.update_metadata({**metadata, "minari_version": minari.__version__})
    storage.update_episodes(EpisodeBuffer(**columns) for columns in _buffers(data))
    return id_


def _buffers(data: ControlData) -> Iterator[dict[str, Any]]:
    """The columns of each episode under Minari's names; there is one observation more."""
    for rows in data.episodes():
        last = data.next_observations[rows.stop - 1 : rows.stop]
        yield {
            "observations": np.concatenate([data.observations[rows], last]),
            "actions": data.controls[rows],
            "rewards": data.rewards[rows],
            "terminations": data.terminated[rows],
            "truncations": data.truncated[rows],
        }
