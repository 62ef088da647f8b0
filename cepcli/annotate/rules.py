"""Rules that say a state in words, slot by slot, and name the motion primitive that it calls for.

A slot looks at a few named features and picks one of its phrases; the text is the phrases in the
fixed sentence of the family. The primitive follows from the phrases alone, and in Meta-World from
the goal, so that whoever reads goal and text, a language model say, can know it.

Nobody knows the best movement of a learned gait beforehand: the rules of locomotion say which a
coach would call for, first to stay on the feet, then in the order of a stride.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import atan2, cos, dist, hypot, sin

from cepcli.envs.control import ControlSpec
from cepcli.envs.metaworld import HAND_TASKS, PUSH_TASKS
from cepcli.errors import EnvError

Features = Mapping[str, float]
Slots = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Slot:
    """One aspect of a state: what can be said of it, and the index of the phrase that fits.

    No other slot of the family has any of the phrases.
    """

    name: str
    phrases: tuple[str, ...]
    choose: Callable[[Features], int]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is said of the states of a family.

    In the sentence, `{slot}` stands where a slot's phrase goes, and the first letter is made a
    capital. The primitive is the best symbolic action, by the phrases alone.
    """

    slots: tuple[Slot, ...]
    sentence: str
    primitive: Callable[[Slots], str]


def below(value: float, *limits: float) -> int:
    """How many of the ascending limits `value` reaches: 0 below all, len(limits) above all."""
    return sum(value >= limit for limit in limits)


def _by_limits(
    name: str, value: str | Callable[[Features], float], limits: Sequence[float], *phrases: str
) -> Slot:
    """A slot that says between which limits a feature is, or what is worked out of several."""
    measure = (lambda f: f[value]) if isinstance(value, str) else value
    return Slot(name, phrases, lambda f: below(measure(f), *limits))


# ---- walker2d ----------------------------------------------------------------------------------


def _walker_stance(f: Features) -> float:
    """How far the right foot is ahead: a thigh carries it by a metre a radian, a knee by 0.6."""
    right = f["right_thigh_angle"] + 0.6 * f["right_knee_angle"]
    left = f["left_thigh_angle"] + 0.6 * f["left_knee_angle"]
    return right - left


#: With the feet side by side and both knees straight.
_FROM_STANDING = {
    "moving backward": "push off with the right leg",
    "hardly moving": "swing the left leg forward",
    "walking forward": "swing the right leg forward",
    "moving fast": "swing the right leg forward",
}


def _walker_primitive(s: Slots) -> str:
    bent = {side: s[f"{side}_knee"].endswith("bent") for side in ("right", "left")}
    fast = s["pace"] == "moving fast"
    if s["height"] == "sunk low":
        return "rise"
    if s["lean"] == "leaning forward":
        return "brake" if fast else "straighten up"
    if s["lean"] == "leaning back":
        return "straighten up" if fast else "lean forward"
    if s["stance"] == "the feet are side by side":
        if bent["right"] != bent["left"]:
            return f"swing the {'right' if bent['right'] else 'left'} leg forward"
        return "push off with the left leg" if bent["right"] else _FROM_STANDING[s["pace"]]
    behind = "left" if s["stance"] == "the right foot is ahead" else "right"
    return f"swing the {behind} leg forward" if bent[behind] else f"push off with the {behind} leg"


_WALKER2D = Rules(
    (
        _by_limits(
            "pace", "forward_speed", (-0.5, 0.5, 2.0),
            "moving backward", "hardly moving", "walking forward", "moving fast",
        ),
        _by_limits(
            "lean", "torso_pitch", (-0.2, 0.2), "leaning back", "upright", "leaning forward",
        ),
        _by_limits("height", "torso_height", (1.0,), "sunk low", "at full height"),
        _by_limits(
            "stance", _walker_stance, (-0.1, 0.1),
            "the left foot is ahead", "the feet are side by side", "the right foot is ahead",
        ),
        *(
            _by_limits(
                f"{side}_knee", f"{side}_knee_angle", (-0.3,),
                f"the {side} knee is bent", f"the {side} knee is straight",
            )
            for side in ("right", "left")
        ),
    ),
    "The walker is {pace}, {lean} and {height}; {stance}, {right_knee} and {left_knee}.",
    _walker_primitive,
)  # fmt: skip

# ---- halfcheetah -------------------------------------------------------------------------------


def _cheetah_pitch(f: Features) -> int:
    pitch = atan2(sin(f["torso_pitch"]), cos(f["torso_pitch"]))
    return 3 if abs(pitch) > 1.8 else below(pitch, -0.35, 0.35)


