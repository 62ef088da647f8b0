"""A shop that episodes share: its products, their prices and nouns, its pages, its goals."""

import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np

from cepcli.envs.webshop.generator import generate
from cepcli.envs.webshop.goals import Goal, make_goals
from cepcli.envs.webshop.nouns import nouns_of
from cepcli.envs.webshop.options import WebShopOptions, settled
from cepcli.envs.webshop.pages import Shop
from cepcli.envs.webshop.products import (
    Product,
    draw_prices,
    parse_products,
    read_products,
    search_text,
)
from cepcli.envs.webshop.reward import Reward, reward
from cepcli.envs.webshop.search import SearchEngine
from cepcli.errors import EnvError
from cepcli.seeding import generator

#: Products that are generated unless the options say how many.
GENERATED = 1000
_OPEN: WeakValueDictionary[WebShopOptions, "World"] = WeakValueDictionary()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class World:
    """Everything that episodes share; nothing of it changes.

    Attributes:
        products: of the shop.
        prices: what each costs, in dollars.
        nouns: of each product's name.
        shop: its pages.
        goals: all of them; an instance is the number of one.
    """

    products: list[Product]
    prices: np.ndarray
    nouns: list[list[str]]
    shop: Shop
    goals: list[Goal]

    def reward(self, goal: Goal, item: int, chosen: Iterable[str]) -> Reward:
        """The reward of buying a product with these option values."""
        nouns = (self.nouns[item], self.nouns[goal.product])
        return reward(self.products[item], goal, float(self.prices[item]), chosen, nouns)


def open_world(
    options: WebShopOptions, workspace: Path, progress: Callable[[str], None] | None = None
) -> World:
    """The shop that the options describe; while one is in use, no second one is opened.

    A run has a dozen environments: each with a shop of its own would multiply its memory.

    Raises:
        EnvError: if its files are missing, broken off or of another version, or give no goal.
        ConfigError: if goals that people wrote are asked for, and there are no files.
        ArtifactError: if the workspace cannot be written.
    """
    options = settled(options)
    world = _OPEN.get(options)
    if world is None:
        world = _OPEN[options] = _open(options, workspace, progress)
    return world


def _open(
    options: WebShopOptions, workspace: Path, progress: Callable[[str], None] | None
) -> World:
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
    return World(products, prices, nouns, shop, goals)


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
