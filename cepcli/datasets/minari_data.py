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

from cepcli.datasets.columns import (
    as_flags,
    check_env,
    check_observed,
    check_some,
    finite,
    in_range,
    read_columns,
    sentence,
)
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
    "HalfCheetah": "halfcheetah", "Walker2d": "walker2d", "Hopper": "hopper", "Ant": "ant",
}  # fmt: skip
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
    home = minari_folder()
    folder = home / id_ / "data"
    if id_ not in installed():
        if folder.is_dir():
            raise DataError(
                f"The Minari dataset `{id_}` in `{folder.parent}` cannot be read: it has no "
                f"{_ABOUT}.",
                _AGAIN,
            )
        _download(id_, notify)
    notify(f"Data: the Minari dataset {id_}, from {home}")
    reader = _MinariFolder(folder, id_, env, notify)
    return read_columns(reader, folder / _ABOUT, workspace, f"the Minari dataset {id_}", folder)


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
    require_minari(f"The Minari dataset `{ids[0]}`")
    data = folder / ids[0] / "data"
    reader = _MinariFolder(data, ids[0], env, notify)
    return read_columns(reader, data / _ABOUT, workspace, source, data)


class _MinariFolder:
    """One dataset whose description and spaces have been checked."""

    def __init__(self, folder: Path, id_: str, env: str | None, notify: Notify) -> None:
        self.where = f"the Minari dataset `{id_}`"
        self._folder, self._notify = folder, notify
        with self._readable():
            about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        if not isinstance(about, dict):
            raise DataError(
                f"{_ABOUT} of {self.where} holds a {type(about).__name__}, expected an object.",
                _AGAIN,
            )
        with self._readable():
            from minari.dataset.minari_storage import MinariStorage

            self._storage = MinariStorage.read(folder)
        self._episodes = self._count(about, "total_episodes")
        self._steps = self._count(about, "total_steps")
        recorded = self._recorded_env(about, env)
        check_env(self.where, recorded, env)
        self.env = env or (recorded if recorded in (*env_ids(), *REFERENCE_RETURNS) else None)
        states: Any = self._storage.observation_space
        actions: Any = self._storage.action_space
        self._features = self._width("observations", states)
        self._controls = self._width("actions", actions)
        self.known = check_observed(
            self.where, self.env, self._features, self._controls, states.dtype
        )
        if (actions.low != -1).any() or (actions.high != 1).any():
            raise DataError(
                f"The actions of {self.where} go from {actions.low.min():g} to "
                f"{actions.high.max():g}, expected -1 to 1.",
                "Scale them to the range of the environment's actions.",
            )

    def shape(self) -> tuple[int, int, int]:
        """Transitions, features, controls."""
        return self._steps, self._features, self._controls

    def fill(self, data: ControlData) -> None:
        """Copy one episode after the other."""
        check_some(self.where, self._steps)
        start = 0
        for number in range(self._episodes):
            with self._readable():
                [episode] = self._storage.get_episodes([number])
            steps = len(self._values(number, episode, "rewards"))
            if not steps:
                continue
            if start + steps > self._steps:
                raise self._miscounted()
            shapes = {
                "observations": (steps + 1, self._features), "actions": (steps, self._controls),
                "rewards": (steps,), "terminations": (steps,), "truncations": (steps,),
            }  # fmt: skip
            states, controls, rewards, *flags = (
                self._column(number, episode, name, start, shape) for name, shape in shapes.items()
            )
            to = slice(start, start + steps)
            data.observations[to], data.next_observations[to] = states[:-1], states[1:]
            data.controls[to] = in_range(self.where, start, controls)
            data.rewards[to] = rewards
            terminated = as_flags(self.where, "terminations", flags[0])
            data.terminated[to] = terminated
            data.truncated[to] = as_flags(self.where, "truncations", flags[1]) & ~terminated
            start += steps
            data.truncated[start - 1] = not data.terminated[start - 1]
        if start != self._steps:
            raise self._miscounted()

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Say of anything that Minari stumbles over that the dataset cannot be read."""
        try:
            yield
        except _UNREADABLE as error:
            raise DataError(
                f"{sentence(self.where)} in `{self._folder.parent}` cannot be read "
                f"({_reason(error)}).",
                _AGAIN,
            ) from error

    def _count(self, about: dict[str, Any], key: str) -> int:
        found = about.get(key)
        if type(found) is not int or found < 0:
            raise DataError(
                f"{_ABOUT} of {self.where} says `{key}` is {found!r}, expected a number from 0.",
                _AGAIN,
            )
        return found

    def _recorded_env(self, about: dict[str, Any], env: str | None) -> str | None:
        """Our name of the environment that is written; unreadable, it is taken from `env`."""
        written = about.get("env_spec")
        if written is None:
            return None
        try:
            id_ = str(json.loads(written)["id"])
        except (ValueError, TypeError, KeyError) as error:
            if env is None:
                raise DataError(
                    f"The `env_spec` in {_ABOUT} of {self.where} names no environment.",
                    "Name it: --env ID",
                ) from error
            self._notify(f"The `env_spec` of {self.where} names no environment: taking {env}")
            return None
        return _GYMNASIUM.get(id_.rpartition("/")[2].partition("-v")[0], id_)

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

    def _column(
        self, number: int, episode: dict[str, Any], name: str, first: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        """A column in single precision, finite and of a shape."""
        values = finite(self.where, name, first, self._values(number, episode, name))
        if values.shape != shape:
            raise DataError(
                f"`{name}` of episode {number} of {self.where} have shape {values.shape}, expected "
                f"{shape}.",
                _AGAIN,
            )
        return values

    def _miscounted(self) -> DataError:
        return DataError(
            f"The episodes of {self.where} do not have the {self._steps} steps that {_ABOUT} says.",
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


def _reason(error: BaseException) -> str:
    """An exception in a few words."""
    if isinstance(error, KeyError) and " " not in str(error):
        return f"there is no {error}"
    text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    return next(iter(text.strip().splitlines()), "") or type(error).__name__


def _download(id_: str, notify: Notify) -> None:
    """Fetch a dataset from Minari's server.

    Raises:
        DataError: soon, if the server does not answer; or if it has no such dataset.
    """
    import httpx
    import minari
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.storage.remotes import get_cloud_storage

    missing = f"The Minari dataset `{id_}` is not installed in `{minari_folder()}`"
    near = _HINT if id_ in _PUBLISHED else suggest(id_, {*installed(), *_PUBLISHED})
    try:
        parse_dataset_id(id_)
    except (TypeError, ValueError) as error:  # the former where it has no version
        raise DataError(
            f"`{id_}` is neither a file nor the id of a Minari dataset (NAMESPACE/NAME-vN).", near
        ) from error
    server = _server()
    if server is None:
        raise DataError(f"{missing}, and downloads are switched off (HF_HUB_OFFLINE).", near)
    try:
        httpx.head(server, timeout=_PATIENCE, follow_redirects=True)
    except httpx.HTTPError as error:
        raise DataError(
            f"{missing}, and {server} cannot be reached ({error or type(error).__name__}).", near
        ) from error
    notify(f"Downloading the Minari dataset {id_}")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            known = list(get_cloud_storage().list_datasets())
            if id_ not in known:
                raise DataError(f"{missing}, and Minari has none of that id.", suggest(id_, known))
            minari.download_dataset(id_)
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        raise DataError(f"{missing}, and cannot be downloaded ({error}).", _HINT) from error


def _server() -> str | None:
    """What must answer for a download; None where the user has switched downloads off."""
    from huggingface_hub import constants
    from minari.storage.remotes import get_cloud_storage

    kind = type(get_cloud_storage()).__module__.rpartition(".")[2]
    if kind in _SERVERS:
        return _SERVERS[kind]
    return None if constants.HF_HUB_OFFLINE else constants.ENDPOINT


def write_minari(folder: Path, data: ControlData, *, recipe: str, about: str) -> str:
    """Write transitions as a Minari dataset below a folder, what MINARI_DATASETS_PATH is to be.

    Returns its id, of which the `recipe` of the behaviour is a part; `about` describes it.
    """
    require_minari("Writing a Minari dataset")
    import gymnasium
    import minari
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    env = (data.env or "unknown").replace("/", "-")
    id_ = f"cep/{env}/{recipe}-v0"
    path = folder / id_ / "data"
    path.mkdir(parents=True)
    name = next((name for name, ours in _GYMNASIUM.items() if ours == data.env), None)
    storage = MinariStorage.new(
        path,
        observation_space=Box(-np.inf, np.inf, data.observations.shape[1:], np.float32),
        action_space=Box(-1, 1, data.controls.shape[1:], np.float32),
        env_spec=None if name is None else gymnasium.spec(f"{name}-{_VERSION}"),
    )
    metadata = {"dataset_id": id_, "algorithm_name": recipe, "description": about}
    if data.env in REFERENCE_RETURNS:
        low, high = REFERENCE_RETURNS[data.env]
        metadata |= {"ref_min_score": low, "ref_max_score": high, "num_episodes_average_score": 100}
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
