"""Generated catalogues: the format of WebShop's files, seeded, with goals that can be met."""

import json
import os
import subprocess
import sys

import numpy as np

from cepcli.envs.webshop.generator import generate
from cepcli.envs.webshop.goals import make_goals
from cepcli.envs.webshop.products import MISSING_PRICE, draw_prices, parse_products, read_products
from cepcli.envs.webshop.reward import matched_attributes, matched_options
from tests.envs.shops import rng


def test_a_seed_makes_one_catalogue():
    assert generate(50, 3) == generate(50, 3)
    assert generate(50, 3).items[:20] == generate(20, 3).items
    assert generate(50, 3) != generate(50, 4)


def test_a_seed_makes_one_catalogue_in_every_process():
    code = """
import hashlib
from cepcli.envs.webshop.generator import generate
from cepcli.envs.webshop.goals import make_goals
from cepcli.envs.webshop.products import draw_prices, parse_products
from cepcli.seeding import generator
made = generate(60, 3)
products = parse_products(made.items, made.attributes, {})
prices = draw_prices(products, generator(3, "prices"))
goals = make_goals(products, prices, "synthetic", generator(3, "limits"))
print(hashlib.sha256(repr((products, prices.tolist(), goals)).encode()).hexdigest())
"""
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def test_files_written_of_it_are_read_as_the_same_products(tmp_path):
    made = generate(30, 0)
    (tmp_path / "items_shuffle_1000.json").write_text(json.dumps(made.items))
    (tmp_path / "items_ins_v2_1000.json").write_text(json.dumps(made.attributes))
    assert read_products(tmp_path, "1000") == parse_products(made.items, made.attributes, {})


def test_a_thousand_products_have_all_that_goals_need():
    made = generate(1000, 0)
    products = parse_products(made.items, made.attributes, {})
    assert len(products) == 1000
    assert len({p.query for p in products}) >= 30
    assert len({p.category for p in products}) == 5
    assert all(2 <= len(p.attributes) <= 6 for p in products)
    assert np.mean([bool(p.options) for p in products]) > 0.8
    assert any(len(p.pricing) == 2 for p in products)
    assert any(p.price_tag == f"${MISSING_PRICE}" for p in products)
    prices = draw_prices(products, rng())
    assert prices.min() >= 4
    assert prices.max() < 600
    goals = make_goals(products, prices, "synthetic", rng())
    assert len(goals) > 3000
    assert len({g.product for g in goals}) == 1000


def test_its_own_product_meets_every_goal():
    made = generate(200, 1)
    products = parse_products(made.items, made.attributes, {})
    prices = draw_prices(products, rng())
    for goal in make_goals(products, prices, "synthetic", rng()):
        product = products[goal.product]
        assert matched_attributes(product, goal.attributes) == len(goal.attributes)
        assert matched_options(goal.options, goal.options) == len(goal.options)
        assert prices[goal.product] < goal.price_upper
