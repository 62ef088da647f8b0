"""WebShop: find a product that fits an instruction and a price limit, choose options, buy it.

Pages, goals, search and reward are those of Yao et al., "WebShop: Towards Scalable Real-World Web
Interaction with Grounded Language Agents" (arXiv 2207.01206), in text mode. Admissible are the
clicks that a page shows and, on the page with the search bar, the searches that the instruction's
own words suggest (`goals.searches`). Ours: pages leave out the instruction, which is the goal, and
an item's page tells which options have been clicked. The expert knows the product that the goal
was made of.
"""

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
from typing_extensions import override

from cepcli.envs.base import Split, TextGame, text_space
from cepcli.envs.webshop.generator import generate
from cepcli.envs.webshop.goals import Goal, make_goals, searches, split_goals
from cepcli.envs.webshop.nouns import nouns_of
from cepcli.envs.webshop.products import (
    Product,
    draw_prices,
    parse_products,
    read_products,
    search_text,
)
from cepcli.envs.webshop.reward import Reward, normal_color, reward, similar
from cepcli.envs.webshop.shop import (
    BACK,
    BUY,
    NEXT,
    PREVIOUS,
    SEPARATOR,
    Place,
    SearchEngine,
    Shop,
    WebShopOptions,
    settled,
)
from cepcli.errors import EnvError
from cepcli.seeding import generator

#: Products that are generated unless the options say how many.
GENERATED = 1000
_OPEN: WeakValueDictionary[WebShopOptions, "ShopWorld"] = WeakValueDictionary()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class ShopWorld:
    """Everything that episodes share; nothing of it changes."""

    products: list[Product]  # of the shop
    prices: np.ndarray  # what each costs, in dollars
    nouns: list[list[str]]  # of each product's name
    shop: Shop  # its pages
    goals: list[Goal]  # all of them; an instance is the number of one

    def reward(self, goal: Goal, item: int, chosen: Iterable[str]) -> Reward:
        """The reward of buying a product with these option values."""
        nouns = (self.nouns[item], self.nouns[goal.product])
        return reward(self.products[item], goal, float(self.prices[item]), chosen, nouns)


def open_world(options: WebShopOptions, progress: Callable[[str], None] | None = None) -> ShopWorld:
    """The shop that the options describe; while one is in use, no second one is opened.

    A run has a dozen environments: each with a shop of its own would multiply its memory.

    Raises:
        EnvError: if its files are missing, cut short or of another version, or give no goal.
        ConfigError: if goals that people wrote are asked for, and there are no files.
    """
    options = settled(options)
    world = _OPEN.get(options)
    if world is None:
        world = _OPEN[options] = _open(options, progress)
    return world


def _open(options: WebShopOptions, progress: Callable[[str], None] | None) -> ShopWorld:
    if options.folder is None:
        made = generate(options.products or GENERATED, options.seed)
        products, source = parse_products(made.items, made.attributes, {}), "generated"
    else:
        products = read_products(Path(options.folder), options.files, options.products)
        source = f"of {options.folder}"
    prices = draw_prices(products, generator(options.seed, "webshop/prices"))
    limits = generator(options.seed, "webshop/limits")
    goals = make_goals(products, prices, options.goals, limits)
    if len({goal.product for goal in goals}) < 2:
        raise EnvError(
            f"The {len(products):,} products {source} have {options.goals} goals for fewer than "
            "two of them, one for each split.",
            "Take the other goals with --set env_options.goals=…, or more products.",
        )
    if progress:
        progress(f"WebShop: {len(products):,} products {source}, {len(goals):,} goals")
    engine = SearchEngine([search_text(product) for product in products])
    shop = Shop(products, engine, options)
    nouns = [nouns_of(product.name) for product in products]
    return ShopWorld(products, prices, nouns, shop, goals)


def characters(products: Iterable[Product]) -> str:
    """Printable characters, and those that occur in texts of the products, sorted."""
    found = set(string.printable) | set("…")
    for product in products:
        shown = (product.name, product.description, product.rating, *product.features)
        for text in (*shown, search_text(product)):
            found.update(text)
        for review in product.reviews:
            found.update(review.title + review.body)
    return "".join(sorted(found))


