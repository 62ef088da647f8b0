"""Game files of ALFWorld (`*.tw-pddl`): finding the official ones, compiling any.

Compiling grounds the PDDL problem with Fast Downward's translator and parses the grammar with
textworld's parser, which together take about a second; the result is kept in the workspace under
the hash of what it was made from.
"""

import ast
import gzip
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from cepcli.envs.alfworld.engine import (
    AlfworldEngine,
    CompiledGame,
    Operator,
    Rule,
    printed_names,
)
from cepcli.envs.alfworld.state import Fact
from cepcli.envs.game_making import game_made_once, make_apart
from cepcli.errors import EnvError
from cepcli.extras import install_command

#: Format of a compiled game; part of its name.
_FORMAT = 1
_KEYS = ("pddl_domain", "grammar", "pddl_problem", "solvable")
_TASK = re.compile(r"Your task is to: ([^\"\n]*?)\.?\"")
_TEMPLATE = re.compile(r"action (\w+) \{\s*template :: \"([^\"]*)\"")
_QUERY = re.compile(r"(\w+)\(([^()]*)\)")
FOLDER = "json_2.1.1"
DOWNLOAD = "Get them: ALFWORLD_DATA=DIR alfworld-download"
_OWN = "or play games made here: --set env_options.source=household"
#: Folders that ALFWorld itself leaves out: what they ask for has no commands.
_UNSUPPORTED = ("movable", "Sliced")
#: Enough of a file's end to hold `solvable` and the walkthrough.
_TAIL_BYTES = 4096
_SOLVABLE = re.compile(rb'"solvable": *(true|false)')
_AGAIN = "Download ALFWorld's games again: alfworld-download --force"


def shipped(name: str) -> str:
    """The text of a file that the `alfworld` package ships: alfred.pddl or alfred.twl2.

    The package is not imported: that would create a folder and set `$ALFWORLD_DATA`.

    Raises:
        EnvError: if the package is not installed.
    """
    spec = importlib.util.find_spec("alfworld")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / "data" / name
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise EnvError(
        f"The package `alfworld`, which ships {name}, is not installed.",
        install_command("alfworld"),
    )


def official_games(data: Path | None, split: str, tasks: Collection[str]) -> dict[int, Path]:
    """The solvable games of a split and of some task types, by their instances.

    They lie as `alfworld-download` puts them, in
    `$ALFWORLD_DATA/json_2.1.1/SPLIT/TASK-Object-Mrecep-Receptacle-Scene/TRIAL/game.tw-pddl`. An
    instance is made from the last parts of the path, so that it stays the same whichever games lie
    beside it.

    Args:
        data: `$ALFWORLD_DATA`; None if it is not set.
        split: train, valid_seen (scenes of train) or valid_unseen (other scenes).
        tasks: how the names of their folders begin.

    Raises:
        EnvError: if there are none, or one is cut short; it says which and what to type.
    """
    folder = _split_folder(data, split)
    games: dict[int, Path] = {}
    for trial in sorted(folder.glob("*/*/game.tw-pddl")):
        name = trial.parts[-3]
        supported = not any(word in name for word in _UNSUPPORTED)
        if supported and name.partition("-")[0] in tasks and _solvable(trial):
            digest = hashlib.sha256("/".join(trial.parts[-4:-1]).encode()).digest()
            games[2**40 + int.from_bytes(digest[:5])] = trial
    if not games:
        message = f"`{folder}` has no game.tw-pddl of {', '.join(sorted(tasks))}."
        raise EnvError(message, f"{DOWNLOAD}, {_OWN}")
    return games


def _split_folder(data: Path | None, split: str) -> Path:
    hint = f"{DOWNLOAD}, {_OWN}"
    if data is None:
        raise EnvError("`source` is official, but $ALFWORLD_DATA is not set.", hint)
    root = data / FOLDER
    if not root.is_dir():
        raise EnvError(f"$ALFWORLD_DATA is `{data}`, which has no folder {FOLDER}.", hint)
    if (root / split).is_dir():
        return root / split
    there = sorted(each.name for each in root.iterdir() if each.is_dir())
    if split.startswith("valid") and (others := [n for n in there if n.startswith("valid")]):
        hint = f"{DOWNLOAD}, or hold out others: --set env_options.heldout={others[0]}"
    raise EnvError(f"`{root}` has no {split} games, only {', '.join(there) or 'nothing'}.", hint)


def _solvable(game: Path) -> bool:
    """Whether a game says that it can be solved, by its end if that is as usual."""
    with game.open("rb") as file:
        file.seek(max(0, game.stat().st_size - _TAIL_BYTES))
        tail = file.read()
    found = _SOLVABLE.search(tail)
    if found is None or not tail.rstrip().endswith(b"}"):
        return bool(read_game(game)["solvable"])
    return found[1] == b"true"


