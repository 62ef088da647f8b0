"""TextWorld: the shortened texts, made games, play, the expert on and off the path."""

import subprocess
import sys

import numpy as np
import pytest

from cepcli.envs.textworld import env as textworld_games
from cepcli.envs.textworld.env import TextWorldEnv
from cepcli.envs.textworld.make import (
    CoinOptions,
    CookingOptions,
    CustomOptions,
    SimpleOptions,
    TreasureOptions,
    game_file,
)
from cepcli.envs.textworld.text import recipe, short_feedback, short_goal, short_room
from cepcli.errors import ArtifactError, ConfigError, EnvError

pytestmark = pytest.mark.usefixtures("quick_makers")
COIN = CoinOptions(level=3, games=2, heldout_games=1, max_episode_steps=8)
COOKING = CookingOptions(games=1, heldout_games=1)


@pytest.fixture
def make(games):
    made = []

    def build(options, split="train"):
        made.append(TextWorldEnv("textworld/test", split, games, options))
        return made[-1]

    yield build
    for env in made:
        env.close()


def play(env, choose, **reset):
    text, info = env.reset(**reset)
    trace, ended = [(text, info, 0.0)], False
    while not ended:
        text, reward, terminated, truncated, info = env.step(choose(env, info))
        trace.append((text, info, reward))
        ended = terminated or truncated
    return trace


def expert(env, info):
    return env.expert_action()


@pytest.mark.parametrize(
    ("objective", "goal"),
    [
        (
            "Hey, thanks for coming over to the TextWorld today, there is something I need you to "
            "do for me. First off, make an effort to move south. And then, take a trip east. Okay, "
            "and then, make an effort to head north. And then, retrieve the coin from the floor of "
            "the cellar. Got that? Good!",
            "move south, then take a trip east, then head north, "
            "then retrieve the coin from the floor of the cellar",
        ),
        (
            "Who's got a virtual machine and is about to play through an exciting round of "
            "TextWorld? You do! Here is how to play! First off, if it's not too much trouble, I "
            "need you to venture east. With that over with, attempt to head east. Once you get "
            "around to doing that, attempt to go north. And once you've done that, you win!",
            "venture east, then head east, then go north",
        ),
        (
            "Welcome to TextWorld! Here is your task for today. First of all, you could, like, "
            "look and see that the antique trunk is opened. After opening the antique trunk, "
            "recover the old key. That's it!",
            "make sure the antique trunk is opened, then recover the old key",
        ),
        ("Your objective is to Lift the coin.", "lift the coin"),
        ("You are now playing a fast paced session of TextWorld! Put the milk on the stove.",
         "put the milk on the stove"),
        ("The dinner is almost ready! It's only\nmissing a grilled lettuce.",
         "The dinner is almost ready! It's only missing a grilled lettuce."),
    ],
)  # fmt: skip
def test_goals_lose_the_greeting_and_the_farewell(objective, goal):
    assert short_goal(objective) == goal


def test_rooms_lose_the_jokes_and_keep_the_facts():
    description = (
        "-= Kitchen =-\nWell how about that, you are in a place we're calling a kitchen. The room "
        "is well lit.\n\nYou make out a closed refrigerator nearby. You can see a counter. The "
        "counter is normal. But the thing hasn't got anything on it. You rest your hand against a "
        "wall, but you miss the wall and fall onto a stove. Looks like someone's already been here "
        "and taken everything off it, though. It would have been so cool if there was stuff on the "
        "stove. You see a kitchen island. On the kitchen island you can see a note. You can see a "
        "box, so there's that. What a letdown! The box is empty!\n\nThere is a closed screen door "
        "leading east. There is an exit to the north. Don't worry, it is unguarded. You need an "
        "unguarded exit? You should try going south. You don't like doors? Why not try going west, "
        "that entranceway is unblocked.\n\nThere is a coin on the floor."
    )
    assert short_room(description) == (
        "Kitchen. You see a closed refrigerator nearby. You see a counter. You see a stove. "
        "You see a kitchen island. On the kitchen island you can see a note. You see a box. "
        "The box is empty! There is a closed screen door leading east. There is a coin on the "
        "floor. Exits: north, south, west."
    )
    assert short_room("-= Studio =-\nYou've entered a studio.\n\n\n\n") == "Studio."