class WebShopEnv(TextGame):
    """A shop in text. An instance is the number of a goal."""

    family = "webshop"

    def __init__(
        self,
        env_id: str,
        split: Split,
        workspace: Path,
        options: WebShopOptions,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.world = world = open_world(options, progress)
        train, heldout = split_goals(world.goals, options.heldout_share)
        instances = train if split == "train" else heldout
        super().__init__(env_id, instances, options.max_episode_steps)
        self.observation_space = text_space(characters(world.products))
        weights = np.cumsum([world.goals[i].weight for i in instances])
        self._odds = weights / weights[-1]
        self._place = Place("index")
        self._wanted = world.goals[instances[0]]
        self._queries: tuple[str, ...] = ()
        self._expert: ShopExpert | None = None
        self._bought: Reward | None = None

    @override
    def draw(self) -> int:
        """The next instance; a goal is drawn as often as its weight says."""
        drawn = int(np.searchsorted(self._odds, self.np_random.random(), side="right"))
        return self.instances[drawn]

    @override
    def start(self, instance: int) -> str:
        """Start on the page with the search bar."""
        goals = self.world.goals
        if instance >= len(goals):
            raise EnvError(
                f"`instance` is {instance}, and `{self.env_id}` has {len(goals)} goals.",
                f"Ask for one from 0 to {len(goals) - 1}.",
            )
        self._place, self._expert, self._bought = Place("index"), None, None
        self._wanted = goals[instance]
        self._queries = searches(self._wanted.instruction)
        return self._wanted.instruction

    @override
    def act(self, action: str) -> tuple[float, bool]:
        """Search or click; buying ends the episode with WebShop's reward, all else has none."""
        self._place = self.world.shop.do(self._place, action)
        if self._place.page != "done":
            return 0.0, False
        chosen = [value for _, value in self._place.chosen]
        self._bought = self.world.reward(self._wanted, self._place.item, chosen)
        return self._bought.total, True

    @override
    def observe(self) -> tuple[str, tuple[str, ...], bool]:
        text = self.world.shop.text(self._place)
        if self._bought is not None:
            score = f"Your score (min 0.0, max 1.0){SEPARATOR}{self._bought.total:g}"
            return f"{text}{SEPARATOR}{score}", self._space.actions, self._bought.total == 1
        if self._place.page == "index":
            return text, tuple(f"search[{query}]" for query in self._queries), False
        links = self.world.shop.links(self._place)
        return text, tuple(f"click[{link}]" for link in links), False

    @override
    def expert_action(self) -> str:
        """The next action towards buying the goal's own product, wherever the agent went.

        If no search finds that product, towards the one of the best reward that is found.
        """
        if self._expert is None:
            self._expert = ShopExpert(self.world, self._wanted, self._queries)
        return self._expert.advise(self._place)


class ShopExpert:
    """Leads from any place to a purchase for one goal.

    Of the searches it takes the first that has the product on its first page of results, or else
    the one that ranks it best.
    """

    def __init__(self, world: ShopWorld, goal: Goal, queries: Sequence[str]) -> None:
        self._shop, self._queries = world.shop, queries
        self._target = self._choose_target(world, goal)
        product = world.products[self._target]
        self._picks = picks(product.options, goal.options)
        self._query = min(self._queries, key=self._rank)

    def advise(self, place: Place) -> str:
        """The next action; from "done" there is none, and the last one is repeated."""
        if place.page == "index":
            return f"search[{self._query}]"
        if place.page == "results":
            return self._among_results(place)
        if place.page == "sub":
            return _click(PREVIOUS)
        if place.item != self._target:
            found = self._target in self._shop.results(place.query)
            return _click(PREVIOUS if found else BACK)
        for name, value in self._picks.items():
            if (name, value) not in place.chosen:
                return _click(value)
        return _click(BUY)

    def _among_results(self, place: Place) -> str:
        if self._target in self._shop.shown(place):
            return _click(self._shop.link(place, self._target))
        results = self._shop.results(place.query)
        if self._target not in results:
            return _click(BACK)
        before = self._target not in results[(place.number - 1) * self._shop.options.page_size :]
        return _click(PREVIOUS if before else NEXT)

    def _rank(self, query: str) -> int:
        """On which page the target is; the same for all queries that do not find it."""
        results = self._shop.results(query)
        if self._target not in results:
            return len(results) + 10**9
        return results.index(self._target) // self._shop.options.page_size

    def _choose_target(self, world: ShopWorld, goal: Goal) -> int:
        found = dict.fromkeys(item for query in self._queries for item in self._shop.results(query))
        if goal.product in found or not found:
            return goal.product

        def worth(item: int) -> float:
            chosen = picks(world.products[item].options, goal.options)
            return world.reward(goal, item, chosen.values()).total

        return max(found, key=worth)


def picks(options: Mapping[str, Sequence[str]], wanted: Sequence[str]) -> dict[str, str]:
    """Which values to click, by option: for each wanted one the same, else the first like it.

    Of values that two options share, a click takes the later option's.
    """
    clicked = {value: name for name, values in options.items() for value in values}
    chosen: dict[str, str] = {}
    for each in wanted:
        like = [v for v in clicked if v == each] or [
            v for v in clicked if similar(normal_color(v), normal_color(each))
        ]
        free = [value for value in like if clicked[value] not in chosen]
        if free and not any(value in chosen.values() for value in like):
            chosen[clicked[free[0]]] = free[0]
    return chosen


def _click(what: str) -> str:
    return f"click[{what.lower()}]"
