"""WebShop's products: read from its files, or from anything in their format.

The files are those of WebShop (Yao et al., arXiv 2207.01206): `items_shuffle_1000.json` with one
JSON object per product, or `products_1000.json` as its engine has processed them, and
`items_ins_v2_1000.json` with attributes and synthetic instructions by ASIN; what people wrote is
in `items_human_ins.json` or with the products. The files of all products have no `_1000`.
"""

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from cepcli.errors import EnvError

#: What a product costs for which no price is known, in dollars.
MISSING_PRICE = 100.0
#: What a product without attributes has, so that nothing matches it.
NO_ATTRIBUTES = ("DUMMY_ATTR",)
_TEXTS = ("asin", "name", "category", "query", "product_category")
FETCH = "WebShop's own setup.sh fetches its files; unset WEBSHOP_DATA to play generated products."


class Review(NamedTuple):
    """A customer's review; `score` is from 0 to 5 stars."""

    title: str
    score: float
    body: str


class Instruction(NamedTuple):
    """What a goal of a product is made of: a text, attributes to match, options to choose."""

    text: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]


class Product(NamedTuple):
    """A product as WebShop's engine knows it."""

    asin: str  # its number, at most ten characters, distinct
    name: str  # its title, with whatever blanks the file has
    description: str  # a paragraph; may be empty
    features: tuple[str, ...]  # its bullet points
    category: str  # one of a few departments
    query: str  # the search that found it, lowercase: the kind of product
    product_category: str  # departments from large to small, joined by " › "
    #: values by the name of the option, both lowercase, in the order of the page
    options: dict[str, tuple[str, ...]]
    attributes: tuple[str, ...]  # word pairs such as "easy clean"; never shown on a page
    pricing: tuple[float, ...]  # no price, one, or the ends of a range, in dollars
    price_tag: str  # what pages say of it
    rating: str  # what pages say of it
    reviews: tuple[Review, ...]  # of customers
    #: the instruction made of attributes; its options are all combinations
    synthetic: Instruction | None
    human: tuple[Instruction, ...]  # the instructions that people wrote


def read_products(
    folder: Path, files: Literal["1000", "all"], limit: int | None = None
) -> list[Product]:
    """The products of a folder of WebShop's files, the first `limit` of them.

    Raises:
        EnvError: naming the file that is missing, broken off, or of another format.
    """
    if not folder.is_dir():
        wrong = "is a file" if folder.exists() else "does not exist"
        raise EnvError(
            f"The folder of WebShop's products, `{folder}`, {wrong}.",
            "Give the folder that holds the files as WEBSHOP_DATA or env_options.folder; give "
            "neither to play generated products.",
        )
    suffix = "_1000" if files == "1000" else ""
    items = _find(folder, [f"items_shuffle{suffix}.json", f"products{suffix}.json"], files)
    known = _find(folder, [f"items_ins_v2{suffix}.json"], files)
    human = folder / "items_human_ins.json"
    attributes = _read(known, dict)
    products = parse_products(
        _read(items, list)[:limit],
        attributes,
        _read(human, dict) if human.is_file() else {},
        where=(str(items), str(known), str(human)),
    )
    if not any(product.asin in attributes for product in products):
        raise EnvError(
            f"`{known}` has none of the products of `{items}`: the versions differ.",
            f"Fetch both again. {FETCH}",
        )
    return products


def parse_products(
    items: Sequence[Any],
    known: Mapping[str, Any],
    human: Mapping[str, Any],
    where: tuple[str, str, str] = ("items", "attributes", "instructions"),
) -> list[Product]:
    """The products of `items`, WebShop's `items_shuffle`, with what else is known of them.

    Args:
        items: one mapping per product; doubles and those without a proper ASIN are left out.
        known: by ASIN, attributes and the synthetic instruction: WebShop's `items_ins_v2`.
        human: by ASIN, instructions that people wrote: WebShop's `items_human_ins`.
        where: what an error calls the three.

    Raises:
        EnvError: naming the first product that is not of the format.
    """
    products: dict[str, Product] = {}
    for number, item in enumerate(items):
        with _format(where[0], f"product {number}"):
            asin = _text(item, "asin")
        if asin == "nan" or len(asin) > 10 or asin in products:
            continue
        with _format(where[1], f"product {asin}"):
            attributes, synthetic = _attributes(known.get(asin, item))
        with _format(where[2] if asin in human else where[0], f"product {asin}"):
            written = tuple(map(_written, human.get(asin, item.get("instructions", ()))))
        with _format(where[0], f"product {number} ({asin})"):
            products[asin] = _product(item, attributes, synthetic, written)
    if not products:
        raise EnvError(f"`{where[0]}` contains no products.", FETCH)
    return list(products.values())


def draw_prices(
    products: Sequence[Product], random: np.random.Generator
) -> Float[np.ndarray, " products"]:
    """What each product costs, in dollars: where its price is a range, one uniform draw."""
    return np.array(
        [
            float(random.uniform(min(p.pricing), max(p.pricing))) if p.pricing else MISSING_PRICE
            for p in products
        ]
    )