def _cheetah_primitive(s: Slots) -> str:
    by_pitch = {
        "on its back": "roll back onto the feet",
        "with its nose down": "lift the nose",
        "rearing up": "lower the nose",
    }
    if s["pitch"] in by_pitch:
        return by_pitch[s["pitch"]]
    if s["height"] == "off the ground":
        return "gather the legs"
    ahead = s["front_leg"] == "the front leg reaches ahead"
    if s["back_leg"] == "the back leg is stretched behind":
        return "pull with the front leg" if ahead else "swing the back leg forward"
    return "push off with the back leg" if ahead else "reach with the front leg"


_HALFCHEETAH = Rules(
    (
        _by_limits(
            "pace", "forward_speed", (-0.5, 0.5, 3.0),
            "moving backward", "hardly moving", "running", "running fast",
        ),
        Slot("pitch", ("rearing up", "level", "with its nose down", "on its back"), _cheetah_pitch),
        _by_limits(
            "height", "torso_height", (-0.2, 0.08),
            "low to the ground", "at running height", "off the ground",
        ),
        _by_limits(
            "back_leg", lambda f: f["back_thigh_angle"] + 0.5 * f["back_shin_angle"], (0.1,),
            "the back leg is under the body", "the back leg is stretched behind",
        ),
        _by_limits(
            "front_leg", lambda f: f["front_thigh_angle"] + 0.5 * f["front_shin_angle"], (-0.1,),
            "the front leg reaches ahead", "the front leg is drawn back",
        ),
    ),
    "The cheetah is {pace}, {pitch} and {height}; {back_leg} and {front_leg}.",
    _cheetah_primitive,
)  # fmt: skip

# ---- ant ---------------------------------------------------------------------------------------


def _ant_yaw(f: Features) -> float:
    w, x, y, z = (f[f"orientation_{part}"] for part in "wxyz")
    return atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def _ant_body(f: Features) -> int:
    """By the height of the torso's own up direction, then by its height."""
    up = 1 - 2 * (f["orientation_x"] ** 2 + f["orientation_y"] ** 2)
    return below(up, 0.2) if up < 0.8 else 2 + below(f["torso_height"], 0.4, 0.85)


def _ant_legs(f: Features) -> int:
    """The strongest of four patterns; a hip turned to the front is positive on the right side."""
    front_left, back_left = -f["front_left_hip_angle"], -f["back_left_hip_angle"]
    front_right, back_right = f["front_right_hip_angle"], f["back_right_hip_angle"]
    sides = (front_left + back_left - front_right - back_right) / 2
    strengths = (
        sides, -sides, (front_left + front_right) / 2, (back_left + back_right) / 2,
    )  # fmt: skip
    strongest = max(range(4), key=strengths.__getitem__)
    return strongest if strengths[strongest] > 0.25 else 4


#: The first slot that calls for something decides.
_ANT_PRIMITIVES = {
    "body": {"upside down": "settle", "tilted": "settle", "off the ground": "settle",
             "hanging low": "rise"},
    "heading": {"turned left": "turn right", "turned right": "turn left"},
    "legs": {
        "the left legs are ahead": "step with the right legs",
        "the right legs are ahead": "step with the left legs",
        "the front legs reach ahead": "pull with the front legs",
        "the back legs are drawn up": "push with the back legs",
    },
    "pace": {"walking forward": "step with the left legs"},
}  # fmt: skip


def _ant_primitive(s: Slots) -> str:
    called = (known[s[slot]] for slot, known in _ANT_PRIMITIVES.items() if s[slot] in known)
    return next(called, "push with the back legs")


_ANT = Rules(
    (
        _by_limits(
            "pace", "forward_speed", (-0.3, 0.3),
            "moving backward", "hardly moving", "walking forward",
        ),
        _by_limits(
            "heading", _ant_yaw, (-0.6, 0.6), "turned right", "facing forward", "turned left",
        ),
        Slot(
            "body",
            ("upside down", "tilted", "hanging low", "at walking height", "off the ground"),
            _ant_body,
        ),
        Slot("legs", (*_ANT_PRIMITIVES["legs"], "the legs are evenly spread"), _ant_legs),
    ),
    "The ant is {pace}, {heading} and {body}; {legs}.",
    _ant_primitive,
)  # fmt: skip

# ---- metaworld ---------------------------------------------------------------------------------
# All tasks have the same slots. Where the hand itself is to be at the goal, the distance to the
# goal is the hand's; where the object is only pushed, the hand goes straight to it and on.

#: Metres: the hand has the object between its fingers, is about to.
_AT, _BESIDE = 0.04, 0.12
#: Metres: where it is to be; nearly there. Tasks count as solved from different distances.
_REACHED, _NEAR = 0.02, 0.15
#: Metres in a control step by which something moves.
_MOVING = 0.002


def _distance(one: str, other: str) -> Callable[[Features], float]:
    def distance(f: Features) -> float:
        here, there = ([f[f"{of}_{axis}"] for axis in "xyz"] for of in (one, other))
        return dist(here, there)

    return distance


