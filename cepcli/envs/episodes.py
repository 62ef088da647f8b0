"""Follow episodes of an environment, of which each moment can be restored; play many side by side.

An instance and the actions taken determine where an episode stands, so a checkpoint holds those,
and restoring plays them again. An environment that fails leaves its tracker in the state before.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from cepcli.envs.base import SymbolicEnv, text_state
from cepcli.envs.boundary import guarded
from cepcli.envs.control import ControlEnv
from cepcli.errors import EnvError
from cepcli.seeding import stream_seed, torch_generator
from cepcli.types import TextState


class EpisodeTracker:
    """A text environment with its current state, and what is needed to come back to it."""

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
            EnvError: if the environment fails or breaks its contract.
        """
        _, reward, terminated, truncated, info = self.env.step(action)
        self.state = text_state(info)
        self.actions.append(action)
        self.episode_return += float(reward)
        self.success = bool(info["success"])
        return float(reward), bool(terminated), bool(truncated)

    def next_episode(self) -> None:
        """Begin the next episode; see `step` for errors."""
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


class ControlStep(NamedTuple):
    """A control, and what the simulator made of it."""

    control: Float[ndarray, " controls"]
    observation: Float[ndarray, " features"]
    reward: float
    terminated: bool
    truncated: bool
    success: bool


class ControlTracker:
    """A control environment with its current state, the symbol held, and the way back here.

    Attributes:
        symbol: index of the symbolic action held; None where the next one is to be chosen.
        held: control steps for which it has been held.
        actions: the controls of this episode.
    """

    def __init__(self, env: ControlEnv, seed: int) -> None:
        self.env = guarded(env)
        self.episodes = 0
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
        self._suggested_at: Float[ndarray, " features"] | None = None
        self._suggested: Float[ndarray, "symbols controls"] | None = None

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
        if self._suggested_at is not self.observation:
            spec = self.env.control_spec
            found = [self.env.nominal(i, self.observation) for i in range(len(spec.actions))]
            self._suggested_at, self._suggested = self.observation, None
            if any(control is not None for control in found):
                nothing = np.zeros(spec.controls)
                self._suggested = np.stack([nothing if c is None else c for c in found])
        return self._suggested

    def apply(self, control: Float[ndarray, " controls"]) -> ControlStep:
        """What the simulator makes of a control; the tracker stays where it is until `take`.

        Raises:
            EnvError: if the simulator fails, or a number of its answer is not finite.
        """
        observation, reward, terminated, truncated, info = self.env.step(control)
        flags = bool(terminated), bool(truncated), bool(info["success"])
        return ControlStep(control, observation, float(reward), *flags)

    def take(self, step: ControlStep) -> None:
        """Go where the simulator went."""
        self.observation = step.observation
        self.actions.append(step.control)
        self.held += 1
        self.episode_return += step.reward
        self.success = self.success or step.success

    def step(self, control: Float[ndarray, " controls"]) -> tuple[float, bool, bool]:
        """Apply a control and go there: reward, terminated, truncated; see `apply` for errors."""
        step = self.apply(control)
        self.take(step)
        return step.reward, step.terminated, step.truncated

    def next_episode(self) -> None:
        """Begin the next episode; see `apply` for errors."""
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
        """As `EpisodeTracker.restore`; no expert of control is stateful."""
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


#: Follows the episodes of an environment of text or of control.
Tracker = EpisodeTracker | ControlTracker


class RunningEpisode(NamedTuple):
    """An episode among others: its number, where it stands, and a generator of its own."""

    episode: int
    tracker: Tracker
    noise: torch.Generator


def play_episodes(
    envs: Sequence[SymbolicEnv] | Sequence[ControlEnv],
    episodes: int,
    seed: int,
    act: Callable[[list[RunningEpisode]], Sequence[Any]],
    before_round: Callable[[int], None] = lambda done: None,
) -> list[Tracker]:
    """Play held-out episodes, as many at once as there are environments; where each ended.

    Every call plays the same ones with the same noise: an episode has its own seeds, and neither
    the number of environments nor the other episodes matter to it.

    Args:
        envs: the environments.
        episodes: how many.
        seed: of the run that is evaluated.
        act: the actions of the running episodes, in their order; one call for a state of each.
        before_round: told how many episodes have ended; what it raises ends all of them.
    """
    waiting, idle = list(range(episodes)), list(envs)
    running: list[RunningEpisode] = []
    done: dict[int, Tracker] = {}
    while waiting or running:
        while waiting and idle:
            running.append(_started(waiting.pop(0), idle.pop(), seed))
        before_round(len(done))
        still_running = []
        for one, action in zip(running, act(running), strict=True):
            _, terminated, truncated = one.tracker.step(action)
            if terminated or truncated:
                done[one.episode] = one.tracker
                idle.append(one.tracker.env)
            else:
                still_running.append(one)
        running = still_running
    return [done[episode] for episode in range(episodes)]


def _started(episode: int, env: SymbolicEnv | ControlEnv, seed: int) -> RunningEpisode:
    stream = f"eval/{episode}"
    first = stream_seed(seed, stream) % 2**31
    controlled = isinstance(env, ControlEnv)
    tracker = ControlTracker(env, first) if controlled else EpisodeTracker(env, first)
    return RunningEpisode(episode, tracker, torch_generator(seed, stream))


def stopped_in_evaluation(step: int, error: EnvError) -> EnvError:
    """What a training run says of an environment that failed in its evaluation at that step."""
    hint = "The checkpoint holds the state before it; `cep runs resume` tries it again."
    return EnvError(
        f"Training stopped in the evaluation at step {step}: {error.message}",
        f"{hint} {error.hint}".rstrip(),
    )