def search_text(product: Product) -> str:
    """What a search looks through: title, description, first feature and options, lowercase."""
    options = ", and ".join(f"{k}: {', '.join(v)}" for k, v in product.options.items())
    first = product.features[0] if product.features else ""
    return " ".join([product.name, product.description, first, options]).lower()


def _find(folder: Path, names: Sequence[str], files: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    others = [n.replace("_1000", "") if files == "1000" else f"{n[:-5]}_1000.json" for n in names]
    hint, other = FETCH, "all" if files == "1000" else "1000"
    if any((folder / name).is_file() for name in others):
        hint = f"Files of the other size are there: --set env_options.files={other}"
    raise EnvError(
        f"`{folder}` has no {' or '.join(names)}, WebShop's products and their attributes.", hint
    )


def _read(file: Path, kind: type[list] | type[dict]) -> Any:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise EnvError(f"Cannot read `{file}`: {error.strerror}.", FETCH) from error
    except ValueError as error:
        message = f"`{file}` is not JSON, or is cut short: {error}."
        raise EnvError(message, f"Fetch it again. {FETCH}") from error
    if not isinstance(content, kind):
        expected = "a list of products" if kind is list else "an object by ASIN"
        found = "object" if kind is list else "list"
        raise EnvError(
            f"`{file}` has an unexpected format: it holds a JSON {found}, expected {expected}.",
            FETCH,
        )
    return content


@contextlib.contextmanager
def _format(file: str, what: str) -> Iterator[None]:
    """Say of whatever does not fit in which file and of which product it is."""
    try:
        yield
    except KeyError as error:
        reason = f"lacks `{error.args[0]}`"
    except (TypeError, ValueError, AttributeError) as error:
        reason = f"does not fit: {error}"
    else:
        return
    raise EnvError(f"`{file}` has an unexpected format: {what} {reason}.", FETCH)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"it is {value!r:.40}, expected an object")
    return value


def _text(item: Any, key: str) -> str:
    value = _mapping(item)[key]
    if not isinstance(value, str):
        raise TypeError(f"`{key}` is {value!r:.40}, expected a string")
    return value


def _texts(item: Any, key: str) -> tuple[str, ...]:
    values = _mapping(item)[key]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"`{key}` is {values!r:.40}, expected a list of strings")
    return tuple(values)


def _attributes(known: Any) -> tuple[tuple[str, ...], Instruction | None]:
    """A product's attributes and synthetic instruction, by either of two names for the former."""
    key = "attributes" if "attributes" in _mapping(known) else "Attributes"
    attributes = _texts(known, key) if key in known else NO_ATTRIBUTES
    if not known.get("instruction"):
        return attributes, None
    wanted = _texts(known, "instruction_attributes")
    if not wanted:
        raise ValueError("its instruction has no `instruction_attributes`")
    return attributes, Instruction(_text(known, "instruction"), wanted, ())


def _written(entry: Any) -> Instruction:
    listed = (_texts(entry, f"instruction_{name}") for name in ("attributes", "options"))
    return Instruction(_text(entry, "instruction"), *listed)


def _product(
    item: Mapping[str, Any],
    attributes: tuple[str, ...],
    synthetic: Instruction | None,
    human: tuple[Instruction, ...],
) -> Product:
    asin, name, category, query, departments = (_text(item, key) for key in _TEXTS)
    read_features = _texts if isinstance(item["small_description"], list) else _text
    features = read_features(item, "small_description")
    pricing = _pricing(item.get("pricing"))
    return Product(
        asin=asin,
        name=name,
        description=_text(item, "full_description"),
        features=(features,) if isinstance(features, str) else features,
        category=category,
        query=query.lower().strip(),
        product_category=departments,
        options=_options(item["customization_options"]),
        attributes=attributes,
        pricing=pricing,
        price_tag=" to ".join(f"${price}" for price in pricing or (MISSING_PRICE,)),
        rating=str(item.get("Rating", "N.A.")),
        reviews=tuple(map(_review, item.get("Reviews", ()))),
        synthetic=synthetic,
        human=human,
    )


def _pricing(pricing: Any) -> tuple[float, ...]:
    """Numbers as the engine keeps them, or a text as a shop prints it: "$19.99 to $27.99"."""
    if isinstance(pricing, str):
        pricing = [re.sub(r"[^\d.]", "", part) for part in pricing.split("$")[1:]]
    prices = tuple(float(price) for price in (pricing or ())[:2])
    if not all(0 <= price < math.inf for price in prices):
        raise ValueError(f"`pricing` is {pricing!r:.40}, expected dollars")
    return prices


def _options(groups: Any) -> dict[str, tuple[str, ...]]:
    """Values by option; an empty value, which nothing can click, is left out."""
    options = {}
    for name, contents in _mapping(groups or {}).items():
        if contents is not None:
            texts = (_text(each, "value").replace("/", " | ").lower() for each in contents)
            options[name.lower()] = tuple(" ".join(text.split()) for text in texts if text.strip())
    return options


def _review(entry: Mapping[str, Any]) -> Review:
    score = float(entry["score"] if "score" in entry else entry["stars"])
    body = next((key for key in ("body", "review") if entry.get(key)), None)
    return Review(_text(entry, "title"), score, _text(entry, body) if body else "")
