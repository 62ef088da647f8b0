"""Household tasks as an environment: made games and official ones, options, bad input."""

import json
import shutil

import numpy as np
import pytest

from cepcli.envs.alfworld import compile as alfworld_compile
from cepcli.envs.alfworld import env as alfworld
from cepcli.envs.alfworld.env import AlfworldEnv, AlfworldOptions
from cepcli.envs.alfworld.household import FIRST_HELDOUT, TASK_TYPES
from cepcli.envs.catalog import full_options, make_env
from cepcli.envs.checker import check_env
from cepcli.errors import ArtifactError, ConfigError, EnvError

pytestmark = pytest.mark.usefixtures("quick_makers")
SMALL = {"receptacles": 8, "objects": 4, "games": 2, "heldout_games": 2}
LATER = [pytest.param(k, marks=pytest.mark.slow) for k in sorted(TASK_TYPES) if k != "pick"]
OFFICIAL = {"source": "official", "heldout": "valid_seen"}


@pytest.fixture
def make(games):
    made = []

    def build(env_id="alfworld/pick", split="train", **options):
        chosen = AlfworldOptions(**(SMALL | options))
        made.append(AlfworldEnv(env_id, split, games, chosen))
        return made[-1]

    yield build
    for env in made:
        env.close()


@pytest.fixture
def own(official, tmp_path, monkeypatch):
    """A copy of some official games that a test may spoil, as `$ALFWORLD_DATA`."""
    root = tmp_path / "data"
    for kind in ("pick_heat_then_place_in_recep", "pick_and_place_simple"):
        for game in sorted((official / "json_2.1.1").glob(f"*/{kind}*/*/game.tw-pddl")):
            target = root / game.relative_to(official)
            target.parent.mkdir(parents=True)
            shutil.copy(game, target)
    monkeypatch.setenv("ALFWORLD_DATA", str(root))
    return root


def official_env(workspace, env_id="alfworld/heat", split="train", **options):
    options = OFFICIAL | options
    return make_env(env_id, split=split, workspace=workspace, options=options).unwrapped


def play(env, choose, **reset):
    text, info = env.reset(**reset)
    trace, ended = [(text, info, 0.0, False, False)], False
    while not ended:
        text, reward, terminated, truncated, info = env.step(choose(env, info))
        trace.append((text, info, reward, terminated, truncated))
        ended = terminated or truncated
    return trace


def expert(env, info):
    return env.expert_action()


def assert_won(trace):
    assert [reward for _, _, reward, *_ in trace] == [0.0] * (len(trace) - 1) + [1.0]
    assert [info["success"] for _, info, *_ in trace] == [False] * (len(trace) - 1) + [True]
    assert trace[-1][3:] == (True, False)


@pytest.mark.parametrize("split", ["train", "heldout"])
@pytest.mark.parametrize("kind", sorted(TASK_TYPES))
def test_the_expert_wins_every_kind_of_task(make, kind, split):
    env = make(f"alfworld/{kind}", split)
    first = FIRST_HELDOUT if split == "heldout" else 0
    for instance in (first, first + 1):
        trace = play(env, expert, options={"instance": instance})
        assert trace[0][1]["instance"] == instance
        assert_won(trace)


@pytest.mark.slow
def test_the_expert_wins_large_households_and_the_default_ones(make):
    assert_won(play(make("alfworld/cool", receptacles=30, objects=60), expert, seed=0))
    assert_won(play(make("alfworld/pick-two", receptacles=10, objects=12), expert, seed=0))


def test_all_kinds_take_turns_under_the_plain_id(make):
    env = make("alfworld", games=6)
    goals = [env.reset(options={"instance": instance})[1]["goal"] for instance in range(6)]
    kinds = dict(zip(TASK_TYPES, goals, strict=True))
    assert "lamp" in kinds["look"]
    assert "two" in kinds["pick-two"]
    for kind, words in {"clean": "clean", "heat": "heat hot", "cool": "cool"}.items():
        assert set(words.split()) & set(kinds[kind].split())


