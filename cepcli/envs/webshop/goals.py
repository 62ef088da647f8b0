"""WebShop's goals, which of them are held out, and the searches that an instruction suggests."""

import itertools
import random as python_random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from cepcli.envs.webshop.products import Instruction, Product

#: WebShop's own seed of the order of goals.
ORDER_SEED = 233
#: Price limits, in dollars, of which one above the price is drawn; no limit above the last.
PRICE_LIMITS = tuple(10.0 * i for i in range(1, 100))
NO_LIMIT = 1_000_000.0
#: Searches that an instruction suggests at most.
MAX_SEARCHES = 8

_PRICE = re.compile(r",? and price lower than [\d.]+ dollars$")
_OPTIONS = re.compile(r" with (?=[^:,]+: )(?![^:,]* with [^:,]+: )")
_LEAD = re.compile(
    r"^(?:(?:hello|hi|hey|please)\b\W*)?"
    r"(?:find me|show me|get me|give me|i(?: am|'m|m)?(?: looking| searching| shopping)(?: for)?"
    r"|i(?: would|'d)? (?:need|want|like)(?: to (?:buy|get|find|order|purchase))?|look(?:ing)? for"
    r"|(?:place|an?) order for)\b\W*",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:a pair of|an?|some|the|one)\s+", re.IGNORECASE)
_BREAKS = re.compile(r"[,.;?!]\s+|\s+(?:with|for|and|that|which|in|on)\s+")
_NO_WORDS = re.compile(r"[^\w\s.'%&|+-]|(?<!\d)\.|\.(?!\d)")


class Goal(NamedTuple):
    """What an episode asks for."""

    product: int  # the number of the product that it was made of
    instruction: str  # the text that the agent reads
    attributes: tuple[str, ...]  # what the purchase is to have
    options: tuple[str, ...]  # the values that are to be chosen
    price_upper: float  # the limit of the price, in dollars
    query: str  # of the product, its kind
    product_category: str  # of the product
    weight: float = 1.0  # how often the goal is drawn, relative to others


def make_goals(
    products: Sequence[Product],
    prices: Sequence[float] | np.ndarray,
    kind: Literal["synthetic", "human"],
    random: np.random.Generator,
) -> list[Goal]:
    """All goals of the products, in WebShop's order; `random` draws their price limits.

    A synthetic goal is drawn the more often the rarer its attributes are among goals.
    """
    goals = [
        Goal(number, text, made.attributes, options, limit, product.query, product.product_category)
        for number, (product, price) in enumerate(zip(products, prices, strict=True))
        for made, text, options, limit in _instructions(product, kind, float(price), random)
    ]
    if kind == "synthetic":
        often = Counter(attribute for goal in goals for attribute in goal.attributes)
        for number, goal in enumerate(goals):
            rarity = sum(1 / often[each] for each in goal.attributes) / len(goal.attributes)
            goals[number] = goal._replace(weight=rarity)
    python_random.Random(ORDER_SEED).shuffle(goals)
    return goals


def split_goals(goals: Sequence[Goal], heldout_share: float) -> tuple[list[int], list[int]]:
    """Numbers of the training goals and of the held-out ones, which share no product.

    The products whose goals come first are held out: that share of them, at least one and, of
    several, never all.
    """
    products = list(dict.fromkeys(goal.product for goal in goals))
    count = min(round(heldout_share * len(products)), len(products) - 1)
    heldout = set(products[: max(1, count)])
    numbers = range(len(goals))
    return (
        [n for n in numbers if goals[n].product not in heldout],
        [n for n in numbers if goals[n].product in heldout],
    )


def searches(instruction: str) -> tuple[str, ...]:
    """What one might search for, given an instruction: from its text alone, distinct, lowercase.

    Without the limit of the price and words such as "Find me": all of it, with the values of the
    options; then without options; then each of its phrases, between commas, "with", "for", "and"
    and the like. There are `MAX_SEARCHES` at most.
    """
    text = _ARTICLE.sub("", _LEAD.sub("", _PRICE.sub("", instruction.strip())))
    core, *options = _OPTIONS.split(text, maxsplit=1)
    values = [part.partition(": ")[2] or part for part in ", ".join(options).split(", and ")]
    phrases = [_ARTICLE.sub("", part) for part in _BREAKS.split(core)]
    found = [_words(" ".join([core, *values])), _words(core), *map(_words, phrases)]
    return tuple(dict.fromkeys(each for each in found if each))[:MAX_SEARCHES] or ("product",)


def _words(text: str) -> str:
    return " ".join(_NO_WORDS.sub(" ", text.lower()).split())


def _instructions(
    product: Product, kind: str, price: float, random: np.random.Generator
) -> Iterator[tuple[Instruction, str, tuple[str, ...], float]]:
    """What goals are made of: an instruction, its text, the options to choose, a price limit."""
    if kind == "human":
        for written in product.human:
            if written.attributes:
                limit, clause = _limit(price, random)
                yield written, written.text.strip(".") + clause, written.options, limit
    elif product.synthetic is not None:  # a goal for every combination of options, of one limit
        limit, clause = _limit(price, random)
        names = sorted(product.options)
        for values in itertools.product(*(product.options[name] for name in names)):
            pairs = ", and ".join(f"{k}: {v}" for k, v in zip(names, values, strict=True))
            text = product.synthetic.text + (f" with {pairs}" if pairs else "") + clause
            yield product.synthetic, text, values, limit


def _limit(price: float, random: np.random.Generator) -> tuple[float, str]:
    """A limit of the price and the words for it: the larger of two of the next four above it."""
    above = [limit for limit in PRICE_LIMITS if limit > price][:4]
    if len(above) < 2:
        return NO_LIMIT, ""
    upper = max(above[i] for i in random.choice(len(above), size=2, replace=False))
    return upper, f", and price lower than {upper:.2f} dollars"
