"""WebShop's pages: what each shows, and where a click or a search leads.

Where the shopper is, is a `Place`; `Shop.do` goes from one to the next and changes nothing, so a
place can be kept and gone on from. Pages: "index" with the search bar; "results", ten products at
a time; "item"; "sub" (description, features or reviews of it); "done" after a purchase. Options
that were chosen last until the results are shown again.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from cepcli.envs.admissible import MAX_TEXT
from cepcli.envs.webshop.options import WebShopOptions
from cepcli.envs.webshop.products import Product
from cepcli.envs.webshop.search import SearchEngine

#: Results of a search at most.
TOP = 50
SEPARATOR = " [SEP] "
BACK, PREVIOUS, NEXT, BUY = "Back to Search", "< Prev", "Next >", "Buy Now"
SUB_PAGES = ("Description", "Features", "Reviews")
_ACTION = re.compile(r"(search|click)\[(.+)\]", re.DOTALL)
#: Searches that are remembered; then all are forgotten.
_REMEMBERED = 10_000


class Place(NamedTuple):
    """Where the shopper is.

    Attributes:
        page: which kind of page.
        query: what was searched for.
        number: of the page of results, from 1.
        item: the number of the product; -1 before one was opened.
        chosen: pairs of an option's name and its value.
        sub: which sub-page.
    """

    page: Literal["index", "results", "item", "sub", "done"]
    query: str = ""
    number: int = 1
    item: int = -1
    chosen: tuple[tuple[str, str], ...] = ()
    sub: str = ""


class Shop:
    """The pages of a shop with these products."""

    def __init__(
        self, products: Sequence[Product], engine: SearchEngine, options: WebShopOptions
    ) -> None:
        self._products, self._engine, self._options = products, engine, options
        self._results: dict[str, list[int]] = {}

    @property
    def page_size(self) -> int:
        """Products on a page of results."""
        return self._options.page_size

    def results(self, query: str) -> list[int]:
        """The products that a search finds, best first, at most `TOP`."""
        if query not in self._results:
            if len(self._results) >= _REMEMBERED:
                self._results.clear()
            self._results[query] = self._engine.search(query, TOP)
        return self._results[query]

    def do(self, place: Place, action: str) -> Place:
        """Where `search[words]` or `click[what]` leads; the same place if it is neither.

        The argument is taken in lowercase. As in WebShop, a search is possible from every page
        until the purchase, and a click only on what the page shows.
        """
        found = _ACTION.fullmatch(action)
        if found is None or place.page == "done":
            return place
        name, argument = found[1], found[2].lower()
        if name == "search":
            return Place("results", argument)
        return self.links(place).get(argument, place)

    def links(self, place: Place) -> dict[str, Place]:
        """What can be clicked, in lowercase and in the order of the page, and where it leads."""
        if place.page == "results":
            return self._result_links(place)
        if place.page == "item":
            return self._item_links(place)
        if place.page == "sub":
            return {
                BACK.lower(): Place("index"),
                PREVIOUS.lower(): place._replace(page="item", sub=""),
            }
        return {}

    def shown(self, place: Place) -> list[int]:
        """The products on this page of results."""
        size = self.page_size
        return self.results(place.query)[(place.number - 1) * size : place.number * size]

    def link(self, place: Place, item: int) -> str:
        """What is clicked to open a product of this page of results, in lowercase."""
        product = self._products[item]
        if self._options.item_links == "asin":
            return product.asin.lower()
        title = self._title(product)
        first = next(i for i in self.shown(place) if self._title(self._products[i]) == title)
        double = "" if first == item else f" ({product.asin})"
        return f"item - {title}{double}".lower()

    def text(self, place: Place) -> str:
        """What the page shows but for the instruction, its parts joined by " [SEP] ".

        A page is cut after the last whole word of its first `MAX_TEXT` characters.
        """
        parts = {
            "index": lambda _: ["WebShop", "Search"],
            "results": self._result_parts,
            "item": self._item_parts,
            "sub": self._sub_parts,
            "done": lambda _: ["Thank you for shopping with us!"],
        }[place.page](place)
        text = SEPARATOR.join(" ".join(part.split()) for part in parts)
        return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1].rpartition(" ")[0] + " …"

    def _result_links(self, place: Place) -> dict[str, Place]:
        links = {BACK.lower(): Place("index")}
        if place.number > 1:
            links[PREVIOUS.lower()] = place._replace(number=place.number - 1)
        links[NEXT.lower()] = place._replace(number=place.number + 1)
        for item in self.shown(place):
            links.setdefault(self.link(place, item), place._replace(page="item", item=item))
        return links

    def _item_links(self, place: Place) -> dict[str, Place]:
        """Of values that two options share, the later option takes the click, as in WebShop."""
        choices = {
            value: place._replace(chosen=(*_others(place, name), (name, value)))
            for name, values in self._products[place.item].options.items()
            for value in values
        }
        buttons = {BACK.lower(): Place("index"), PREVIOUS.lower(): _listed(place)}
        pages = {sub.lower(): place._replace(page="sub", sub=sub) for sub in SUB_PAGES}
        last = {**pages, BUY.lower(): place._replace(page="done")}
        return {**buttons, **choices, **buttons, **last}

    def _result_parts(self, place: Place) -> list[str]:
        total = len(self.results(place.query))
        parts = [BACK, f"Page {place.number} (Total results: {total})"]
        parts += [PREVIOUS, NEXT] if place.number > 1 else [NEXT]
        for item in self.shown(place):
            product = self._products[item]
            parts += [product.asin, self._title(product), product.price_tag]
        return parts

    def _item_parts(self, place: Place) -> list[str]:
        product = self._products[place.item]
        parts: list[str] = []
        if self._options.show_chosen:
            chosen = dict(place.chosen)
            parts = [f"You have clicked {chosen[n]}." for n in product.options if n in chosen]
        parts += [BACK, PREVIOUS]
        for name, values in product.options.items():
            parts += [name, *values]
        parts += [self._title(product), f"Price: {product.price_tag}", f"Rating: {product.rating}"]
        return [*parts, *SUB_PAGES, BUY]

    def _sub_parts(self, place: Place) -> list[str]:
        product = self._products[place.item]
        parts: list[str] = []
        if place.sub == "Description":
            parts = [product.description] if product.description.strip() else []
        elif place.sub == "Features":
            parts = [feature for feature in product.features if feature.strip()]
        else:
            for review in product.reviews:
                parts += [f'"{review.title}"', f"{review.score:g}", review.body]
        return [BACK, PREVIOUS, *(parts or [f"No {place.sub}"])]

    def _title(self, product: Product) -> str:
        words = product.name.split()
        limit = self._options.title_words
        if limit is None or len(words) <= limit:
            return " ".join(words)
        return " ".join(words[:limit]) + " …"


def _listed(place: Place) -> Place:
    """The page of results that an item was opened from."""
    return Place("results", place.query, place.number)


def _others(place: Place, name: str) -> tuple[tuple[str, str], ...]:
    """What is chosen of other options than `name`."""
    return tuple(pair for pair in place.chosen if pair[0] != name)
