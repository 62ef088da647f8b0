"""Labelled decisions: a state and what an expert did there; one JSON object per line on disk."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cepcli.errors import ArtifactError
from cepcli.types import TextState

_FIELDS = ("episode", "instance", "step", "goal", "text", "actions", "action")


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
    """

    episode: int
    instance: int
    step: int
    state: TextState
    action: str
    episode_return: float = 0.0

    @property
    def label(self) -> int:
        """Index of the expert's action."""
        return self.state.actions.index(self.action)


def write_decisions(path: Path, decisions: Iterable[Decision]) -> None:
    """Write decisions as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for decision in decisions:
            file.write(json.dumps(_to_json(decision)) + "\n")


def read_decisions(path: Path) -> list[Decision]:
    """The decisions in a file.

    Raises:
        ArtifactError: if the file cannot be read, or a line lacks a field or a fitting action.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ArtifactError(f"Cannot read `{path}`: {error.strerror}.") from error
    return [_from_json(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]


def episodes(decisions: Sequence[Decision]) -> dict[int, list[Decision]]:
    """Decisions by episode, in order of appearance."""
    found: dict[int, list[Decision]] = {}
    for decision in decisions:
        found.setdefault(decision.episode, []).append(decision)
    return found


def _to_json(decision: Decision) -> dict[str, object]:
    return {
        "episode": decision.episode,
        "instance": decision.instance,
        "step": decision.step,
        "goal": decision.state.goal,
        "text": decision.state.text,
        "actions": list(decision.state.actions),
        "action": decision.action,
        "return": decision.episode_return,
    }


def _from_json(line: str, where: str) -> Decision:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ArtifactError(f"{where} is not JSON: {error}.") from error
    missing = [name for name in _FIELDS if name not in row]
    if missing:
        raise ArtifactError(f"{where} has no `{missing[0]}`; needed are {', '.join(_FIELDS)}.")
    if row["action"] not in row["actions"]:
        raise ArtifactError(f"{where}: the action `{row['action']}` is not among its `actions`.")
    return Decision(
        episode=row["episode"],
        instance=row["instance"],
        step=row["step"],
        state=TextState(row["goal"], row["text"], tuple(row["actions"])),
        action=row["action"],
        episode_return=float(row.get("return", 0.0)),
    )
