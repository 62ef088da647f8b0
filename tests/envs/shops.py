"""A shop of four hand-made products, in the format of WebShop's files."""

import numpy as np

from cepcli.envs.webshop.goals import Goal
from cepcli.envs.webshop.products import parse_products, search_text
from cepcli.envs.webshop.shop import SearchEngine, Shop, WebShopOptions


def item(asin, **fields):
    return {
        "asin": asin,
        "name": f"Product {asin}",
        "full_description": "",
        "small_description": ["A thing."],
        "category": "garden",
        "query": "Things ",
        "product_category": "Home › Things",
        "pricing": "$10.00",
        "customization_options": "",
        **fields,
    }


def option(*values):
    return [{"value": value} for value in values]


ITEMS = [
    item(
        "B000000001",
        name="Acme Soft Red Blanket",
        full_description="A blanket for every sofa.",
        small_description=["Warm wool. ", "Machine washable."],
        query="throw blankets",
        product_category="Home & Kitchen › Bedding › Blankets",
        pricing="$19.99 to $29.99",
        customization_options={
            "Color": option("Red", "Navy Blue"),
            "Size": option('50"/60"', "Large"),
        },
        Reviews=[{"title": "Nice", "score": 4.0, "body": "It is warm."}],
    ),
    item(
        "B000000002",
        name="Acme Soft Blue Blanket",
        query="throw blankets",
        product_category="Home & Kitchen › Bedding › Blankets",
        customization_options={"Fit": option("wide", "narrow"), "Cut": option("wide", "long")},
    ),
    item("B000000003", name="Brava Desk Lamp", query="table lamps", pricing=[]),
    item("B000000004", name="Brava Wool Socks", query="men's socks", pricing=[7.5]),
]
KNOWN = {
    "B000000001": {
        "attributes": ["super soft", "machine washable"],
        "instruction": "Find me super soft throw blankets",
        "instruction_attributes": ["super soft"],
    },
    "B000000002": {
        "attributes": ["super soft"],
        "instruction": "Find me super soft throw blankets for living room",
        "instruction_attributes": ["super soft", "living room"],
    },
    "B000000004": {
        "attributes": ["moisture wicking"],
        "instruction": "Find me moisture wicking men's socks",
        "instruction_attributes": ["moisture wicking"],
    },
}


def products():
    return parse_products(ITEMS, KNOWN, {})


def shop(**options):
    made = products()
    engine = SearchEngine([search_text(product) for product in made])
    return Shop(made, engine, WebShopOptions(**options))


def goal(**fields):
    full = {
        "product": 0,
        "instruction": "Find me super soft throw blankets",
        "attributes": ("super soft",),
        "options": (),
        "price_upper": 50.0,
        "query": "throw blankets",
        "product_category": "Home & Kitchen › Bedding › Blankets",
        "weight": 1.0,
    }
    return Goal(**{**full, **fields})


def rng(seed=0):
    return np.random.default_rng(seed)
