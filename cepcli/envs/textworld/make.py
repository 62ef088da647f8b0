"""Making TextWorld games: options, where a game is kept, and textworld's own compiler.

A game is made when it is first needed, into `<workspace>/games/textworld/<recipe>/<seed>.z8`, with
the same steps as textworld's own `tw-make`.
"""

import contextlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cepcli.config import require
from cepcli.envs.base import Split
from cepcli.envs.game_files import game_made_once
from cepcli.envs.game_making import make_apart
from cepcli.errors import EnvError
from cepcli.whole_files import discard

Goal = Literal["detailed", "brief"]
_MOST_ROOMS = 100
_GOAL_HELP = "detailed: the objective names every step; brief: only what is to be reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class GameOptions(ABC):
    """What every TextWorld family can be told; each family adds how its games are made."""

    games: int = field(default=50, metadata={"help": "number of training games"})
    heldout_games: int = field(default=20, metadata={"help": "number of held-out games"})
    first_seed: int = field(default=1, metadata={"help": "seed of the first training game"})
    first_heldout_seed: int = field(
        default=100_001, metadata={"help": "seed of the first held-out game"}
    )
    max_episode_steps: int = field(default=50, metadata={"help": "decisions before truncation"})
    examine: bool = field(
        default=False, metadata={"help": "keep `examine …`, `look` and `inventory` as actions"}
    )
    feedback: bool = field(
        default=False, metadata={"help": "add what the last action did to the text"}
    )

    def __post_init__(self) -> None:
        for name in ("games", "heldout_games", "max_episode_steps"):
            require(getattr(self, name) > 0, f"`{name}` is {getattr(self, name)}, expected ≥ 1.")
        train, heldout = self.seeds("train"), self.seeds("heldout")
        require(min(train[0], heldout[0]) >= 0, "Game seeds must be ≥ 0.")
        require(
            train[-1] < heldout[0] or heldout[-1] < train[0],
            f"Training seeds {train[0]}…{train[-1]} and held-out seeds "
            f"{heldout[0]}…{heldout[-1]} overlap.",
        )
        self.check()

    def seeds(self, split: Split) -> range:
        """The game seeds of a split."""
        first, count = self.first_seed, self.games
        if split == "heldout":
            first, count = self.first_heldout_seed, self.heldout_games
        return range(first, first + count)

    @abstractmethod
    def check(self) -> None:
        """Raise a `ConfigError` on values that no game can be made of."""

    @abstractmethod
    def recipe(self) -> str:
        """What all games of these options share, as a directory name."""

    @abstractmethod
    def build(self, making: Any) -> Any:
        """The uncompiled game for `making`, textworld's own options, which carry the seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoinOptions(GameOptions):
    """Coin collector: a chain of rooms, dead ends beside it, a coin at the end."""

    level: int = field(
        default=105,
        metadata={"help": "1–100: that many rooms to walk; 101–200: with as many dead ends again"},
    )
    goal: Goal = field(default="detailed", metadata={"help": _GOAL_HELP})

    def check(self) -> None:
        """The level must exist, and the game must have at most 100 rooms."""
        rooms = ((self.level - 1) // 100 + 1) * ((self.level - 1) % 100 + 1)
        require(1 <= self.level <= 300, f"`level` is {self.level}, expected 1 to 300.")
        require(
            rooms <= _MOST_ROOMS,
            f"`level` {self.level} has {rooms} rooms, TextWorld allows {_MOST_ROOMS}.",
        )

    def recipe(self) -> str:
        """For example `coin-level105-detailed`."""
        return f"coin-level{self.level}-{self.goal}"

    def build(self, making: Any) -> Any:
        """A tw-coin_collector game."""
        making.grammar.only_last_action = self.goal == "brief"
        return _challenge("tw-coin_collector", making, level=self.level)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreasureOptions(GameOptions):
    """Treasure hunter: find one of two objects; the other one loses the game."""

    level: int = field(
        default=13,
        metadata={"help": "1–10: 5 empty rooms; 11–20: 10, doors, containers; 21–30: 20, keys"},
    )
    goal: Goal = field(default="detailed", metadata={"help": _GOAL_HELP})

    def check(self) -> None:
        """The level must exist."""
        require(1 <= self.level <= 30, f"`level` is {self.level}, expected 1 to 30.")

    def recipe(self) -> str:
        """For example `treasure-level13-detailed`."""
        return f"treasure-level{self.level}-{self.goal}"

    def build(self, making: Any) -> Any:
        """A tw-treasure_hunter game."""
        making.grammar.only_last_action = self.goal == "brief"
        return _challenge("tw-treasure_hunter", making, level=self.level)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimpleOptions(GameOptions):
    """A simple game: in one house, find the food and put it on the stove."""

    rewards: Literal["dense", "balanced", "sparse"] = field(
        default="dense", metadata={"help": "how many steps on the way score"}
    )
    goal: Goal = field(default="detailed", metadata={"help": _GOAL_HELP})

    def check(self) -> None:
        """Every combination can be made."""

    def recipe(self) -> str:
        """For example `simple-dense-detailed`."""
        return f"simple-{self.rewards}-{self.goal}"

    def build(self, making: Any) -> Any:
        """A tw-simple game."""
        return _challenge("tw-simple", making, rewards=self.rewards, goal=self.goal, test=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CookingOptions(GameOptions):
    """Cooking: read the recipe, gather and prepare the ingredients, eat the meal."""

    ingredients: int = field(default=1, metadata={"help": "ingredients in the recipe, 1 to 5"})
    take: int = field(default=1, metadata={"help": "how many of them must be found"})
    rooms: Literal[1, 6, 9, 12] = field(default=1, metadata={"help": "rooms of the house"})
    open: bool = field(default=True, metadata={"help": "containers and doors are closed"})
    cook: bool = field(default=True, metadata={"help": "ingredients must be cooked"})
    cut: bool = field(default=False, metadata={"help": "ingredients must be cut"})

    def check(self) -> None:
        """The recipe must be possible."""
        require(
            1 <= self.ingredients <= 5, f"`ingredients` is {self.ingredients}, expected 1 to 5."
        )
        require(
            0 <= self.take <= self.ingredients,
            f"`take` is {self.take}, expected 0 to {self.ingredients} (`ingredients`).",
        )

    def recipe(self) -> str:
        """For example `cooking-1of1-rooms1-open-cook`."""
        skills = "".join(f"-{s}" for s in ("open", "cook", "cut") if getattr(self, s))
        return f"cooking-{self.take}of{self.ingredients}-rooms{self.rooms}{skills}"

    def build(self, making: Any) -> Any:
        """A tw-cooking game."""
        skills = {"open": self.open, "cook": self.cook, "cut": self.cut, "drop": False}
        return _challenge(
            "tw-cooking", making, recipe=self.ingredients, take=self.take, go=self.rooms,
            recipe_seed=0, split="", **skills,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomOptions(GameOptions):
    """A generated quest of a given length in a house of a given size."""

    rooms: int = field(default=3, metadata={"help": "rooms of the house"})
    objects: int = field(default=6, metadata={"help": "least number of objects"})
    quest_length: int = field(default=4, metadata={"help": "actions that the quest needs"})
    goal: Goal = field(default="detailed", metadata={"help": _GOAL_HELP})

    def check(self) -> None:
        """Sizes must be positive, the world one that textworld can make, the quest playable."""
        for name in ("rooms", "objects", "quest_length"):
            require(getattr(self, name) > 0, f"`{name}` is {getattr(self, name)}, expected ≥ 1.")
        require(
            self.rooms <= _MOST_ROOMS,
            f"`rooms` is {self.rooms}, TextWorld allows {_MOST_ROOMS}.",
        )
        require(
            self.quest_length <= self.max_episode_steps,
            f"`quest_length` is {self.quest_length}, but an episode ends after "
            f"{self.max_episode_steps} actions (`max_episode_steps`): nobody could win.",
        )

    def recipe(self) -> str:
        """For example `custom-rooms3-objects6-quest4-detailed`."""
        size = f"rooms{self.rooms}-objects{self.objects}-quest{self.quest_length}"
        return f"custom-{size}-{self.goal}"

    def build(self, making: Any) -> Any:
        """A game as `tw-make custom` makes it."""
        import textworld.generator

        making.nb_rooms, making.nb_objects = self.rooms, self.objects
        making.chaining.min_length = making.chaining.max_length = self.quest_length
        making.chaining.max_depth, making.chaining.max_breadth = self.quest_length, 5
        making.grammar.theme = "house"
        making.grammar.only_last_action = self.goal == "brief"
        return textworld.generator.make_game(making)


_KINDS = {
    kind.__name__: kind
    for kind in (CoinOptions, TreasureOptions, SimpleOptions, CookingOptions, CustomOptions)
}


def game_file(
    options: GameOptions, seed: int, workspace: Path, progress: Callable[[str], None] | None
) -> Path:
    """The compiled game, made now if this workspace does not have it.

    Raises:
        EnvError: if textworld can make no game of these options, or takes too long.
        ArtifactError: if the workspace cannot be written.
    """
    final = workspace / "games" / "textworld" / options.recipe() / f"{seed}.z8"

    def make(folder: Path) -> None:
        if progress:
            progress(f"Making the TextWorld game {options.recipe()}/{seed}")
        make_apart(
            "textworld",
            folder,
            {"kind": type(options).__name__, "options": asdict(options), "seed": seed},
            f"The TextWorld game {options.recipe()} with seed {seed}",
            "Ask for smaller games, or for other seeds.",
        )

    return game_made_once(final, workspace, make)


@contextlib.contextmanager
def quiet_interpreter() -> Iterator[None]:
    """Silence jericho's warning that generated games are not on its list of supported ones."""
    from jericho.jericho import UnsupportedGameWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnsupportedGameWarning)
        yield


def make_game(folder: Path, request: Mapping[str, Any]) -> None:
    """Make a game in this process, with textworld's description of it beside it.

    Args:
        folder: where `SEED.z8` goes.
        request: "kind" of options by its class's name, the "options", and the "seed".
    """
    options, seed = _KINDS[request["kind"]](**request["options"]), request["seed"]
    file = folder / f"{seed}.z8"

    import textworld
    import textworld.generator
    from textworld.generator import QuestGenerationError
    from textworld.generator.inform7 import CouldNotCompileGameError

    making = textworld.GameOptions()
    making.seeds, making.path, making.file_ext = seed, str(file), ".z8"
    try:
        with quiet_interpreter():
            textworld.generator.compile_game(options.build(making), making)
    except (QuestGenerationError, CouldNotCompileGameError, ValueError) as error:
        raise EnvError(
            f"TextWorld can make no game {options.recipe()} with seed {seed}: "
            f"{str(error).strip()[-300:]}",
            "Ask for smaller games, or for other seeds.",
        ) from error
    discard(file.with_suffix(".ni"))


def _challenge(name: str, making: Any, **settings: Any) -> Any:
    import textworld.challenges

    _, make, _ = textworld.challenges.CHALLENGES[name]
    return make(settings=settings, options=making)
