"""WebShop's pages and its product search: what a page shows, where a search or a click leads.

Where the shopper is, is a `Place`; `Shop.do` goes from one to the next and changes nothing, so a
place can be kept and gone on from. Pages: "index" with the search bar; "results", ten products at
a time; "item"; "sub" (description, features or reviews of it); "done" after a purchase. Options
that were chosen last until the results are shown again.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from cepcli.config import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    Range,
    Settings,
    check_bounds,
    require,
    setting,
)
from cepcli.envs.base import MAX_TEXT
from cepcli.envs.webshop.products import Product
from cepcli.workspace.variables import data_folder

#: Results of a search at most.
TOP = 50
SEPARATOR = " [SEP] "
BACK, PREVIOUS, NEXT, BUY = "Back to Search", "< Prev", "Next >", "Buy Now"
SUB_PAGES = ("Description", "Features", "Reviews")
_ACTION = re.compile(r"(search|click)\[(.+)\]", re.DOTALL)
#: Searches that are remembered; then all are forgotten.
_REMEMBERED = 10_000
K1, B = 0.9, 0.4
#: Lucene's English stop words.
STOP_WORDS = {
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it",
    "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these",
    "they", "this", "to", "was", "will", "with",
}  # fmt: skip
_WORD = re.compile(r"\w+(?:[.']\w+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebShopOptions(Settings):
    """Options of the WebShop family."""

    folder: str | None = setting(
        None, "WebShop's product files; absent: $WEBSHOP_DATA, else generated ones"
    )
    files: Literal["1000", "all"] = setting(
        "1000", "which of a folder's files: the first 1000 or all"
    )
    generated: bool = setting(False, "generated products, whatever $WEBSHOP_DATA says")
    products: int | None = setting(
        None, "the first so many of the files (absent: all), or generated (1000)", AT_LEAST_ONE
    )
    goals: Literal["synthetic", "human"] = setting(
        "synthetic", "instructions made of attributes, or people's"
    )
    heldout_share: float = setting(
        0.2,
        "of the products with a goal, those that are held out",
        Range(0, 1, low_open=True, high_open=True),
    )
    seed: int = setting(0, "of generated products, drawn prices and price limits", NOT_NEGATIVE)
    page_size: int = setting(10, "products on a page of results", AT_LEAST_ONE)
    title_words: int | None = setting(
        None, "words of a title that pages show; absent: all", AT_LEAST_ONE
    )
    item_links: Literal["asin", "title"] = setting(
        "asin", "click[b0…] as on the page, or click[item - title]"
    )
    show_chosen: bool = setting(True, "an item's page tells which options have been clicked")
    max_episode_steps: int = setting(20, "decisions before truncation", AT_LEAST_ONE)

    def __post_init__(self) -> None:
        check_bounds(self)
        require(
            not (self.generated and self.folder),
            f"`generated` is true and `folder` is {self.folder!r}, expected one of the two.",
        )
        require(
            not (self.generated and self.goals == "human"),
            "`goals` is human and the products are generated; people wrote goals for those of "
            "WebShop's files, in $WEBSHOP_DATA or `folder`.",
        )


def settled(options: WebShopOptions) -> WebShopOptions:
    """The options with the folder that `$WEBSHOP_DATA` names; without one, `generated`."""
    if options.generated:
        return options
    folder = data_folder("WEBSHOP_DATA", options.folder)
    if folder is None:
        return replace(options, generated=True)
    return replace(options, folder=str(folder))


class SearchEngine:
    """Ranks documents by Okapi BM25 over stemmed words, with the parameters of WebShop's Lucene.

    A term t scores idf(t)·f/(f + k₁·(1 − b + b·|d|/mean|d|)) in a document d that has it f times,
    idf(t) = ln(1 + (N − n + ½)/(n + ½)) for n of N documents that have it, k₁ = 0.9 and b = 0.4.
    """

    def __init__(self, documents: Sequence[str]) -> None:
        import snowballstemmer

        self._stemmer = snowballstemmer.stemmer("porter")
        self._stems: dict[str, str] = {}
        self._size = len(documents)
        self._postings = self._index([Counter(self.terms(text)) for text in documents])

    def terms(self, text: str) -> list[str]:
        """The stems of the words of `text` that are no stop words, in order."""
        straight = text.lower().replace("’", "'")
        words = (word.removesuffix("'s") for word in _WORD.findall(straight))
        return [self._stem(word) for word in words if word not in STOP_WORDS]

    def search(self, query: str, limit: int = 50) -> list[int]:
        """The documents that have a word of `query`, best first, at most `limit`.

        Equal scores are in the order of the documents.
        """
        scores = np.zeros(self._size)
        for term, count in Counter(self.terms(query)).items():
            if term in self._postings:
                documents, weights = self._postings[term]
                scores[documents] += count * weights
        found = np.flatnonzero(scores)
        return found[np.argsort(-scores[found], kind="stable")[:limit]].tolist()

    def _stem(self, word: str) -> str:
        if word not in self._stems:
            self._stems[word] = self._stemmer.stemWord(word)
        return self._stems[word]

    def _index(self, counts: Sequence[Counter[str]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By term, the documents that have it, and what it scores in each."""
        lengths = np.array([sum(count.values()) for count in counts], float)
        norms = K1 * (1 - B + B * lengths / max(1.0, lengths.mean()))
        found: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for document, count in enumerate(counts):
            for term, frequency in count.items():
                found[term].append((document, frequency))
        postings = {}
        for term, entries in found.items():
            documents, frequencies = np.array(entries).T
            n = len(entries)
            idf = math.log(1 + (self._size - n + 0.5) / (n + 0.5))
            postings[term] = documents, idf * frequencies / (frequencies + norms[documents])
        return postings


