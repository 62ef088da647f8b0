"""BabyAI: grid worlds seen through the 7×7 egocentric view, told in BabyAI-Text sentences.

The wording is that of Carta et al., "Grounding Large Language Models in Interactive Environments
with Online Reinforcement Learning" (arXiv 2302.02662); the order of the sentences is ours: what is
carried, walls, then objects from near to far. Six verbs act. The expert is minigrid's own bot.
"""

import contextlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from cepcli.config import require
from cepcli.envs.admissible import (
    AdmissibleActions,
    requested_instance,
    require_admissible,
    text_space,
)
from cepcli.envs.base import Split, SymbolicEnv
from cepcli.errors import EnvError

#: The verbs, in the order of minigrid's action numbers 0…5 ("done", 6, does nothing here).
VERBS = ("turn left", "turn right", "go forward", "pick up", "drop", "toggle")
#: Our short names of the levels that `cep envs list` shows.
LEVELS = {
    "goto-redball": "BabyAI-GoToRedBall-v0",
    "goto-local": "BabyAI-GoToLocal-v0",
    "goto-obj": "BabyAI-GoToObj-v0",
    "goto-door": "BabyAI-GoToDoor-v0",
    "pickup-loc": "BabyAI-PickupLoc-v0",
    "open-door": "BabyAI-OpenDoor-v0",
    "put-next-local": "BabyAI-PutNextLocal-v0",
    "unlock": "BabyAI-Unlock-v0",
}
#: Training instances are seeds below this, held-out ones start here and end below twice this.
HELDOUT_FROM = 2**30

# minigrid's encoding of a view cell: [object, color, state]. The view is 7×7, x to the right, y
# down; the agent stands at (3, 6) and looks up, and what it carries is encoded in its own cell.
_EMPTY, _WALL, _FLOOR, _DOOR = 1, 2, 3, 4
_THINGS = {4: "door", 5: "key", 6: "ball", 7: "box", 8: "goal", 9: "lava"}
_COLORS = ("red", "green", "blue", "purple", "yellow", "grey")
_DOOR_STATES = ("an open", "a closed", "a locked")
_AGENT_X, _AGENT_Y = 3, 6


@dataclass(frozen=True, slots=True)
class BabyAIOptions:
    """Options of the BabyAI family."""

    max_episode_steps: int | None = field(
        default=None,
        metadata={"help": "decisions before truncation; absent or larger: the level's own limit"},
    )

    def __post_init__(self) -> None:
        limit = self.max_episode_steps
        require(limit is None or limit > 0, f"`max_episode_steps` is {limit}, expected ≥ 1.")


def describe(image: np.ndarray) -> str:
    """The 7×7×3 egocentric view as sentences, the same for the same view."""
    sentences = [*_carried(image), *_walls(image), *_objects(image)]
    return ". ".join(sentences or ["You see nothing"]) + "."


def _carried(image: np.ndarray) -> list[str]:
    kind, color, _ = (int(v) for v in image[_AGENT_X, _AGENT_Y])
    return [f"You carry a {_COLORS[color]} {_THINGS[kind]}"] if kind in _THINGS else []


def _walls(image: np.ndarray) -> list[str]:
    """The nearest wall forward, left and right, each only when nothing stands between."""
    sentences = []
    for name, dx, dy in (("forward", 0, -1), ("left", -1, 0), ("right", 1, 0)):
        x, y, distance = _AGENT_X + dx, _AGENT_Y + dy, 1
        while 0 <= x < 7 and 0 <= y < 7 and image[x, y, 0] in (_EMPTY, _FLOOR):
            x, y, distance = x + dx, y + dy, distance + 1
        if 0 <= x < 7 and 0 <= y < 7 and image[x, y, 0] == _WALL:
            sentences.append(f"You see a wall {_steps(distance)} {name}")
    return sentences


def _objects(image: np.ndarray) -> list[str]:
    cells = [(x, y) for x in range(7) for y in range(7) if (x, y) != (_AGENT_X, _AGENT_Y)]
    cells.sort(key=lambda c: (abs(c[0] - _AGENT_X) + _AGENT_Y - c[1], _AGENT_Y - c[1], c[0]))
    return [
        f"You see {_named(image[x, y])} {_where(x - _AGENT_X, _AGENT_Y - y)}"
        for x, y in cells
        if int(image[x, y, 0]) in _THINGS
    ]


def _named(cell: np.ndarray) -> str:
    kind, color, state = (int(v) for v in cell)
    article = _DOOR_STATES[state] if kind == _DOOR else "a"
    return f"{article} {_COLORS[color]} {_THINGS[kind]}"


def _where(right: int, forward: int) -> str:
    parts = []
    if right:
        parts.append(f"{_steps(abs(right))} {'right' if right > 0 else 'left'}")
    if forward:
        parts.append(f"{_steps(forward)} forward")
    return " and ".join(parts)


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
    short = {level: name for name, level in LEVELS.items()}
    return {short.get(level, name): level for name, level in sorted(known.items())}


