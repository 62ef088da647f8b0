"""Datasets of our own: artifacts of kind "dataset".

Control is kept in the layouts that others read, D4RL's and Minari's; decisions of text worlds as a
parquet table of one row a decision. `dataset.json` says what it is and how good its behaviour.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cepcli.datasets.columns import check_env
from cepcli.datasets.d4rl import read_d4rl
from cepcli.datasets.dataset import ControlData, Notify, TextData
from cepcli.datasets.minari_data import read_minari_folder
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
        raise ArtifactError(f"`{artifact.path / CARD}` does not describe a dataset.")
    return card


def read_stored(
    artifact: Artifact, *, env: str | None, workspace: Workspace, notify: Notify
) -> ControlData | TextData:
    """The data of an artifact.

    Raises:
        DataError: if they are of another environment than `env`, or malformed.
    """
    card = card_of(artifact)
    env_, source = card["env"], card["source"]
    check_env(f"the dataset `{artifact.name}`", env_, env)
    if card["kind"] == "text":
        data = read_text(artifact.path / TEXT_FILE, env=env_, source=source)
    else:
        read, file = (
            (read_d4rl, D4RL_FILE)
            if "d4rl" in card["layouts"]
            else (read_minari_folder, MINARI_FOLDER)
        )
        data = read(
            artifact.path / file, env=env_, workspace=workspace, notify=notify, source=source
        )
    return replace(data, origins=(artifact,))


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
        raise DataError(
            f"`{path}` is not a Parquet file ({error}).", "Collect it again."
        ) from error
    missing = [name for name in TEXT_COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(
            f"`{path}` has no column `{missing[0]}`.", f"Needed are {', '.join(TEXT_COLUMNS)}."
        )
    if not table.num_rows:
        raise DataError(f"`{path}` has no decisions.", "Collect some: cep offline collect")
    try:
        return _text_data(path, table, env, source)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"A column of `{path}` has the wrong type: {error}.") from error


def _text_data(path: Path, table: Any, env: str | None, source: str) -> TextData:
    numbers: dict[str, int] = {}

    def number(strings: Sequence[str]) -> np.ndarray:
        return np.array([numbers.setdefault(s, len(numbers)) for s in strings], np.int32)

    goal, text = (number(table[name].to_pylist()) for name in ("goal", "text"))
    offered = table["actions"].combine_chunks()
    counts = np.diff(offered.offsets.to_numpy())
    flat = number(offered.flatten().to_pylist())
    actions = np.full((table.num_rows, int(counts.max())), NO_ACTION, np.int32)
    actions[np.arange(actions.shape[1]) < counts[:, None]] = flat
    matches = actions == number(table["action"].to_pylist())[:, None]
    wrong = np.flatnonzero(~matches.any(axis=1))
    if len(wrong):
        raise DataError(
            f"The action in row {wrong[0]} of `{path}`, {table['action'][wrong[0]].as_py()!r}, is "
            "not among the admissible ones."
        )
    if None in numbers:
        raise DataError(f"A goal, a text or an action in `{path}` is missing.", "Collect it again.")
    rewards = table["reward"].to_numpy().astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(rewards))
    if len(wrong):
        raise DataError(f"The reward in row {wrong[0]} of `{path}` is NaN or infinite.")
    flags = {
        name: table[name].to_numpy().astype(bool) for name in ("terminated", "truncated", "success")
    }
    return TextData(
        env, source, list(numbers), goal, text, actions, matches.argmax(axis=1), rewards, **flags
    )


def read_rows(path: Path) -> dict[str, list[Any]]:
    """The columns of a table as lists."""
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pydict()


def write_rows(path: Path, columns: dict[str, list[Any]]) -> None:
    """Write decisions, a list for each of `TEXT_COLUMNS`; `episode` may be missing yet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    string, flag = pa.string(), pa.bool_()
    types = (
        pa.int64(), string, string, pa.list_(string), string, pa.float32(), flag, flag, flag,
    )  # fmt: skip
    pairs = zip(TEXT_COLUMNS, types, strict=True)
    schema = pa.schema([(name, kind) for name, kind in pairs if name in columns])
    pq.write_table(pa.table(columns, schema), path, compression="zstd")
