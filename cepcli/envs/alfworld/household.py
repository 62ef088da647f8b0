"""Makes ALFWorld games: rooms with furniture and things, and a task that can be done in them.

A game is a PDDL problem over the domain and the grammar that the `alfworld` package ships, in a
file as ALFWorld's own. Thing, place and tool of the task are chosen among those that fit together
in the room, so that it can be done; the planner confirms it when the game is compiled. A quarter of
all furnishings is held out: no training game plays in one of them.
"""

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from cepcli.envs.alfworld.compile import compiled_game, shipped
from cepcli.envs.alfworld.engine import CompiledGame
from cepcli.envs.game_making import game_made_once

#: Seeds from here on make held-out games.
FIRST_HELDOUT = 1_000_000
#: Which games a seed makes; part of where they are kept.
_VERSION = 1
_HELDOUT_SHARE = 4
_LAMP = "DeskLamp"
_MOST_COPIES = 3
_Choice = TypeVar("_Choice")

_PUT = (
    "(exists (?r - receptacle) (exists (?o - object) (and {done} (objectType ?o {thing}Type) "
    "(receptacleType ?r {place}Type) (inReceptacle ?o ?r))))"
)
_PUT_TWO = (
    "(exists (?r - receptacle) (exists (?o1 - object) (and (objectType ?o1 {thing}Type) "
    "(receptacleType ?r {place}Type) (inReceptacle ?o1 ?r) (exists (?o2 - object) (and "
    "(not (= ?o1 ?o2)) (objectType ?o2 {thing}Type) (receptacleType ?r {place}Type) "
    "(inReceptacle ?o2 ?r))))))"
)
_LOOK = (
    "(exists (?lamp - object ?r - receptacle ?a - agent ?l - location) (and "
    "(objectType ?lamp {place}Type) (toggleable ?lamp) (isToggled ?lamp) "
    "(receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?lamp ?r))) "
    "(exists (?o - object ?a - agent) (and (objectType ?o {thing}Type) (holds ?a ?o)))"
)


@dataclass(frozen=True, slots=True)
class TaskType:
    """One of ALFWorld's kinds of task."""

    folder: str  # how the folders of its official games are called
    rooms: tuple[str, ...]  # where it is set
    wordings: tuple[str, ...]  # how it is told, with {thing} and {place}
    goal: str  # what is to be true, in PDDL
    tool: str | None = None  # the receptacle that does what is to be done on the way
    property: str | None = None  # what a thing needs so that it can be done; None: nothing


def _treated(folder: str, verb: str, mark: str, tool: str, *rooms: str) -> TaskType:
    done = f"({verb}able ?o) (is{mark.capitalize()} ?o)"
    wordings = (
        f"{verb} some {{thing}} and put it in {{place}}",
        f"put a {mark} {{thing}} in {{place}}",
    )
    return TaskType(folder, rooms, wordings, _PUT.replace("{done}", done), tool, f"{verb}able")


_ANY_ROOM = ("kitchen", "bathroom", "bedroom", "living room")
TASK_TYPES = {
    "pick": TaskType(
        "pick_and_place_simple",
        _ANY_ROOM,
        ("put a {thing} in {place}", "put some {thing} on {place}"),
        _PUT.replace("{done} ", ""),
    ),
    "look": TaskType(
        "look_at_obj_in_light",
        ("bedroom", "living room"),
        ("look at {thing} under the {place}", "examine the {thing} with the {place}"),
        _LOOK,
    ),
    "clean": _treated(
        "pick_clean_then_place_in_recep", "clean", "clean", "SinkBasin", "kitchen", "bathroom"
    ),
    "heat": _treated("pick_heat_then_place_in_recep", "heat", "hot", "Microwave", "kitchen"),
    "cool": _treated("pick_cool_then_place_in_recep", "cool", "cool", "Fridge", "kitchen"),
    "pick-two": TaskType(
        "pick_two_obj_and_place",
        _ANY_ROOM,
        ("put two {thing} in {place}", "find two {thing} and put them in {place}"),
        _PUT_TWO,
    ),
}


class RoomType(NamedTuple):
    """A kind of room: receptacles that each has, further ones by frequency, and its things."""

    always: tuple[str, ...]
    sometimes: tuple[str, ...]
    things: tuple[str, ...]