def find_level(name: str) -> str | None:
    """Our name of the level that a user calls `goto-local`, `go-to-local` or `GoToLocal-v0`."""
    if name in LEVELS:
        return name
    for ours, level in levels().items():
        if name in (ours, kebab(level), level, level.removeprefix("BabyAI-")):
            return ours
    return None


class BabyAIEnv(SymbolicEnv):
    """A BabyAI level as text. An instance is the seed of minigrid's own reset."""

    family = "babyai"

    def __init__(self, name: str, split: Split, options: BabyAIOptions) -> None:
        self.env_id = f"babyai/{name}"
        self.observation_space = text_space()
        self.action_space = AdmissibleActions(VERBS)
        self._level = LEVELS.get(name) or levels()[name]
        self._grid = _make(self._level)
        self._first = 0 if split == "train" else HELDOUT_FROM
        self._options = options
        self._goal, self._instance, self._image = "", 0, np.zeros((7, 7, 3), np.uint8)
        self._taken: list[int] = []
        self._running = False
        self._expert: _Expert | None = None
        _reset(self._grid, self._first)
        self.max_episode_steps = self._limit()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode; see the contract for `seed` and `options`."""
        super().reset(seed=seed)
        instance = requested_instance(options)
        if instance is None:
            instance = self._first + int(self.np_random.integers(HELDOUT_FROM))
        observation = _reset(self._grid, instance)
        self._instance, self._goal = instance, observation["mission"]
        self._image, self._taken, self._expert = observation["image"], [], None
        self.max_episode_steps = self._limit()
        self._running = True
        return self._state(success=False)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Do one of the verbs; the reward is minigrid's own, 1 − 0.9·steps/limit on success."""
        require_admissible(action, VERBS if self._running else (), self.env_id)
        number = VERBS.index(action)
        observation, reward, terminated, _, _ = self._grid.step(number)
        self._image = observation["image"]
        self._taken.append(number)
        truncated = not terminated and len(self._taken) >= self.max_episode_steps
        self._running = not (terminated or truncated)
        text, info = self._state(success=bool(terminated and reward > 0))
        return text, float(reward), bool(terminated), truncated, info

    def expert_action(self) -> str:
        """What minigrid's bot would do after the episode so far, whoever played it."""
        if self._expert is None:
            self._expert = _Expert(self._level, self._instance)
        return VERBS[self._expert.advise(self._taken)]

    def close(self) -> None:
        """Release minigrid's resources."""
        self._grid.close()

    def _limit(self) -> int:
        own = int(self._grid.max_steps)
        return min(own, self._options.max_episode_steps or own)

    def _state(self, *, success: bool) -> tuple[str, dict[str, Any]]:
        text = describe(self._image)
        return text, {
            "text": text,
            "goal": self._goal,
            "actions": VERBS,
            "instance": self._instance,
            "success": success,
        }


class _Expert:
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

    def advise(self, taken: list[int]) -> int:
        """The number of the verb to do after the actions `taken` since the start."""
        for action in taken[self._done :]:
            self._grid.step(action)
            self._advice = self._replan(action)
        self._done = len(taken)
        return self._advice

    def _replan(self, action: int | None) -> int:
        """The bot's plan; a bot that gave up is replaced once, then the agent looks around."""
        from minigrid.utils.baby_ai_bot import DisappearedBoxError

        for bot, previous in ((self._bot, action), (None, None)):
            try:
                self._bot = bot or _bot(self._grid)
                number = self._bot.replan(previous)
            except (AssertionError, AttributeError, DisappearedBoxError):
                continue
            if number < len(VERBS):
                return int(number)
        return VERBS.index("turn left")


def _make(level: str) -> Any:
    import minigrid  # noqa: F401  (registers the levels)

    return gym.make(level, disable_env_checker=True).unwrapped


def _bot(grid: Any) -> Any:
    from minigrid.utils.baby_ai_bot import BabyAIBot

    return BabyAIBot(grid)


def _reset(grid: Any, instance: int) -> dict[str, Any]:
    """Reset minigrid without its chatter about rejected samples."""
    with contextlib.redirect_stdout(io.StringIO()):
        observation, _ = grid.reset(seed=instance)
    return observation


def make_babyai(
    env_id: str, split: Split, workspace: Path, options: Any, progress: Any
) -> BabyAIEnv:
    """The factory of the family; levels need no files, so `workspace` is not used."""
    del workspace, progress
    name = find_level(env_id.removeprefix("babyai/"))
    if name is None:
        raise EnvError(f"Environment `{env_id}` doesn't exist.", "See: cep envs list")
    return BabyAIEnv(name, split, options)
