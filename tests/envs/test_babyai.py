"""BabyAI: the wording, the expert, determinism, the splits."""

from pathlib import Path

import numpy as np
import pytest

from cepcli.envs.babyai import (
    VERBS,
    BabyAIEnv,
    BabyAIOptions,
    describe,
    find_level,
    kebab,
    levels,
)
from cepcli.errors import ConfigError, EnvError

# minigrid's numbers, written out here so that the test does not share the code's table.
EMPTY, WALL, DOOR, KEY, BALL, BOX = 1, 2, 4, 5, 6, 7
RED, GREEN, BLUE, PURPLE, YELLOW, GREY = range(6)
OPEN, CLOSED, LOCKED = range(3)


def view(cells, fill=EMPTY):
    """A 7×7 view of `fill` with some cells set; the agent is at (3, 6), forward is up."""
    image = np.zeros((7, 7, 3), np.uint8)
    image[:, :, 0] = fill
    image[3, 6] = (EMPTY, 0, 0)
    for place, cell in cells.items():
        image[place] = cell
    return image


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ({}, "You see nothing."),
        ({(3, 6): (KEY, GREEN, 0)}, "You carry a green key."),
        ({(3, 5): (WALL, GREY, 0)}, "You see a wall 1 step forward."),
        ({(3, 2): (WALL, GREY, 0)}, "You see a wall 4 steps forward."),
        ({(2, 6): (WALL, GREY, 0)}, "You see a wall 1 step left."),
        ({(5, 6): (WALL, GREY, 0)}, "You see a wall 2 steps right."),
        ({(2, 5): (WALL, GREY, 0)}, "You see nothing."),
        ({(3, 4): (BALL, RED, 0)}, "You see a red ball 2 steps forward."),
        ({(2, 6): (BOX, PURPLE, 0)}, "You see a purple box 1 step left."),
        ({(6, 5): (KEY, YELLOW, 0)}, "You see a yellow key 3 steps right and 1 step forward."),
        ({(1, 3): (BALL, BLUE, 0)}, "You see a blue ball 2 steps left and 3 steps forward."),
        ({(3, 5): (DOOR, GREY, CLOSED)}, "You see a closed grey door 1 step forward."),
        ({(3, 5): (DOOR, RED, LOCKED)}, "You see a locked red door 1 step forward."),
        ({(3, 5): (DOOR, BLUE, OPEN)}, "You see an open blue door 1 step forward."),
    ],
)
def test_one_thing_is_told_in_the_published_words(cells, text):
    assert describe(view(cells)) == text


def test_a_wall_behind_an_object_or_an_unseen_cell_is_not_told():
    behind = view({(3, 5): (BALL, RED, 0), (3, 3): (WALL, GREY, 0)})
    unseen = view({(3, 5): (0, 0, 0), (3, 3): (WALL, GREY, 0)})
    assert describe(behind) == "You see a red ball 1 step forward."
    assert describe(unseen) == "You see nothing."


def test_order_is_carried_then_walls_then_objects_from_near_to_far():
    image = view(
        {
            (0, 0): (BALL, RED, 0),
            (4, 5): (KEY, BLUE, 0),
            (2, 5): (BOX, GREEN, 0),
            (5, 6): (WALL, GREY, 0),
            (3, 4): (WALL, GREY, 0),
            (3, 6): (BALL, GREY, 0),
        }
    )
    assert describe(image) == (
        "You carry a grey ball. You see a wall 2 steps forward. You see a wall 2 steps right. "
        "You see a green box 1 step left and 1 step forward. "
        "You see a blue key 1 step right and 1 step forward. "
        "You see a red ball 3 steps left and 6 steps forward."
    )


def test_the_numbers_are_those_of_the_installed_minigrid():
    from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX

    names = ("empty", "wall", "door", "key", "ball", "box")
    assert [OBJECT_TO_IDX[n] for n in names] == [EMPTY, WALL, DOOR, KEY, BALL, BOX]
    colors = ("red", "green", "blue", "purple", "yellow", "grey")
    assert [COLOR_TO_IDX[c] for c in colors] == list(range(6))
    assert [STATE_TO_IDX[s] for s in ("open", "closed", "locked")] == [OPEN, CLOSED, LOCKED]


def make(name, split="train", **options):
    return BabyAIEnv(f"babyai/{name}", split, Path(), BabyAIOptions(**options), None)


def play(env, choose, **reset):
    """The trace of one episode: (text, reward, success, …) per step."""
    text, info = env.reset(**reset)
    trace, ended = [(text, info["goal"], info["instance"], 0.0, False)], False
    while not ended:
        text, reward, terminated, truncated, info = env.step(choose(env))
        trace.append((text, info["goal"], info["instance"], reward, info["success"]))
        ended = terminated or truncated
    return trace