class Place(NamedTuple):
    """Where the shopper is."""

    page: Literal["index", "results", "item", "sub", "done"]  # which kind of page
    query: str = ""  # what was searched for
    number: int = 1  # of the page of results, from 1
    item: int = -1  # the number of the product; -1 before one was opened
    chosen: tuple[tuple[str, str], ...] = ()  # pairs of an option's name and its value
    sub: str = ""  # which sub-page


class Shop:
    """The pages of a shop with these products."""

    def __init__(
        self, products: Sequence[Product], engine: SearchEngine, options: WebShopOptions
    ) -> None:
        self._products, self._engine, self.options = products, engine, options
        self._results: dict[str, list[int]] = {}

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
        item = place._replace(page="item", sub="")
        buttons = {BACK.lower(): Place("index"), PREVIOUS.lower(): item}
        return buttons if place.page == "sub" else {}

    def shown(self, place: Place) -> list[int]:
        """The products on this page of results."""
        size = self.options.page_size
        return self.results(place.query)[(place.number - 1) * size : place.number * size]

    def link(self, place: Place, item: int) -> str:
        """What is clicked to open a product of this page of results, in lowercase."""
        product = self._products[item]
        if self.options.item_links == "asin":
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
        choices = {}
        for name, values in self._products[place.item].options.items():
            others = [pair for pair in place.chosen if pair[0] != name]
            for value in values:
                choices[value] = place._replace(chosen=(*others, (name, value)))
        results = Place("results", place.query, place.number)
        buttons = {BACK.lower(): Place("index"), PREVIOUS.lower(): results}
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
        if self.options.show_chosen:
            chosen = dict(place.chosen)
            parts = [f"You have clicked {chosen[n]}." for n in product.options if n in chosen]
        parts += [BACK, PREVIOUS]
        for name, values in product.options.items():
            parts += [name, *values]
        parts += [self._title(product), f"Price: {product.price_tag}", f"Rating: {product.rating}"]
        return [*parts, *SUB_PAGES, BUY]

    def _sub_parts(self, place: Place) -> list[str]:
        product = self._products[place.item]
        if place.sub == "Reviews":
            told = [(f'"{r.title}"', f"{r.score:g}", r.body) for r in product.reviews]
            parts = [part for review in told for part in review]
        else:
            texts = product.features if place.sub == "Features" else (product.description,)
            parts = [text for text in texts if text.strip()]
        return [BACK, PREVIOUS, *(parts or [f"No {place.sub}"])]

    def _title(self, product: Product) -> str:
        words = product.name.split()
        limit = self.options.title_words
        cut = limit is not None and len(words) > limit
        return " ".join([*words[:limit], "…"] if cut else words)
