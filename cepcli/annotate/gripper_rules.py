"""What rules say of the Meta-World tasks: the gripper, the hand, the object, the goal.

All tasks have the same slots. Where the hand itself is to be at the goal, the distance to the goal
is the hand's; where the object is only pushed, the hand goes straight to it and on.
"""

from math import dist, hypot

from cepcli.annotate.rules import Features, Rules, Slot, Slots, below

#: Metres: the hand has the object between its fingers, is about to.
_AT, _BESIDE = 0.04, 0.12
#: Metres: where it is to be; nearly there. Tasks count as solved from different distances.
_REACHED, _NEAR = 0.02, 0.15
#: Metres in a control step by which something moves.
_MOVING = 0.002


def _position(f: Features, of: str) -> tuple[float, float, float]:
    return f[f"{of}_x"], f[f"{of}_y"], f[f"{of}_z"]


def _hand(f: Features) -> int:
    dx, dy, dz = (f[f"hand_{axis}"] - f[f"object_{axis}"] for axis in "xyz")
    sideways = hypot(dx, dy)
    if sideways < _AT:
        return 0 if abs(dz) < _AT else 1 if dz > 0 else 2
    return 2 if hypot(sideways, dz) < _BESIDE else 3


def _object(f: Features) -> int:
    return below(dist(_position(f, "object"), _position(f, "previous_object")), _MOVING)


def _goal(of: str) -> Slot:
    return Slot(
        "goal",
        ("the goal is reached", "the goal is near", "the goal is far"),
        lambda f: below(dist(_position(f, of), _position(f, "goal")), _REACHED, _NEAR),
    )


def _object_primitive(s: Slots) -> str:
    if s["goal"] == "the goal is reached":
        return "hold still"
    # a handle that moves is taken along, however wide the gripper
    is_open = s["gripper"] == "the gripper is open"
    if s["hand"] == "the hand is at the object" and s["object"] == "the object moves":
        return "move to the goal"
    by_hand = {
        "the hand is far from the object": ("move above the object", "move above the object"),
        "the hand is beside the object": ("reach the object", "raise the hand"),
        "the hand is above the object": ("lower the hand", "open the gripper"),
        "the hand is at the object": ("close the gripper", "move to the goal"),
    }
    return by_hand[s["hand"]][0 if is_open else 1]


def _push_primitive(s: Slots) -> str:
    if s["goal"] == "the goal is reached":
        return "hold still"
    touched = s["hand"] == "the hand is at the object" or s["object"] == "the object moves"
    return "move to the goal" if touched else "reach the object"


def _hand_primitive(s: Slots) -> str:
    return "hold still" if s["goal"] == "the goal is reached" else "move to the goal"


_SLOTS = (
    Slot(
        "gripper",
        ("the gripper is closed", "the gripper is half closed", "the gripper is open"),
        lambda f: below(f["gripper_opening"], 0.35, 0.8),
    ),
    Slot(
        "hand",
        (
            "the hand is at the object",
            "the hand is above the object",
            "the hand is beside the object",
            "the hand is far from the object",
        ),
        _hand,
    ),
    Slot("object", ("the object rests", "the object moves"), _object),
)
_SENTENCE = "{gripper} and {hand}; {object} and {goal}."

METAWORLD = Rules((*_SLOTS, _goal("object")), _SENTENCE, _object_primitive)
METAWORLD_PUSH = Rules((*_SLOTS, _goal("object")), _SENTENCE, _push_primitive)
METAWORLD_HAND = Rules((*_SLOTS, _goal("hand")), _SENTENCE, _hand_primitive)
