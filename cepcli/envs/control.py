"""The contract of continuous control: a Gymnasium environment whose numbers have names.

A `ControlEnv` takes controls in [-1, 1] and returns float64 observations. What each number of the
observation means is in its `ControlSpec`, and so are the symbolic actions: motion primitives, of
which an agent holds one for several control steps. `info` (from `reset` and `step` alike) carries

- `goal`: str, the task text;
- `instance`: int, which instance is being played; `reset(options={"instance": i})` plays exactly
  that one again, and draws nothing from `np_random`;
- `success`: bool, whether the task has been solved in this episode; false where there is nothing to
  be solved.

`reset(seed=...)` seeds `np_random`, from which each later `reset()` draws the next instance, so two
environments with one seed play the same episodes. Turning observations into text is not an
environment's business: see `cepcli.abstraction`.
"""

import hashlib
import math
from abc import abstractmethod
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.errors import EnvError


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of an observation.

    Attributes:
        name: short and unique, "torso_pitch".
        unit: "m", "rad", "m/s", "rad/s", "N", "1" for a pure number.
        meaning: in words, with the sign: "angle of the torso, positive leans forward".
    """

    name: str
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Primitive:
    """A symbolic action of continuous control.

    Attributes:
        name: what the prior scores: "push off with the left leg".
        meaning: one line for people who annotate.
    """

    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """What is known of a control environment without making it.

    Attributes:
        id: what the user types, "walker2d" or "metaworld/reach".
        family: names prompt template, annotations and cache namespace: halfcheetah, walker2d, ant
            or metaworld.
        goal: the task text.
        summary: one line for `cep envs list`.
        features: of the observation, in order.
        primitives: the symbolic vocabulary, 6 to 10.
        controls: numbers of a control.
        max_episode_steps: control steps after which an episode is truncated.
        solvable: whether an episode can be solved; else its return alone says how it went.
    """

    id: str
    family: str
    goal: str
    summary: str
    features: tuple[Feature, ...]
    primitives: tuple[Primitive, ...]
    controls: int
    max_episode_steps: int
    solvable: bool

    @property
    def actions(self) -> tuple[str, ...]:
        """The names of the primitives, as the prior takes them."""
        return tuple(primitive.name for primitive in self.primitives)

    @property
    def feature_sha256(self) -> str:
        """Identity of the feature list: names and units, in order."""
        listed = "\n".join(f"{feature.name} {feature.unit}" for feature in self.features)
        return hashlib.sha256(listed.encode()).hexdigest()


class ControlEnv(gym.Env[ndarray, ndarray]):
    """Base of every control environment; see the module docstring for the contract."""

    #: What is known of it.
    control_spec: ControlSpec

    @abstractmethod
    def nominal(
        self, primitive: int, observation: Float[ndarray, " features"]
    ) -> Float[ndarray, " controls"] | None:
        """The control that a primitive suggests here, in [-1, 1]; None where it suggests none.

        An agent learns a residual on it.
        """

    def expert_control(
        self, observation: Float[ndarray, " features"]
    ) -> Float[ndarray, " controls"] | None:
        """A scripted expert's control; None where there is no such expert."""
        return None

    def snapshot(self) -> Float[ndarray, " numbers"]:
        """The simulator's own state, for `restore`; empty where it cannot be had."""
        return np.zeros(0)

    def restore(self, snapshot: Float[ndarray, " numbers"]) -> None:
        """Put the simulator into a state of the instance that was last reset, to render it."""
        raise EnvError(f"`{self.control_spec.id}` cannot be put into a given state.")


#: Rewards are kept in single precision.
LARGEST_REWARD = float(np.finfo(np.float32).max)


def check_finite(
    spec: ControlSpec, observation: Float[ndarray, " features"], reward: float, where: str = ""
) -> None:
    """Raise an EnvError that names the number which is NaN, infinite or a reward beyond floats."""
    if not abs(reward) <= LARGEST_REWARD:
        raise EnvError(f"The simulator of `{spec.id}` gave the reward {reward}{where}.")
    if math.isfinite(observation.dot(observation)):
        return
    for feature, value in zip(spec.features, observation.tolist(), strict=True):
        if not math.isfinite(value):
            raise EnvError(
                f"The simulator of `{spec.id}` gave {value} for `{feature.name}` "
                f"({feature.meaning}){where}."
            )
