"""Minari datasets: those that are installed, those that can be downloaded, and our own, written.

They are in `$MINARI_DATASETS_PATH`, else in `~/.minari/datasets`, where Minari itself keeps them.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cepcli.datasets.checks import (
    check_env,
    check_finite,
    check_flags,
    check_measured,
    check_plausible,
    check_some,
    check_widths,
    in_range,
    known_spec,
)
from cepcli.datasets.columns import Columns, columns_of_file
from cepcli.datasets.dataset import REFERENCE_RETURNS, ControlData, Notify
from cepcli.envs.catalog import env_ids
from cepcli.errors import DataError
from cepcli.extras import require_minari
from cepcli.registry import suggest
from cepcli.workspace.artifacts import Workspace
from cepcli.workspace.variables import data_folder

#: What is written about a dataset, beside its data.
_ABOUT = "metadata.json"
_AGAIN = "Remove it, and download or collect it again."
#: What reading files that are not as they should be ends in.
_UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError,
    ImportError, RuntimeError, MemoryError,
)  # fmt: skip
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
    require_minari(f"The dataset `{id_}`")
    if id_ not in installed():
        _check_there_is_nothing(id_)
        _download(id_, notify)
    notify(f"Data: the Minari dataset {id_}, from {minari_folder()}")
    folder, source = minari_folder() / id_ / "data", f"the Minari dataset {id_}"
    return _read(folder, id_, env=env, workspace=workspace, notify=notify, source=source)


def _check_there_is_nothing(id_: str) -> None:
    """Refuse a folder of data that lacks what is written about them, rather than download it."""
    data = minari_folder() / id_ / "data"
    if data.is_dir():
        raise DataError(
            f"The Minari dataset `{id_}` in `{data.parent}` cannot be read: it has no {_ABOUT}.",
            _AGAIN,
        )


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
    require_minari(f"The Minari dataset `{id_}`")
    reader = _Reader(folder, id_, env, notify)
    columns = columns_of_file(folder / _ABOUT, reader.env, reader.shape, reader.fill, workspace)
    check_plausible(reader.where, reader.known, columns.observations)
    return ControlData(reader.env, source, *columns, origins=(folder,))


class _Reader:
    """One dataset whose description and spaces have been checked."""

    def __init__(self, folder: Path, id_: str, env: str | None, notify: Notify) -> None:
        self.where = f"the Minari dataset `{id_}`"
        self._folder, self._notify = folder, notify
        about = self._description()
        with self._readable():
            from minari.dataset.minari_storage import MinariStorage

            self._storage = MinariStorage.read(folder)
        self._episodes = self._count(about, "total_episodes")
        self._steps = self._count(about, "total_steps")
        recorded = self._recorded_env(about, env)
        check_env(_sentence(self.where), recorded, env)
        ours = recorded in (*env_ids(), *REFERENCE_RETURNS)
        self.env = env or (recorded if ours else None)
        self.known = known_spec(self.env)
        self._features = self._width("observations", self._storage.observation_space)
        self._controls = self._width("actions", self._storage.action_space)
        check_widths(self.where, self.known, self._features, self._controls)
        check_measured(self.where, self.env, self._storage.observation_space.dtype)
        self._check_range(self._storage.action_space)

    def shape(self) -> tuple[int, int, int]:
        """Transitions, features, controls."""
        return self._steps, self._features, self._controls

    def fill(self, columns: Columns) -> None:
        """Copy one episode after the other."""
        check_some(_sentence(self.where), columns.terminated)
        start = 0
        for number, episode in self._all_episodes():
            steps = len(self._values(number, episode, "rewards"))
            if not steps:
                continue
            if start + steps > len(columns.rewards):
                raise self._miscounted()
            to = slice(start, start + steps)
            states = self._numbers(number, episode, "observations", start)
            controls = self._numbers(number, episode, "actions", start)
            self._check_shape(number, "observations", states, (steps + 1, self._features))
            self._check_shape(number, "actions", controls, (steps, self._controls))
            columns.observations[to], columns.next_observations[to] = states[:-1], states[1:]
            columns.controls[to] = in_range(self.where, start, controls)
            columns.rewards[to] = self._row(number, episode, "rewards", start, steps)
            terminated = self._flags(number, episode, "terminations", start, steps)
            columns.terminated[to] = terminated
            cut = self._flags(number, episode, "truncations", start, steps)
            columns.truncated[to] = cut & ~terminated
            start += steps
            columns.truncated[start - 1] = not columns.terminated[start - 1]
        if start != len(columns.rewards):
            raise self._miscounted()

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Say of anything that Minari stumbles over that the dataset cannot be read."""
        try:
            yield
        except _UNREADABLE as error:
            raise DataError(
                f"{_sentence(self.where)} in `{self._folder.parent}` cannot be read "
                f"({_said(error)}).",
                _AGAIN,
            ) from error

    def _description(self) -> dict[str, Any]:
        """What is written about the dataset."""
        with self._readable():
            found = json.loads((self._folder / _ABOUT).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise DataError(
                f"{_ABOUT} of {self.where} holds a {type(found).__name__}, expected an object.",
                _AGAIN,
            )
        return found

    def _count(self, about: dict[str, Any], key: str) -> int:
        found = about.get(key)
        if type(found) is not int or found < 0:
            raise DataError(
                f"{_ABOUT} of {self.where} says `{key}` is {found!r}, expected how many there are.",
                _AGAIN,
            )
        return found

    def _recorded_env(self, about: dict[str, Any], env: str | None) -> str | None:
        """Our name of the environment that is written; unreadable, it is taken from `env`."""
        written = about.get("env_spec")
        if written is None:
            return None
        try:
            found = json.loads(written)["id"]
        except (ValueError, TypeError, KeyError) as error:
            if env is None:
                raise DataError(
                    f"The `env_spec` in {_ABOUT} of {self.where} names no environment.",
                    "Name it: --env ID",
                ) from error
            self._notify(f"The `env_spec` of {self.where} names no environment: taking {env}")
            return None
        return _our_name(str(found))

    def _all_episodes(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in range(self._episodes):
            with self._readable():
                [episode] = self._storage.get_episodes([number])
            yield number, episode

    def _values(self, number: int, episode: dict[str, Any], name: str) -> np.ndarray:
        """A column of an episode, of numbers."""
        found = np.asarray(episode[name])
        if found.dtype.kind not in "fiub" or found.ndim == 0:
            raise DataError(
                f"`{name}` of episode {number} of {self.where} are of type {found.dtype}, "
                "expected a list of numbers.",
                _AGAIN,
            )
        return found

    def _numbers(self, number: int, episode: dict[str, Any], name: str, start: int) -> np.ndarray:
        with np.errstate(over="ignore"):  # what does not fit is refused as not finite
            values = self._values(number, episode, name).astype(np.float32)
        check_finite(self.where, name, start, values)
        return values

    def _row(
        self, number: int, episode: dict[str, Any], name: str, start: int, steps: int
    ) -> np.ndarray:
        values = self._numbers(number, episode, name, start)
        self._check_shape(number, name, values, (steps,))
        return values

    def _flags(
        self, number: int, episode: dict[str, Any], name: str, start: int, steps: int
    ) -> np.ndarray:
        values = self._row(number, episode, name, start, steps)
        check_flags(self.where, name, values)
        return values.astype(bool)

    def _check_shape(
        self, number: int, name: str, values: np.ndarray, expected: tuple[int, ...]
    ) -> None:
        if values.shape != expected:
            raise DataError(
                f"`{name}` of episode {number} of {self.where} have shape {values.shape}, expected "
                f"{expected}.",
                _AGAIN,
            )

    def _miscounted(self) -> DataError:
        return DataError(
            f"The episodes of {self.where} do not have the {self._steps} steps that "
            "are written of it.",
            _AGAIN,
        )

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


def _sentence(where: str) -> str:
    """What a sentence begins with; names in it keep their capitals."""
    return where[:1].upper() + where[1:]


def _said(error: BaseException) -> str:
    """An exception in a few words."""
    if isinstance(error, KeyError) and " " not in str(error):
        return f"there is no {error}"
    text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    return next(iter(text.strip().splitlines()), "") or type(error).__name__


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
    require_minari("Writing a Minari dataset")
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
