"""Meta-World's fifty tasks behind `cepcli.envs.control`.

The package's `reset(seed=...)` is not deterministic, because the task wrapper draws from its own
generator. So the raw class is used, and an instance is one of the hundred tasks that two seeds of
MT1 make: the first fifty are for training, the others held out. The observation is the package's:
eighteen numbers of now, the same of one step ago, and the goal's position, as in MT1.
"""

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from typing_extensions import override

from cepcli.config import POSITIVE, Settings, setting
from cepcli.envs.base import Split
from cepcli.envs.control import ControlSpec, Feature, Primitive
from cepcli.envs.simulator import SimulatorEnv, load
from cepcli.errors import EnvError

#: Task text by name; the package's ids are these with "-v3".
TASKS = {
    "assembly": "put the ring onto the peg",
    "basketball": "put the ball into the basket",
    "bin-picking": "move the block from one bin into the other",
    "box-close": "put the lid onto the box",
    "button-press": "press the button on the front",
    "button-press-topdown": "press the button from above",
    "button-press-topdown-wall": "reach over the wall and press the button from above",
    "button-press-wall": "reach round the wall and press the button",
    "coffee-button": "press the button of the coffee machine",
    "coffee-pull": "pull the mug away from the coffee machine",
    "coffee-push": "push the mug under the coffee machine",
    "dial-turn": "turn the dial",
    "disassemble": "take the ring off the peg",
    "door-close": "close the door",
    "door-lock": "turn the lock of the door to lock it",
    "door-open": "open the door by its handle",
    "door-unlock": "turn the lock of the door to unlock it",
    "drawer-close": "push the drawer shut",
    "drawer-open": "pull the drawer open by its handle",
    "faucet-close": "turn the faucet off",
    "faucet-open": "turn the faucet on",
    "hammer": "hammer the nail into the wall",
    "hand-insert": "put the hand into the hole",
    "handle-press": "press the handle down",
    "handle-press-side": "press the handle at the side down",
    "handle-pull": "pull the handle up",
    "handle-pull-side": "pull the handle at the side up",
    "lever-pull": "pull the lever up",
    "peg-insert-side": "put the peg into the hole at the side",
    "peg-unplug-side": "pull the peg out of the hole at the side",
    "pick-out-of-hole": "take the puck out of the hole",
    "pick-place": "pick up the puck and bring it to the goal",
    "pick-place-wall": "pick up the puck and bring it over the wall to the goal",
    "plate-slide": "slide the plate into the cabinet",
    "plate-slide-back": "slide the plate back out of the cabinet",
    "plate-slide-back-side": "slide the plate sideways out of the cabinet",
    "plate-slide-side": "slide the plate sideways into the cabinet",
    "push": "push the puck to the goal",
    "push-back": "pull the puck back to the goal",
    "push-wall": "push the puck round the wall to the goal",
    "reach": "move the hand to the goal",
    "reach-wall": "move the hand round the wall to the goal",
    "shelf-place": "put the block onto the shelf",
    "soccer": "kick the ball into the goal",
    "stick-pull": "pull the box with the stick",
    "stick-push": "push the box with the stick",
    "sweep": "sweep the block off the table",
    "sweep-into": "sweep the block into the hole",
    "window-close": "slide the window shut by its handle",
    "window-open": "slide the window open by its handle",
}

#: Tasks in which the hand itself is to be at the goal.
HAND_TASKS = frozenset({"reach", "reach-wall", "hand-insert"})

#: Tasks whose object is fixed or only shoved: the hand goes straight to it and on to the goal.
PUSH_TASKS = frozenset({
    "button-press", "coffee-button", "coffee-push", "door-close", "door-lock", "lever-pull",
    "peg-unplug-side", "plate-slide-back", "plate-slide-back-side",
})  # fmt: skip

#: Tasks whose quaternions begin with w, as MuJoCo's do, and not end with it, as SciPy's do.
W_FIRST = frozenset({
    "assembly", "basketball", "bin-picking", "box-close", "button-press", "button-press-topdown",
    "button-press-topdown-wall", "button-press-wall", "coffee-button", "dial-turn", "disassemble",
    "door-lock", "door-unlock", "drawer-open", "faucet-close", "faucet-open", "hammer",
    "hand-insert", "peg-unplug-side", "pick-out-of-hole", "sweep",
})  # fmt: skip


def _moment(prefix: str, when: str, order: str) -> tuple[Feature, ...]:
    """The eighteen numbers of one moment; the names of a quaternion's are the family's."""
    found = [Feature(f"{prefix}hand_{axis}", "m", f"hand position along {axis}{when}")
             for axis in "xyz"]  # fmt: skip
    found.append(Feature(f"{prefix}gripper_opening", "1", f"0 closed to 1 open{when}"))
    for which, label in (("object", "object"), ("second_object", "second object, 0 without one")):
        found += [Feature(f"{prefix}{which}_{axis}", "m", f"{label}: position along {axis}{when}")
                  for axis in "xyz"]  # fmt: skip
        found += [Feature(f"{prefix}{which}_q{part}", "1", f"{label}: quaternion {meant}{when}")
                  for part, meant in zip("xyzw", order, strict=True)]  # fmt: skip
    return tuple(found)


