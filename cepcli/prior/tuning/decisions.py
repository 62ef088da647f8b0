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

_SURROGATE = re.compile("[\ud800-\udfff]")
_REQUIRED = ("episode", "goal", "text", "actions", "action")


@dataclass(frozen=True, slots=True)
class ExpertDecision:
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


def write_decisions(path: Path, decisions: Iterable[ExpertDecision]) -> None:
    """Write decisions as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(to_line(decision) + "\n" for decision in decisions)


def read_decisions(path: Path) -> list[ExpertDecision]:
    """The decisions in a file: one JSON object a line.

    `episode`, `goal`, `text`, `actions` and `action` are needed. `instance` is the episode's number
    where it is missing, `step` and `return` 0; `played` and `reward` may be unknown.

    Raises:
        ArtifactError: if the file cannot be read, or a line lacks a field or a fitting action.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise ArtifactError(f"Cannot read `{path}`: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"`{path}` is not UTF-8 text: {error.reason}.") from error
    return [from_line(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]


def episodes(decisions: Sequence[ExpertDecision]) -> dict[int, list[ExpertDecision]]:
    """Decisions by episode, in order of appearance."""
    found: dict[int, list[ExpertDecision]] = {}
    for decision in decisions:
        found.setdefault(decision.episode, []).append(decision)
    return found


def to_line(decision: ExpertDecision) -> str:
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


def from_line(line: str, where: str) -> ExpertDecision:
    """What a line says, which is `where`; see `read_decisions`."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where} is not JSON: {error}.") from error
    if not isinstance(row, dict):
        raise ArtifactError(f"{where} is not a JSON object with {', '.join(_REQUIRED)}.")
    missing = [name for name in _REQUIRED if name not in row]
    if missing:
        raise ArtifactError(f"{where} has no `{missing[0]}`; needed are {', '.join(_REQUIRED)}.")
    row = {"instance": row["episode"], "step": 0, "return": 0.0} | row
    for (fits, expected), names in _EXPECTED.items():
        for name in names:
            if name in row and not fits(row[name]):
                raise ArtifactError(
                    f"{where}: `{name}` is {json.dumps(row[name])[:80]}, expected {expected}."
                )
    for name, called in (("action", "action"), ("played", "played action")):
        if name in row and row[name] not in row["actions"]:
            raise ArtifactError(f"{where}: the {called} `{row[name]}` is not among its `actions`.")
    return ExpertDecision(
        episode=row["episode"],
        instance=row["instance"],
        step=row["step"],
        state=TextState(row["goal"], row["text"], tuple(row["actions"])),
        action=row["action"],
        episode_return=float(row["return"]),
        played=row.get("played"),
        reward=float(row["reward"]) if "reward" in row else None,
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    """Half of a surrogate pair, which JSON can write, is in no tokenizer's alphabet."""
    return isinstance(value, str) and not _SURROGATE.search(value)


def _are_actions(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(_is_text(action) and action.strip() for action in value)
        and 0 < len(set(value)) == len(value)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


#: What makes a value, that in words, and the fields with such values.
_EXPECTED = {
    (_is_whole, "an integer"): ("episode", "instance", "step"),
    (_is_text, "a string of whole characters"): ("goal", "text", "action", "played"),
    (_are_actions, "a list of distinct, non-empty strings of whole characters"): ("actions",),
    (_is_number, "a finite number"): ("return", "reward"),
}
