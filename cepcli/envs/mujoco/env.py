"""HalfCheetah, Walker2d and Ant: Gymnasium's v5 environments behind `cepcli.envs.control`.

The environments are made bare, without `gym.make`'s checking wrappers, and their time limit is kept
here. An instance is the seed of Gymnasium's own reset.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.envs.admissible import requested_instance
from cepcli.envs.base import Split
from cepcli.envs.control import ControlEnv, check_finite
from cepcli.envs.mujoco.specs import SPECS
from cepcli.envs.simulator import check_stable, fatal_warnings, load, rendered
from cepcli.errors import EnvError

if TYPE_CHECKING:
    from gymnasium.envs.mujoco import MujocoEnv

#: Training instances are seeds below this, held-out ones start here and end below twice this.
HELDOUT_FROM = 2**30

_CLASSES = {
    "halfcheetah": ("half_cheetah_v5", "HalfCheetahEnv"),
    "walker2d": ("walker2d_v5", "Walker2dEnv"),
    "ant": ("ant_v5", "AntEnv"),
}


class MujocoControl(ControlEnv):
    """One of Gymnasium's MuJoCo environments; `success` is always false, for there is no goal."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  (gymnasium's own)
    render_mode = "rgb_array"

    def __init__(self, name: str, split: Split) -> None:
        self.control_spec = SPECS[name]
        self._first = 0 if split == "train" else HELDOUT_FROM
        self._bare = _make(name)
        self._warnings = fatal_warnings(self._bare.data)
        self.observation_space = self._bare.observation_space
        self.action_space = self._bare.action_space
        self._instance, self._step = 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[ndarray, " features"], dict[str, Any]]:
        """Start an episode; see the contract for `seed` and `options`."""
        super().reset(seed=seed)
        instance = requested_instance(options)
        if instance is None:
            instance = self._first + int(self.np_random.integers(HELDOUT_FROM))
        self._instance, self._step = instance, 0
        observation, _ = self._bare.reset(seed=instance)
        return observation, self._info()

    def step(
        self, action: Float[ndarray, " controls"]
    ) -> tuple[Float[ndarray, " features"], float, bool, bool, dict[str, Any]]:
        """One control step.

        Raises:
            EnvError: if the simulation is unstable, or gives a number that is not finite, or the
                episode has reached its time limit.
        """
        if self._step >= self.control_spec.max_episode_steps:
            raise EnvError(f"The episode of `{self.control_spec.id}` is over.", "Call reset().")
        observation, reward, terminated, _, _ = self._bare.step(action)
        self._step += 1
        check_stable(self.control_spec, self._warnings, action)
        check_finite(self.control_spec, observation, float(reward))
        truncated = self._step >= self.control_spec.max_episode_steps
        return observation, float(reward), bool(terminated), truncated, self._info()

    def nominal(
        self, primitive: int, observation: Float[ndarray, " features"]
    ) -> Float[ndarray, " controls"] | None:
        """None: how to run is left to the actor."""
        return None

    def render(self) -> ndarray:
        """The present frame, uint8 [height, width, 3].

        Raises:
            EnvError: where there is no OpenGL.
        """
        return rendered(self._bare.render)

    def snapshot(self) -> Float[ndarray, " numbers"]:
        """Positions, then velocities, of every joint."""
        return np.concatenate([self._bare.data.qpos, self._bare.data.qvel])

    def restore(self, snapshot: Float[ndarray, " numbers"]) -> None:
        """Put the simulator into a state that `snapshot` gave."""
        positions = self._bare.model.nq
        self._bare.set_state(snapshot[:positions], snapshot[positions:])

    def close(self) -> None:
        """Release the simulator."""
        self._bare.close()

    def _info(self) -> dict[str, Any]:
        return {"goal": self.control_spec.goal, "instance": self._instance, "success": False}


def _make(name: str) -> "MujocoEnv":
    module, found = _CLASSES[name]
    made = getattr(load(f"gymnasium.envs.mujoco.{module}"), found)
    environment: MujocoEnv = made(render_mode="rgb_array", width=320, height=240)
    return environment
