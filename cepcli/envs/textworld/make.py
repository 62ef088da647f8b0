"""Making TextWorld games: options, where a game is kept, and textworld's own compiler.

A game is made when it is first needed, into `<workspace>/games/textworld/<recipe>/<seed>.z8`, with
the same steps as textworld's own `tw-make`.
"""

import contextlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from typing_extensions import override

from cepcli.config import AT_LEAST_ONE, Range, Settings, check_bounds, require, setting
from cepcli.envs.base import Split
from cepcli.envs.game_making import game_made_once, make_apart
from cepcli.errors import EnvError
from cepcli.whole_files import discard

Goal = Literal["detailed", "brief"]
_MOST_ROOMS = 100
_SMALLER = "Ask for smaller games, or for other seeds."
_GOAL_HELP = "detailed: the objective names every step; brief: only what is to be reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class GameOptions(Settings, ABC):
    """What every TextWorld family can be told; each family adds how its games are made."""

    games: int = setting(50, "number of training games", AT_LEAST_ONE)
    heldout_games: int = setting(20, "number of held-out games", AT_LEAST_ONE)
    first_seed: int = setting(1, "seed of the first training game")
    first_heldout_seed: int = setting(100_001, "seed of the first held-out game")
    max_episode_steps: int = setting(50, "decisions before truncation", AT_LEAST_ONE)
    examine: bool = setting(False, "keep `examine …`, `look` and `inventory` as actions")
    feedback: bool = setting(False, "add what the last action did to the text")

    def __post_init__(self) -> None:
        check_bounds(self)
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

    def check(self) -> None:
        """Raise a `ConfigError` on values that do not fit together; by default all do."""

    @abstractmethod
    def recipe(self) -> str:
        """What all games of these options share, as a directory name."""

    @abstractmethod
    def build(self, making: Any) -> Any:
        """The uncompiled game for `making`, textworld's own options, which carry the seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoinOptions(GameOptions):
    """Coin collector: a chain of rooms, dead ends beside it, a coin at the end."""

    level: int = setting(
        105,
        "1–100: that many rooms to walk; 101–200: with as many dead ends again",
        Range(1, 300),
    )
    goal: Goal = setting("detailed", _GOAL_HELP)

    @override
    def check(self) -> None:
        rooms = ((self.level - 1) // 100 + 1) * ((self.level - 1) % 100 + 1)
        require(
            rooms <= _MOST_ROOMS,
            f"`level` {self.level} has {rooms} rooms, TextWorld allows {_MOST_ROOMS}.",
        )

    @override
    def recipe(self) -> str:
        return f"coin-level{self.level}-{self.goal}"

    @override
    def build(self, making: Any) -> Any:
        making.grammar.only_last_action = self.goal == "brief"
        return _challenge("tw-coin_collector", making, level=self.level)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreasureOptions(GameOptions):
    """Treasure hunter: find one of two objects; the other one loses the game."""

    level: int = setting(
        13, "1–10: 5 empty rooms; 11–20: 10, doors, containers; 21–30: 20, keys", Range(1, 30)
    )
    goal: Goal = setting("detailed", _GOAL_HELP)

    @override
    def recipe(self) -> str:
        return f"treasure-level{self.level}-{self.goal}"

    @override
    def build(self, making: Any) -> Any:
        making.grammar.only_last_action = self.goal == "brief"
        return _challenge("tw-treasure_hunter", making, level=self.level)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimpleOptions(GameOptions):
    """A simple game: in one house, find the food and put it on the stove."""

    rewards: Literal["dense", "balanced", "sparse"] = setting(
        "dense", "how many steps on the way score"
    )
    goal: Goal = setting("detailed", _GOAL_HELP)

    @override
    def recipe(self) -> str:
        return f"simple-{self.rewards}-{self.goal}"

    @override
    def build(self, making: Any) -> Any:
        return _challenge("tw-simple", making, rewards=self.rewards, goal=self.goal, test=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CookingOptions(GameOptions):
    """Cooking: read the recipe, gather and prepare the ingredients, eat the meal."""

    ingredients: int = setting(1, "ingredients in the recipe", Range(1, 5))
    take: int = setting(1, "how many of them must be found")
    rooms: Literal[1, 6, 9, 12] = setting(1, "rooms of the house")
    open: bool = setting(True, "containers and doors are closed")
    cook: bool = setting(True, "ingredients must be cooked")
    cut: bool = setting(False, "ingredients must be cut")

    @override
    def check(self) -> None:
        message = f"`take` is {self.take}, expected 0 to {self.ingredients} (`ingredients`)."
        require(0 <= self.take <= self.ingredients, message)

    @override
    def recipe(self) -> str:
        skills = "".join(f"-{s}" for s in ("open", "cook", "cut") if getattr(self, s))
        return f"cooking-{self.take}of{self.ingredients}-rooms{self.rooms}{skills}"

    @override
    def build(self, making: Any) -> Any:
        return _challenge(
            "tw-cooking", making, recipe=self.ingredients, take=self.take, go=self.rooms,
            recipe_seed=0, split="", open=self.open, cook=self.cook, cut=self.cut, drop=False,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomOptions(GameOptions):
    """A generated quest of a given length in a house of a given size."""

    rooms: int = setting(3, "rooms of the house", Range(1, _MOST_ROOMS))
    objects: int = setting(6, "least number of objects", AT_LEAST_ONE)
    quest_length: int = setting(4, "actions that the quest needs", AT_LEAST_ONE)
    goal: Goal = setting("detailed", _GOAL_HELP)

    @override
    def check(self) -> None:
        require(
            self.quest_length <= self.max_episode_steps,
            f"`quest_length` is {self.quest_length}, but an episode ends after "
            f"{self.max_episode_steps} actions (`max_episode_steps`): nobody could win.",
        )

    @override
    def recipe(self) -> str:
        size = f"rooms{self.rooms}-objects{self.objects}-quest{self.quest_length}"
        return f"custom-{size}-{self.goal}"

    @override
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
        request = {"kind": type(options).__name__, "options": asdict(options), "seed": seed}
        what = f"The TextWorld game {options.recipe()} with seed {seed}"
        make_apart("textworld", folder, request, what, _SMALLER)

    return game_made_once(final, workspace, make)


@contextlib.contextmanager
def quiet_interpreter() -> Iterator[None]:
    """Silence jericho's warning that generated games are not on its list of supported ones."""
    from jericho.jericho import UnsupportedGameWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnsupportedGameWarning)
        yield


def make_game(folder: Path, request: Mapping[str, Any]) -> None:
    """Make `SEED.z8` in this process, with textworld's description of it beside it."""
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
            _SMALLER,
        ) from error
    discard(file.with_suffix(".ni"))


def _challenge(name: str, making: Any, **settings: Any) -> Any:
    import textworld.challenges

    _, make, _ = textworld.challenges.CHALLENGES[name]
    return make(settings=settings, options=making)
