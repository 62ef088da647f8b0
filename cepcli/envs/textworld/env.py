"""TextWorld: generated text games (coin, treasure, cooking, simple, custom), played by commands.

The text of a state is what `look` and `inventory` would print, shortened, plus the recipe once the
cookbook has been read: a function of the state, so that equal states read alike. What the last
command did is left out unless `feedback` is on. Actions are textworld's admissible commands without
`look`, `inventory` and `examine …`, which change nothing, except `examine cookbook` and what the
game's own walkthrough examines.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cepcli.envs.admissible import (
    AdmissibleActions,
    requested_instance,
    require_admissible,
    text_space,
)
from cepcli.envs.base import Split, SymbolicEnv
from cepcli.envs.textworld.make import GameOptions, game_file, quiet_interpreter
from cepcli.envs.textworld.text import recipe, short_feedback, short_goal, short_room, squeeze

#: Games that an environment keeps loaded (about 2 MB each); the least recently played goes first.
LOADED_GAMES = 16
_READ = "examine cookbook"


class TextWorldEnv(SymbolicEnv):
    """A family of TextWorld games. An instance is the seed that its game was generated with."""

    family = "textworld"

    def __init__(
        self,
        env_id: str,
        split: Split,
        options: GameOptions,
        workspace: Path,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.env_id = env_id
        self.max_episode_steps = options.max_episode_steps
        self.observation_space = text_space()
        self.action_space = self._space = AdmissibleActions()
        self._options, self._seeds = options, options.seeds(split)
        self._workspace, self._progress = workspace, progress
        self._games: dict[int, Any] = {}
        self._expert: _Expert | None = None
        self._instance, self._goal, self._recipe = 0, "", ""
        self._needed: set[str] = set()
        self._taken: list[str] = []
        self._state: Any = None
        self._actions: tuple[str, ...] = ()
        self._running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode; the game is made first if the workspace does not have it."""
        super().reset(seed=seed)
        instance = requested_instance(options)
        if instance is None:
            instance = self._seeds[int(self.np_random.integers(len(self._seeds)))]
        self._state = self._load(instance).reset()
        self._instance, self._goal = instance, short_goal(self._state["objective"])
        self._needed = set(self._state["extra.walkthrough"] or ()) | {_READ}
        self._recipe, self._taken, self._running = "", [], True
        self._forget_expert()
        self._actions = self._admissible()
        return self._observe("")

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Send a command; the reward is its share of the game's maximum score."""
        require_admissible(action, self._actions if self._running else (), self.env_id)
        before = self._state["score"]
        self._state, _, _ = self._games[self._instance].step(action)
        self._taken.append(action)
        if action == _READ:
            self._recipe = recipe(self._state["feedback"]) or self._recipe
        terminated = bool(self._state["won"] or self._state["lost"])
        truncated = not terminated and len(self._taken) >= self.max_episode_steps
        self._running = not (terminated or truncated)
        self._actions = self._admissible()
        reward = (self._state["score"] - before) / self._state["max_score"]
        text, info = self._observe(short_feedback(self._state["feedback"]))
        return text, float(reward), terminated, truncated, info

    def expert_action(self) -> str:
        """The next command of a shortest known way to win from here, wherever the agent went.

        A cookbook in reach is read first. Where nothing can win any more: the first action.
        """
        if _READ in self._actions and not self._recipe:
            return _READ
        if self._expert is None:
            self._expert = _Expert(self._file(self._instance))
        advice = self._expert.advise(self._taken)
        return advice if advice in self._actions else self._actions[0]

    def close(self) -> None:
        """Stop the interpreters."""
        self._forget_expert()
        for game in self._games.values():
            game.close()
        self._games.clear()

    def _file(self, instance: int) -> Path:
        return game_file(self._options, instance, self._workspace, self._progress)

    def _load(self, instance: int) -> Any:
        game = self._games.pop(instance, None) or _start(self._file(instance), expert=False)
        self._games[instance] = game
        if len(self._games) > LOADED_GAMES:
            self._games.pop(next(iter(self._games))).close()
        return game

    def _forget_expert(self) -> None:
        if self._expert is not None:
            self._expert.close()
        self._expert = None

    def _admissible(self) -> tuple[str, ...]:
        commands = self._state["admissible_commands"]
        actions = [c for c in commands if self._options.examine or self._may_change(c)]
        return tuple(actions or commands)

    def _may_change(self, command: str) -> bool:
        if command in ("look", "inventory"):
            return False
        return not command.startswith("examine ") or command in self._needed

    def _observe(self, feedback: str) -> tuple[str, dict[str, Any]]:
        self._space.actions = self._actions
        parts = [
            short_room(self._state["description"]),
            feedback if self._options.feedback else "",
            squeeze(self._state["inventory"]),
            self._recipe,
        ]
        text = " ".join(part for part in parts if part)
        return text, {
            "text": text,
            "goal": self._goal,
            "actions": self._actions,
            "instance": self._instance,
            "success": bool(self._state["won"]),
        }


class _Expert:
    """textworld's planner on a copy of the episode, which catches up when it is asked.

    Planning makes a step several times slower, so the game being played never does it.
    """

    def __init__(self, file: Path) -> None:
        self._game = _start(file, expert=True)
        self._state = self._game.reset()
        self._done = 0

    def advise(self, taken: Sequence[str]) -> str | None:
        """The next command after `taken`, or None if there is no way to win."""
        for command in taken[self._done :]:
            self._state, _, _ = self._game.step(command)
        self._done = len(taken)
        plan = self._state["policy_commands"]
        return plan[0] if plan else None

    def close(self) -> None:
        """Stop the interpreter."""
        self._game.close()


def _start(file: Path, *, expert: bool) -> Any:
    import textworld

    shown = not expert
    infos = textworld.EnvInfos(
        feedback=True, description=shown, inventory=shown, admissible_commands=shown, won=True,
        lost=True, score=True, max_score=True, objective=True, policy_commands=expert,
        extras=["walkthrough"],
    )  # fmt: skip
    with quiet_interpreter():
        return textworld.start(str(file), infos)


def make_textworld(
    env_id: str, split: Split, workspace: Path, options: Any, progress: Any
) -> TextWorldEnv:
    """The factory of the family: `options` say which games."""
    return TextWorldEnv(env_id, split, options, workspace, progress)
