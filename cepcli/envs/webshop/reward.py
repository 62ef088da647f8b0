"""WebShop's reward of a purchase (Yao et al., arXiv 2207.01206, Appendix A.5 and its code).

R = r_type · (attributes matched + options matched + [price ≤ limit]) / (attributes + options + 1),
over the attributes and options of the goal. Texts are compared by rapidfuzz's `token_set_ratio` of
the strings as they are; more than 85 of 100 is a match. (Where thefuzz stands for rapidfuzz, it
first blanks what is no letter or digit; "large" then also matches "x-large".)
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rapidfuzz import fuzz

from cepcli.envs.webshop.goals import Goal
from cepcli.envs.webshop.products import Product

#: Texts match above this `token_set_ratio`.
SIMILAR = 85
#: The colours that options are normalised to; the first of the list that occurs in a value counts.
COLORS = (
    "alabaster", "apricot", "aqua", "ash", "asphalt", "azure", "banana", "beige", "black", "blue",
    "blush", "bordeaux", "bronze", "brown", "burgundy", "camel", "camo", "caramel", "champagne",
    "charcoal", "cheetah", "chestnut", "chocolate", "christmas", "coffee", "cognac", "copper",
    "coral", "cranberry", "cream", "crystal", "dark", "denim", "eggplant", "elephant", "espresso",
    "fuchsia", "gold", "granite", "grape", "graphite", "grass", "gray", "green", "grey", "heather",
    "indigo", "ivory", "ivy", "khaki", "lavender", "lemon", "leopard", "light", "lilac", "lime",
    "magenta", "maroon", "mauve", "merlot", "midnight", "mint", "mocha", "multicolor", "mushroom",
    "mustard", "natural", "navy", "nude", "olive", "orange", "peach", "pewter", "pink", "plum",
    "purple", "rainbow", "red", "rose", "royal", "rust", "sand", "sapphire", "seashell", "silver",
    "skull", "slate", "steel", "stone", "stonewash", "sunflower", "tan", "taupe", "teal", "tiger",
    "turquoise", "violet", "walnut", "wheat", "white", "wine", "yellow",
)  # fmt: skip


class Reward(NamedTuple):
    """A purchase's reward and what it is made of."""

    total: float  # from 0 to 1
    type_score: float  # the factor for a product of the wrong kind: 1, 0.5, 0.1 or 0
    title_score: float  # the share of the goal's nouns that the product's name has
    attributes: int  # how many of the goal's attributes the product has
    options: int  # how many of the goal's options were chosen
    price: bool  # whether the price is within the limit


def reward(
    bought: Product, goal: Goal, price: float, chosen: Iterable[str], nouns: Sequence[Sequence[str]]
) -> Reward:
    """The reward of buying `bought` at `price` dollars with the option values `chosen`.

    `nouns` are those of the name of `bought`, and of the name of the goal's product, lowercase.
    """
    title_score = shared_nouns(*nouns)
    type_score = type_factor(bought, goal, title_score)
    attributes = matched_attributes(bought, goal.attributes)
    options = matched_options(chosen, goal.options)
    cheap = bool(price <= goal.price_upper)
    wanted = len(goal.attributes) + len(goal.options) + 1
    total = type_score * ((attributes + options + cheap) / wanted)
    return Reward(total, type_score, title_score, attributes, options, cheap)


def shared_nouns(bought: Sequence[str], wanted: Sequence[str]) -> float:
    """Distinct nouns that both names have, per noun of the wanted name; 0.2 if it has none."""
    return len(set(bought) & set(wanted)) / len(wanted) if wanted else 0.2


def type_factor(bought: Product, goal: Goal, title_score: float) -> float:
    """1 for a product of the goal's kind; less the less its name has in common with the goal's.

    The kind is the same if the query is, or two departments at least, or more than a fifth of the
    nouns; whatever the kind, less than a tenth of the nouns makes it 0.1, and none makes it 0.
    """
    if title_score == 0:
        return 0.0
    if title_score < 0.1:
        return 0.1
    of_bought, of_goal = (
        {part.strip() for part in each.product_category.split("›")} for each in (bought, goal)
    )
    same = bought.query == goal.query or len(of_bought & of_goal) >= 2 or title_score > 0.2
    return 1.0 if same else 0.5


def matched_attributes(bought: Product, wanted: Iterable[str]) -> int:
    """How many attributes are similar to one of the product's, or stand in one of its texts."""
    texts = (bought.name.lower(), " ".join(bought.features).lower(), bought.description.lower())
    return sum(
        any(similar(each, attribute) for each in bought.attributes)
        or any(attribute in text for text in texts)
        for attribute in wanted
    )


def matched_options(chosen: Iterable[str], wanted: Iterable[str]) -> int:
    """How many of the wanted option values are similar to a chosen one, colours normalised."""
    values = [normal_color(value) for value in chosen]
    return sum(any(similar(v, normal_color(each)) for v in values) for each in wanted)


def similar(one: str, other: str) -> bool:
    """Whether two texts have nearly the same words."""
    return fuzz.token_set_ratio(one, other) > SIMILAR


def normal_color(value: str) -> str:
    """The first known colour that occurs in an option's value, or else the value."""
    return next((color for color in COLORS if color in value), value)
