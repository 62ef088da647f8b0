"""BabyAI: grid worlds seen through the 7×7 egocentric view, told in BabyAI-Text sentences.

The wording is that of Carta et al., "Grounding Large Language Models in Interactive Environments
with Online Reinforcement Learning" (arXiv 2302.02662); the order of the sentences is ours: what is
carried, walls, then objects from near to far. Six verbs act. The expert is minigrid's own bot.
"""

import contextlib
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from typing_extensions import override

from cepcli.config import AT_LEAST_ONE, Settings, setting
from cepcli.envs.base import SEEDS_PER_SPLIT, Split, TextGame

#: The verbs, in the order of minigrid's action numbers 0…5 ("done", 6, does nothing here).
VERBS = ("turn left", "turn right", "go forward", "pick up", "drop", "toggle")
#: The levels that `cep envs list` shows, by our short names: minigrid's id, and a summary.
LEVELS = {
    "goto-redball": ("BabyAI-GoToRedBall-v0", "go to the red ball, among distractors"),
    "goto-local": ("BabyAI-GoToLocal-v0", "go to a named object in one room"),
    "goto-obj": ("BabyAI-GoToObj-v0", "go to the only object in the room"),
    "goto-door": ("BabyAI-GoToDoor-v0", "go to a door of a named colour"),
    "pickup-loc": ("BabyAI-PickupLoc-v0", "pick up an object named by where it is"),
    "open-door": ("BabyAI-OpenDoor-v0", "open a door named by colour or place"),
    "put-next-local": ("BabyAI-PutNextLocal-v0", "put one object next to another"),
    "unlock": ("BabyAI-Unlock-v0", "find the key and open a locked door, in a maze of rooms"),
}

# minigrid's encoding of a view cell: [object, color, state]. The view is 7×7, x to the right, y
# down; the agent stands at (3, 6) and looks up, and what it carries is encoded in its own cell.
_EMPTY, _WALL, _FLOOR, _DOOR = 1, 2, 3, 4
_THINGS = {4: "door", 5: "key", 6: "ball", 7: "box", 8: "goal", 9: "lava"}
_COLORS = ("red", "green", "blue", "purple", "yellow", "grey")
_DOOR_STATES = ("an open", "a closed", "a locked")
_AGENT_X, _AGENT_Y = 3, 6


@dataclass(frozen=True, slots=True)
class BabyAIOptions(Settings):
    """Options of the BabyAI family."""

    max_episode_steps: int | None = setting(
        None, "decisions before truncation; absent or larger: the level's own limit", AT_LEAST_ONE
    )


def describe(image: np.ndarray) -> str:
    """The 7×7×3 egocentric view as sentences, the same for the same view."""
    sentences = [*_carried(image), *_walls(image), *_objects(image)]
    return ". ".join(sentences or ["You see nothing"]) + "."


def _carried(image: np.ndarray) -> list[str]:
    kind, color, _ = image[_AGENT_X, _AGENT_Y].tolist()
    return [f"You carry a {_COLORS[color]} {_THINGS[kind]}"] if kind in _THINGS else []


def _walls(image: np.ndarray) -> list[str]:
    """The nearest wall forward, left and right, each only when nothing stands between."""
    kinds, sentences = image[:, :, 0].tolist(), []
    for name, ahead in (
        ("forward", [kinds[_AGENT_X][y] for y in range(_AGENT_Y - 1, -1, -1)]),
        ("left", [kinds[x][_AGENT_Y] for x in range(_AGENT_X - 1, -1, -1)]),
        ("right", [kinds[x][_AGENT_Y] for x in range(_AGENT_X + 1, 7)]),
    ):
        free = list(itertools.takewhile(lambda kind: kind in (_EMPTY, _FLOOR), ahead))
        if ahead[len(free) : len(free) + 1] == [_WALL]:
            sentences.append(f"You see a wall {_steps(len(free) + 1)} {name}")
    return sentences


def _objects(image: np.ndarray) -> list[str]:
    """What stands in the cells but the agent's own, from near to far."""
    seen = []
    for x, y in itertools.product(range(7), range(7)):
        kind, color, state = image[x, y].tolist()
        if kind in _THINGS and (x, y) != (_AGENT_X, _AGENT_Y):
            right, forward = x - _AGENT_X, _AGENT_Y - y
            article = _DOOR_STATES[state] if kind == _DOOR else "a"
            told = f"You see {article} {_COLORS[color]} {_THINGS[kind]} {_where(right, forward)}"
            seen.append((abs(right) + forward, forward, x, told))
    return [told for *_, told in sorted(seen)]


def _where(right: int, forward: int) -> str:
    aside = [f"{_steps(abs(right))} {'right' if right > 0 else 'left'}"] if right else []
    return " and ".join([*aside, *([f"{_steps(forward)} forward"] if forward else [])])


