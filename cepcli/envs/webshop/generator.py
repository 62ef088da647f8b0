"""A generated catalogue in the format of WebShop's files, for where those are not at hand.

A product is of a kind ("women's sandals"), with a brand, attributes, options, a price and texts
that tell of them; kinds have attributes and departments in common, so that a search finds many
products that nearly fit. The same seed makes the same catalogue.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cepcli.seeding import generator


class _Kind(NamedTuple):
    """A kind of product.

    Attributes:
        query: what it is called in an instruction, in the plural.
        noun: what a title calls one of it.
        departments: below the top one, from large to small.
        attributes: which list of attributes.
        options: which lists of option values, with blanks between.
        price: of a cheap one, in dollars; the dearest costs five times as much.
    """

    query: str
    noun: str
    departments: str
    attributes: str
    options: str
    price: float


_TOP = {
    "fashion": "Clothing, Shoes & Jewelry",
    "beauty": "Beauty & Personal Care",
    "grocery": "Grocery & Gourmet Food",
    "electronics": "Electronics",
    "garden": "Home & Kitchen",
}
#: Kinds by department: the fields of `_Kind`.
_KINDS = {
    "fashion": (
        ("women's dresses", "dress", "Women › Clothing › Dresses", "cloth", "size color", 12),
        ("women's sandals", "sandals", "Women › Shoes › Sandals", "shoe", "shoe color", 14),
        ("women's boots", "boots", "Women › Shoes › Boots", "shoe", "shoe color", 22),
        ("men's loafers & slip-ons", "loafers", "Men › Shoes › Loafers", "shoe", "shoe color", 24),
        ("men's t-shirts", "t-shirt", "Men › Clothing › Shirts", "cloth", "size color", 9),
        ("men's pants", "pants", "Men › Clothing › Pants", "cloth", "size color", 15),
        ("women's coats & jackets", "jacket", "Women › Clothing › Coats", "cloth", "size", 25),
        ("men's socks", "socks", "Men › Clothing › Socks", "cloth", "size color", 6),
    ),
    "beauty": (
        ("shampoo & conditioner", "shampoo", "Hair Care › Shampoos", "care", "volume", 7),
        ("face creams", "face cream", "Skin Care › Face › Creams", "care", "volume", 9),
        ("body lotions", "body lotion", "Skin Care › Body › Lotions", "care", "scent volume", 6),
        ("makeup palettes", "eyeshadow palette", "Makeup › Eyes › Palettes", "makeup", "color", 8),
        ("lipsticks", "lipstick", "Makeup › Lips › Lipsticks", "makeup", "color", 5),
        ("toothbrushes", "toothbrush", "Oral Care › Toothbrushes", "mouth", "color pack", 4),
        ("hair brushes", "hair brush", "Hair Care › Brushes", "tool", "color", 6),
        ("refillable containers", "travel bottles", "Tools › Bottles", "tool", "pack", 5),
    ),
    "grocery": (
        ("granola & nutrition bars", "granola bars", "Snacks › Bars", "food", "flavor pack", 8),
        ("teas", "tea", "Beverages › Tea", "food", "flavor pack", 6),
        ("coffees", "coffee", "Beverages › Coffee", "food", "flavor pack", 9),
        ("nuts & seeds", "almonds", "Snacks › Nuts", "food", "flavor pack", 7),
        ("sauces & dips", "sauce", "Pantry › Sauces", "food", "flavor", 4),
        ("cookies", "cookies", "Snacks › Cookies", "food", "flavor pack", 5),
        ("protein powders", "protein powder", "Beverages › Shakes", "food", "flavor", 18),
    ),
    "electronics": (
        ("headphones", "headphones", "Audio › Headphones", "device", "color", 15),
        ("portable speakers", "bluetooth speaker", "Audio › Speakers", "device", "color", 18),
        ("phone cases", "phone case", "Accessories › Cases", "cover", "color model", 7),
        ("screen protectors", "screen protector", "Accessories › Films", "cover", "model pack", 5),
        ("power cables", "charging cable", "Accessories › Cables", "device", "length color", 5),
        ("tripods & stands", "tripod", "Camera › Tripods", "stand", "color", 16),
        ("security cameras", "security camera", "Camera › Security", "device", "pack", 30),
    ),
    "garden": (
        ("console tables", "console table", "Furniture › Hall › Tables", "wood", "color", 60),
        ("nightstands", "nightstand", "Furniture › Bedroom › Tables", "wood", "color", 45),
        ("desks", "desk", "Furniture › Office › Desks", "wood", "color width", 70),
        ("bookcases", "bookcase", "Furniture › Living Room › Shelves", "wood", "color width", 55),
        ("throw blankets", "throw blanket", "Bedding › Blankets", "fabric", "blanket color", 12),
        ("window curtains", "curtains", "Bedding › Curtains", "fabric", "length color", 14),
        ("throw pillows", "pillow covers", "Bedding › Pillows", "fabric", "color pack", 8),
        ("table lamps", "table lamp", "Lighting › Lamps", "light", "color", 20),
        ("pendant lights", "pendant light", "Lighting › Ceiling", "light", "color", 32),
    ),
}  # fmt: skip
#: Attributes that stand before the kind in an instruction, and after "with" or "for".
_ATTRIBUTES = {
    "cloth": (
        ("machine wash", "slim fit", "quick drying", "loose fit", "wash cold", "hand wash"),
        ("long sleeve", "elastic waist", "polyester spandex", "button closure", "cotton blend"),
    ),
    "shoe": (
        ("non slip", "open toe", "knee high", "light weight", "water resistant"),
        ("rubber sole", "arch support", "memory foam", "ankle strap", "faux fur"),
    ),
    "care": (
        ("cruelty free", "paraben free", "sulfate free", "long lasting", "dermatologist tested"),
        ("tea tree", "coconut oil", "hyaluronic acid", "dry skin", "damaged hair", "green tea"),
    ),
    "makeup": (
        ("cruelty free", "highly pigmented", "long lasting", "easy apply", "travel size"),
        ("vitamin e", "sensitive skin", "natural finish", "high definition"),
    ),
    "mouth": (
        ("easy use", "bpa free", "eco friendly", "soft bristle"),
        ("sensitive teeth", "oral hygiene", "bad breath", "fresh breath"),
    ),
    "tool": (
        ("easy clean", "leak proof", "bpa free", "easy carry", "high quality"),
        ("rose gold", "stainless steel", "hair styling", "natural bristle"),
    ),
    "food": (
        ("gluten free", "low sugar", "dairy free", "keto friendly", "non gmo", "plant based"),
        ("natural ingredients", "artificial colors", "dietary fiber", "real fruit"),
    ),
    "device": (
        ("fast charging", "easy install", "noise cancelling", "water resistant", "hands free"),
        ("long battery", "stereo sound", "usb port", "motion detection", "carrying case"),
    ),
    "cover": (
        ("heavy duty", "wireless charging", "ultra thin", "easy install"),
        ("tempered glass", "screen protection", "carbon fiber", "kick stand"),
    ),
    "stand": (
        ("light weight", "quick release", "heavy duty", "easy carry"),
        ("aluminum alloy", "carrying case", "remote control", "ball head"),
    ),
    "wood": (
        ("easy assemble", "space saving", "heavy duty", "easy clean", "mid century"),
        ("solid wood", "steel frame", "storage space", "living room", "tempered glass"),
    ),
    "fabric": (
        ("machine washable", "super soft", "easy care", "double sided", "eco friendly"),
        ("living room", "dining room", "fleece throw", "faux fur", "blackout lining"),
    ),
    "light": (
        ("easy install", "energy efficient", "space saving", "mid century"),
        ("glass shade", "living room", "brushed nickel", "bronze finish"),
    ),
}
_OPTIONS = {
    "size": ("size", ("x-small", "small", "medium", "large", "x-large", "xx-large")),
    "shoe": ("size", ("6", "6.5", "7", "7.5", "8", "8.5", "9", "9.5", "10", "11")),
    "blanket": ("size", ('50"x60"', '60"x80"', '40"x50"', '80"x90"')),
    "volume": ("size", ("3.4 fl oz", "6.8 fl oz", "8 ounce", "12 fl oz", "16 ounce")),
    "length": ("size", ("3 feet", "6 feet", "10 feet", "15 feet")),
    "width": ("size", ("32 inch", "40 inch", "47 inch", "55 inch", "63 inch")),
    "pack": ("size", ("pack of 1", "pack of 2", "pack of 4", "pack of 6", "pack of 12")),
    "color": ("color", (
        "black", "white", "navy blue", "red", "pink", "dark green", "grey", "beige", "khaki",
        "purple", "yellow", "light blue", "rose gold", "brown", "orange", "silver",
    )),
    "scent": ("scent", ("lavender", "vanilla", "citrus", "fresh linen", "unscented", "sandalwood")),
    "flavor": ("flavor name", (
        "chocolate", "vanilla", "peanut butter", "salted caramel", "mixed berry", "cinnamon",
        "original", "lemon ginger", "spicy chili", "maple pecan",
    )),
    "model": ("style", ("phone 11", "phone 12", "phone 12 pro", "phone 13", "phone 13 mini")),
}  # fmt: skip
_SYLLABLES = (
    "va", "lo", "mi", "ran", "tek", "sol", "bri", "nor", "ka", "fen", "du", "pel", "zi", "mar",
    "tu", "os", "qui", "hal", "ley", "dor",
)  # fmt: skip
_TELLS = (
    "It is {0}, as customers ask for.",
    "Made to be {0}.",
    "You will like that it is {0}.",
)
_SHOWS = (
    "With {0} for every day.",
    "Designed for {0}.",
    "{0}, thought through to the last detail.",
)
_SERVICE = (
    "If you are not content, write to us and we answer within a day.",
    "A gift for family and friends, for birthdays and holidays.",
    "Please allow for small differences between the picture and the article.",
)
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Generated(NamedTuple):
    """A catalogue: what would stand in `items_shuffle.json` and in `items_ins_v2.json`."""

    items: list[dict[str, Any]]
    attributes: dict[str, dict[str, Any]]


def generate(count: int, seed: int) -> Generated:
    """A catalogue of `count` products."""
    random = generator(seed, "webshop/catalogue")
    kinds = [(top, _Kind(*row)) for top, rows in _KINDS.items() for row in rows]
    made = Generated([], {})
    while len(made.items) < count:
        top, kind = kinds[int(random.integers(len(kinds)))]
        item, known = _make(top, kind, random)
        if item["asin"] not in made.attributes:
            made.items.append(item)
            made.attributes[item["asin"]] = known
    return made


def _make(
    top: str, kind: _Kind, random: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A product and what is known of it; a title names about half of its attributes."""
    before, after = (_some(pool, 1, 3, random) for pool in _ATTRIBUTES[kind.attributes])
    attributes = [*before, *after]
    told = [each for each in attributes if random.random() < 0.5]
    brand = "".join(_some(_SYLLABLES, 2, 3, random)).title()
    model = f"{_LETTERS[int(random.integers(10, 36))]}{int(random.integers(10, 100))}"
    title = f"{brand} {' '.join([*(t for t in told if t in before), kind.noun]).title()} {model}"
    if late := [t for t in told if t in after]:
        title += ", " + ", ".join(late).title()
    features = [_choice(_TELLS, random).format(each) for each in before]
    features += [_choice(_SHOWS, random).format(each).capitalize() for each in after]
    random.shuffle(features)
    features.append(_choice(_SERVICE, random))
    item = {
        "asin": "B0" + "".join(_LETTERS[i] for i in random.integers(36, size=8)),
        "name": title,
        "full_description": f"This {kind.noun} by {brand} is one of our {kind.query}. "
        + " ".join(features[: int(random.integers(1, len(features)))]),
        "small_description": features,
        "category": top,
        "query": kind.query,
        "product_category": f"{_TOP[top]} › {kind.departments}",
        "pricing": _price_text(kind.price, random),
        "customization_options": _choices(kind, random),
    }
    return item, {
        "attributes": attributes,
        "instruction": _instruct(kind, before, after),
        "instruction_attributes": attributes,
    }


