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

from typing_extensions import override

from cepcli.envs.base import Split, TextGame
from cepcli.envs.textworld.make import GameOptions, game_file, quiet_interpreter
from cepcli.envs.textworld.text import recipe, short_feedback, short_goal, short_room, squeeze

#: Games that an environment keeps loaded (about 2 MB each); the least recently played goes first.
LOADED_GAMES = 16
_READ = "examine cookbook"


class TextWorldEnv(TextGame):
    """A family of TextWorld games. An instance is the seed that its game was generated with."""

    family = "textworld"

    def __init__(
        self,
        env_id: str,
        split: Split,
        workspace: Path,
        options: GameOptions,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(env_id, options.seeds(split), options.max_episode_steps)
        self._options, self._workspace, self._progress = options, workspace, progress
        self._games: dict[int, Any] = {}
        self._planner: _PlannerOnCopy | None = None
        self._recipe = ""
        self._needed: set[str] = set()
        self._state: Any = None

    @override
    def start(self, instance: int) -> str:
        """Start the game, which is made first if the workspace does not have it."""
        self._state = self._load(instance).reset()
        self._needed = set(self._state["extra.walkthrough"] or ()) | {_READ}
        self._recipe = ""
        self._forget_planner()
        return short_goal(self._state["objective"])

    @override
    def act(self, action: str) -> tuple[float, bool]:
        """Send a command; the reward is its share of the game's maximum score."""
        before = self._state["score"]
        self._state, _, _ = self._games[self.instance].step(action)
        if action == _READ:
            self._recipe = recipe(self._state["feedback"]) or self._recipe
        reward = (self._state["score"] - before) / self._state["max_score"]
        return float(reward), bool(self._state["won"] or self._state["lost"])

    @override
    def observe(self) -> tuple[str, list[str], bool]:
        state, told = self._state, self._options.feedback and self.taken
        parts = [
            short_room(state["description"]),
            short_feedback(state["feedback"]) if told else "",
            squeeze(state["inventory"]),
            self._recipe,
        ]
        commands = state["admissible_commands"]
        actions = [c for c in commands if self._options.examine or self._may_change(c)]
        text = " ".join(part for part in parts if part)
        return text, actions or commands, bool(state["won"])

    @override
    def expert_action(self) -> str:
        """The next command of a shortest known way to win from here, wherever the agent went.

        A cookbook in reach is read first. Where nothing can win any more: the first action.
        """
        actions = self._space.actions
        if _READ in actions and not self._recipe:
            return _READ
        if self._planner is None:
            self._planner = _PlannerOnCopy(self._file(self.instance))
        advice = self._planner.advise(self.taken)
        return advice if advice in actions else actions[0]

    @override
    def close(self) -> None:
        self._forget_planner()
        for game in self._games.values():
            game.close()
        self._games.clear()

    def _file(self, instance: int) -> Path:
        return game_file(self._options, instance, self._workspace, self._progress)

    def _load(self, instance: int) -> Any:
        game = self._games.pop(instance, None) or _start(self._file(instance), planner=False)
        self._games[instance] = game
        if len(self._games) > LOADED_GAMES:
            self._games.pop(next(iter(self._games))).close()
        return game

    def _forget_planner(self) -> None:
        if self._planner is not None:
            self._planner.close()
        self._planner = None

    def _may_change(self, command: str) -> bool:
        if command in ("look", "inventory"):
            return False
        return not command.startswith("examine ") or command in self._needed


class _PlannerOnCopy:
    """textworld's planner on a copy of the episode, which catches up when it is asked.

    Planning makes a step several times slower, so the game being played never does it.
    """

    def __init__(self, file: Path) -> None:
        self._game = _start(file, planner=True)
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


def _start(file: Path, *, planner: bool) -> Any:
    import textworld

    shown = not planner
    infos = textworld.EnvInfos(
        feedback=True, description=shown, inventory=shown, admissible_commands=shown, won=True,
        lost=True, score=True, max_score=True, objective=True, policy_commands=planner,
        extras=["walkthrough"],
    )  # fmt: skip
    with quiet_interpreter():
        return textworld.start(str(file), infos)