def test_the_expert_wins_after_the_agent_left_the_path(make):
    rng = np.random.default_rng(0)
    for kind in ("pick", "heat", "pick-two"):
        env = make(f"alfworld/{kind}")
        _, info = env.reset(seed=1)
        for _ in range(10):
            *_, terminated, _, info = env.step(info["actions"][rng.integers(len(info["actions"]))])
            assert not terminated
        while not info["success"]:
            *_, truncated, info = env.step(env.expert_action())
            assert not truncated, info


def test_replay_from_another_environment_is_identical(make):
    def wander(env, info):
        return info["actions"][len(info["text"]) % len(info["actions"])]

    one, other = make(max_episode_steps=12), make(max_episode_steps=12)
    first = play(one, wander, seed=3)
    play(one, wander)
    instance = first[0][1]["instance"]
    other.reset(seed=4)
    assert play(other, wander, options={"instance": instance}) == first
    assert play(one, wander, options={"instance": instance}) == first


def test_a_game_that_was_played_is_neither_made_nor_read_again(make, monkeypatch):
    env = make("alfworld/heat", receptacles=30, objects=60)
    first = env.reset(options={"instance": 0})
    monkeypatch.setattr(alfworld, "household_game", None)
    assert env.reset(options={"instance": 0}) == first


def test_the_seed_decides_which_games_are_drawn_and_splits_are_apart(make):
    train, again, heldout = make(games=9), make(games=9), make(split="heldout", heldout_games=9)
    drawn = []
    for env in (train, again, heldout):
        first = env.reset(seed=7)[1]["instance"]
        drawn.append([first, *(env.reset()[1]["instance"] for _ in range(3))])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 1
    assert max(drawn[0]) < FIRST_HELDOUT <= min(drawn[2])


def test_games_that_were_unloaded_play_on_the_same(make, monkeypatch):
    env = make()
    both = [play(env, expert, options={"instance": i}) for i in (0, 1)]
    monkeypatch.setattr(alfworld, "LOADED_GAMES", 1)
    assert [play(env, expert, options={"instance": i}) for i in (0, 1)] == both
    assert len(env._games) == 1


def test_the_text_says_what_was_seen_and_searched(make):
    env = make("alfworld/pick-two", objects=12)
    text, info = env.reset(options={"instance": 0})
    assert text == "You are in the middle of the room. You carry nothing."
    assert all(action.startswith("go to ") for action in info["actions"])
    texts = [text for text, *_ in play(env, expert, options={"instance": 0})]
    thing = next(w for w in info["goal"].split() if any(f" {w} 1" in t for t in texts))
    assert any(f"You carry a {thing}" in t for t in texts)
    assert "Searched: " in texts[-1]
    forgetful = make("alfworld/pick-two", objects=12, memory=False)
    assert not any("Searched" in t for t, *_ in play(forgetful, expert, options={"instance": 0}))


def test_looking_is_no_action_unless_asked_for(make):
    def looking(info):
        words = ("look", "inventory", "help", "examine ")
        return [action for action in info["actions"] if action.startswith(words)]

    assert looking(make().reset(seed=0)[1]) == []
    assert looking(make(examine=True).reset(seed=0)[1]) == ["help", "inventory", "look"]


def test_feedback_is_added_on_request(make):
    env = make(feedback=True)
    env.reset(seed=0)
    text, *_ = env.step(env.expert_action())
    assert text.startswith("You arrive at ")
    plain = make()
    plain.reset(seed=0)
    assert text.endswith(plain.step(plain.expert_action())[0])


def test_truncation_ends_the_episode(make):
    env = make(max_episode_steps=3)
    _, info = env.reset(seed=0)
    for step in range(3):
        *_, terminated, truncated, info = env.step(info["actions"][step % 2])
        assert (terminated, truncated) == (False, step == 2)
    with pytest.raises(EnvError, match="no running episode"):
        env.step(info["actions"][0])


