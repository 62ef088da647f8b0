"""Labelled decisions: a state and what an expert did there; one JSON object per line on disk."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cepcli.errors import ArtifactError
from cepcli.types import TextState

_HALF = re.compile("[\ud800-\udfff]")
_FIELDS = ("episode", "goal", "text", "actions", "action")


@dataclass(frozen=True, slots=True)
class Decision:
    """One state of an episode and the expert's action in it.

    Attributes:
        episode: number of the episode within its file.
        instance: which instance of the environment was played.
        step: decisions before it in the episode.
        state: what the prior is asked about.
        action: the expert's, one of `state.actions`.
        episode_return: undiscounted return of the whole episode.
        played: what was played there, where that is known; perhaps another action.
        reward: what that brought; None where it is not known.
    """

    episode: int
    instance: int
    step: int
    state: TextState
    action: str
    episode_return: float = 0.0
    played: str | None = None
    reward: float | None = None

    @property
    def label(self) -> int:
        """Index of the expert's action."""
        return self.state.actions.index(self.action)


def write_decisions(path: Path, decisions: Iterable[Decision]) -> None:
    """Write decisions as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for decision in decisions:
            file.write(to_line(decision) + "\n")


def read_decisions(path: Path) -> list[Decision]:
    """The decisions in a file: one JSON object a line.

    `episode`, `goal`, `text`, `actions` and `action` are needed. `instance` is the episode's number
    where it is missing, `step` and `return` 0; `played` and `reward` may be unknown.

    Raises:
        ArtifactError: if the file cannot be read, or a line lacks a field or a fitting action.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"Cannot read `{path}`: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"`{path}` is no UTF-8 text: {error.reason}.") from error
    lines = text.split("\n")
    return [from_line(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]


def episodes(decisions: Sequence[Decision]) -> dict[int, list[Decision]]:
    """Decisions by episode, in order of appearance."""
    found: dict[int, list[Decision]] = {}
    for decision in decisions:
        found.setdefault(decision.episode, []).append(decision)
    return found


def to_line(decision: Decision) -> str:
    """A decision as a line of a file."""
    row = {
        "episode": decision.episode,
        "instance": decision.instance,
        "step": decision.step,
        "goal": decision.state.goal,
        "text": decision.state.text,
        "actions": list(decision.state.actions),
        "action": decision.action,
        "return": decision.episode_return,
        "played": decision.played,
        "reward": decision.reward,
    }
    return json.dumps({key: value for key, value in row.items() if value is not None})


def from_line(line: str, where: str) -> Decision:
    """What a line says, which is `where`; see `read_decisions`."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where} is not JSON: {error}.") from error
    if not isinstance(row, dict):
        raise ArtifactError(f"{where} is no JSON object; needed are {', '.join(_FIELDS)}.")
    missing = [name for name in _FIELDS if name not in row]
    if missing:
        raise ArtifactError(f"{where} has no `{missing[0]}`; needed are {', '.join(_FIELDS)}.")
    row = {"instance": row["episode"], "step": 0, "return": 0.0} | row
    for name, fits, expected in _EXPECTED:
        if name in row and not fits(row[name]):
            raise ArtifactError(
                f"{where}: `{name}` is {json.dumps(row[name])[:80]}, expected {expected}."
            )
    for name in ("action", "played"):
        if name in row and row[name] not in row["actions"]:
            raise ArtifactError(
                f"{where}: the {_ACTION_CALLED[name]} `{row[name]}` is not among its `actions`."
            )
    return Decision(
        episode=row["episode"],
        instance=row["instance"],
        step=row["step"],
        state=TextState(row["goal"], row["text"], tuple(row["actions"])),
        action=row["action"],
        episode_return=float(row["return"]),
        played=row.get("played"),
        reward=None if row.get("reward") is None else float(row["reward"]),
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    """Half of a surrogate pair, which JSON can write, is in no tokenizer's alphabet."""
    return isinstance(value, str) and not _HALF.search(value)


def _are_actions(value: Any) -> bool:
    if not isinstance(value, list) or not all(_is_text(action) for action in value):
        return False
    return all(action.strip() for action in value) and 0 < len(set(value)) == len(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


#: Field, what makes a value of it, and that in words.
_EXPECTED = (
    ("episode", _is_whole, "a whole number"),
    ("instance", _is_whole, "a whole number"),
    ("step", _is_whole, "a whole number"),
    ("goal", _is_text, "a string of whole characters"),
    ("text", _is_text, "a string of whole characters"),
    (
        "actions",
        _are_actions,
        "a list of different strings of whole characters, none of them empty",
    ),
    ("action", _is_text, "a string of whole characters"),
    ("return", _is_number, "a finite number"),
    ("played", _is_text, "a string of whole characters"),
    ("reward", _is_number, "a finite number"),
)
_ACTION_CALLED = {"action": "action", "played": "played action"}
