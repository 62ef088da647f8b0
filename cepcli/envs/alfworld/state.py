"""What is true in a game of ALFWorld, and the words for it.

The text is a function of the state and of what has been seen, so that equal situations read alike:
what stands here, what is in the hand, what was seen on the way. Things are called by what an
examination would show of them ("a hot potato 1").
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

_MIDDLE = "You are in the middle of the room."
#: Commands that change nothing.
_LOOKING = ("look", "inventory", "help", "examine ")
_MARKS = {
    "isclean": "clean", "ishot": "hot", "iscool": "cool", "issliced": "sliced", "istoggled": "lit",
}  # fmt: skip
#: A fact or an atom of a query: the predicate and its arguments; a false fact is `not_…`.
Fact = tuple[str, ...]
#: What the variables of a rule or an action stand for: entities by their ids.
Binding = Mapping[str, str]


class Facts:
    """What is true now, by predicate; queries are answered in the order of textworld."""

    def __init__(self, facts: Sequence[Fact] = ()) -> None:
        self._by_name: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
        for fact in facts:
            self.add(fact)

    def add(self, fact: Fact) -> None:
        """Make a fact true, and its negation not."""
        name, *arguments = fact
        opposite = name.removeprefix("not_") if name.startswith("not_") else f"not_{name}"
        self._by_name[opposite].discard(tuple(arguments))
        self._by_name[name].add(tuple(arguments))

    def of(self, name: str) -> list[tuple[str, ...]]:
        """The arguments that a predicate is true of, sorted."""
        return sorted(self._by_name.get(name, ()))

    def pairs(self, name: str) -> list[tuple[str, str]]:
        """The arguments that a predicate of two is true of, sorted."""
        return [(first, second) for first, second in self.of(name)]

    def has(self, name: str, *arguments: str) -> bool:
        """Whether one fact is true."""
        return arguments in self._by_name.get(name, ())

    def answers(self, query: Sequence[Fact], binding: Binding) -> Iterator[dict[str, str]]:
        """All ways to make the atoms of `query` true that agree with `binding`, in fixed order.

        Different variables stand for different entities.
        """
        if not query:
            yield dict(binding)
            return
        (name, *variables), rest = query[0], query[1:]
        for arguments in self.of(name):
            extended = _extend(binding, variables, arguments)
            if extended is not None:
                yield from self.answers(rest, extended)


def _extend(
    binding: Binding, variables: Sequence[str], arguments: Sequence[str]
) -> dict[str, str] | None:
    """`binding` with `variables` as `arguments`, or None if that contradicts it."""
    extended = dict(binding)
    for variable, value in zip(variables, arguments, strict=True):
        known = extended.get(variable)
        if known is None:
            if value in extended.values():
                return None
            extended[variable] = value
        elif known != value:
            return None
    return extended


def may_change(command: str) -> bool:
    """Whether a command can change the game; looking and examining cannot."""
    return not command.startswith(_LOOKING)


class Memory:
    """Where things that the task names were last seen, and which receptacles were looked into."""

    def __init__(self, task: str, names: Mapping[str, str]) -> None:
        words = set(re.findall(r"\w+", task))
        self._names = names
        self._named = {entity for entity, name in names.items() if name.split()[0] in words}
        self.places: dict[str, str] = {}
        self.searched: set[str] = set()

    def look(self, facts: Facts) -> None:
        """Take in what can be seen now."""
        for place in open_places(facts):
            self.searched.add(place)
            here = contents(facts, place)
            self.places |= {thing: place for thing in here if thing in self._named}
        for _, thing in facts.pairs("holds"):
            self.places.pop(thing, None)

    def describe(self, facts: Facts) -> list[str]:
        """Sentences about what was seen elsewhere; none if there is nothing to say."""
        here = set(places_here(facts))
        seen = [
            f"{_thing(facts, self._names, thing)} at {self._names[place]}"
            for thing, place in sorted(self.places.items(), key=lambda i: self._order(*i))
            if place not in here
        ]
        sentences = [f"You saw {_listed(seen)}."] if seen else []
        if self.searched:
            sentences.append(f"Searched: {_numbered(self._names[p] for p in self.searched)}.")
        return sentences

    def _order(self, thing: str, place: str) -> tuple[tuple[str, int], tuple[str, int]]:
        return _by_number(self._names[thing]), _by_number(self._names[place])


def describe(facts: Facts, names: Mapping[str, str]) -> list[str]:
    """Sentences about the place, what is there, and what is in the hand."""
    here = sorted(places_here(facts), key=lambda place: _by_number(names[place]))
    sentences = [_place(facts, names, place) for place in here] or [_MIDDLE]
    held = [_thing(facts, names, thing) for _, thing in facts.pairs("holds")]
    return [*sentences, f"You carry {_listed(held)}."]


def places_here(facts: Facts) -> list[str]:
    """The receptacles where the agent stands."""
    stands = {location for _, location in facts.pairs("atlocation")}
    return [place for place, at in facts.pairs("receptacleatlocation") if at in stands]


def open_places(facts: Facts) -> list[str]:
    """The receptacles where the agent stands that can be looked into."""
    return [p for p in places_here(facts) if not is_closed(facts, p)]


def is_closed(facts: Facts, place: str) -> bool:
    """Whether a receptacle must be opened before anything in it can be seen."""
    return facts.has("openable", place) and not facts.has("opened", place)


def contents(facts: Facts, place: str) -> list[str]:
    """The things in or on a receptacle."""
    return [thing for thing, where in facts.pairs("inreceptacle") if where == place]


def _place(facts: Facts, names: Mapping[str, str], place: str) -> str:
    name = names[place]
    if is_closed(facts, place):
        return f"You are at {name}. It is closed."
    things = sorted(contents(facts, place), key=lambda thing: _by_number(names[thing]))
    inside = _listed([_thing(facts, names, thing) for thing in things])
    if facts.has("openable", place):
        return f"You are at {name}. It is open. In it is {inside}."
    return f"You are at {name}. On it is {inside}."


def _thing(facts: Facts, names: Mapping[str, str], thing: str) -> str:
    """A thing with its article and what was done to it: "a clean hot apple 1"."""
    words = [word for mark, word in _MARKS.items() if facts.has(mark, thing)]
    return " ".join(["a", *words, names[thing]])


def _listed(things: Sequence[str]) -> str:
    if len(things) < 2:
        return things[0] if things else "nothing"
    return f"{', '.join(things[:-1])} and {things[-1]}"


def _numbered(names: Iterable[str]) -> str:
    """For example "cabinet 1 3, drawer 2" for cabinet 1, cabinet 3 and drawer 2."""
    numbers: defaultdict[str, list[str]] = defaultdict(list)
    for kind, number in sorted(map(_by_number, names)):
        numbers[kind].append(str(number))
    return ", ".join(f"{kind} {' '.join(found)}" for kind, found in numbers.items())


def _by_number(name: str) -> tuple[str, int]:
    kind, _, number = name.partition(" ")
    return kind, int(number) if number else 0