def test_feedback_loses_counters_and_rooms():
    took = (
        "\nYou take the key.\n\n\nYour score has just gone up by one point.\n\n>"
        + 80 * " "
        + "-= X"
    )
    assert short_feedback(took) == "You take the key."
    assert short_feedback("\n-= Kitchen =-\nYou are in a kitchen.\n") == ""


def test_the_recipe_is_read_from_the_cookbook():
    page = "start reading:\n\nIngredients:\nleek\n  ham\n\nDirections:\nfry the ham\n  eat\n\n\n"
    assert recipe(page) == "Recipe: take leek, ham; then fry the ham, eat."
    assert recipe("You see nothing special.") == ""


def test_the_walkthrough_of_the_expert_wins_with_return_one(make):
    for options in (COIN, COOKING):
        trace = play(make(options), expert, seed=0)
        assert trace[-1][1]["success"]
        assert sum(reward for *_, reward in trace) == pytest.approx(1)
        assert [info["success"] for _, info, _ in trace[:-1]] == [False] * (len(trace) - 1)


def test_the_text_is_the_same_state_the_same_words(make):
    env = make(COIN)
    first, info = env.reset(seed=0)
    start = next(a for a in info["actions"] if a.startswith("go "))
    back = {"north": "south", "south": "north", "east": "west", "west": "east"}
    env.step(start)
    returned, *_ = env.step("go " + back[start.removeprefix("go ")])
    assert returned == first
    assert "-=" not in first
    assert "\n" not in first
    assert first.endswith("You are carrying nothing.")


def test_feedback_is_added_on_request(make):
    env = make(CookingOptions(games=1, feedback=True))
    env.reset(seed=0)
    text, *_ = env.step("open oven")
    assert "You open the oven." in text


def test_the_cookbook_stays_read(make):
    env = make(COOKING)
    text, _ = env.reset(seed=0)
    assert "Recipe:" not in text
    assert env.expert_action() == "examine cookbook"
    text, *_ = env.step("examine cookbook")
    assert "Recipe: take" in text
    text, *_ = env.step("open oven")
    assert "Recipe: take" in text
    text, _ = env.reset()
    assert "Recipe:" not in text


def test_looking_is_no_action_unless_asked_for(make):
    _, info = make(COOKING).reset(seed=0)
    looking = [a for a in info["actions"] if a.startswith(("examine", "look", "inventory"))]
    assert looking == ["examine cookbook"]
    _, info = make(CookingOptions(games=1, examine=True)).reset(seed=0)
    assert {"look", "inventory", "examine cookbook", "examine oven"} <= set(info["actions"])


def test_the_expert_wins_after_the_agent_left_the_path(make):
    env = make(CoinOptions(level=3, games=2, max_episode_steps=40))
    rng = np.random.default_rng(1)
    for instance in (1, 2):
        _, info = env.reset(options={"instance": instance})
        for _ in range(12):
            rooms = [a for a in info["actions"] if a.startswith("go ")]
            *_, info = env.step(rooms[int(rng.integers(len(rooms)))])
        while not info["success"]:
            action = env.expert_action()
            assert action in info["actions"]
            *_, truncated, info = env.step(action)
            assert not truncated


def test_replay_from_another_environment_is_identical(make):
    def walk(env, info):
        return info["actions"][len(info["text"]) % len(info["actions"])]

    one, other = make(COIN), make(COIN)
    first = play(one, walk, seed=3)
    play(one, walk)
    instance = first[0][1]["instance"]
    other.reset(seed=4)
    assert play(other, walk, options={"instance": instance}) == first
    assert play(one, walk, options={"instance": instance}) == first


def test_games_that_were_unloaded_play_on_the_same(make, monkeypatch):
    env = make(COIN)
    both = [play(env, expert, options={"instance": i}) for i in (1, 2)]
    monkeypatch.setattr(textworld_games, "LOADED_GAMES", 1)
    assert [play(env, expert, options={"instance": i}) for i in (1, 2)] == both


