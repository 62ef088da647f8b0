"""Plays compiled ALFWorld games: states, feedback, admissible commands, the planner's advice.

The rules are Fast Downward's own library, as in textworld's `PddlEnv`, and what is printed is
derived from the game's grammar as there; but the grammar was parsed when the game was compiled
(`cepcli.envs.alfworld.compile`), and the command of an action is derived once a game. Feedback and
admissible commands are the same as textworld's, several times faster, and nothing of textworld or
of the `alfworld` package is imported or replaced.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cepcli.envs.alfworld.planner import PlanningTask
from cepcli.envs.alfworld.state import Binding, Fact, Facts


class Rule(NamedTuple):
    """A production of a grammar: its symbols apply where the query has an answer."""

    condition: tuple[Fact, ...]  # atoms over variables; none: always
    symbols: list[Any]  # what is printed, in the form of `Printer`


class Operator(NamedTuple):
    """An action of the domain: names of its parameters, its command, what it prints."""

    parameters: tuple[str, ...]
    command: list[Any]
    feedback: list[Any]


@dataclass(frozen=True, slots=True)
class CompiledGame:
    """A game ready to be played."""

    task: str  # what the agent is told to do
    sas: bytes  # the planning task with every action, for Fast Downward
    facts: tuple[Fact, ...]  # what is true at the start besides what `sas` holds
    operators: Mapping[str, Operator]  # actions by their names
    rules: Mapping[str, Sequence[Rule]]  # the grammar
    names: Mapping[str, str]  # entities as they are printed, by their ids
    fluents: frozenset[str]  # predicates that actions change
    goal: tuple[str, ...]  # words of the goal: its predicates and types


class Printer:
    """Derives text from a grammar, in a state.

    A symbol is `["text", string]`, `["rule", name]`, `["join", terms]` (the terms in a row),
    `["each", symbol, query]` (once for every answer), or `["list", each]` (with commas). A term is
    `["text", string]`, or `["name", variable]`: how an entity is called.
    """

    def __init__(self, game: CompiledGame) -> None:
        self._rules, self._names = game.rules, game.names

    def derive(self, symbols: Sequence[Any], facts: Facts, binding: Binding) -> str:
        """The text of a row of symbols."""
        return "".join(self._symbol(symbol, facts, binding) for symbol in symbols)

    def _symbol(self, symbol: Any, facts: Facts, binding: Binding) -> str:
        match symbol:
            case ["text", text]:
                return text
            case ["rule", name]:
                return self._rule(name, facts, binding)
            case ["join", terms]:
                return "".join(self._names[binding[v]] if t == "name" else v for t, v in terms)
            case ["each", inner, query]:
                return "".join(self._each(inner, query, facts, binding))
        _, [_, inner, query] = symbol  # ["list", ["each", inner, query]]
        texts = self._each(inner, query, facts, binding)
        if len(texts) < 2:
            return texts[0] if texts else self._rule("list_empty", facts, binding)
        separator = self._rule("list_separator", facts, binding)
        last = self._rule("list_last_separator", facts, binding)
        return separator.join(texts[:-1]) + last + texts[-1]

    def _each(self, inner: Any, query: Sequence[Fact], facts: Facts, binding: Binding) -> list[str]:
        answers = facts.answers(query, binding) if query else [binding]
        return [self._symbol(inner, facts, answer) for answer in answers]

    def _rule(self, name: str, facts: Facts, binding: Binding) -> str:
        for rule in self._rules[name]:
            if not rule.condition or next(facts.answers(rule.condition, binding), None) is not None:
                return self.derive(rule.symbols, facts, binding)
        raise AssertionError(f"no rule of `{name}` applies")


#: Copies of Fast Downward's library that no engine uses now. A copy holds one game, and cannot be
#: unloaded: with two or more loaded, the process then crashes at its end.
_IDLE: list[Any] = []


class AlfworldEngine:
    """One game at a time, in a copy of Fast Downward's library that no other engine uses."""

    facts: Facts  # what is true now
    feedback: str  # what the last command printed
    commands: tuple[str, ...]  # the admissible commands, sorted
    won: bool  # whether the task is done

    def __init__(self) -> None:
        import fast_downward

        self._module = fast_downward
        self._library: Any = _IDLE.pop() if _IDLE else fast_downward.load_lib()
        self._game: CompiledGame | None = None

    def reset(self, game: CompiledGame) -> None:
        """Stand at the start of `game`."""
        if self._game is not game:
            self._game, self._printer = game, Printer(game)
            #: Commands of ground actions whose wording no action can change.
            self._fixed: dict[str, str] = {}
            self._planning: PlanningTask | None = None
        self._library.load_sas(game.sas)
        self.facts = Facts(game.facts)
        for fact in map(_fact, self._atom_names()):
            if not fact[0].startswith("not_"):
                self.facts.add(fact)
        self.feedback = self._printer.derive([["rule", "intro"]], self.facts, {})
        self._look()

    def step(self, command: str) -> None:
        """Do an admissible command."""
        number, name, effects = self._operators[command]
        atoms = self._atoms(effects)
        self._library.apply_operator(number, atoms)
        for atom in atoms:
            self.facts.add(_fact(atom.name))
        operator, binding = self._bind(name)
        self.feedback = self._printer.derive(operator.feedback, self.facts, binding)
        self._look()

    def plan(self) -> list[str]:
        """The planner's commands from here to the goal; none if it is reached or out of reach."""
        assert self._game is not None
        if self._planning is None:
            game = self._game
            parameters = {name: each.parameters for name, each in game.operators.items()}
            self._planning = PlanningTask(game.sas.decode(), parameters, game.goal)
        task = self._planning.cut(self._atom_names(), self.facts)
        if self.won or not self._library.solve_sas(task, False):
            return []
        steps = (self._module.Operator * self._library.get_last_plan_length())()
        self._library.get_last_plan(steps)
        return [self._command(step.name) for step in steps]

    def close(self) -> None:
        """Leave the library to the next engine."""
        if self._library is not None:
            self._library.cleanup()
            _IDLE.append(self._library)
        self._library = self._game = None

    def _look(self) -> None:
        operators = (self._module.Operator * self._library.get_applicable_operators_count())()
        self._library.get_applicable_operators(operators)
        #: Number, name, count of effects of the first ground action of each command.
        self._operators: dict[str, tuple[int, str, int]] = {}
        for operator in operators:
            name = operator.name
            known = (operator.id, name, operator.nb_effect_atoms)
            self._operators.setdefault(self._command(name), known)
        self.commands = tuple(sorted(self._operators))
        self.won = bool(self._library.check_goal())

    def _command(self, name: str) -> str:
        if name in self._fixed:
            return self._fixed[name]
        operator, binding = self._bind(name)
        command = self._printer.derive(operator.command, self.facts, binding)
        assert self._game is not None
        if not any(_mentions(symbol, self._game.fluents) for symbol in operator.command):
            self._fixed[name] = command
        return command

    def _bind(self, name: str) -> tuple[Operator, dict[str, str]]:
        assert self._game is not None
        action, *arguments = name.split()
        operator = self._game.operators[action]
        return operator, dict(zip(operator.parameters, arguments, strict=True))

    def _atom_names(self) -> list[str]:
        """The value of each variable of the task."""
        atoms = self._atoms(self._library.get_state_size())
        self._library.get_state(atoms)
        return [atom.name for atom in atoms]

    def _atoms(self, count: int) -> Any:
        return (self._module.Atom * count)()