def test_an_inadmissible_command_names_the_nearest(make):
    env = make()
    _, info = env.reset(seed=0)
    with pytest.raises(EnvError, match="not admissible") as error:
        env.step(info["actions"][0] + "0")
    assert info["actions"][0] in error.value.hint
    env.close()
    with pytest.raises(EnvError, match="no running episode"):
        env.expert_action()
    assert env.reset(options={"instance": info["instance"]})[1] == info


def test_progress_is_told_once_a_game(tmp_path):
    lines = []
    options = AlfworldOptions(**SMALL)
    for _ in range(2):
        env = AlfworldEnv("alfworld/pick", "train", tmp_path, options, lines.append)
        env.reset(options={"instance": 0})
        env.close()
    assert len(lines) == 1
    assert lines[0].startswith("Compiling the ALFWorld game ")
    assert not list(tmp_path.rglob("*partial*"))


def test_a_workspace_that_cannot_be_written_is_one_clear_sentence(tmp_path):
    (tmp_path / "games").write_text("a file where a directory is needed")
    env = AlfworldEnv("alfworld/pick", "train", tmp_path, AlfworldOptions(**SMALL))
    with pytest.raises(ArtifactError, match="Cannot write"):
        env.reset(seed=0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"games": 0}, "games"),
        ({"heldout_games": 0}, "heldout_games"),
        ({"max_episode_steps": 0}, "max_episode_steps"),
        ({"receptacles": 7}, r"in \[8, 30\]"),
        ({"objects": 61}, r"in \[4, 60\]"),
        ({"first_seed": -1}, "first_seed"),
        ({"first_seed": FIRST_HELDOUT}, "first_seed"),
        ({"source": "own"}, "source"),
        ({"heldout": "test"}, "heldout"),
    ],
)
def test_impossible_options_name_the_field(options, named, tmp_path):
    with pytest.raises(ConfigError, match=named):
        make_env("alfworld/pick", workspace=tmp_path, options=options)


def test_an_instance_of_official_games_is_none_of_ours(make):
    with pytest.raises(EnvError, match="household games have seeds below") as error:
        make().reset(options={"instance": 2**40})
    assert "source=official" in error.value.hint


@pytest.mark.parametrize("kind", ["pick", *LATER])
def test_official_games_are_played_and_won(official, games, monkeypatch, kind):
    monkeypatch.setenv("ALFWORLD_DATA", str(official))
    for split in ("train", "heldout"):
        env = make_env(
            f"alfworld/{kind}", split=split, workspace=games,
            options={"heldout": "valid_seen", "max_episode_steps": 60},
        )  # fmt: skip
        assert_won(play(env, expert, seed=0))
        env.close()


def test_official_games_keep_the_contract(own, games):
    env, heldout = official_env(games), official_env(games, split="heldout")
    assert full_options("alfworld/heat", {})["source"] == "official"
    check_env(env, heldout=heldout, episodes=1)
    env.close()
    heldout.close()


def test_an_official_instance_stays_whatever_lies_beside_it(own, games):
    before = official_env(games, "alfworld/pick")
    _, info = before.reset(seed=0)
    for game in list(own.rglob("game.tw-pddl")):
        if f"Your task is to: {info['goal']}" not in json.loads(game.read_text())["grammar"]:
            shutil.rmtree(game.parent)
    again = official_env(games, "alfworld/pick")
    assert len(again.instances) < len(before.instances)
    assert again.reset(options={"instance": info["instance"]})[1] == info
    with pytest.raises(EnvError, match="no official game with the instance 7 in this split"):
        before.reset(options={"instance": 7})


def test_games_that_ask_for_what_has_no_commands_or_cannot_be_solved_are_left_out(own, games):
    first, second = sorted((own / "json_2.1.1" / "train").glob("*heat*/*/game.tw-pddl"))
    assert len(official_env(games).instances) == 2
    data = json.loads(first.read_text())
    first.write_text(json.dumps(data | {"solvable": False}))
    assert len(official_env(games).instances) == 1
    first.write_text(json.dumps(data))
    folder = second.parents[1]
    folder.rename(folder.with_name(folder.name.replace("-None", "Sliced-None")))
    refused(games, "has no game.tw-pddl of pick_heat_then_place_in_recep")


