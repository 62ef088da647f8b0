"""ALFWorld's own games, as `alfworld-download` lays them out.

`$ALFWORLD_DATA/json_2.1.1/SPLIT/TASK-Object-Mrecep-Receptacle-Scene/TRIAL/game.tw-pddl`, SPLIT
being train, valid_seen (scenes of train) or valid_unseen (other scenes). An instance is made from
the last three parts of the path, so that it stays the same whichever games lie beside it.
"""

import hashlib
import re
from collections.abc import Collection
from pathlib import Path

from cepcli.envs.alfworld.compile import read_game
from cepcli.errors import EnvError

FOLDER = "json_2.1.1"
DOWNLOAD = "Get them: ALFWORLD_DATA=DIR alfworld-download"
_OWN = "or play games made here: --set env_options.source=household"
#: Folders that ALFWorld itself leaves out: what they ask for has no commands.
_UNSUPPORTED = ("movable", "Sliced")
#: Enough of a file's end to hold `solvable` and the walkthrough.
_TAIL_BYTES = 4096
_SOLVABLE = re.compile(rb'"solvable": *(true|false)')


def official_games(data: Path | None, split: str, tasks: Collection[str]) -> dict[int, Path]:
    """The solvable games of a split and of some task types, by their instances.

    Args:
        data: `$ALFWORLD_DATA`; None if it is not set.
        split: train, valid_seen or valid_unseen.
        tasks: how the names of their folders begin.

    Raises:
        EnvError: if there are none, or one is cut short; it says which and what to type.
    """
    folder = _split_folder(data, split)
    games: dict[int, Path] = {}
    for trial in sorted(folder.glob("*/*/game.tw-pddl")):
        name = trial.parts[-3]
        if name.partition("-")[0] not in tasks or any(word in name for word in _UNSUPPORTED):
            continue
        if _solvable(trial):
            games[_instance(trial)] = trial
    if not games:
        raise EnvError(
            f"`{folder}` has no game.tw-pddl of {', '.join(sorted(tasks))}.",
            f"{DOWNLOAD}, {_OWN}",
        )
    return games


def _split_folder(data: Path | None, split: str) -> Path:
    if data is None:
        raise EnvError(
            "`source` is official, but $ALFWORLD_DATA is not set.", f"{DOWNLOAD}, {_OWN}"
        )
    root = data / FOLDER
    if not root.is_dir():
        raise EnvError(
            f"$ALFWORLD_DATA is `{data}`, which has no folder {FOLDER}.", f"{DOWNLOAD}, {_OWN}"
        )
    if (root / split).is_dir():
        return root / split
    there = sorted(each.name for each in root.iterdir() if each.is_dir())
    hint = f"{DOWNLOAD}, {_OWN}"
    if split.startswith("valid") and (others := [n for n in there if n.startswith("valid")]):
        hint = f"{DOWNLOAD}, or hold out others: --set env_options.heldout={others[0]}"
    raise EnvError(f"`{root}` has no {split} games, only {', '.join(there) or 'nothing'}.", hint)


def _instance(game: Path) -> int:
    digest = hashlib.sha256("/".join(game.parts[-4:-1]).encode()).digest()
    return 2**40 + int.from_bytes(digest[:5])


def _solvable(game: Path) -> bool:
    """Whether a game says that it can be solved, by its end if that is as usual."""
    with game.open("rb") as file:
        file.seek(max(0, game.stat().st_size - _TAIL_BYTES))
        tail = file.read()
    found = _SOLVABLE.search(tail)
    if found is None or not tail.rstrip().endswith(b"}"):
        return bool(read_game(game)["solvable"])
    return found[1] == b"true"