def _fact(atom: str) -> Fact:
    """A fact from Fast Downward's "Atom on(a, b)" or "NegatedAtom on(a, b)"."""
    sign, _, rest = atom.partition(" ")
    name, _, arguments = rest.partition("(")
    named = f"not_{name}" if sign == "NegatedAtom" else name
    return (named, *(a for a in arguments.removesuffix(")").split(", ") if a))


def _mentions(symbol: Any, fluents: frozenset[str]) -> bool:
    """Whether the text of a symbol may change with the state: by a rule, or by a fluent queried."""
    match symbol:
        case ["list", inner]:
            return _mentions(inner, fluents)
        case ["each", inner, query]:
            queried = {atom[0].removeprefix("not_") for atom in query}
            return not queried.isdisjoint(fluents) or _mentions(inner, fluents)
    return symbol[0] == "rule"


def printed_names(ids: Sequence[str]) -> dict[str, str]:
    """How ALFWorld prints entities: "apple 1" for the last of the sorted ids that are apples."""
    kinds = {}
    for entity in sorted(ids):
        kind, bar, _ = entity.partition("_bar_")
        if bar:
            kinds[entity] = f"{kind}basin" if "basin" in entity else kind
    left = Counter(kinds.values())
    names = {}
    for entity in sorted(ids):
        kind = kinds.get(entity)
        if kind is None:
            names[entity] = f"{_plain(entity)} "
        else:
            names[entity] = f"{_plain(kind)} {left[kind]}"
            left[kind] -= 1
    return names


def _plain(name: str) -> str:
    """A mangled name with its punctuation back."""
    for mangled, mark in (("_minus_", "-"), ("_plus_", "+"), ("_dot_", "."), ("_comma_", ",")):
        name = name.replace(mangled, mark)
    return name