class Homes(NamedTuple):
    """What is known of homes; see `homes.toml`."""

    rooms: dict[str, RoomType]  # kinds of room
    single: tuple[str, ...]  # receptacles of which a room has at most one each
    openable: tuple[str, ...]  # receptacles that can be opened
    lamp_places: tuple[str, ...]  # receptacles where a desk lamp may stand
    properties: dict[str, tuple[str, ...]]  # things by what can be done to them
    holds: dict[str, tuple[str, ...]]  # things by the receptacle that they may be put in or on


@cache
def homes() -> Homes:
    """The table of homes that comes with cep."""
    table = tomllib.loads(Path(__file__).with_name("homes.toml").read_text(encoding="utf-8"))
    return Homes(
        {name: RoomType(**_words(room)) for name, room in table["rooms"].items()},
        tuple(table["single"].split()),
        tuple(table["openable"].split()),
        tuple(table["lamp_places"].split()),
        _words(table["properties"]),
        _words(table["holds"]),
    )


def _words(table: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(words.split()) for name, words in table.items()}


class Household(NamedTuple):
    """What a game is made from: a key of `TASK_TYPES`, a seed, and how large the room is."""

    kind: str
    seed: int
    receptacles: int
    objects: int

    def recipe(self) -> str:
        """What games that differ by their seeds share: "v1-pick-receptacles10-objects12"."""
        size = f"receptacles{self.receptacles}-objects{self.objects}"
        return f"v{_VERSION}-{self.kind}-{size}"


class Scene(NamedTuple):
    """A room with what is in it."""

    room: str  # a key of `Homes.rooms`
    furniture: tuple[str, ...]  # types of its receptacles, sorted
    #: types of what lies about, each with the number of the receptacle that holds it
    things: tuple[tuple[str, int], ...]
    task: tuple[str, str]  # the thing and the place (or the lamp) that the task names


def household_game(
    house: Household, workspace: Path, progress: Callable[[str], None] | None
) -> CompiledGame:
    """The game of a house, made and compiled now if this workspace does not have it yet.

    Raises:
        EnvError: if the package `alfworld` is not installed, or what is kept is damaged.
        ArtifactError: if the workspace cannot be written.
    """
    folder = workspace / "games" / "alfworld" / house.recipe()
    final = folder / f"{house.seed}.tw-pddl"

    def make(partial: Path) -> None:
        (partial / final.name).write_text(household_file(house), encoding="utf-8")

    game_made_once(final, workspace, make)
    again = f"Remove it, and it is made again: rm {final}"
    return compiled_game(final, workspace, progress, again, check=True)


def household_file(house: Household) -> str:
    """The text of a game file, as ALFWorld's own."""
    rng = np.random.default_rng([_VERSION, *TASK_TYPES[house.kind].folder.encode(), *house[1:]])
    scene = make_scene(house, rng)
    kind, (thing, place) = TASK_TYPES[house.kind], scene.task
    wording = kind.wordings[int(rng.integers(len(kind.wordings)))]
    task = wording.format(thing=thing.lower(), place=place.lower())
    data = {
        "pddl_domain": shipped("alfred.pddl"),
        "grammar": shipped("alfred.twl2").replace("UNKNOWN GOAL", task),
        "pddl_problem": _problem(scene, kind.goal.format(thing=thing, place=place)),
        "solvable": True,
    }
    return json.dumps(data)


def make_scene(house: Household, rng: np.random.Generator) -> Scene:
    """A room of the split that the seed belongs to, in which the task can be done."""
    kind = TASK_TYPES[house.kind]
    while True:
        name = _one(rng, kind.rooms)
        room = homes().rooms[name]
        furniture = _furniture(rng, room, house.receptacles)
        tasks = sorted(set(_tasks(kind, room, furniture)))
        if tasks and is_heldout(name, furniture) == (house.seed >= FIRST_HELDOUT):
            break
    place = _one(rng, sorted({place for _, place in tasks}))
    thing = _one(rng, [thing for thing, where in tasks if where == place])
    things = _copies(rng, house, thing, place, furniture)
    others = [each for each in room.things if each != thing and _places(each, furniture)]
    while len(things) < house.objects:
        other = _one(rng, others)
        things.append((other, _one(rng, _places(other, furniture))))
    stands = [number for number, each in enumerate(furniture) if each in homes().lamp_places]
    if stands and name in TASK_TYPES["look"].rooms:
        things.append((_LAMP, _one(rng, stands)))
    return Scene(name, furniture, tuple(things), (thing, place))


