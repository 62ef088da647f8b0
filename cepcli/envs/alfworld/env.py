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
from typing import Any, Literal

from cepcli.config import require
from cepcli.envs.admissible import (
    AdmissibleActions,
    requested_instance,
    require_admissible,
    text_space,
)
from cepcli.envs.alfworld.compile import compiled_game
from cepcli.envs.alfworld.engine import AlfworldEngine, CompiledGame
from cepcli.envs.alfworld.household import (
    FIRST_HELDOUT,
    TASK_TYPES,
    Household,
    household_game,
    task_type,
)
from cepcli.envs.alfworld.official import official_games
from cepcli.envs.alfworld.text import Memory, describe, may_change
from cepcli.envs.base import Split, SymbolicEnv
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
class AlfworldOptions:
    """Which games are played, and what the agent is shown."""

    source: Literal["official", "household"] = field(
        default_factory=_default_source,
        metadata={
            "help": "official: games under $ALFWORLD_DATA, the default where it is set; "
            "household: games made here"
        },
    )
    heldout: Literal["valid_unseen", "valid_seen"] = field(
        default="valid_unseen", metadata={"help": "official games that are held out"}
    )
    games: int | None = field(
        default=None,
        metadata={"help": f"number of training games; absent: all official ones, {_GAMES} of ours"},
    )
    heldout_games: int | None = field(
        default=None,
        metadata={
            "help": f"number of held-out games; absent: all official ones, {_HELDOUT_GAMES} of ours"
        },
    )
    first_seed: int = field(
        default=0, metadata={"help": "household: seed of the first game of either split"}
    )
    receptacles: int = field(
        default=10, metadata={"help": "household: receptacles in a room, 8 to 30"}
    )
    objects: int = field(default=12, metadata={"help": "household: things in a room, 4 to 60"})
    max_episode_steps: int = field(default=50, metadata={"help": "decisions before truncation"})
    memory: bool = field(
        default=True, metadata={"help": "the text tells what was seen and searched elsewhere"}
    )
    examine: bool = field(
        default=False, metadata={"help": "keep `examine …`, `look`, `inventory` and `help`"}
    )
    feedback: bool = field(
        default=False, metadata={"help": "add what the last action did to the text"}
    )

    def __post_init__(self) -> None:
        for name in ("games", "heldout_games", "max_episode_steps"):
            value = getattr(self, name)
            require(value is None or value > 0, f"`{name}` is {value}, expected ≥ 1.")
        for name, low, high in (("receptacles", 8, 30), ("objects", 4, 60)):
            value = getattr(self, name)
            require(low <= value <= high, f"`{name}` is {value}, expected {low} to {high}.")
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


class AlfworldEnv(SymbolicEnv):
    """ALFWorld games of one task type or of all.

    An instance is the seed of a household game, or a number made from an official game's path.
    """

    family = "alfworld"

    def __init__(
        self,
        env_id: str,
        split: Split,
        options: AlfworldOptions,
        workspace: Path,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.env_id = env_id
        self.max_episode_steps = options.max_episode_steps
        self.observation_space = text_space()
        self.action_space = self._space = AdmissibleActions()
        self._options, self._workspace, self._progress = options, workspace, progress
        kind = env_id.partition("/")[2]
        self._kinds = (kind,) if kind else tuple(TASK_TYPES)
        self._official = _official(self._kinds, split, options)
        self._instances = list(self._official) or list(options.seeds(split))
        self._games: dict[int, CompiledGame] = {}
        self._engine: AlfworldEngine | None = None
        self._instance, self._goal, self._steps = 0, "", 0
        self._memory = Memory("", {})
        self._names: Mapping[str, str] = {}
        self._actions: tuple[str, ...] = ()
        self._running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode; the game is made or compiled first if the workspace lacks it."""
        super().reset(seed=seed)
        instance = requested_instance(options)
        if instance is None:
            instance = self._instances[int(self.np_random.integers(len(self._instances)))]
        game = self._load(instance)
        self._engine = self._engine or AlfworldEngine()
        self._engine.reset(game)
        self._instance, self._goal, self._names = instance, game.task, game.names
        self._memory = Memory(game.task, game.names)
        self._steps, self._running = 0, True
        return self._observe(self._engine, "")

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Do a command; the reward is 1 when that completes the task, else 0."""
        require_admissible(action, self._actions if self._running else (), self.env_id)
        assert self._engine is not None
        self._engine.step(action)
        self._steps += 1
        terminated = self._engine.won
        truncated = not terminated and self._steps >= self.max_episode_steps
        self._running = not (terminated or truncated)
        text, info = self._observe(self._engine, self._engine.feedback)
        return text, float(terminated), terminated, truncated, info

    def expert_action(self) -> str:
        """The planner's next command, on a shortest way to the goal; it knows where things are.

        Where nothing can win any more, or all is done: the first action.
        """
        if self._engine is None:
            raise EnvError(f"`{self.env_id}` has no running episode.", "Call reset() first.")
        plan = self._engine.plan()
        return plan[0] if plan else self._actions[0]

    def close(self) -> None:
        """Unload the engine and the games."""
        if self._engine is not None:
            self._engine.close()
        self._engine, self._running = None, False
        self._games.clear()

    def _load(self, instance: int) -> CompiledGame:
        game = self._games.pop(instance, None) or self._open(instance)
        self._games[instance] = game
        if len(self._games) > LOADED_GAMES:
            self._games.pop(next(iter(self._games)))
        return game

    def _open(self, instance: int) -> CompiledGame:
        if self._options.source == "official":
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
        kind = task_type(self._kinds, instance)
        house = Household(kind, instance, self._options.receptacles, self._options.objects)
        return household_game(house, self._workspace, self._progress)

    def _observe(self, engine: AlfworldEngine, feedback: str) -> tuple[str, dict[str, Any]]:
        actions = [c for c in engine.commands if self._options.examine or may_change(c)]
        self._space.actions = self._actions = tuple(actions)
        self._memory.look(engine.facts)
        parts = describe(engine.facts, self._names)
        if self._options.memory:
            parts += self._memory.describe(engine.facts)
        if self._options.feedback and feedback:
            parts.insert(0, " ".join(feedback.split()))
        text = " ".join(parts)
        return text, {
            "text": text,
            "goal": self._goal,
            "actions": self._actions,
            "instance": self._instance,
            "success": engine.won,
        }


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


def make_alfworld(
    env_id: str, split: Split, workspace: Path, options: Any, progress: Any
) -> AlfworldEnv:
    """The factory of the family."""
    return AlfworldEnv(env_id, split, options, workspace, progress)
