"""The engine of household games: transcripts as of the unmodified one, but faster; its planner."""

import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter

import pytest

from cepcli.envs.alfworld.compile import compiled_game
from cepcli.envs.alfworld.engine import AlfworldEngine, printed_names
from cepcli.envs.alfworld.household import TASK_TYPES, Household, homes, household_file
from cepcli.envs.alfworld.state import Facts

pytestmark = pytest.mark.usefixtures("quick_makers")
STEPS = 20


@pytest.fixture
def engine():
    made = AlfworldEngine()
    yield made
    made.close()


@pytest.fixture(scope="module")
def household_files(tmp_path_factory):
    """A small game of each kind."""
    folder, files = tmp_path_factory.mktemp("household"), {}
    for kind in TASK_TYPES:
        files[kind] = folder / f"{kind}.tw-pddl"
        files[kind].write_text(household_file(Household(kind, 3, 8, 6)))
    return files


def walk(engine, game, seed):
    """Commands that wander and get somewhere, and what the engine showed at each."""
    rng = random.Random(seed)
    engine.reset(game)
    shown, taken = [shows(engine)], []
    for _ in range(STEPS):
        plan = engine.plan()
        advised = plan[:1] if rng.random() < 0.5 else []
        taken.append(rng.choice(advised or engine.commands))
        engine.step(taken[-1])
        shown.append(shows(engine))
    return taken, shown


def shows(engine):
    return [engine.feedback, list(engine.commands), engine.won]


def stock(walks, home):
    environment = os.environ | {"HOME": str(home), "XDG_CACHE_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.envs.alfworld_stock"], input=json.dumps(walks),
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_same_as_stock(files, engine, games, home):
    walks, ours = [], []
    for seed, file in enumerate(files):
        taken, shown = walk(engine, compiled_game(file, games, None), seed)
        walks.append([str(file), taken])
        ours.append(shown)
    for (file, taken), shown, theirs in zip(walks, ours, stock(walks, home), strict=True):
        for step, (one, other) in enumerate(zip(shown, theirs, strict=True)):
            assert one == other, (file, taken[:step])
    return walks, ours


@pytest.mark.slow
def test_transcripts_of_made_games_are_those_of_the_unmodified_engine(
    household_files, engine, games, tmp_path
):
    walks, ours = assert_same_as_stock(household_files.values(), engine, games, tmp_path)
    done = {taken.split()[0] for _, commands in walks for taken in commands}
    assert {"go", "take", "move", "open", "clean", "heat", "cool", "use"} <= done
    assert any(shown[-1][2] for shown in ours)


@pytest.mark.slow
def test_transcripts_of_official_games_are_those_of_the_unmodified_engine(
    official, engine, games, tmp_path
):
    assert_same_as_stock(sorted(official.rglob("*.tw-pddl")), engine, games, tmp_path)


@pytest.mark.slow
def test_transcripts_of_one_official_game_are_those_of_the_unmodified_engine(
    official, engine, games, tmp_path
):
    smallest = sorted(official.rglob("*.tw-pddl"), key=lambda file: file.stat().st_size)[:1]
    assert_same_as_stock(smallest, engine, games, tmp_path)


class CountedLibrary:
    """Fast Downward's library, and how often each of its functions was called."""

    def __init__(self, library):
        self.library, self.calls = library, Counter()

    def __getattr__(self, name):
        self.calls[name] += 1
        return getattr(self.library, name)


