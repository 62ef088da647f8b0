"""What is true in a game of ALFWorld, and queries of it, answered in the order of textworld."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

#: A fact or an atom of a query: the predicate and its arguments; a false fact is `not_…`.
Fact = tuple[str, ...]
#: What the variables of a rule or an action stand for: entities by their ids.
Binding = Mapping[str, str]


class Facts:
    """What is true now, by predicate."""

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
