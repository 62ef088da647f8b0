"""The fifty Meta-World tasks: what they ask for, what the 39 numbers mean, the hand's primitives.

The observation is the package's: eighteen numbers of now, the same of one step ago, and the goal's
position, which is shown as in its single-task benchmark MT1. Loads no simulator.
"""

from cepcli.envs.control import ControlSpec, Feature, Primitive

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

_STEPS = 500


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
        max_episode_steps=_STEPS,
        solvable=True,
    )
