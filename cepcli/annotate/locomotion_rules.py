"""What rules say of HalfCheetah, Walker2d and Ant.

Nobody knows the best movement of a learned gait beforehand: the rules say which a coach would call
for, first to stay on the feet, then in the order of a stride.
"""

from math import atan2, cos, sin

from cepcli.annotate.rules import Features, Rules, Slot, Slots, below

# ---- walker2d ----------------------------------------------------------------------------------


def _walker_stance(f: Features) -> int:
    """Which foot is ahead: a thigh carries it by about a metre a radian, a knee by 0.6."""
    right = f["right_thigh_angle"] + 0.6 * f["right_knee_angle"]
    left = f["left_thigh_angle"] + 0.6 * f["left_knee_angle"]
    return below(right - left, -0.1, 0.1)


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


WALKER2D = Rules(
    slots=(
        Slot(
            "pace",
            ("moving backward", "hardly moving", "walking forward", "moving fast"),
            lambda f: below(f["forward_speed"], -0.5, 0.5, 2.0),
        ),
        Slot(
            "lean",
            ("leaning back", "upright", "leaning forward"),
            lambda f: below(f["torso_pitch"], -0.2, 0.2),
        ),
        Slot(
            "height",
            ("sunk low", "at full height"),
            lambda f: below(f["torso_height"], 1.0),
        ),
        Slot(
            "stance",
            ("the left foot is ahead", "the feet are side by side", "the right foot is ahead"),
            _walker_stance,
        ),
        Slot(
            "right_knee",
            ("the right knee is bent", "the right knee is straight"),
            lambda f: below(f["right_knee_angle"], -0.3),
        ),
        Slot(
            "left_knee",
            ("the left knee is bent", "the left knee is straight"),
            lambda f: below(f["left_knee_angle"], -0.3),
        ),
    ),
    sentence=("The walker is {pace}, {lean} and {height}; {stance}, {right_knee} and {left_knee}."),
    primitive=_walker_primitive,
)

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
    behind = s["back_leg"] == "the back leg is stretched behind"
    ahead = s["front_leg"] == "the front leg reaches ahead"
    if behind:
        return "pull with the front leg" if ahead else "swing the back leg forward"
    return "push off with the back leg" if ahead else "reach with the front leg"


HALFCHEETAH = Rules(
    slots=(
        Slot(
            "pace",
            ("moving backward", "hardly moving", "running", "running fast"),
            lambda f: below(f["forward_speed"], -0.5, 0.5, 3.0),
        ),
        Slot(
            "pitch",
            ("rearing up", "level", "with its nose down", "on its back"),
            _cheetah_pitch,
        ),
        Slot(
            "height",
            ("low to the ground", "at running height", "off the ground"),
            lambda f: below(f["torso_height"], -0.2, 0.08),
        ),
        Slot(
            "back_leg",
            ("the back leg is under the body", "the back leg is stretched behind"),
            lambda f: below(f["back_thigh_angle"] + 0.5 * f["back_shin_angle"], 0.1),
        ),
        Slot(
            "front_leg",
            ("the front leg reaches ahead", "the front leg is drawn back"),
            lambda f: below(f["front_thigh_angle"] + 0.5 * f["front_shin_angle"], -0.1),
        ),
    ),
    sentence="The cheetah is {pace}, {pitch} and {height}; {back_leg} and {front_leg}.",
    primitive=_cheetah_primitive,
)

# ---- ant ---------------------------------------------------------------------------------------


def _ant_yaw(f: Features) -> float:
    w, x, y, z = (f[f"orientation_{part}"] for part in "wxyz")
    return atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def _ant_body(f: Features) -> int:
    """By the height of the torso's own up direction, then by its height."""
    up = 1 - 2 * (f["orientation_x"] ** 2 + f["orientation_y"] ** 2)
    if up < 0.8:
        return below(up, 0.2)
    return 2 + below(f["torso_height"], 0.4, 0.85)


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


def _ant_primitive(s: Slots) -> str:
    by_body = {"upside down": "settle", "tilted": "settle", "off the ground": "settle",
               "hanging low": "rise"}  # fmt: skip
    by_heading = {"turned left": "turn right", "turned right": "turn left"}
    by_legs = {
        "the left legs are ahead": "step with the right legs",
        "the right legs are ahead": "step with the left legs",
        "the front legs reach ahead": "pull with the front legs",
        "the back legs are drawn up": "push with the back legs",
    }
    by_pace = {"walking forward": "step with the left legs"}
    for slot, known in (
        ("body", by_body), ("heading", by_heading), ("legs", by_legs), ("pace", by_pace),
    ):  # fmt: skip
        if s[slot] in known:
            return known[s[slot]]
    return "push with the back legs"


ANT = Rules(
    slots=(
        Slot(
            "pace",
            ("moving backward", "hardly moving", "walking forward"),
            lambda f: below(f["forward_speed"], -0.3, 0.3),
        ),
        Slot(
            "heading",
            ("turned right", "facing forward", "turned left"),
            lambda f: below(_ant_yaw(f), -0.6, 0.6),
        ),
        Slot(
            "body",
            ("upside down", "tilted", "hanging low", "at walking height", "off the ground"),
            _ant_body,
        ),
        Slot(
            "legs",
            (
                "the left legs are ahead",
                "the right legs are ahead",
                "the front legs reach ahead",
                "the back legs are drawn up",
                "the legs are evenly spread",
            ),
            _ant_legs,
        ),
    ),
    sentence="The ant is {pace}, {heading} and {body}; {legs}.",
    primitive=_ant_primitive,
)
