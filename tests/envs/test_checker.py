"""The checker passes every environment that is listed, and catches each broken rule."""

import pytest

from cepcli.envs import catalog
from cepcli.envs.checker import check_env
from cepcli.errors import EnvError
from tests.envs.toys import ToyEnv

pytestmark = pytest.mark.usefixtures("quick_makers")
HOUSEHOLD = [i for i in catalog.env_ids() if i.startswith("alfworld")]
BABYAI = [i for i in catalog.env_ids() if i.startswith("babyai/")]
#: Options whose games are quick to make, or made by other tests anyway.
SMALL = {
    "textworld/coin": {"level": 3},
    "textworld/treasure": {"level": 1},
    "textworld/cooking": {},
    "textworld/simple": {},
    "textworld/custom": {"rooms": 1, "objects": 2, "quest_length": 2},
}

OTHERS_MAKE_THEM = ["textworld/coin", "textworld/cooking", "textworld/custom"]
OTHERS_DO_NOT = [
    pytest.param(i, marks=pytest.mark.slow) for i in SMALL if i not in OTHERS_MAKE_THEM
]

#: Checked where their own tests are.
ELSEWHERE = {"webshop"}


def make(env_id, root, split="train", **options):
    return catalog.make_env(env_id, split=split, workspace=root, options=options)


@pytest.mark.parametrize("env_id", BABYAI)
def test_every_listed_babyai_level_keeps_the_contract(env_id, tmp_path):
    limit = {"max_episode_steps": 100}
    check_env(make(env_id, tmp_path, **limit), heldout=make(env_id, tmp_path, "heldout", **limit))


@pytest.mark.parametrize("env_id", [*OTHERS_MAKE_THEM, *OTHERS_DO_NOT])
def test_every_textworld_family_keeps_the_contract(env_id, games):
    env = make(env_id, games, **SMALL[env_id], games=1, max_episode_steps=15)
    check_env(env, episodes=1)
    env.close()


@pytest.mark.parametrize("env_id", HOUSEHOLD)
def test_every_household_task_keeps_the_contract(env_id, games):
    options = {"receptacles": 8, "objects": 4, "games": 2, "heldout_games": 2}
    env, heldout = make(env_id, games, **options), make(env_id, games, "heldout", **options)
    check_env(env, heldout=heldout)
    env.close()
    heldout.close()


def test_every_listed_environment_is_checked_here():
    text = {env_id for env_id in catalog.env_ids() if catalog.spec(env_id).kind == "text"}
    assert {*BABYAI, *SMALL, *ELSEWHERE, *HOUSEHOLD} == text


def test_the_toy_keeps_the_contract():
    check_env(ToyEnv(), heldout=ToyEnv(split="heldout"))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("no family", "`family` is ''"),
        ("observation", "outside `observation_space`"),
        ("action space", "`forward` is outside `action_space`"),
        ("key missing", "lacks the key `success`"),
        ("empty text", r"`info\['text'\]` is empty"),
        ("actions a list", "expected a tuple"),
        ("actions empty", "expected one or more"),
        ("actions twice", "twice"),
        ("action blank", "expected one or more"),
        ("instance type", "expected a int"),
        ("instance changes", "the instance changed"),
        ("success type", "expected a bool"),
        ("takes anything", "not admissible, expected an EnvError"),
        ("seed ignored", r"`text` at step 0 was .* after reset\(seed=0\)"),
        ("replay differs", "was asked for again"),
        ("replay draws", "draws from `np_random`"),
        ("early truncation", "truncated after 11 of 12"),
        ("late truncation", "not truncated after 12"),
        ("goal changes", "the goal changed"),
        ("expert flies", "the expert's action `fly` is not admissible"),
        ("expert moves", "also when the expert is asked"),
        ("flag", "`terminated` is 0, expected a bool"),
        ("reward", "finite number"),
        ("splits overlap", "share the instance"),
    ],
)
def test_each_broken_rule_is_caught(broken, message):
    env = ToyEnv(length=6, broken=broken)
    with pytest.raises(EnvError, match=message):
        check_env(env, heldout=ToyEnv(split="heldout", length=6, broken=broken), episodes=4)


def test_what_is_no_symbolic_env_is_refused():
    with pytest.raises(EnvError, match="is not a SymbolicEnv"):
        check_env(object())  # type: ignore[arg-type]
