"""The WebShop environment: contract, rewards, splits, the oracle, replay, cost."""

import gc
import json
import weakref

import numpy as np
import pytest

from cepcli.envs.catalog import full_options, make_env
from cepcli.envs.checker import check_env
from cepcli.envs.webshop.env import ShopExpert, ShopWorld, WebShopEnv, open_world, picks
from cepcli.envs.webshop.goals import searches
from cepcli.envs.webshop.shop import Place, SearchEngine, WebShopOptions
from cepcli.errors import ConfigError, EnvError
from tests.envs.real_data import WEBSHOP
from tests.envs.shops import ITEMS, KNOWN, item, option

SMALL = {"generated": True, "products": 150}


@pytest.fixture(autouse=True)
def no_real_shop(monkeypatch):
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)


@pytest.fixture
def make(games):
    def build(split="train", **options):
        found = {**SMALL, **options}
        return make_env("webshop", split=split, workspace=games, options=found).unwrapped

    return build


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "items_shuffle_1000.json").write_text(json.dumps(ITEMS))
    (tmp_path / "items_ins_v2_1000.json").write_text(json.dumps(KNOWN))
    return tmp_path


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


def wandering(seed):
    rng = np.random.default_rng(seed)
    return lambda env, info: info["actions"][int(rng.integers(len(info["actions"])))]


@pytest.mark.parametrize("options", [{}, {"item_links": "title", "title_words": 4, "page_size": 3}])
def test_the_contract_is_kept(make, options):
    check_env(make(**options), heldout=make("heldout", **options), episodes=4)


def test_an_episode_of_the_hand_made_shop(folder, games):
    options = WebShopOptions(folder=str(folder))
    env = WebShopEnv("webshop", "train", games, options)
    number = next(i for i, g in enumerate(env.world.goals) if g.options == ("navy blue", "large"))
    _, info = env.reset(options={"instance": number})
    limit = env.world.goals[number].price_upper
    assert info["goal"] == (
        "Find me super soft throw blankets with color: navy blue, and size: large"
        f", and price lower than {limit:.2f} dollars"
    )
    assert info["actions"] == (
        "search[super soft throw blankets navy blue large]", "search[super soft throw blankets]",
    )  # fmt: skip
    actions = [
        "search[super soft throw blankets]", "click[b000000001]", "click[red]", "click[large]",
        "click[buy now]",
    ]  # fmt: skip
    for action in actions[:-1]:
        _, reward, terminated, truncated, info = env.step(action)
        assert (reward, terminated, truncated, info["success"]) == (0.0, False, False, False)
    text, reward, terminated, _, info = env.step(actions[-1])
    # One attribute, one of two options and the price, of 1 + 2 + 1.
    assert reward == pytest.approx(3 / 4)
    assert (terminated, info["success"]) == (True, False)
    assert text == (
        "Thank you for shopping with us! [SEP] Your score (min 0.0, max 1.0) [SEP] 0.75"
    )
    with pytest.raises(EnvError, match="no running episode"):
        env.step("click[buy now]")


def test_a_wrong_product_is_worth_what_its_name_and_kind_say(folder, games):
    options = WebShopOptions(folder=str(folder))
    env = WebShopEnv("webshop", "train", games, options)
    goal = next(g for g in env.world.goals if g.options == ("red", "large"))
    assert env.world.nouns[1] == ["acme", "soft", "blue", "blanket"]
    # 3 of the 4 nouns, the attribute, no option, a price of 10 $.
    blue = env.world.reward(goal, 1, [])
    assert (blue.title_score, blue.total) == (pytest.approx(3 / 4), pytest.approx(2 / 4))
    assert env.world.reward(goal, 2, ["red", "large"]).total == 0  # no noun in common