def _hand(f: Features) -> int:
    dx, dy, dz = (f[f"hand_{axis}"] - f[f"object_{axis}"] for axis in "xyz")
    sideways = hypot(dx, dy)
    if sideways < _AT:
        return 0 if abs(dz) < _AT else 1 if dz > 0 else 2
    return 2 if hypot(sideways, dz) < _BESIDE else 3


#: By where the hand is: with the gripper open, and else.
_BY_HAND = {
    "the hand is at the object": ("close the gripper", "move to the goal"),
    "the hand is above the object": ("lower the hand", "open the gripper"),
    "the hand is beside the object": ("reach the object", "raise the hand"),
    "the hand is far from the object": ("move above the object", "move above the object"),
}


def _object_primitive(s: Slots) -> str:
    # a handle that moves is taken along, however wide the gripper
    if s["hand"] == "the hand is at the object" and s["object"] == "the object moves":
        return "move to the goal"
    return _BY_HAND[s["hand"]][s["gripper"] != "the gripper is open"]


def _push_primitive(s: Slots) -> str:
    touched = s["hand"] == "the hand is at the object" or s["object"] == "the object moves"
    return "move to the goal" if touched else "reach the object"


def _gripper_rules(moved: str, primitive: Callable[[Slots], str]) -> Rules:
    """Rules of the tasks in which `moved` is to be at the goal."""
    slots = (
        _by_limits(
            "gripper", "gripper_opening", (0.35, 0.8),
            "the gripper is closed", "the gripper is half closed", "the gripper is open",
        ),
        Slot("hand", tuple(_BY_HAND), _hand),
        _by_limits(
            "object", _distance("object", "previous_object"), (_MOVING,),
            "the object rests", "the object moves",
        ),
        _by_limits(
            "goal", _distance(moved, "goal"), (_REACHED, _NEAR),
            "the goal is reached", "the goal is near", "the goal is far",
        ),
    )  # fmt: skip
    return Rules(
        slots,
        "{gripper} and {hand}; {object} and {goal}.",
        lambda s: "hold still" if s["goal"] == "the goal is reached" else primitive(s),
    )


_RULES = {
    "ant": _ANT, "halfcheetah": _HALFCHEETAH, "walker2d": _WALKER2D,
    "metaworld": _gripper_rules("object", _object_primitive),
}  # fmt: skip
_METAWORLD_PUSH = _gripper_rules("object", _push_primitive)
_METAWORLD_HAND = _gripper_rules("hand", lambda s: "move to the goal")

# ------------------------------------------------------------------------------------------------


def has_rules(spec: ControlSpec) -> bool:
    """Whether there are rules for an environment."""
    return spec.family in _RULES


def rules_for(spec: ControlSpec) -> Rules:
    """The rules for an environment.

    Raises:
        EnvError: if there are none.
    """
    if not has_rules(spec):
        raise EnvError(
            f"There are no rules for `{spec.id}`; there are for {', '.join(_RULES)}.",
            f"Annotate it yourself: cep annotate serve --env {spec.id}",
        )
    if spec.family == "metaworld":
        task = spec.id.partition("/")[2]
        if task in HAND_TASKS:
            return _METAWORLD_HAND
        if task in PUSH_TASKS:
            return _METAWORLD_PUSH
    return _RULES[spec.family]


def describe_slots(spec: ControlSpec, observation: Sequence[float]) -> dict[str, str]:
    """The phrase of each slot for one observation."""
    names = (feature.name for feature in spec.features)
    features = dict(zip(names, map(float, observation), strict=True))
    return {slot.name: slot.phrases[slot.choose(features)] for slot in rules_for(spec).slots}


def compose(spec: ControlSpec, slots: Slots) -> str:
    """The text that the phrases make in the family's sentence."""
    text = rules_for(spec).sentence.format_map(slots)
    return text[:1].upper() + text[1:]


def slots_of(spec: ControlSpec, text: str) -> dict[str, str]:
    """The phrases in a text of the family's sentence; empty in other words, or without rules."""
    if not has_rules(spec):
        return {}
    found = _pattern(rules_for(spec)).fullmatch(" ".join(text.split()))
    if found is None:
        return {}
    known = {p.lower(): p for slot in rules_for(spec).slots for p in slot.phrases}
    return {slot: known[phrase.lower()] for slot, phrase in found.groupdict().items()}


@cache
def _pattern(rules: Rules) -> re.Pattern[str]:
    """Matches the sentence with any phrases, the longer ones tried first."""
    groups = {}
    for slot in rules.slots:
        longest_first = sorted(map(re.escape, slot.phrases), key=len, reverse=True)
        groups[slot.name] = f"(?P<{slot.name}>{'|'.join(longest_first)})"
    pieces = re.split(r"\{(\w+)\}", rules.sentence)
    made = [groups[each] if n % 2 else re.escape(each) for n, each in enumerate(pieces)]
    return re.compile("".join(made), re.IGNORECASE)