@pytest.mark.slow
def test_splits_play_their_own_games(make):
    train, heldout = make(COIN), make(COIN, "heldout")
    drawn = {train.reset(seed=s)[1]["instance"] for s in range(8)}
    assert drawn == {1, 2}
    assert heldout.reset(seed=0)[1]["instance"] == 100_001


def test_truncation_ends_the_episode(make):
    env = make(COIN)
    env.reset(options={"instance": 1})
    for step in range(8):
        *_, terminated, truncated, info = env.step(_away(env))
        assert (terminated, truncated) == (False, step == 7)
    with pytest.raises(EnvError, match="no running episode"):
        env.step(info["actions"][0])


def _away(env):
    """Walk without ever taking the coin."""
    return next(a for a in env.action_space.actions if a.startswith("go "))


def test_an_inadmissible_command_is_refused_and_changes_nothing(make):
    env = make(COIN)
    text, info = env.reset(seed=0)
    with pytest.raises(EnvError, match="not admissible") as error:
        env.step(info["actions"][0] + "h")
    assert info["actions"][0] in error.value.hint
    again, *_ = env.step(info["actions"][0])
    assert again != text


def test_a_made_game_is_kept_and_nothing_else_is_left(games, make):
    make(COIN).reset(options={"instance": 1})
    lines = []
    file = game_file(COIN, 1, games, lines.append)
    before = file.stat().st_mtime_ns
    assert game_file(COIN, 1, games, lines.append) == file
    assert file.stat().st_mtime_ns == before
    assert lines == []
    assert not list(file.parent.glob(".1.partial*"))  # of others: another process makes them


def test_progress_is_told_and_a_left_over_is_cleared(tmp_path):
    directory = tmp_path / "games" / "textworld" / "custom-rooms1-objects1-quest1-detailed"
    (directory / ".7.partial-dead").mkdir(parents=True)
    lines = []
    options = CustomOptions(rooms=1, objects=1, quest_length=1)
    file = game_file(options, 7, tmp_path, lines.append)
    assert file.is_file()
    assert len(lines) == 1
    assert "custom-rooms1-objects1-quest1-detailed/7" in lines[0]
    assert not list(directory.glob(".*partial*"))


def test_two_processes_make_a_game_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from cepcli.envs.textworld.make import *;"
        "game_file(CustomOptions(rooms=1, objects=1, quest_length=1), 1, Path(sys.argv[1]), print)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[0].count("Making") for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sorted(told) == [0, 1]


def test_a_read_only_workspace_is_one_clear_sentence(tmp_path):
    (tmp_path / "games").write_text("a file where a directory is needed")
    with pytest.raises(ArtifactError, match="Cannot write"):
        game_file(COIN, 1, tmp_path, None)


def test_impossible_options_name_the_field():
    for build, field in [
        (lambda: CoinOptions(level=301), "level"),
        (lambda: CoinOptions(level=180), "100"),
        (lambda: TreasureOptions(level=0), "level"),
        (lambda: CookingOptions(ingredients=6), "ingredients"),
        (lambda: CookingOptions(ingredients=1, take=2), "take"),
        (lambda: CustomOptions(rooms=0), "rooms"),
        (lambda: SimpleOptions(games=0), "games"),
        (lambda: SimpleOptions(first_heldout_seed=5), "overlap"),
        (lambda: SimpleOptions(first_seed=-1), "≥ 0"),
    ]:
        with pytest.raises(ConfigError, match=field):
            build()


def test_options_that_change_the_game_change_its_place():
    recipes = [
        CoinOptions().recipe(), CoinOptions(goal="brief").recipe(), CoinOptions(level=5).recipe(),
        SimpleOptions().recipe(), SimpleOptions(rewards="sparse").recipe(),
        CookingOptions().recipe(), CookingOptions(cut=True).recipe(),
        CustomOptions().recipe(), CustomOptions(objects=7).recipe(), TreasureOptions().recipe(),
    ]  # fmt: skip
    assert len(set(recipes)) == len(recipes)
    assert CoinOptions(games=3, feedback=True).recipe() == CoinOptions().recipe()