def _features(order: str) -> tuple[Feature, ...]:
    return (
        *_moment("", "", order),
        *_moment("previous_", ", one step ago", order),
        *(Feature(f"goal_{axis}", "m", f"goal position along {axis}") for axis in "xyz"),
    )


_BY_SCIPY, _BY_MUJOCO = _features("xyzw"), _features("wxyz")

PRIMITIVES = (
    Primitive("move above the object", "bring the open hand over the object"),
    Primitive("reach the object", "bring the open hand to the object"),
    Primitive("lower the hand", "straight down"),
    Primitive("raise the hand", "straight up"),
    Primitive("close the gripper", "and stay where the hand is"),
    Primitive("open the gripper", "and stay where the hand is"),
    Primitive("move to the goal", "carry, push or pull the object to the goal, or go there"),
    Primitive("hold still", "keep hand and gripper as they are"),
)


def spec(name: str) -> ControlSpec:
    """The spec of `metaworld/NAME`; a KeyError if there is no such task."""
    return ControlSpec(
        id=f"metaworld/{name}",
        family="metaworld",
        goal=TASKS[name],
        summary=TASKS[name],
        features=_BY_MUJOCO if name in W_FIRST else _BY_SCIPY,
        primitives=PRIMITIVES,
        controls=4,
        max_episode_steps=500,
        solvable=True,
    )


@dataclass(frozen=True, slots=True)
class MetaWorldOptions(Settings):
    """How a Meta-World task is played."""

    terminate_on_success: bool = setting(False, "end the episode at success; the benchmark goes on")
    nominal: bool = setting(
        True, "primitives suggest controls, on which the actor learns a residual"
    )
    gain: float = setting(10.0, "control per metre of distance of those, 1/m", POSITIVE)


_PER_SPLIT = 50
_SEEDS = {"train": 42, "heldout": 43}
_ABOVE = 0.12  # metres over the object
_OPEN, _CLOSE = -1.0, 1.0
_NEARLY_OPEN = 0.8  # gripper opening from which it holds nothing


@cache
def _tasks(name: str, split: Split) -> list[Any]:
    """The instances of a split, in order; the package takes a third of a second to draw them."""
    return load("metaworld").MT1(f"{name}-v3", seed=_SEEDS[split]).train_tasks


class MetaWorldControl(SimulatorEnv):
    """One task; `success` says whether it has been solved in this episode."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012  (gymnasium's own)

    def __init__(
        self, env_id: str, split: Split, workspace: Path, options: MetaWorldOptions, progress: Any
    ) -> None:
        self._name, self._options = env_id.partition("/")[2], options
        raw_class = load("metaworld.env_dict").ALL_V3_ENVIRONMENTS[f"{self._name}-v3"]
        raw = raw_class(render_mode="rgb_array", width=320, height=240)
        raw.set_task(_tasks(self._name, split)[0])
        first = 0 if split == "train" else _PER_SPLIT
        super().__init__(spec(self._name), raw, range(first, first + _PER_SPLIT))
        self._policy: Any = None

    @override
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

    @override
    def expert_control(
        self, observation: Float[ndarray, " features"]
    ) -> Float[ndarray, " controls"]:
        """The package's scripted policy, clipped to what the environment takes."""
        if self._policy is None:
            from metaworld.policies import ENV_POLICY_MAP

            self._policy = ENV_POLICY_MAP[f"{self._name}-v3"]()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "constants may be too high": clipped
            return np.clip(self._policy.get_action(observation), -1.0, 1.0)

    @override
    def snapshot(self) -> Float[ndarray, " numbers"]:
        """Joint positions and velocities, and where the hand is being pulled to."""
        data = self.simulator.data
        parts = (data.qpos, data.qvel, data.mocap_pos.ravel(), data.mocap_quat.ravel())
        return np.concatenate(parts)

    @override
    def restore(self, snapshot: Float[ndarray, " numbers"]) -> None:
        model, data = self.simulator.model, self.simulator.data
        ends = np.cumsum([model.nq, model.nv, 3 * model.nmocap])
        positions, velocities, places, turns = np.split(snapshot, ends)
        data.mocap_pos[:], data.mocap_quat[:] = places.reshape(-1, 3), turns.reshape(-1, 4)
        self.simulator.set_state(positions, velocities)

    @override
    def _start(self, instance: int) -> Float[ndarray, " features"]:
        if instance >= 2 * _PER_SPLIT:
            raise EnvError(
                f"`{self.control_spec.id}` has instances 0 to {2 * _PER_SPLIT - 1}, not {instance}."
            )
        tasks = _tasks(self._name, "train" if instance < _PER_SPLIT else "heldout")
        self.simulator.set_task(tasks[instance % _PER_SPLIT])
        return self.simulator.reset()[0]

    @override
    def _terminated(self, terminated: bool) -> bool:
        return self._solved and self._options.terminate_on_success