def test_nearly_all_is_no_success(folder, games):
    """Ten attributes, one of two options and the price: 12 of 13."""
    known = {**KNOWN["B000000001"], "instruction_attributes": ["super soft"] * 10}
    (folder / "items_ins_v2_1000.json").write_text(json.dumps({**KNOWN, "B000000001": known}))
    options = WebShopOptions(folder=str(folder))
    env = WebShopEnv("webshop", "train", games, options)
    number = next(i for i, g in enumerate(env.world.goals) if g.options == ("navy blue", "large"))
    env.reset(options={"instance": number})
    for action in (env.expert_action(), "click[b000000001]", "click[large]", "click[buy now]"):
        _, reward, terminated, _, info = env.step(action)
    assert (reward, terminated, info["success"]) == (pytest.approx(12 / 13), True, False)


def test_goals_are_drawn_as_often_as_their_weights_say(make):
    env = make()
    env.reset(seed=0)
    goals = env.world.goals
    heavy = sorted(env.instances, key=lambda i: goals[i].weight)[len(env.instances) // 2 :]
    share = sum(goals[i].weight for i in heavy) / sum(goals[i].weight for i in env.instances)
    drawn = [env.reset()[1]["instance"] for _ in range(3000)]
    assert share > 0.6
    assert np.isin(drawn, heavy).mean() == pytest.approx(share, abs=0.04)


def test_buying_the_goals_product_with_its_options_is_success(make):
    for seed in range(20):
        trace = play(make(), expert, seed=seed)
        assert trace[-1][1]["success"]
        assert [reward for *_, reward in trace[:-1]] == [0.0] * (len(trace) - 1)
        assert trace[-1][2] == 1.0


def test_the_oracle_finds_the_way_back_from_anywhere(make):
    env = make(max_episode_steps=60)
    for seed in range(40):
        wander = wandering(seed)
        trace = play(env, lambda env, info, w=wander: _strays(env, info, w), seed=seed)
        assert trace[-1][1]["success"], trace[-1]


def _strays(env, info, wander):
    """Anything but a purchase for forty steps, then the oracle."""
    if len(env.taken) >= 40:
        return env.expert_action()
    action = wander(env, info)
    return info["actions"][0] if action == "click[buy now]" else action


def test_the_oracle_takes_the_best_that_is_found_where_its_product_is_not(tmp_path, games):
    """The blanket's texts lack every word of its instruction."""
    hidden = item("B000000009", name="Xyzzy", query="throw blankets", small_description=["Wow."])
    other = item("B000000008", name="Red Rug Blanket", query="throw blankets",
                 customization_options={"Color": option("red", "blue")})  # fmt: skip
    known = {
        "B000000009": {"attributes": ["super soft"], "instruction": "Find me super soft blankets",
                       "instruction_attributes": ["super soft"]},
        **KNOWN,
    }  # fmt: skip
    (tmp_path / "items_shuffle_1000.json").write_text(json.dumps([hidden, other, *ITEMS]))
    (tmp_path / "items_ins_v2_1000.json").write_text(json.dumps(known))
    options = WebShopOptions(folder=str(tmp_path))
    env = WebShopEnv("webshop", "train", games, options)
    number = next(i for i, g in enumerate(env.world.goals) if g.product == 0)
    trace = play(env, expert, options={"instance": number})
    assert trace[-1][0].startswith("Thank you")
    assert not trace[-1][1]["success"]


def test_the_oracle_clicks_each_wanted_option_once():
    options = {"color": ("red", "navy blue"), "cut": ("wide", "long"), "fit": ("wide", "slim")}
    assert picks(options, ["navy blue", "wide"]) == {"color": "navy blue", "fit": "wide"}
    assert picks(options, ["light blue"]) == {"color": "navy blue"}
    assert picks(options, ["wide", "wide"]) == {"fit": "wide"}
    assert picks(options, ["wide", "slim"]) == {"fit": "wide"}
    assert picks(options, ["huge"]) == {}


def test_an_episode_is_restored_by_its_instance_and_actions(make):
    one, other = make(), make()
    for seed in range(12):
        walked = []
        wander = wandering(seed)

        def note(env, info, wander=wander, walked=walked):
            walked.append(wander(env, info))
            return walked[-1]

        trace = play(one, note, seed=seed)
        other.reset(seed=99)
        instance = trace[0][1]["instance"]
        actions = iter(walked)
        again = play(other, lambda env, info, a=actions: next(a), options={"instance": instance})
        assert again == trace


def test_the_splits_share_neither_goals_nor_products(make):
    train, heldout = make(), make("heldout")
    goals = train.world.goals
    assert goals == heldout.world.goals
    drawn = [
        {env.reset(seed=seed if not n else None)[1]["instance"] for n in range(100)}
        for seed, env in ((0, train), (0, heldout))
    ]
    assert not drawn[0] & drawn[1]
    products = [{goals[i].product for i in instances} for instances in drawn]
    assert not products[0] & products[1]
    assert len(set(train.instances) | set(heldout.instances)) == len(goals)


def test_truncation_ends_the_episode_without_reward(make):
    env = make(max_episode_steps=3)
    _, info = env.reset(seed=0)
    for step in range(3):
        _, reward, terminated, truncated, info = env.step(info["actions"][0])
        assert (reward, terminated, truncated) == (0.0, False, step == 2)
    with pytest.raises(EnvError, match="no running episode"):
        env.step(info["actions"][0])


def test_a_purchase_at_the_last_step_is_no_truncation(make):
    length = len(play(make(), expert, seed=0)) - 1
    env = make(max_episode_steps=length)
    env.reset(seed=0)
    for _ in range(length):
        _, reward, terminated, truncated, _ = env.step(env.expert_action())
    assert (reward, terminated, truncated) == (1.0, True, False)


def test_the_oracle_leaves_an_item_by_the_shortest_way(folder, games):
    options = WebShopOptions(folder=str(folder))
    world = open_world(options)
    oracle = ShopExpert(world, world.goals[0], searches(world.goals[0].instruction))
    other = next(n for n in range(4) if n != world.goals[0].product)
    query = searches(world.goals[0].instruction)[0]
    assert oracle.advise(Place("item", query, 1, other)) == "click[< prev]"
    assert oracle.advise(Place("item", "lamp", 1, other)) == "click[back to search]"
    assert oracle.advise(Place("results", "lamp")) == "click[back to search]"
    assert oracle.advise(Place("results", query, 4)) == "click[< prev]"


def test_what_the_page_does_not_show_is_refused(make):
    env = make()
    _, info = env.reset(seed=0)
    for action in ("search[anything else]", "click[buy now]", info["actions"][0].upper()):
        with pytest.raises(EnvError, match="not admissible"):
            env.step(action)


def test_an_instance_that_there_is_not(make):
    env = make()
    count = len(env.world.goals)
    with pytest.raises(EnvError, match=f"has {count} goals") as error:
        env.reset(options={"instance": count})
    assert error.value.hint == f"Ask for one from 0 to {count - 1}."


def test_a_query_is_searched_once_and_nothing_is_rewarded_before_it_is_bought(make, monkeypatch):
    env = make()
    searched, rewarded = [], []
    search, reward = SearchEngine.search, ShopWorld.reward
    monkeypatch.setattr(
        SearchEngine, "search", lambda self, *a: searched.append(a[0]) or search(self, *a)
    )
    monkeypatch.setattr(
        ShopWorld, "reward", lambda self, *a: rewarded.append(a) or reward(self, *a)
    )
    bought, asked = 0, set()
    for seed in range(5):
        for text, info, _ in play(env, wandering(seed), seed=seed):
            bought += text.startswith("Thank you")
            asked |= {action for action in info["actions"] if action.startswith("search[")}
    assert len(searched) == len(set(searched)) <= len(asked)
    assert len(rewarded) == bought > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"products": 0}, "products is 0"),
        ({"page_size": 0}, "page_size is 0"),
        ({"title_words": 0}, "title_words is 0"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0"),
        ({"heldout_share": 1.0}, "heldout_share is 1.0"),
        ({"heldout_share": 0.0}, "heldout_share is 0.0"),
        ({"seed": -1}, "seed is -1"),
        ({"folder": "x"}, "`generated` is true and `folder` is 'x'"),
        ({"goals": "human"}, "people wrote goals for those"),
        ({"item_links": "picture"}, "item_links"),
    ],
)
def test_options_that_do_not_fit(make, options, message):
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_the_variable_names_the_folder_and_options_go_before_it(folder, games, monkeypatch):
    told = []
    monkeypatch.setenv("WEBSHOP_DATA", str(folder))
    assert len(open_world(WebShopOptions(), told.append).products) == 4
    assert told[0] == f"WebShop: 4 products of {folder}, 9 goals"
    assert len(open_world(WebShopOptions(**SMALL)).products) == 150
    monkeypatch.setenv("WEBSHOP_DATA", str(folder / "nowhere"))
    assert len(open_world(WebShopOptions(folder=str(folder))).products) == 4
    with pytest.raises(EnvError, match="nowhere`, does not exist"):
        open_world(WebShopOptions())