def read_game(file: Path, again: str = _AGAIN) -> dict[str, Any]:
    """The content of a game file.

    Raises:
        EnvError: if it cannot be read, is cut short, or is of another version than the one that is
            installed; it names the file, and `again` says what to type.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise EnvError(f"Cannot read the game `{file}`: {error.strerror}.", again) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EnvError(f"The game `{file}` is damaged or cut short: {error}.", again) from error
    if not isinstance(data, dict):
        raise EnvError(
            f"`{file}` is not an ALFWorld game: it holds a {type(data).__name__}.", again
        )
    missing = [key for key in _KEYS if key not in data]
    if missing:
        raise EnvError(
            f"The game `{file}` lacks {', '.join(missing)}: it is of another version of ALFWorld.",
            again,
        )
    _check_version(data["grammar"], file, again)
    return data


def _check_version(grammar: str, file: Path, again: str) -> None:
    ours, theirs = dict(_TEMPLATE.findall(shipped("alfred.twl2"))), dict(_TEMPLATE.findall(grammar))
    for action in sorted({*ours, *theirs}):
        if ours.get(action) != theirs.get(action):
            raise EnvError(
                f"The game `{file}` is of another version of ALFWorld: its command of {action} is "
                f"{theirs.get(action)!r}, expected {ours.get(action)!r} as in alfworld "
                f"{metadata.version('alfworld')}.",
                again,
            )
    if not _TASK.search(grammar):
        raise EnvError(f"The game `{file}` names no task in its grammar.", again)


def compiled_game(
    file: Path,
    workspace: Path,
    progress: Callable[[str], None] | None,
    again: str = _AGAIN,
    *,
    check: bool = False,
) -> CompiledGame:
    """The game of a file, compiled now if this workspace does not have it yet.

    Args:
        file: a `.tw-pddl`.
        workspace: where the compiled game is kept.
        progress: told that a game is compiled.
        again: what to type where the file cannot be used.
        check: whether the planner has to find a way to win it.

    Raises:
        EnvError: if the file cannot be used (see `read_game`), or the compiled game is damaged.
        ArtifactError: if the workspace cannot be written.
    """
    data = read_game(file, again)
    final = workspace / "games" / "alfworld" / "compiled" / f"{_fingerprint(data)}.json.gz"

    def make(folder: Path) -> None:
        if progress:
            progress(f"Compiling the ALFWorld game {file}")
        request = {"file": str(file), "again": again, "check": check, "name": final.name}
        make_apart("alfworld", folder, request, f"The game `{file}`", "Play other games.")

    return load(game_made_once(final, workspace, make))


def make_game(folder: Path, request: Mapping[str, Any]) -> None:
    """Compile a game in this process; see `compiled_game` for the values of the request."""
    file = Path(request["file"])
    game = compile_game(read_game(file, request["again"]), file, request["again"])
    if request["check"]:
        require_solvable(game, file)
    save(game, folder / request["name"])


def require_solvable(game: CompiledGame, file: Path) -> None:
    """Raise an `EnvError` unless the planner finds a way from the start to the goal."""
    engine = AlfworldEngine()
    try:
        engine.reset(game)
        if not engine.plan():
            raise EnvError(
                f"The planner finds no way to do the task of `{file}`: {game.task}.",
                "Play another seed: --set env_options.first_seed=N",
            )
    finally:
        engine.close()


def _fingerprint(data: Mapping[str, Any]) -> str:
    """Of everything that a compiled game depends on."""
    versions = [metadata.version(name) for name in ("textworld", "fast-downward-textworld")]
    source = [_FORMAT, *versions, *(data[key] for key in _KEYS)]
    return hashlib.sha256(json.dumps(source).encode()).hexdigest()[:32]


def save(game: CompiledGame, file: Path) -> None:
    """Write a compiled game."""
    plain = asdict(game) | {"sas": game.sas.decode(), "fluents": sorted(game.fluents)}
    file.write_bytes(gzip.compress(json.dumps(plain).encode(), compresslevel=6, mtime=0))


def load(file: Path) -> CompiledGame:
    """Read a compiled game.

    Raises:
        EnvError: if the file is damaged.
    """
    try:
        plain = json.loads(gzip.decompress(file.read_bytes()))
        return CompiledGame(
            task=plain["task"],
            sas=plain["sas"].encode(),
            facts=tuple(map(tuple, plain["facts"])),
            operators={n: Operator(tuple(o[0]), *o[1:]) for n, o in plain["operators"].items()},
            rules={
                n: [Rule(tuple(map(tuple, c)), s) for c, s in r] for n, r in plain["rules"].items()
            },
            names=plain["names"],
            fluents=frozenset(plain["fluents"]),
            goal=tuple(plain["goal"]),
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise EnvError(
            f"The compiled game `{file}` is damaged: {error}.",
            f"Remove it, and it is made again: rm {file}",
        ) from error


def compile_game(data: Mapping[str, Any], file: Path, again: str = _AGAIN) -> CompiledGame:
    """Ground the problem of a game, and parse its grammar.

    Raises:
        EnvError: if either is not as expected; it names the file.
    """
    from tatsu.exceptions import ParseException

    try:
        task, sas = _translate(data)
        operators, rules = _grammar(data["grammar"], task)
    except (
        ParseException, SystemExit, AssertionError, ValueError, KeyError, IndexError, TypeError,
        AttributeError,
    ) as error:  # fmt: skip
        raise EnvError(
            f"The game `{file}` cannot be compiled: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}",
            again,
        ) from error
    found = _TASK.search(data["grammar"])
    assert found is not None, file
    goal = data["pddl_problem"].lower().partition("(:goal")[2]
    atoms = [atom for atom in task.init if getattr(atom, "predicate", "=") != "="]  # no numbers
    facts = tuple(sorted({(atom.predicate, *atom.args) for atom in atoms}))
    return CompiledGame(
        task=found.group(1),
        sas=sas.encode(),
        facts=facts,
        operators=operators,
        rules=rules,
        names=printed_names(sorted({entity for fact in facts for entity in fact[1:]})),
        fluents=frozenset(
            effect.literal.predicate for action in task.actions for effect in action.effects
        ),
        goal=tuple(sorted(set(re.findall(r"\w+", goal)))),  # in lower case as Fast Downward prints
    )


def _translate(data: Mapping[str, Any]) -> tuple[Any, str]:
    """Fast Downward's translator, which overwrites `sys.argv`."""
    import fast_downward

    argv = sys.argv
    try:
        translated: Any = fast_downward.pddl2sas(data["pddl_domain"], data["pddl_problem"])
        return translated
    finally:
        sys.argv = argv