def test_carrying_and_dropping_change_the_text():
    env = make("pickup-loc")
    _, info = env.reset(seed=1)
    while not info["success"]:
        text, _, _, _, info = env.step(env.expert_action())
    assert "You carry a" in text


@pytest.mark.parametrize("name", ["goto-local", "pickup-loc", "open-door", "put-next-local"])
def test_the_expert_solves_nine_of_ten(name):
    env = make(name)
    solved = [play(env, BabyAIEnv.expert_action, options={"instance": i})[-1][4] for i in range(10)]
    assert sum(solved) >= 9


def test_the_expert_still_wins_after_the_agent_went_its_own_way():
    env, solved = make("goto-local"), 0
    rng = np.random.default_rng(0)
    for instance in range(10):
        _, info = env.reset(options={"instance": instance})
        ended, taken = False, 0
        while not ended:
            stray = taken < 15
            action = VERBS[int(rng.integers(3))] if stray else env.expert_action()
            _, _, terminated, truncated, info = env.step(action)
            ended, taken = terminated or truncated, taken + 1
        solved += info["success"]
    assert solved >= 9


def test_late_advice_is_the_advice_of_an_expert_who_watched():
    watched, late = make("put-next-local"), make("put-next-local")
    rng = np.random.default_rng(3)
    for env in (watched, late):
        env.reset(options={"instance": 5})
    for _ in range(30):
        watched.expert_action()
        action = VERBS[int(rng.integers(5))]
        ended = watched.step(action)[2]
        late.step(action)
        if ended:
            break
    assert late.expert_action() == watched.expert_action()


def test_the_expert_answers_even_where_the_bot_gives_up():
    env = make("key-in-box")
    env.reset(seed=0)
    for _ in range(20):
        assert env.expert_action() in VERBS
        env.step("turn right")


def test_same_seed_same_episodes_other_seed_others():
    def episodes(seed):
        env, rng = make("goto-redball"), np.random.default_rng(0)
        first = play(env, lambda _: VERBS[int(rng.integers(6))], seed=seed)
        return first, play(env, lambda _: VERBS[int(rng.integers(6))])

    assert episodes(7) == episodes(7)
    assert episodes(7) != episodes(8)


def test_splits_draw_from_separate_ranges():
    for split, low in (("train", 0), ("heldout", 2**30)):
        env = make("goto-obj", split)
        drawn = [env.reset(seed=0 if e == 0 else None)[1]["instance"] for e in range(20)]
        assert all(low <= i < low + 2**30 for i in drawn)
        assert len(set(drawn)) == 20


def test_reset_prints_nothing(capsys):
    env = make("put-next-local")
    for instance in range(30):
        env.reset(options={"instance": instance})
    assert capsys.readouterr().out == ""


def test_step_limit_truncates_and_stops():
    env = make("goto-local", max_episode_steps=3)
    env.reset(seed=0)
    flags = [env.step("drop")[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]
    with pytest.raises(EnvError, match="no running episode"):
        env.step("drop")


def test_the_step_limit_is_the_levels_own_unless_lowered():
    assert make("goto-local").max_episode_steps == 64
    assert make("goto-local", max_episode_steps=1000).max_episode_steps == 64
    with pytest.raises(ConfigError, match="max_episode_steps"):
        BabyAIOptions(max_episode_steps=0)


def test_success_is_a_rewarded_end_and_the_reward_is_minigrids():
    env = make("goto-redball")
    trace = play(env, BabyAIEnv.expert_action, options={"instance": 0})
    steps = len(trace) - 1
    assert trace[-1][4]
    assert trace[-1][3] == pytest.approx(1 - 0.9 * steps / env.max_episode_steps)
    assert all(reward == 0 and not success for *_, reward, success in trace[:-1])


def test_reset_refuses_what_it_does_not_know():
    env = make("goto-obj")
    with pytest.raises(EnvError, match="instances") as error:
        env.reset(options={"instances": 3})
    assert "instance" in error.value.hint
    for wrong in (-1, 1.5, True, "3"):
        with pytest.raises(EnvError, match="expected an integer"):
            env.reset(options={"instance": wrong})


def test_level_names():
    assert kebab("BabyAI-GoToLocalS8N7-v0") == "go-to-local-s8-n7"
    assert kebab("BabyAI-GoToObjS6-v1") == "go-to-obj-s6"
    for name in ("goto-local", "go-to-local", "GoToLocal-v0", "BabyAI-GoToLocal-v0"):
        assert find_level(name) == "goto-local"
    assert find_level("go-to-red-ball-grey") == find_level("GoToRedBallGrey-v0")
    assert find_level("go-to-mars") is None
    installed = levels()
    assert len(set(installed.values())) == len(installed) > 90