def _instruct(kind: _Kind, before: Sequence[str], after: Sequence[str]) -> str:
    with_or_for = "for" if after[0].endswith((" room", " skin", " hair", " teeth")) else "with"
    return f"Find me {', '.join(before)} {kind.query} {with_or_for} {', '.join(after)}"


def _price_text(cheap: float, random: np.random.Generator) -> str:
    """A price as a shop prints it; one in ten is a range, and one in twenty is missing."""
    price = int(cheap * np.exp(random.uniform(0, np.log(5)))) + 0.99
    draw = random.random()
    if draw < 0.05:
        return ""
    return f"${price:,.2f} to ${price * 1.5:,.2f}" if draw < 0.15 else f"${price:,.2f}"


def _choices(kind: _Kind, random: np.random.Generator) -> dict[str, list[dict[str, str]]]:
    """Two to five values of each option that the kind may have; one option in five is missing."""
    groups = {}
    for key in kind.options.split():
        name, values = _OPTIONS[key]
        if random.random() < 0.8:
            some = _some(values, 2, 5, random)
            groups[name.title()] = [{"value": v} for v in sorted(some, key=values.index)]
    return groups


def _some(values: tuple[str, ...], least: int, most: int, random: np.random.Generator) -> list[str]:
    size = int(random.integers(least, most + 1))
    return [values[i] for i in random.permutation(len(values))[:size]]


def _choice(values: Sequence[str], random: np.random.Generator) -> str:
    return values[int(random.integers(len(values)))]