@pytest.mark.parametrize("size", [(10, 12), (30, 60)])
def test_a_step_asks_the_library_four_times_and_words_each_command_once_a_game(
    engine, games, tmp_path, monkeypatch, size
):
    """The cost of a step does not depend on the speed of the machine; see `cep bench envs`."""
    file = tmp_path / "heat.tw-pddl"
    file.write_text(household_file(Household("heat", 0, *size)))
    game = compiled_game(file, games, None)
    engine.reset(game)
    counted, worded = CountedLibrary(engine._library), Counter()
    monkeypatch.setattr(engine, "_library", counted)
    bind = engine._bind
    monkeypatch.setattr(engine, "_bind", lambda name: worded.update([name]) or bind(name))
    rounds = []
    for _ in range(2):
        counted.calls.clear()
        worded.clear()
        engine.reset(game)
        assert counted.calls.total() == 6, counted.calls
        rng = random.Random(0)
        for _ in range(30):
            engine.step(rng.choice(engine.commands))
        assert counted.calls.total() == 6 + 30 * 4, counted.calls
        rounds.append(worded.total())
    assert rounds[1] == 30  # what each command printed
    monkeypatch.setattr(engine, "_library", counted.library)


def test_a_compiled_game_is_read_and_not_compiled_again(household_files, games, monkeypatch):
    before = compiled_game(household_files["heat"], games, None)
    monkeypatch.setattr("cepcli.envs.alfworld.compile.make_apart", None)
    assert compiled_game(household_files["heat"], games, None) == before


@pytest.mark.slow
def test_the_plan_is_as_short_as_the_official_walkthrough(official, engine, games):
    smallest = {}
    for file in sorted(official.rglob("*.tw-pddl"), key=lambda file: -file.stat().st_size):
        smallest[file.parts[-3].partition("-")[0]] = file
    assert set(smallest) == {task.folder for task in TASK_TYPES.values()}
    for file in smallest.values():
        engine.reset(compiled_game(file, games, None))
        assert len(engine.plan()) == len(json.loads(file.read_text())["walkthrough"]), file


def test_the_plan_is_as_short_as_one_of_the_whole_task(engine, games, tmp_path):
    """Also where it left out things and places; of other kinds the whole task takes minutes."""
    for kind in ("pick", "look"):
        file = tmp_path / f"{kind}.tw-pddl"
        file.write_text(household_file(Household(kind, 3, 8, 4)))
        game = compiled_game(file, games, None)
        rng = random.Random(kind)
        engine.reset(game)
        for _ in range(4):
            assert len(engine.plan()) == _whole_plan(engine, game), kind
            for _ in range(2):
                engine.step(rng.choice(engine.commands))


def test_the_plan_ends_where_the_agent_stands_if_that_place_will_do(engine, games, tmp_path):
    """Of several places that serve alike the planner keeps one; but never loses the one here."""
    file = tmp_path / "pick.tw-pddl"
    for seed in range(100):
        file.write_text(household_file(Household("pick", seed, 10, 4)))
        problem, goal = json.loads(file.read_text())["pddl_problem"].split("(:goal")
        place = goal.partition("(receptacleType ?r ")[2].partition("Type")[0]
        numbers = set(re.findall(rf"{place}_bar_\d+", problem))
        if len(numbers) > 1 and place not in homes().openable:
            break
    game, place = compiled_game(file, games, None), place.lower()
    for number in range(1, len(numbers) + 1):
        engine.reset(game)
        while not engine.plan()[0].startswith("take "):
            engine.step(engine.plan()[0])
        engine.step(engine.plan()[0])
        engine.step(f"go to {place} {number}")
        (last,) = engine.plan()
        assert last.endswith(f" to {place} {number}")
        engine.step(last)
        assert engine.won


def _whole_plan(engine, game):
    """Steps of a plan in which every action may be used, from where the engine stands."""
    names = engine._atom_names()
    lines, rest = game.sas.decode().split("begin_state\n")[0], game.sas.decode()
    head, state = rest.split("begin_state\n")
    values, tail = state.split("end_state\n")
    variables = lines.split("begin_variable\n")[1:]
    now = []
    for variable, value, name in zip(variables, values.split(), names, strict=True):
        _, layer, _, *atoms = variable.split("\n")
        now.append(str(atoms.index(name)) if int(layer) < 0 else value)
    task = f"{head}begin_state\n{chr(10).join(now)}\nend_state\n{tail}"
    if engine.won:
        return 0
    assert engine._library.solve_sas(task.encode(), False)
    return engine._library.get_last_plan_length()