def _grammar(grammar: str, task: Any) -> tuple[dict[str, Operator], dict[str, list[Rule]]]:
    """The actions of the domain and the rules of the grammar, parsed by textworld."""
    from textworld.envs.pddl.logic import GameLogic

    logic = GameLogic(domain="", grammar=grammar)
    operators = {}
    for action in task.actions:
        parameters = action.parameters[: action.num_external_parameters]
        names, known = tuple(p.name.strip("?") for p in parameters), logic.actions[action.name]
        operators[action.name] = Operator(names, _row(known.template), _row(known.feedback_rule))
    rules = {
        name: [Rule(_query(rule.condition), [_symbol(s) for s in rule.rhs]) for rule in productions]
        for name, productions in logic.grammar._rules.items()
    }
    return operators, rules


def _row(text: str) -> list[Any]:
    """The symbols that a piece of grammar is made of."""
    from textworld.envs.pddl.textgen import ContextSensitiveGrammar

    parsed = ContextSensitiveGrammar.parse(json.dumps({"row": [{"rhs": text}]}))
    return [_symbol(symbol) for symbol in parsed._rules["row"][0].rhs]


def _symbol(symbol: Any) -> list[Any]:
    """A symbol of textworld's as `engine.Printer` takes it."""
    from textworld.envs.pddl import textgen

    if isinstance(symbol, textgen.TerminalSymbol):
        return ["text", str(symbol)]
    if isinstance(symbol, textgen.NonterminalSymbol):
        return ["rule", str(symbol)]
    if isinstance(symbol, textgen.ConditionalSymbol):
        return ["each", _symbol(symbol.expression), _query(symbol.given or "")]
    if isinstance(symbol, textgen.ListSymbol):
        return ["list", _symbol(symbol.symbol)]
    return ["join", _terms(ast.parse(str(symbol).strip(), mode="eval").body)]


def _query(text: str) -> tuple[Fact, ...]:
    """The atoms of "in(o:object, r:receptacle) & open(r:receptacle)", without types."""
    atoms = tuple(
        (name, *(a.partition(":")[0].strip() for a in arguments.split(",")))
        for name, arguments in _QUERY.findall(text)
    )
    if len(atoms) != (text.count("&") + 1 if text.strip() else 0):
        raise ValueError(f"the query {text!r} is not understood")
    return atoms


def _terms(expression: ast.expr) -> list[list[str]]:
    """The terms of `o.indefinite + ' ' + o.name`; nothing is evaluated."""
    match expression:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _terms(left) + _terms(right)
        case ast.BoolOp(op=ast.Or(), values=[first, *_]):  # a name is never empty
            return _terms(first)
        case ast.Constant(value=str(text)):
            return [["text", text]]
        case ast.Name(id=variable) | ast.Attribute(value=ast.Name(id=variable), attr="name"):
            return [["name", variable]]
        case ast.Attribute(value=ast.Name(), attr="indefinite"):
            return [["text", "a"]]
        case ast.Attribute(value=ast.Name(), attr="definite"):
            return [["text", "the"]]
    raise ValueError(f"the expression `{ast.unparse(expression)}` is not understood")
