"""The part of an ALFWorld game that a plan needs: the planner's search is blind.

Fast Downward, as its library for games is built, searches by cost alone. In a kitchen of twenty
receptacles and fifty things that takes seconds a plan, or for ever. Things that the goal does not
name never shorten a plan, nor do places that are as good as another; so they are left out, from
where the game stands, and the plan of what is left is as short as any.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cepcli.envs.alfworld.state import Facts

#: Actions that make true what a goal may ask of an object.
_MAKES = {
    "isclean": "cleanobject", "ishot": "heatobject", "iscool": "coolobject",
    "istoggled": "toggleobject",
}  # fmt: skip
_SECTIONS = re.compile(
    r"(?P<head>.*?)begin_state\n(?P<state>.*?)end_state\n(?P<goal>begin_goal\n.*?end_goal\n)\d+\n"
    r"(?P<operators>.*?)(?P<axioms>\d+\n(?:begin_rule.*)?)\Z",
    re.DOTALL,
)
_VARIABLE = re.compile(r"begin_variable\n\S+\n(-?\d+)\n\d+\n(.*?)\nend_variable\n", re.DOTALL)
_MUTEXES = re.compile(r"(?<=end_variable\n)\d+\n(begin_mutex_group.*)?\Z", re.DOTALL)
_OPERATOR = re.compile(r"begin_operator\n(.*?)\n.*?end_operator\n", re.DOTALL)


class Ground(NamedTuple):
    """A ground action: its domain action, what its parameters are, and its text in the task."""

    action: str
    binding: Mapping[str, str]
    text: str


class PlanningTask:
    """A planning task (SAS, as Fast Downward's translator writes it) that can be cut down.

    Args:
        sas: the task.
        parameters: of each action, their names.
        goal: words of the goal: predicates and types.
    """

    def __init__(
        self, sas: str, parameters: Mapping[str, Sequence[str]], goal: Iterable[str]
    ) -> None:
        found = _SECTIONS.match(sas)
        assert found is not None, sas[:200]
        self._head = _MUTEXES.sub("0\n", found["head"])
        self._goal, self._axioms = found["goal"], found["axioms"]
        self._variables = [
            (int(layer), atoms.split("\n")) for layer, atoms in _VARIABLE.findall(self._head)
        ]
        self._defaults = found["state"].split()
        self._words = frozenset(goal)
        self._ground = [
            Ground(action, dict(zip(parameters[action], arguments, strict=True)), match[0])
            for match in _OPERATOR.finditer(found["operators"])
            for action, *arguments in [match[1].split()]
        ]

    def cut(self, atoms: Sequence[str], facts: Facts) -> bytes:
        """The task from the state `atoms` (one for each variable) on, without what no plan needs.

        `facts` say the same as `atoms`.
        """
        operators = [ground.text for ground in self._needed(facts)]
        state = [
            default if layer >= 0 else str(values.index(atom))
            for (layer, values), default, atom in zip(
                self._variables, self._defaults, atoms, strict=True
            )
        ]
        rows = "\n".join(state)
        return (
            f"{self._head}begin_state\n{rows}\nend_state\n{self._goal}{len(operators)}\n"
            f"{''.join(operators)}{self._axioms}"
        ).encode()

    def _needed(self, facts: Facts) -> list[Ground]:
        wanted = {o for o, kind in facts.pairs("objecttype") if kind in self._words}
        in_hand = {o for _, o in facts.pairs("holds")}
        making = {_MAKES[word] for word in self._words & _MAKES.keys()}
        sources = {r for o, r in facts.pairs("inreceptacle") if o in wanted}
        tools = {
            g.binding["r"] for g in self._ground if g.action in making and g.binding["o"] in wanted
        }
        useful = sources | tools
        targets = {r for r, kind in facts.pairs("receptacletype") if kind in self._words}
        targets = _different(targets, useful, facts)
        useless = in_hand - wanted
        drops = {  # what is in the hand for nothing must be put down, wherever that may be done
            g.binding["r"]
            for g in self._ground
            if g.action == "putobject" and g.binding["o"] in useless
        }
        drops = _different(drops, useful | targets, facts)
        places = useful | targets | drops

        def needed(ground: Ground) -> bool:
            thing, place = ground.binding.get("o", ""), ground.binding.get("r", "")
            if ground.action in ("gotolocation", "openobject"):
                return place in places
            if ground.action == "putobject":
                return place in (targets if thing in wanted else drops) and (
                    thing in wanted or thing in useless
                )
            return ground.action in {"pickupobject", *making} and thing in wanted

        return [ground for ground in self._ground if needed(ground)]


def _different(places: set[str], needed: set[str], facts: Facts) -> set[str]:
    """Of `places` that serve a plan alike, one; those that are `needed` anyway all stay.

    Two places are alike where both are open, or both closed, and away from all that matters.
    """
    at = dict(facts.pairs("receptacleatlocation"))
    matter = {at[place] for place in needed if place in at}
    matter |= {location for _, location in facts.pairs("atlocation")}
    groups: dict[tuple[bool, str], str] = {}
    for place in sorted(places - needed):
        closed = facts.has("openable", place) and not facts.has("opened", place)
        location = at.get(place, "")
        groups.setdefault((closed, location if location in matter else ""), place)
    return (places & needed) | set(groups.values())