def test_the_record_of_a_run_names_its_products_whatever_the_variable_says_later(
    folder, games, monkeypatch
):
    generated = full_options("webshop", {"products": 60})
    assert generated["generated"] is True
    monkeypatch.setenv("WEBSHOP_DATA", str(folder))
    read = full_options("webshop", {})
    assert (read["folder"], read["generated"]) == (str(folder), False)
    env = make_env("webshop", workspace=games, options=generated).unwrapped
    assert isinstance(env, WebShopEnv)
    assert len(env.world.products) == 60
    monkeypatch.delenv("WEBSHOP_DATA")
    env = make_env("webshop", workspace=games, options=read).unwrapped
    assert isinstance(env, WebShopEnv)
    assert len(env.world.products) == 4
    assert full_options("webshop", read) == read
    assert full_options("webshop", generated) == generated


def test_goals_that_people_wrote_need_files(games):
    with pytest.raises(ConfigError, match="`goals` is human and the products are generated"):
        make_env("webshop", workspace=games, options={"goals": "human"})


def test_environments_share_one_shop_for_as_long_as_one_is_in_use(make):
    one, other = make(), make("heldout")
    assert one.world is other.world
    assert make(seed=1).world is not one.world
    seen = weakref.ref(one.world)
    del one, other
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize(("goals", "products"), [("human", 4), ("synthetic", 1)])
def test_a_shop_without_goals_for_both_splits(folder, games, goals, products):
    options = WebShopOptions(folder=str(folder), goals=goals, products=products)
    with pytest.raises(EnvError, match=f"have {goals} goals for fewer than two"):
        open_world(options)


def test_every_text_is_in_the_observation_space(folder, games):
    starred = item("B000000009", name="Ölbad 油", Rating="4 ★", full_description="Schön.")
    (folder / "items_shuffle_1000.json").write_text(json.dumps([starred, *ITEMS]))
    options = WebShopOptions(folder=str(folder))
    env = WebShopEnv("webshop", "train", games, options)
    for place in (Place("item", item=0), Place("sub", item=0, sub="Description")):
        assert env.observation_space.contains(env.world.shop.text(place))


@pytest.mark.skipif(not WEBSHOP.is_dir(), reason=f"there are no files of WebShop in {WEBSHOP}")
def test_the_real_shop_is_played_and_the_oracle_buys_what_was_asked(games):
    options = WebShopOptions(folder=str(WEBSHOP))
    world = open_world(options)
    assert len(world.goals) == 6910
    env = WebShopEnv("webshop", "train", games, options)
    check_env(env, heldout=WebShopEnv("webshop", "heldout", games, options), episodes=3)
    env.reset(seed=0)
    rewards = [play(env, expert)[-1][2] for _ in range(60)]
    assert np.mean(rewards) > 0.95
