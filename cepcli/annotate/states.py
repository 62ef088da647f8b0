"""States to annotate: the observation, and what the simulator needs to show it again."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cepcli.annotate.records import plain_numbers, state_id
from cepcli.errors import ArtifactError
from cepcli.whole_files import write_whole
from cepcli.workspace.artifacts import writing

FILE = "states.jsonl"


@dataclass(frozen=True, slots=True)
class State:
    """A sampled state.

    Attributes:
        env: environment id.
        observation: rounded as annotations are.
        instance: of the environment.
        snapshot: the simulator's own state in that instance; empty where it is not known, as for
            imported annotations, so that no frame can be drawn.
    """

    env: str
    observation: tuple[float, ...]
    instance: int = 0
    snapshot: tuple[float, ...] = ()

    @property
    def id(self) -> str:
        """Identity of the state, the same as of its annotations."""
        return state_id(self.env, self.observation)


def append_states(path: Path, states: Iterable[State]) -> None:
    """Add states at the end of a file."""
    before = path.read_bytes() if path.exists() else b""
    with writing(path):
        write_whole(path, before + "".join(map(_line, states)).encode())


def keep_states(path: Path, wanted: Callable[[State], bool]) -> None:
    """Take out of a file the states that are not wanted."""
    kept = [state for state in read_states(path) if wanted(state)]
    with writing(path):
        write_whole(path, "".join(map(_line, kept)))


def _line(state: State) -> str:
    row = {
        "env": state.env,
        "observation": plain_numbers(state.observation),
        "instance": state.instance,
        "snapshot": plain_numbers(state.snapshot),
    }
    return json.dumps(row) + "\n"


def read_states(path: Path) -> list[State]:
    """The states in a file; none if there is no such file.

    Raises:
        ArtifactError: naming the first line that is no state.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            observation, snapshot = tuple(row["observation"]), tuple(row["snapshot"])
            found.append(State(row["env"], observation, row["instance"], snapshot))
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{path}:{number}: the line is not a state that cep wrote ({error!r}).",
                "Delete it: states without it are only shown without a frame.",
            ) from error
    return found
