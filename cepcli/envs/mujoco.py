"""HalfCheetah, Walker2d and Ant: Gymnasium's v5 environments behind `cepcli.envs.control`.

The environments are made bare, without `gym.make`'s checking wrappers. An instance is the seed of
Gymnasium's own reset. Order and units of the features are those of Gymnasium's documentation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from typing_extensions import override

from cepcli.envs.base import SEEDS_PER_SPLIT, Split
from cepcli.envs.control import ControlSpec, Feature, Primitive
from cepcli.envs.simulator import SimulatorEnv, load

_STEPS = 1000


def _joints(signs: Mapping[str, str]) -> tuple[Feature, ...]:
    """Angles, counted from the model's resting pose, by joint with what a positive one means."""
    return tuple(
        Feature(f"{name}_angle".replace(" ", "_"), "rad", f"angle of the {name} joint, {sign}")
        for name, sign in signs.items()
    )


def _joint_speeds(names: Iterable[str]) -> tuple[Feature, ...]:
    """Angular velocities, of the same sign as the angles."""
    return tuple(
        Feature(f"{name}_speed".replace(" ", "_"), "rad/s", f"angular velocity of the {name} joint")
        for name in names
    )


_PLANAR_MOTION = (
    Feature("forward_speed", "m/s", "velocity of the torso along x, positive runs forward"),
    Feature("vertical_speed", "m/s", "velocity of the torso along z, positive rises"),
)

_CHEETAH_JOINTS = {
    f"{leg} {part}": "positive sweeps it backward"
    for leg in ("back", "front")
    for part in ("thigh", "shin", "foot")
}
HALFCHEETAH = ControlSpec(
    id="halfcheetah",
    family="halfcheetah",
    goal="run forward as fast as possible without wasting effort",
    summary="a two-legged planar cheetah runs forward (HalfCheetah-v5)",
    features=(
        Feature("torso_height", "m", "height of the torso relative to its resting pose"),
        Feature("torso_pitch", "rad", "angle of the torso, positive has its nose down"),
        *_joints(_CHEETAH_JOINTS),
        *_PLANAR_MOTION,
        Feature("pitch_speed", "rad/s", "angular velocity of the torso, positive tips nose down"),
        *_joint_speeds(_CHEETAH_JOINTS),
    ),
    primitives=(
        Primitive("push off with the back leg", "stretch the back leg to drive the body forward"),
        Primitive("swing the back leg forward", "fold the back leg and bring it under the body"),
        Primitive("reach with the front leg", "stretch the front leg ahead to meet the ground"),
        Primitive("pull with the front leg", "sweep the front leg back to pull the body ahead"),
        Primitive("gather the legs", "bring all joints in for the next bound while in the air"),
        Primitive("lift the nose", "turn the torso back when its nose hangs down"),
        Primitive("lower the nose", "turn the torso forward when it rears up"),
        Primitive("roll back onto the feet", "get up again from lying on the back"),
    ),
    controls=6,
    max_episode_steps=_STEPS,
    solvable=False,
)

_WALKER_SIGNS = {
    "thigh": "positive swings the leg forward, 0 hangs straight down",
    "knee": "negative bends it, 0 is straight",
    "foot": "positive lifts the toes",
}
_WALKER_JOINTS = {
    f"{side} {joint}": sign for side in ("right", "left") for joint, sign in _WALKER_SIGNS.items()
}
WALKER2D = ControlSpec(
    id="walker2d",
    family="walker2d",
    goal="walk forward quickly without falling over",
    summary="a two-legged planar walker walks forward without falling (Walker2d-v5)",
    features=(
        Feature("torso_height", "m", "height of the torso above the ground"),
        Feature("torso_pitch", "rad", "angle of the torso, positive leans forward"),
        *_joints(_WALKER_JOINTS),
        *_PLANAR_MOTION,
        Feature("pitch_speed", "rad/s", "angular velocity of the torso, positive tips forward"),
        *_joint_speeds(_WALKER_JOINTS),
    ),
    primitives=(
        Primitive("swing the right leg forward", "lift the right foot and bring it ahead"),
        Primitive("swing the left leg forward", "lift the left foot and bring it ahead"),
        Primitive("push off with the right leg", "stretch the right leg behind to drive forward"),
        Primitive("push off with the left leg", "stretch the left leg behind to drive forward"),
        Primitive("lean forward", "tip the torso ahead to gain speed"),
        Primitive("straighten up", "bring the torso upright when it leans too far"),
        Primitive("brake", "hold back with the leading leg when too fast to keep balance"),
        Primitive("rise", "stretch both knees when the body has sunk"),
    ),
    controls=6,
    max_episode_steps=_STEPS,
    solvable=False,
)

