"""Rules that say a state in words, slot by slot, and name the motion primitive that it calls for.

A slot looks at a few named features and picks one of its phrases; the text is the phrases in the
fixed sentence of the family. The primitive follows from the phrases alone, and in Meta-World from
the goal, so that whoever reads goal and text, a language model say, can know it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from cepcli.envs.control import ControlSpec
from cepcli.envs.metaworld.specs import HAND_TASKS, PUSH_TASKS
from cepcli.errors import EnvError

Features = Mapping[str, float]
Slots = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Slot:
    """One aspect of a state.

    Attributes:
        name: of the aspect.
        phrases: what can be said of it; no other slot of the family has any of them.
        choose: index of the phrase that fits.
    """

    name: str
    phrases: tuple[str, ...]
    choose: Callable[[Features], int]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is said of the states of a family.

    Attributes:
        slots: in the order of the sentence.
        sentence: with `{slot}` where a slot's phrase goes; its first letter is made a capital.
        primitive: the best symbolic action, by the phrases alone.
    """

    slots: tuple[Slot, ...]
    sentence: str
    primitive: Callable[[Slots], str]


def has_rules(spec: ControlSpec) -> bool:
    """Whether there are rules for an environment."""
    return spec.family in _families()


def rules_for(spec: ControlSpec) -> Rules:
    """The rules for an environment.

    Raises:
        EnvError: if there are none.
    """
    known = _families()
    if spec.family not in known:
        families = dict.fromkeys(kind.partition(" ")[0] for kind in known)
        raise EnvError(
            f"There are no rules for `{spec.id}`; there are for {', '.join(families)}.",
            f"Annotate it yourself: cep annotate serve --env {spec.id}",
        )
    if spec.family != "metaworld":
        return known[spec.family]
    task = spec.id.partition("/")[2]
    kind = " by hand" if task in HAND_TASKS else " by pushing" if task in PUSH_TASKS else ""
    return known[f"metaworld{kind}"]


def _families() -> dict[str, Rules]:
    from cepcli.annotate.gripper_rules import METAWORLD, METAWORLD_HAND, METAWORLD_PUSH
    from cepcli.annotate.locomotion_rules import ANT, HALFCHEETAH, WALKER2D

    return {
        "ant": ANT, "halfcheetah": HALFCHEETAH, "walker2d": WALKER2D, "metaworld": METAWORLD,
        "metaworld by hand": METAWORLD_HAND, "metaworld by pushing": METAWORLD_PUSH,
    }  # fmt: skip


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
    """The phrases in a text of the family's sentence; empty if it is in other words.

    Empty, too, where the family has no rules.
    """
    if not has_rules(spec):
        return {}
    found = _pattern(rules_for(spec)).fullmatch(" ".join(text.split()))
    if found is None:
        return {}
    known = {p.lower(): p for slot in rules_for(spec).slots for p in slot.phrases}
    return {slot: known[phrase.lower()] for slot, phrase in found.groupdict().items()}


def below(value: float, *limits: float) -> int:
    """How many of the ascending limits `value` reaches: 0 below all, len(limits) above all."""
    return sum(value >= limit for limit in limits)


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
