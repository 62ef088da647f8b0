"""Following episodes of one environment so that any moment of one can be played again."""

from typing import Any

from cepcli.envs.base import SymbolicEnv, text_state
from cepcli.envs.boundary import guarded
from cepcli.types import TextState


class EpisodeTracker:
    """An environment with its current state, and what is needed to come back to it.

    An instance and the actions taken determine where an episode stands, so a checkpoint holds
    those, and restoring plays them again.
    """

    #: Whether `success` means anything here.
    solvable = True

    def __init__(self, env: SymbolicEnv, seed: int) -> None:
        self.env = guarded(env)
        self.episodes = 0
        self._begin(self.env.reset(seed=seed)[1])

    def _begin(self, info: dict[str, Any]) -> None:
        self.state: TextState = text_state(info)
        self.instance: int = info["instance"]
        self.actions: list[str] = []
        self.episode_return = 0.0
        self.success = False

    def step(self, action: str) -> tuple[float, bool, bool]:
        """Take an action: reward, terminated, truncated.

        Raises:
            EnvError: if the environment fails, or answers with something that the contract does not
                have; what the tracker remembers is then still the state before.
        """
        _, reward, terminated, truncated, info = self.env.step(action)
        self.state = text_state(info)
        self.actions.append(action)
        self.episode_return += float(reward)
        self.success = bool(info["success"])
        return float(reward), bool(terminated), bool(truncated)

    def next_episode(self) -> None:
        """Begin the next episode.

        Raises:
            EnvError: if it does not begin; the tracker stays where it is.
        """
        self._begin(self.env.reset()[1])
        self.episodes += 1

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to stand here again, as JSON values."""
        return {
            "instance": self.instance,
            "actions": list(self.actions),
            "episodes": self.episodes,
            "np_random": self.env.np_random.bit_generator.state,
        }

    def restore(self, snapshot: dict[str, Any], *, ask_expert: bool = False) -> None:
        """Stand where `snapshot` was taken; `ask_expert` lets a stateful expert follow along.

        At the end of an episode, where the next one could not begin, the one after it does.
        """
        self._begin(self.env.reset(options={"instance": snapshot["instance"]})[1])
        ended = False
        for action in snapshot["actions"]:
            if ask_expert:
                self.env.expert_action()
            _, terminated, truncated = self.step(action)
            ended = terminated or truncated
        self.episodes = snapshot["episodes"]
        self.env.np_random.bit_generator.state = snapshot["np_random"]
        if ended:
            self.next_episode()