#: In the order of the model, whose own names take y for the front; the task goes along x.
_ANT_LEGS = ("front left", "back left", "back right", "front right")
_ANT_SIGNS = {
    "hip": "positive turns the leg counterclockwise seen from above",
    "front ankle": "positive presses the foot down",
    "back ankle": "negative presses the foot down",
}
_ANT_JOINTS = {
    f"{leg} {joint}": _ANT_SIGNS[sign]
    for leg in _ANT_LEGS
    for joint, sign in (("hip", "hip"), ("ankle", f"{leg.split()[0]} ankle"))
}
_ANT_BODIES = (
    "torso", *(f"{leg} {part}" for leg in _ANT_LEGS for part in ("hip", "leg", "foot")),
)  # fmt: skip


def _contacts() -> tuple[Feature, ...]:
    """External contact torque and force on each body, clipped to ±1 by the environment."""
    found = []
    for body in _ANT_BODIES:
        for kind, unit, way in (("torque", "N m", "about"), ("force", "N", "along")):
            for axis in "xyz":
                name = f"{body}_contact_{kind}_{axis}".replace(" ", "_")
                meaning = f"contact {kind} on the {body} {way} {axis}, clipped to ±1"
                found.append(Feature(name, unit, meaning))
    return tuple(found)


ANT = ControlSpec(
    id="ant",
    family="ant",
    goal="walk forward, along x, as fast as possible without falling over",
    summary="a four-legged ant walks forward (Ant-v5)",
    features=(
        Feature("torso_height", "m", "height of the torso above the ground"),
        *(
            Feature(f"orientation_{part}", "1", f"{part} part of the torso's unit quaternion")
            for part in "wxyz"
        ),
        *_joints(_ANT_JOINTS),
        Feature("forward_speed", "m/s", "velocity of the torso along x, positive is forward"),
        Feature("sideways_speed", "m/s", "velocity of the torso along y, positive is to the left"),
        Feature("vertical_speed", "m/s", "velocity of the torso along z, positive rises"),
        Feature("roll_speed", "rad/s", "angular velocity about the torso's own x axis"),
        Feature("pitch_speed", "rad/s", "angular velocity about the torso's own y axis"),
        Feature(
            "yaw_speed", "rad/s", "angular velocity about the torso's own z, positive turns left"
        ),
        *_joint_speeds(_ANT_JOINTS),
        *_contacts(),
    ),
    primitives=(
        Primitive("push with the back legs", "drive the body forward from behind"),
        Primitive("pull with the front legs", "reach ahead with the front legs and pull"),
        Primitive("step with the left legs", "move both left legs ahead, the right ones bear"),
        Primitive("step with the right legs", "move both right legs ahead, the left ones bear"),
        Primitive("turn left", "turn the body to the left, back toward x"),
        Primitive("turn right", "turn the body to the right, back toward x"),
        Primitive("rise", "stretch the ankles when the body hangs low"),
        Primitive("settle", "bend the legs softly when jumping, tilting or rolling over"),
    ),
    controls=8,
    max_episode_steps=_STEPS,
    solvable=False,
)

SPECS = {spec.id: spec for spec in (HALFCHEETAH, WALKER2D, ANT)}
_CLASSES = {
    "halfcheetah": ("half_cheetah_v5", "HalfCheetahEnv"),
    "walker2d": ("walker2d_v5", "Walker2dEnv"),
    "ant": ("ant_v5", "AntEnv"),
}


@dataclass(frozen=True, slots=True)
class MujocoOptions:
    """The MuJoCo environments have no options."""


class MujocoControl(SimulatorEnv):
    """One of Gymnasium's MuJoCo environments; `success` is always false, for there is no goal."""

    def __init__(
        self, env_id: str, split: Split, workspace: Path, options: MujocoOptions, progress: Any
    ) -> None:
        module, name = _CLASSES[env_id]
        made = getattr(load(f"gymnasium.envs.mujoco.{module}"), name)
        simulator = made(render_mode="rgb_array", width=320, height=240)
        super().__init__(SPECS[env_id], simulator, SEEDS_PER_SPLIT[split])

    @override
    def nominal(
        self, primitive: int, observation: Float[ndarray, " features"]
    ) -> Float[ndarray, " controls"] | None:
        return None  # how to run is left to the actor

    @override
    def snapshot(self) -> Float[ndarray, " numbers"]:
        """Positions, then velocities, of every joint."""
        return np.concatenate([self.simulator.data.qpos, self.simulator.data.qvel])

    @override
    def restore(self, snapshot: Float[ndarray, " numbers"]) -> None:
        positions = self.simulator.model.nq
        self.simulator.set_state(snapshot[:positions], snapshot[positions:])

    @override
    def _start(self, instance: int) -> Float[ndarray, " features"]:
        return self.simulator.reset(seed=instance)[0]
