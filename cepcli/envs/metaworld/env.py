"""Meta-World's fifty tasks behind `cepcli.envs.control`.

The package's `reset(seed=...)` is not deterministic, because the task wrapper draws from its own
generator. So the raw class is used, and an instance is one of the hundred tasks that two seeds of
MT1 make: the first fifty are for training, the others held out. Observations include the goal.
"""

from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.envs.admissible import requested_instance
from cepcli.envs.base import Split
from cepcli.envs.control import ControlEnv, check_finite
from cepcli.envs.control_options import MetaWorldOptions
from cepcli.envs.metaworld.specs import HAND_TASKS, spec
from cepcli.envs.simulator import check_stable, fatal_warnings, load, rendered
from cepcli.errors import EnvError

_PER_SPLIT = 50
_SEEDS = {"train": 42, "heldout": 43}
_ABOVE = 0.12  # metres over the object
_OPEN, _CLOSE = -1.0, 1.0
_NEARLY_OPEN = 0.8  # gripper opening from which it holds nothing


class MetaWorldControl(ControlEnv):
    """One task; `success` says whether it has been solved in this episode."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012  (gymnasium's own)
    render_mode = "rgb_array"

    def __init__(self, name: str, split: Split, options: MetaWorldOptions) -> None:
        self.control_spec = spec(name)
        self._name, self._options = name, options
        self._first = 0 if split == "train" else _PER_SPLIT
        self._raw = _raw_class(name)(render_mode="rgb_array", width=320, height=240)
        self._raw.set_task(_tasks(name, split)[0])
        self._warnings = fatal_warnings(self._raw.data)
        self.observation_space = self._raw.observation_space
        self.action_space = self._raw.action_space
        self._instance, self._step, self._solved = 0, 0, False
        self._policy: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[ndarray, " features"], dict[str, Any]]:
        """Start an episode; see the contract for `seed` and `options`."""
        super().reset(seed=seed)
        instance = requested_instance(options)
        if instance is None:
            instance = self._first + int(self.np_random.integers(_PER_SPLIT))
        if instance >= 2 * _PER_SPLIT:
            raise EnvError(
                f"`{self.control_spec.id}` has instances 0 to {2 * _PER_SPLIT - 1}, not {instance}."
            )
        self._instance, self._step, self._solved = instance, 0, False
        tasks = _tasks(self._name, "train" if instance < _PER_SPLIT else "heldout")
        self._raw.set_task(tasks[instance % _PER_SPLIT])
        observation, _ = self._raw.reset()
        return observation, self._info()

    def step(
        self, action: Float[ndarray, " controls"]
    ) -> tuple[Float[ndarray, " features"], float, bool, bool, dict[str, Any]]:
        """One control step.

        Raises:
            EnvError: if the episode is over, the simulation is unstable, or a number of it is not
                finite.
        """
        if self._step >= self.control_spec.max_episode_steps:
            raise EnvError(f"The episode of `{self.control_spec.id}` is over.", "Call reset().")
        observation, reward, _, _, raw = self._raw.step(action)
        self._step += 1
        check_stable(self.control_spec, self._warnings, action)
        check_finite(self.control_spec, observation, float(reward))
        self._solved = self._solved or bool(raw["success"])
        terminated = self._solved and self._options.terminate_on_success
        truncated = self._step >= self.control_spec.max_episode_steps
        return observation, float(reward), terminated, truncated, self._info()

    def nominal(
        self, primitive: int, observation: Float[ndarray, " features"]
    ) -> Float[ndarray, " controls"] | None:
        """A proportional controller towards where the primitive wants the hand, and its grip."""
        if not self._options.nominal:
            return None
        name = self.control_spec.primitives[primitive].name
        hand, item, goal = observation[0:3], observation[4:7], observation[36:39]
        held = _CLOSE if observation[3] < _NEARLY_OPEN else _OPEN
        aims = {
            "move above the object": item + np.array([0.0, 0.0, _ABOVE]) - hand,
            "reach the object": item - hand,
            "lower the hand": np.array([0.0, 0.0, -_ABOVE]),
            "raise the hand": np.array([0.0, 0.0, _ABOVE]),
            "move to the goal": goal - (hand if self._name in HAND_TASKS else item),
        }
        grips = {
            "move above the object": _OPEN,
            "reach the object": _OPEN,
            "open the gripper": _OPEN,
            "close the gripper": _CLOSE,
            "move to the goal": _CLOSE,
        }
        moved = self._options.gain * aims.get(name, np.zeros(3))
        return np.clip([*moved, grips.get(name, held)], -1.0, 1.0)

    def expert_control(
        self, observation: Float[ndarray, " features"]
    ) -> Float[ndarray, " controls"]:
        """The package's scripted policy, clipped to what the environment takes."""
        if self._policy is None:
            from metaworld.policies import ENV_POLICY_MAP

            self._policy = ENV_POLICY_MAP[_package_name(self._name)]()
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "constants may be too high": clipped
            return np.clip(self._policy.get_action(observation), -1.0, 1.0)

    def render(self) -> ndarray:
        """The present frame, uint8 [height, width, 3].

        Raises:
            EnvError: where there is no OpenGL.
        """
        return rendered(self._raw.render)

    def snapshot(self) -> Float[ndarray, " numbers"]:
        """Joint positions and velocities, and where the hand is being pulled to."""
        data = self._raw.data
        parts = (data.qpos, data.qvel, data.mocap_pos.ravel(), data.mocap_quat.ravel())
        return np.concatenate(parts)

    def restore(self, snapshot: Float[ndarray, " numbers"]) -> None:
        """Put the simulator into a state of the present instance that `snapshot` gave."""
        model, data = self._raw.model, self._raw.data
        ends = np.cumsum([model.nq, model.nv, 3 * model.nmocap])
        positions, velocities, places, turns = np.split(snapshot, ends)
        data.mocap_pos[:], data.mocap_quat[:] = places.reshape(-1, 3), turns.reshape(-1, 4)
        self._raw.set_state(positions, velocities)

    def close(self) -> None:
        """Release the simulator."""
        self._raw.close()

    def _info(self) -> dict[str, Any]:
        goal = self.control_spec.goal
        return {"goal": goal, "instance": self._instance, "success": self._solved}


def _package_name(name: str) -> str:
    return f"{name}-v3"


def _raw_class(name: str) -> Any:
    return load("metaworld.env_dict").ALL_V3_ENVIRONMENTS[_package_name(name)]


@cache
def _tasks(name: str, split: Split) -> list[Any]:
    """The instances of a split, in order; the package takes a third of a second to draw them."""
    return load("metaworld").MT1(_package_name(name), seed=_SEEDS[split]).train_tasks
