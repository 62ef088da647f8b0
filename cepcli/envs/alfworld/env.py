"""ALFWorld: household tasks by text commands, in ALFWorld's own games or in games made here.

The text of a state says where the agent stands, what is there and in its hand, where it saw things
that the task names, and which receptacles it has looked into: a function of the state and of what
has been seen, so that equal situations read alike. Actions are the game's admissible commands
without `look`, `inventory`, `help` and `examine …`, which change nothing; the text holds what they
would tell. The reward is 1 when the task is done.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from typing_extensions import override

from cepcli.config import AT_LEAST_ONE, Range, Settings, check_bounds, require, setting
from cepcli.envs.alfworld.compile import compiled_game, official_games
from cepcli.envs.alfworld.engine import AlfworldEngine, CompiledGame
from cepcli.envs.alfworld.household import (
    FIRST_HELDOUT,
    TASK_TYPES,
    Household,
    household_game,
)
from cepcli.envs.alfworld.state import Memory, describe, may_change
from cepcli.envs.base import Split, TextGame
from cepcli.errors import EnvError
from cepcli.workspace.variables import data_folder

#: Games that an environment keeps in memory (about 1 MB each); the least recently played goes.
LOADED_GAMES = 64
_GAMES, _HELDOUT_GAMES = 50, 20
#: Names the folder of the official games; `alfworld-download` fills it.
DATA = "ALFWORLD_DATA"


def _default_source() -> Literal["official", "household"]:
    return "household" if data_folder(DATA) is None else "official"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlfworldOptions(Settings):
    """Which games are played, and what the agent is shown."""

    source: Literal["official", "household"] = field(
        default_factory=_default_source,
        metadata={
            "help": "official: games under $ALFWORLD_DATA, the default where it is set; "
            "household: games made here"
        },
    )
    heldout: Literal["valid_unseen", "valid_seen"] = setting(
        "valid_unseen", "official games that are held out"
    )
    games: int | None = setting(
        None, f"number of training games; absent: all official ones, {_GAMES} of ours", AT_LEAST_ONE
    )
    heldout_games: int | None = setting(
        None,
        f"number of held-out games; absent: all official ones, {_HELDOUT_GAMES} of ours",
        AT_LEAST_ONE,
    )
    first_seed: int = setting(0, "household: seed of the first game of either split")
    receptacles: int = setting(10, "household: receptacles in a room", Range(8, 30))
    objects: int = setting(12, "household: things in a room", Range(4, 60))
    max_episode_steps: int = setting(50, "decisions before truncation", AT_LEAST_ONE)
    memory: bool = setting(True, "the text tells what was seen and searched elsewhere")
    examine: bool = setting(False, "keep `examine …`, `look`, `inventory` and `help`")
    feedback: bool = setting(False, "add what the last action did to the text")

    def __post_init__(self) -> None:
        check_bounds(self)
        most = FIRST_HELDOUT - max(self.games or _GAMES, self.heldout_games or _HELDOUT_GAMES)
        require(
            0 <= self.first_seed <= most,
            f"`first_seed` is {self.first_seed}, expected 0 to {most}.",
        )

    def seeds(self, split: Split) -> range:
        """Instances of the household games of a split; those of the other are other scenes."""
        if split == "train":
            first, count = self.first_seed, self.games or _GAMES
        else:
            first, count = FIRST_HELDOUT + self.first_seed, self.heldout_games or _HELDOUT_GAMES
        return range(first, first + count)


class AlfworldEnv(TextGame):
    """ALFWorld games of one task type or of all.

    An instance is the seed of a household game, or a number made from an official game's path.
    """

    family = "alfworld"

    def __init__(
        self,
        env_id: str,
        split: Split,
        workspace: Path,
        options: AlfworldOptions,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        kind = env_id.partition("/")[2]
        self._kinds = (kind,) if kind else tuple(TASK_TYPES)
        self._official = _official(self._kinds, split, options)
        instances = list(self._official) or options.seeds(split)
        super().__init__(env_id, instances, options.max_episode_steps)
        self._options, self._workspace, self._progress = options, workspace, progress
        self._games: dict[int, CompiledGame] = {}
        self._engine: AlfworldEngine | None = None
        self._memory = Memory("", {})
        self._names: Mapping[str, str] = {}

    @override
    def start(self, instance: int) -> str:
        """Start the game, which is made or compiled first if the workspace lacks it."""
        game = self._load(instance)
        self._playing(create=True).reset(game)
        self._memory, self._names = Memory(game.task, game.names), game.names
        return game.task

    @override
    def act(self, action: str) -> tuple[float, bool]:
        """Do a command; the reward is 1 when that completes the task, else 0."""
        engine = self._playing()
        engine.step(action)
        return float(engine.won), engine.won

    @override
    def observe(self) -> tuple[str, list[str], bool]:
        engine, options = self._playing(), self._options
        self._memory.look(engine.facts)
        parts = describe(engine.facts, self._names)
        if options.memory:
            parts += self._memory.describe(engine.facts)
        if options.feedback and self.taken and engine.feedback:
            parts.insert(0, " ".join(engine.feedback.split()))
        actions = [c for c in engine.commands if options.examine or may_change(c)]
        return " ".join(parts), actions, engine.won

    @override
    def expert_action(self) -> str:
        """The planner's next command, on a shortest way to the goal; it knows where things are.

        Where nothing can win any more, or all is done: the first action.
        """
        plan = self._playing().plan()
        return plan[0] if plan else self._space.actions[0]

    @override
    def close(self) -> None:
        """Unload the engine and the games."""
        if self._engine is not None:
            self._engine.close()
        self._engine, self.running = None, False
        self._games.clear()

    def _playing(self, *, create: bool = False) -> AlfworldEngine:
        if self._engine is None and create:
            self._engine = AlfworldEngine()
        if self._engine is None:
            raise EnvError(f"`{self.env_id}` has no running episode.", "Call reset() first.")
        return self._engine

    def _load(self, instance: int) -> CompiledGame:
        game = self._games.pop(instance, None) or self._open(instance)
        self._games[instance] = game
        if len(self._games) > LOADED_GAMES:
            self._games.pop(next(iter(self._games)))
        return game

    def _open(self, instance: int) -> CompiledGame:
        options = self._options
        if options.source == "official":
            if instance not in self._official:
                raise EnvError(
                    f"`{self.env_id}` has no official game with the instance {instance} in this "
                    f"split under `{data_folder(DATA)}`.",
                    "Give $ALFWORLD_DATA as it was when that instance was played.",
                )
            return compiled_game(self._official[instance], self._workspace, self._progress)
        if instance >= 2 * FIRST_HELDOUT:
            raise EnvError(
                f"`instance` is {instance}: household games have seeds below {2 * FIRST_HELDOUT}.",
                "An official game needs --set env_options.source=official",
            )
        kind = self._kinds[instance % len(self._kinds)]  # they take turns
        house = Household(kind, instance, options.receptacles, options.objects)
        return household_game(house, self._workspace, self._progress)


def _official(kinds: tuple[str, ...], split: Split, options: AlfworldOptions) -> dict[int, Path]:
    if options.source != "official":
        return {}
    folder = "train" if split == "train" else options.heldout
    count = options.games if split == "train" else options.heldout_games
    found = official_games(data_folder(DATA), folder, [TASK_TYPES[kind].folder for kind in kinds])
    if count is not None and count > len(found):
        name = "games" if split == "train" else "heldout_games"
        raise EnvError(
            f"`{name}` is {count}, but there are {len(found)} official {folder} games of this "
            "task.",
            f"Leave it out to play all: --set env_options.{name}={len(found)}",
        )
    return {instance: found[instance] for instance in sorted(found)[:count]}