def is_heldout(room: str, furniture: Sequence[str]) -> bool:
    """Whether a furnishing belongs to the held-out games."""
    digest = hashlib.sha256(" ".join((room, *furniture)).encode()).digest()
    return int.from_bytes(digest[:4]) % _HELDOUT_SHARE == 0


def _one(rng: np.random.Generator, choices: Sequence[_Choice]) -> _Choice:
    return choices[int(rng.integers(len(choices)))]


def _furniture(rng: np.random.Generator, room: RoomType, count: int) -> tuple[str, ...]:
    found = list(room.always)
    while len(found) < count:
        more = _one(rng, room.sometimes)
        if more not in homes().single or more not in found:
            found.append(more)
    return tuple(sorted(found))


def _tasks(kind: TaskType, room: RoomType, furniture: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The things and places that the task can name in a room."""
    for thing in room.things:
        if kind.property and thing not in homes().properties[kind.property]:
            continue
        found = {furniture[number] for number in _places(thing, furniture)}
        if kind.goal is _LOOK:
            if found and not set(furniture).isdisjoint(homes().lamp_places):
                yield thing, _LAMP
        elif kind.tool is None or kind.tool in furniture:
            yield from ((thing, place) for place in found - {kind.tool} if found - {place})


def _places(thing: str, furniture: Sequence[str]) -> list[int]:
    """The numbers of the receptacles that can hold a thing."""
    return [number for number, place in enumerate(furniture) if thing in homes().holds[place]]


def _copies(
    rng: np.random.Generator, house: Household, thing: str, place: str, furniture: Sequence[str]
) -> list[tuple[str, int]]:
    """The things that the task may be done with, and where they are."""
    least = 2 if house.kind == "pick-two" else 1
    count = int(rng.integers(least, _MOST_COPIES + 1))
    places = _places(thing, furniture)
    if TASK_TYPES[house.kind].tool is None:  # or it would be done at the start
        places = [number for number in places if furniture[number] != place]
    return [(thing, _one(rng, places)) for _ in range(count)]


def _problem(scene: Scene, goal: str) -> str:
    """The PDDL problem of a scene."""
    places = [_entity(kind, number) for number, kind in enumerate(scene.furniture)]
    things = [_entity(kind, number) for number, (kind, _) in enumerate(scene.things)]
    locations = [f"loc_bar_{number:02}" for number in range(len(places))]
    place_types = sorted({*scene.furniture, "Fridge", "Microwave", "SinkBasin"})
    thing_types = sorted({kind for kind, _ in scene.things} | {"Knife", "ButterKnife"})
    init = ["(= (total-cost) 0)", "(atLocation agent1 loc_bar_start)"]
    for entity, kind, location in zip(places, scene.furniture, locations, strict=True):
        init += [f"(receptacleType {entity} {kind}Type)"]
        init += [f"(receptacleAtLocation {entity} {location})"]
        init += [f"(openable {entity})"] if kind in homes().openable else []
    for entity, (kind, number) in zip(things, scene.things, strict=True):
        init += [f"(objectType {entity} {kind}Type)", f"(inReceptacle {entity} {places[number]})"]
        init += [f"(objectAtLocation {entity} {locations[number]})"]
        known = [name for name, kinds in homes().properties.items() if kind in kinds]
        properties = ["toggleable"] if kind == _LAMP else ["pickupable", *known]
        init += [f"({property} {entity})" for property in properties]
    for place in place_types:
        held = set(homes().holds[place]) & set(thing_types)
        init += [f"(canContain {place}Type {kind}Type)" for kind in sorted(held)]
    return "\n".join(
        [
            "(define (problem household)",
            "(:domain alfred)",
            "(:objects",
            "agent1 - agent",
            f"{' '.join(things)} - object",
            f"{' '.join(f'{kind}Type' for kind in thing_types)} - otype",
            f"{' '.join(places)} - receptacle",
            f"{' '.join(f'{kind}Type' for kind in place_types)} - rtype",
            f"loc_bar_start {' '.join(locations)} - location",
            ")",
            "(:init",
            *init,
            ")",
            f"(:goal (and {goal}))",
            "(:metric minimize (total-cost))",
            ")",
        ]
    )


def _entity(kind: str, number: int) -> str:
    """An id in the form of ALFWorld's own, in which basins carry their type at the end."""
    if kind.endswith("Basin"):
        return f"{kind.removesuffix('Basin')}_bar_{number:02}_bar_{kind}"
    return f"{kind}_bar_{number:02}"