def reset_all(env):
    for instance in env.instances:
        env.reset(options={"instance": instance})


def refused(workspace, match, env_id="alfworld/heat", split="train", **options):
    with pytest.raises(EnvError, match=match) as error:
        reset_all(official_env(workspace, env_id, split, **options))
    assert error.value.hint
    return error.value


def test_missing_official_games_say_what_to_type(own, games, monkeypatch):
    error = refused(games, "has no game.tw-pddl of look_at_obj_in_light", "alfworld/look")
    assert "alfworld-download" in error.hint
    assert "env_options.source=household" in error.hint
    error = refused(games, "has no valid_unseen games", split="heldout", heldout="valid_unseen")
    assert "env_options.heldout=valid_seen" in error.hint
    error = refused(games, "`games` is 99, but there are 2 official train games", games=99)
    assert "env_options.games=2" in error.hint
    shutil.rmtree(own / "json_2.1.1" / "train")
    refused(games, "has no train games, only valid_seen")
    shutil.rmtree(own / "json_2.1.1")
    refused(games, "has no folder json_2.1.1")
    monkeypatch.delenv("ALFWORLD_DATA")
    assert "ALFWORLD_DATA=DIR alfworld-download" in refused(games, "is not set").hint


def _older(data):
    return data | {"grammar": data["grammar"].replace("move {o} to {r}", "put {o} in/on {r}")}


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda text: text[: len(text) // 2], "damaged or cut short"),
        (lambda text: "", "damaged or cut short"),
        (lambda text: "\x00\xff", "damaged or cut short"),
        (lambda text: "[1]", "is not an ALFWorld game: it holds a list"),
        (lambda text: json.dumps({"pddl_domain": "", "solvable": True}),
         "lacks grammar, pddl_problem: it is of another version"),
        (lambda text: json.dumps(_older(json.loads(text))),
         "of another version of ALFWorld: its command of PutEmpty.*'put {o} in/on {r}', expected"),
        (lambda text: text.replace("Your task is to", "Please"), "names no task"),
        (lambda text: text.replace("(:goal", "(:gaol"), "cannot be compiled"),
        (lambda text: text.replace("(isHot ?o)", "(isWarm ?o)"), "cannot be compiled"),
        (lambda text: text.replace("{r.name}. #examine", "{r.name.lower()}. #examine"),
         "cannot be compiled"),
    ],
)  # fmt: skip
def test_a_spoilt_official_game_is_named(own, games, spoil, match):
    game = min((own / "json_2.1.1" / "train").glob("*heat*/*/game.tw-pddl"))
    game.write_text(spoil(game.read_text()), encoding="latin-1")
    error = refused(games, match)
    assert str(game) in error.message
    assert error.hint == "Download ALFWorld's games again: alfworld-download --force"


def test_a_spoilt_game_of_ours_says_what_to_remove(tmp_path):
    def play_first():
        env = AlfworldEnv("alfworld/pick", "train", tmp_path, AlfworldOptions(**SMALL))
        env.reset(options={"instance": 0})
        env.close()

    play_first()
    for pattern, match in (("*.json.gz", "compiled game"), ("0.tw-pddl", "cut short")):
        file = next(tmp_path.rglob(pattern))
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(EnvError, match=match) as error:
            play_first()
        assert error.value.hint == f"Remove it, and it is made again: rm {file}"
        file.unlink()
        play_first()


def test_without_the_package_that_ships_the_domain(monkeypatch, tmp_path):
    monkeypatch.setattr(alfworld_compile.importlib.util, "find_spec", lambda name: None)
    env = AlfworldEnv("alfworld/pick", "train", tmp_path, AlfworldOptions(**SMALL))
    with pytest.raises(EnvError, match=r"`alfworld`, which ships alfred\.pddl") as error:
        env.reset(seed=0)
    assert error.value.hint == "pip install 'cepcli[alfworld]'"