def _steps(count: int) -> str:
    return f"{count} step" if count == 1 else f"{count} steps"


def kebab(level: str) -> str:
    """The kebab-case name of a minigrid level: `BabyAI-GoToLocalS8N7-v0` → `go-to-local-s8-n7`."""
    name = re.sub(r"-v\d+$", "", level.removeprefix("BabyAI-"))
    return "-".join(re.findall(r"[A-Z][a-z]*\d*", name)).lower()


def levels() -> dict[str, str]:
    """Every installed level: our name → minigrid's id. Listed levels go by their short name."""
    import minigrid  # noqa: F401  (registers the levels)

    known = {kebab(level): level for level in gym.registry if level.startswith("BabyAI-")}
    short = {level: name for name, (level, _) in LEVELS.items()}
    return {short.get(level, name): level for name, level in sorted(known.items())}


def find_level(name: str) -> str | None:
    """Our name of the level that a user calls `goto-local`, `go-to-local` or `GoToLocal-v0`."""
    if name in LEVELS:
        return name
    for ours, level in levels().items():
        if name in (ours, kebab(level), level, level.removeprefix("BabyAI-")):
            return ours
    return None


class BabyAIEnv(TextGame):
    """A BabyAI level as text. An instance is the seed of minigrid's own reset."""

    family = "babyai"

    def __init__(
        self, env_id: str, split: Split, workspace: Path, options: BabyAIOptions, progress: Any
    ) -> None:
        name = env_id.removeprefix("babyai/")
        self._level = LEVELS[name][0] if name in LEVELS else levels()[name]
        self._grid = _make(self._level)
        self._options = options
        self._image, self._success = np.zeros((7, 7, 3), np.uint8), False
        self._expert: _BotOnCopy | None = None
        instances = SEEDS_PER_SPLIT[split]
        _reset(self._grid, instances[0])
        super().__init__(env_id, instances, self._limit())
        self._space.actions = VERBS

    @override
    def start(self, instance: int) -> str:
        observation = _reset(self._grid, instance)
        self._image, self._success, self._expert = observation["image"], False, None
        self.max_episode_steps = self._limit()
        return observation["mission"]

    @override
    def act(self, action: str) -> tuple[float, bool]:
        """Do one of the verbs; the reward is minigrid's own, 1 − 0.9·steps/limit on success."""
        observation, reward, terminated, _, _ = self._grid.step(VERBS.index(action))
        self._image, self._success = observation["image"], bool(terminated and reward > 0)
        return float(reward), bool(terminated)

    @override
    def observe(self) -> tuple[str, tuple[str, ...], bool]:
        return describe(self._image), VERBS, self._success

    @override
    def expert_action(self) -> str:
        """What minigrid's bot would do after the episode so far, whoever played it."""
        if self._expert is None:
            self._expert = _BotOnCopy(self._level, self.instance)
        return self._expert.advise(self.taken)

    @override
    def close(self) -> None:
        self._grid.close()

    def _limit(self) -> int:
        own = int(self._grid.max_steps)
        return min(own, self._options.max_episode_steps or own)


class _BotOnCopy:
    """minigrid's bot on a copy of the episode, which catches up when it is asked.

    The bot keeps a plan and a memory of what it saw, so it has to be told of every action; on a
    copy, an episode that never asks pays nothing, and one that asks late hears the same answer.
    """

    def __init__(self, level: str, instance: int) -> None:
        self._grid = _make(level)
        _reset(self._grid, instance)
        self._bot: Any = None
        self._done = 0
        self._advice = self._replan(None)

    def advise(self, taken: Sequence[str]) -> str:
        """The verb to do after the actions `taken` since the start."""
        for action in taken[self._done :]:
            number = VERBS.index(action)
            self._grid.step(number)
            self._advice = self._replan(number)
        self._done = len(taken)
        return self._advice

    def _replan(self, action: int | None) -> str:
        """The bot's plan; a bot that gave up is replaced once, then the agent looks around."""
        from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError

        for bot, previous in ((self._bot, action), (None, None)):
            try:
                self._bot = bot or BabyAIBot(self._grid)
                number = int(self._bot.replan(previous))
            except (AssertionError, AttributeError, DisappearedBoxError):
                continue
            if number < len(VERBS):
                return VERBS[number]
        return VERBS[0]


def _make(level: str) -> Any:
    import minigrid  # noqa: F401  (registers the levels)

    return gym.make(level, disable_env_checker=True).unwrapped


def _reset(grid: Any, instance: int) -> dict[str, Any]:
    """Reset minigrid without its chatter about rejected samples."""
    with contextlib.redirect_stdout(io.StringIO()):
        observation, _ = grid.reset(seed=instance)
    return observation
