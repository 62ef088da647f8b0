"""Following episodes of a control environment so that any moment of one can be played again."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.envs.boundary import guarded
from cepcli.envs.control import ControlEnv


class Answer(NamedTuple):
    """What a simulator said to a control."""

    control: Float[ndarray, " controls"]
    observation: Float[ndarray, " features"]
    reward: float
    terminated: bool
    truncated: bool
    success: bool


class ControlTracker:
    """A control environment with its current state, the symbol held, and the way back here.

    An instance and the controls applied determine where an episode stands, so a checkpoint holds
    those, and restoring applies them again.

    Attributes:
        symbol: index of the symbolic action held; None where the next one is to be chosen.
        held: control steps for which it has been held.
        actions: the controls of this episode.
    """

    def __init__(self, env: ControlEnv, seed: int) -> None:
        self.env = guarded(env)
        self.episodes = 0
        self._offered_for: Float[ndarray, " features"] | None = None
        self._offered: Float[ndarray, "symbols controls"] | None = None
        self._begin(*self.env.reset(seed=seed))

    def _begin(self, observation: Float[ndarray, " features"], info: dict[str, Any]) -> None:
        self.observation = observation
        self.goal: str = info["goal"]
        self.instance: int = info["instance"]
        self.actions: list[Float[ndarray, " controls"]] = []
        self.episode_return = 0.0
        self.success = False
        self.symbol: int | None = None
        self.held = 0

    @property
    def solvable(self) -> bool:
        """Whether `success` means anything here."""
        return self.env.control_spec.solvable

    def choose(self, symbol: int) -> None:
        """Hold this symbol from here on."""
        self.symbol, self.held = symbol, 0

    def release(self) -> None:
        """Let the next symbol be chosen."""
        self.symbol = None

    def nominals(self) -> Float[ndarray, "symbols controls"] | None:
        """What each symbol suggests here, zeros where it suggests nothing; None if none does."""
        if self._offered_for is not self.observation:
            self._offered_for, self._offered = self.observation, self._suggested()
        return self._offered

    def _suggested(self) -> Float[ndarray, "symbols controls"] | None:
        env = self.env
        offered = [env.nominal(i, self.observation) for i in range(len(env.control_spec.actions))]
        if all(control is None for control in offered):
            return None
        nothing = np.zeros(env.control_spec.controls)
        return np.stack([nothing if control is None else control for control in offered])

    def apply(self, control: Float[ndarray, " controls"]) -> Answer:
        """What the simulator says to a control; the tracker stays where it is until `take`.

        Raises:
            EnvError: if the simulator fails, or answers with numbers that are not finite.
        """
        observation, reward, terminated, truncated, info = self.env.step(control)
        return Answer(
            control,
            observation,
            float(reward),
            bool(terminated),
            bool(truncated),
            bool(info["success"]),
        )

    def take(self, answer: Answer) -> None:
        """Go where the simulator went."""
        self.observation = answer.observation
        self.actions.append(answer.control)
        self.held += 1
        self.episode_return += answer.reward
        self.success = self.success or answer.success

    def step(self, control: Float[ndarray, " controls"]) -> tuple[float, bool, bool]:
        """Apply a control and go there: reward, terminated, truncated.

        Raises:
            EnvError: if the simulator answers with numbers that are not finite; what the tracker
                remembers is then still the state before.
        """
        answer = self.apply(control)
        self.take(answer)
        return answer.reward, answer.terminated, answer.truncated

    def next_episode(self) -> None:
        """Begin the next episode.

        Raises:
            EnvError: if it begins with numbers that are not finite; the tracker stays where it is.
        """
        self._begin(*self.env.reset())
        self.episodes += 1

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to stand here again, as JSON values."""
        return {
            "instance": self.instance,
            "actions": [control.tolist() for control in self.actions],
            "episodes": self.episodes,
            "np_random": self.env.np_random.bit_generator.state,
            "symbol": self.symbol,
            "held": self.held,
        }

    def restore(self, snapshot: dict[str, Any], *, ask_expert: bool = False) -> None:
        """Stand where `snapshot` was taken; no expert of control is stateful.

        At the end of an episode, where the next one could not begin, the one after it does.
        """
        self._begin(*self.env.reset(options={"instance": snapshot["instance"]}))
        ended = False
        for control in snapshot["actions"]:
            _, terminated, truncated = self.step(np.array(control, np.float32))
            ended = terminated or truncated
        self.episodes = snapshot["episodes"]
        self.env.np_random.bit_generator.state = snapshot["np_random"]
        self.symbol, self.held = snapshot["symbol"], snapshot["held"]
        if ended:
            self.next_episode()
