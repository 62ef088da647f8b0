"""Datasets of our own: artifacts of kind "dataset".

Control is kept in the layouts that others read, D4RL's and Minari's; decisions of text worlds as a
parquet table of one row a decision. `dataset.json` says what it is and how good its behaviour.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cepcli.datasets.checks import check_env
from cepcli.datasets.d4rl import read_d4rl
from cepcli.datasets.dataset import ControlData, Notify, TextData
from cepcli.datasets.text_replay import NO_ACTION
from cepcli.errors import ArtifactError, DataError
from cepcli.workspace.artifacts import Artifact, Workspace, read_json

CARD, D4RL_FILE, MINARI_FOLDER, TEXT_FILE = (
    "dataset.json", "d4rl.hdf5", "minari", "decisions.parquet",
)  # fmt: skip
#: One decision: the columns of a text dataset.
TEXT_COLUMNS = (
    "episode", "goal", "text", "actions", "action", "reward", "terminated", "truncated", "success",
)  # fmt: skip


def card_of(artifact: Artifact) -> dict[str, Any]:
    """What `dataset.json` says.

    Raises:
        ArtifactError: if it is not one that cep wrote.
    """
    card = read_json(artifact.path / CARD)
    if not isinstance(card, dict) or not {"env", "kind", "source", "layouts"} <= card.keys():
        raise ArtifactError(f"`{artifact.path / CARD}` is no description of a dataset.")
    return card


def read_stored(
    artifact: Artifact, *, env: str | None, workspace: Workspace, notify: Notify
) -> ControlData | TextData:
    """The data of an artifact.

    Raises:
        DataError: if they are of another environment than `env`, or malformed.
    """
    card, where = card_of(artifact), f"The dataset `{artifact.name}`"
    check_env(where, card["env"], env)
    return replace(_read(artifact, card, workspace, notify), origins=(artifact,))


def _read(
    artifact: Artifact, card: dict[str, Any], workspace: Workspace, notify: Notify
) -> ControlData | TextData:
    if card["kind"] == "text":
        return read_text(artifact.path / TEXT_FILE, env=card["env"], source=card["source"])
    if "d4rl" in card["layouts"]:
        return read_d4rl(
            artifact.path / D4RL_FILE,
            env=card["env"], workspace=workspace, notify=notify, source=card["source"],
        )  # fmt: skip
    from cepcli.datasets.minari_data import read_minari_folder

    return read_minari_folder(
        artifact.path / MINARI_FOLDER,
        env=card["env"], workspace=workspace, notify=notify, source=card["source"],
    )  # fmt: skip


def read_text(path: Path, *, env: str | None, source: str) -> TextData:
    """The decisions in a parquet table.

    Raises:
        DataError: if it lacks a column, or a decision's action is not among the admissible ones.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"`{path}` is no parquet table ({error}).", "Collect it again.") from error
    missing = [name for name in TEXT_COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(
            f"`{path}` has no column `{missing[0]}`.", f"Needed are {', '.join(TEXT_COLUMNS)}."
        )
    if not table.num_rows:
        raise DataError(f"`{path}` holds no decision.", "Collect some: cep offline collect")
    try:
        return _text_data(path, table, env, source)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(
            f"A column of `{path}` is of another type than expected: {error}."
        ) from error


def _text_data(path: Path, table: Any, env: str | None, source: str) -> TextData:
    numbers: dict[str, int] = {}

    def number(strings: Sequence[str]) -> np.ndarray:
        return np.array([numbers.setdefault(s, len(numbers)) for s in strings], np.int32)

    goal, text = (number(table[name].to_pylist()) for name in ("goal", "text"))
    offered = table["actions"].combine_chunks()
    ends = offered.offsets.to_numpy()
    counts = np.diff(ends)
    flat = number(offered.flatten().to_pylist())
    actions = np.full((table.num_rows, int(counts.max())), NO_ACTION, np.int32)
    actions[np.arange(actions.shape[1]) < counts[:, None]] = flat
    taken = number(table["action"].to_pylist())
    matches = actions == taken[:, None]
    if not matches.any(axis=1).all():
        row = int(np.flatnonzero(~matches.any(axis=1))[0])
        raise DataError(
            f"The action in row {row} of `{path}`, {table['action'][row].as_py()!r}, is not among "
            "the admissible ones."
        )
    if None in numbers:
        raise DataError(f"A goal, a text or an action in `{path}` is missing.", "Collect it again.")
    rewards = table["reward"].to_numpy().astype(np.float32)
    if not np.isfinite(rewards).all():
        row = int(np.flatnonzero(~np.isfinite(rewards))[0])
        raise DataError(f"The reward in row {row} of `{path}` is not finite.")
    flags = {
        name: table[name].to_numpy().astype(bool) for name in ("terminated", "truncated", "success")
    }
    return TextData(
        env, source, list(numbers), goal, text, actions, matches.argmax(axis=1), rewards,
        terminated=flags["terminated"], truncated=flags["truncated"], success=flags["success"],
    )  # fmt: skip


def read_rows(path: Path) -> dict[str, list[Any]]:
    """The columns of a table as lists."""
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pydict()


def write_rows(path: Path, columns: dict[str, list[Any]]) -> None:
    """Write decisions, a list for each of `TEXT_COLUMNS`; `episode` may be missing yet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "episode": pa.int64(),
        "goal": pa.string(),
        "text": pa.string(),
        "actions": pa.list_(pa.string()),
        "action": pa.string(),
        "reward": pa.float32(),
        "terminated": pa.bool_(),
        "truncated": pa.bool_(),
        "success": pa.bool_(),
    }
    schema = pa.schema([(name, types[name]) for name in TEXT_COLUMNS if name in columns])
    pq.write_table(pa.table(columns, schema), path, compression="zstd")