def test_engines_do_not_disturb_each_other(household_files, games):
    alone, both = [], []
    loaded = [compiled_game(household_files[kind], games, None) for kind in ("pick", "heat")]
    for game in loaded:
        one = AlfworldEngine()
        alone.append(walk(one, game, 0)[1])
        one.close()
    first, second = AlfworldEngine(), AlfworldEngine()
    for each, game in zip((first, second), loaded, strict=True):
        each.reset(game)
    rngs = [random.Random(0), random.Random(0)]
    shown = [[shows(first)], [shows(second)]]
    for _ in range(STEPS):
        for each, rng, row in zip((first, second), rngs, shown, strict=True):
            plan = each.plan()
            advised = plan[:1] if rng.random() < 0.5 else []
            each.step(rng.choice(advised or each.commands))
            row.append(shows(each))
    both = shown
    first.close()
    second.close()
    assert both == alone


def test_the_process_ends_well_after_engines_were_closed(household_files, games):
    code = (
        "import sys; from pathlib import Path\n"
        "from cepcli.envs.alfworld.compile import compiled_game\n"
        "from cepcli.envs.alfworld.engine import AlfworldEngine\n"
        "game = compiled_game(Path(sys.argv[1]), Path(sys.argv[2]), None)\n"
        "engines = [AlfworldEngine(), AlfworldEngine()]\n"
        "for engine in engines:\n"
        "    engine.reset(game); engine.plan(); engine.step(engine.commands[0])\n"
        "for engine in engines:\n"
        "    engine.close()\n"
        "again = AlfworldEngine(); again.reset(game)\n"
        "loaded = [line for line in open('/proc/self/maps') if 'libdownward' in line]\n"
        "print(len({line.split()[4] for line in loaded}), 'alfworld' in sys.modules)\n"
        "again.close()"
    )
    arguments = [str(household_files["pick"]), str(games)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "2 False\n"), done.stderr


def test_compiling_leaves_the_arguments_of_the_command_line(household_files, tmp_path):
    before = list(sys.argv)
    compiled_game(household_files["pick"], tmp_path, None)
    assert sys.argv == before


def test_a_compiled_game_is_the_same_in_every_process(household_files, tmp_path):
    code = (
        "import sys; from pathlib import Path; from cepcli.envs.alfworld.compile import *;"
        "compiled_game(Path(sys.argv[1]), Path(sys.argv[2]), None)"
    )
    kept = []
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(household_files["cool"]), str(tmp_path / seed)]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": seed})
        kept.append([f.read_bytes() for f in (tmp_path / seed).rglob("*.json.gz")])
    assert kept[0] == kept[1]
    assert len(kept[0]) == 1


def test_entities_are_called_by_kind_and_number_from_the_end():
    ids = ["apple_bar_01", "apple_bar_02", "sink_bar_03_bar_sinkbasin", "loc_bar_00", "agent1"]
    names = printed_names(ids)
    assert names["apple_bar_01"] == "apple 2"
    assert names["apple_bar_02"] == "apple 1"
    assert names["sink_bar_03_bar_sinkbasin"] == "sinkbasin 1"


def test_queries_are_answered_in_order_by_different_entities():
    facts = Facts([("in", "b", "x"), ("in", "a", "x"), ("in", "c", "y"), ("open", "x")])
    both = (("in", "o", "r"), ("open", "r"))
    assert [a["o"] for a in facts.answers(both, {})] == ["a", "b"]
    pairs = [(a["o"], a["p"]) for a in facts.answers((("in", "o", "r"), ("in", "p", "r")), {})]
    assert pairs == [("a", "b"), ("b", "a")]
    assert list(facts.answers((("open", "r"),), {"r": "y"})) == []
    facts.add(("not_open", "x"))
    assert not facts.has("open", "x")
    assert facts.has("not_open", "x")
    assert list(itertools.islice(facts.answers((), {"r": "y"}), 2)) == [{"r": "y"}]
