"""WebShop's products: both formats of the files, prices, and files that do not fit."""

import json

import numpy as np
import pytest

from cepcli.envs.webshop.products import (
    NO_ATTRIBUTES,
    draw_prices,
    parse_products,
    read_products,
    search_text,
)
from cepcli.errors import EnvError
from tests.envs.real_data import WEBSHOP
from tests.envs.shops import ITEMS, KNOWN, item, option, products, rng


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "items_shuffle_1000.json").write_text(json.dumps(ITEMS))
    (tmp_path / "items_ins_v2_1000.json").write_text(json.dumps(KNOWN))
    return tmp_path


def test_a_product_is_read_as_the_engine_of_webshop_does():
    blanket = products()[0]
    assert blanket.options == {"color": ("red", "navy blue"), "size": ('50" | 60"', "large")}
    assert blanket.query == "throw blankets"
    assert blanket.pricing == (19.99, 29.99)
    assert blanket.price_tag == "$19.99 to $29.99"
    assert blanket.rating == "N.A."
    assert blanket.features == ("Warm wool. ", "Machine washable.")
    assert blanket.reviews[0].body == "It is warm."
    assert blanket.synthetic is not None
    assert blanket.synthetic.attributes == ("super soft",)


def test_the_query_is_stripped_and_lowercase():
    assert parse_products([item("B1", query=" Table Lamps ")], {}, {})[0].query == "table lamps"


def test_what_is_not_known_of_a_product_matches_nothing():
    lamp = products()[2]
    assert lamp.attributes == NO_ATTRIBUTES
    assert lamp.synthetic is None
    assert lamp.price_tag == "$100.0"


def test_doubles_and_improper_numbers_are_left_out():
    items = [item("B1"), item("B1", name="again"), item("nan"), item("B1234567890")]
    assert [p.name for p in parse_products(items, {}, {})] == ["Product B1"]


def test_a_text_in_place_of_a_list_of_features_is_one_feature():
    assert parse_products([item("B1", small_description="All.")], {}, {})[0].features == ("All.",)


def test_options_without_values_are_no_options():
    [product] = parse_products([item("B1", customization_options={"Size": None})], {}, {})
    assert product.options == {}


def test_an_empty_value_of_an_option_is_left_out():
    """The oracle would click it for ever: `click[]` is no action."""
    [product] = parse_products(
        [item("B1", customization_options={"Size": option(" ", "S")})], {}, {}
    )
    assert product.options == {"size": ("s",)}


def test_a_name_is_kept_as_it_is_written():
    """The reward compares the name, blanks and all; pages show it without the doubled ones."""
    assert parse_products([item("B1", name="Super  Soft")], {}, {})[0].name == "Super  Soft"


def test_a_missing_price_is_100_and_a_range_gets_one_draw_within():
    made = products()
    prices = draw_prices(made, rng())
    assert 19.99 <= prices[0] <= 29.99
    assert prices[1:].tolist() == [10.0, 100.0, 7.5]
    assert draw_prices(made, rng()).tolist() == prices.tolist()
    assert draw_prices(made, rng(1))[0] != prices[0]


def test_a_range_of_prices_may_be_upside_down():
    [product] = parse_products([item("B1", pricing=[9.0, 4.0])], {}, {})
    assert product.price_tag == "$9.0 to $4.0"
    assert 4 <= draw_prices([product], rng())[0] <= 9


def test_the_search_text_is_title_description_first_feature_and_options():
    assert search_text(products()[0]) == (
        "acme soft red blanket a blanket for every sofa. warm wool.  "
        'color: red, navy blue, and size: 50" | 60", large'
    )


def test_a_folder_is_read_and_its_first_products_on_request(folder):
    assert read_products(folder, "1000") == products()
    assert read_products(folder, "1000", 2) == products()[:2]


def test_what_people_wrote_is_read_from_its_file_or_from_the_products(folder):
    written = {"instruction": "a red one.", "instruction_attributes": ["super soft"],
               "instruction_options": ["red"]}  # fmt: skip
    (folder / "items_human_ins.json").write_text(json.dumps({"B000000001": [written]}))
    [instruction] = read_products(folder, "1000")[0].human
    assert instruction == ("a red one.", ("super soft",), ("red",))
    [product] = parse_products([item("B1", instructions=[written])], {}, {})
    assert product.human == (instruction,)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(EnvError, match="nowhere`, does not exist") as error:
        read_products(tmp_path / "nowhere", "1000")
    assert "neither to play generated products" in error.value.hint
    (tmp_path / "products.json").write_text("[]")
    with pytest.raises(EnvError, match=r"products\.json`, is a file"):
        read_products(tmp_path / "products.json", "1000")


@pytest.mark.parametrize("missing", ["items_shuffle_1000.json", "items_ins_v2_1000.json"])
def test_a_file_that_is_missing_is_named(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(EnvError, match="has no " + missing.replace(".", r"\.")) as error:
        read_products(folder, "1000")
    assert "setup.sh" in error.value.hint


def test_files_of_the_other_size_are_pointed_at(folder):
    with pytest.raises(EnvError, match=r"has no items_shuffle\.json or products\.json") as error:
        read_products(folder, "all")
    assert error.value.hint.endswith("--set env_options.files=1000")
    for file in list(folder.iterdir()):
        file.rename(folder / file.name.replace("_1000", ""))
    assert read_products(folder, "all") == products()
    with pytest.raises(EnvError) as error:
        read_products(folder, "1000")
    assert error.value.hint.endswith("--set env_options.files=all")


@pytest.mark.parametrize("name", ["items_shuffle_1000.json", "items_ins_v2_1000.json"])
def test_a_file_that_breaks_off_is_named_with_the_place(folder, name):
    file = folder / name
    file.write_text(file.read_text()[:200])
    with pytest.raises(EnvError, match=rf"{name}` is not JSON, or is cut short: .*line 1") as error:
        read_products(folder, "1000")
    assert error.value.hint.startswith("Fetch it again.")


def test_a_file_that_is_no_text_is_named(folder):
    (folder / "items_shuffle_1000.json").write_bytes(b"\x80\x81")
    with pytest.raises(EnvError, match=r"items_shuffle_1000\.json` is not JSON"):
        read_products(folder, "1000")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items_shuffle_1000.json", {}, "holds a JSON object, expected a list of products"),
        ("items_ins_v2_1000.json", [], "holds a JSON list, expected an object by ASIN"),
        ("items_shuffle_1000.json", [], "contains no products"),
        ("items_shuffle_1000.json", ["x"], "product 0 does not fit: it is 'x', expected an object"),
        ("items_shuffle_1000.json", [{"name": "x"}], "product 0 lacks `asin`"),
        ("items_shuffle_1000.json", [item("B1", name=7)],
         r"product 0 \(B1\) does not fit: `name` is 7, expected a string"),
        ("items_shuffle_1000.json", [item("B1", small_description=[1])],
         "`small_description` is .*, expected a list of strings"),
        ("items_shuffle_1000.json",
         [item("B1", Reviews=[{"title": "x", "score": 1, "body": ["y"]}])],
         r"`body` is \['y'\], expected a string"),
        ("items_shuffle_1000.json", [item("B1", Reviews=[{"title": "x"}])], "lacks `stars`"),
        ("items_shuffle_1000.json", [item("B1", pricing=["cheap"])], "could not convert"),
        ("items_shuffle_1000.json", [item("B1", pricing=[-1.0])], "expected dollars"),
        ("items_shuffle_1000.json", [item("B1", customization_options=[1])], "expected an object"),
        ("items_ins_v2_1000.json", {"B000000001": []}, "product B000000001 does not fit"),
        ("items_ins_v2_1000.json",
         {"B000000001": {"instruction": "Find me x", "instruction_attributes": []}},
         "has no `instruction_attributes`"),
        ("items_human_ins.json", {"B000000001": [{"instruction": "x"}]},
         "items_human_ins.json` .* lacks `instruction_attributes`"),
    ],
)  # fmt: skip
def test_a_file_of_another_version_is_named_with_the_product(folder, name, content, message):
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(EnvError, match=message) as error:
        read_products(folder, "1000")
    assert name in error.value.message
    assert "setup.sh" in error.value.hint


@pytest.mark.parametrize("content", [{}, {"B999999999": {"attributes": ["super soft"]}}])
def test_attributes_of_other_products_are_named(folder, content):
    (folder / "items_ins_v2_1000.json").write_text(json.dumps(content))
    with pytest.raises(EnvError, match=r"v2_1000\.json` has none of the products") as error:
        read_products(folder, "1000")
    assert error.value.hint.startswith("Fetch both again.")


@pytest.mark.skipif(not WEBSHOP.is_dir(), reason=f"there are no files of WebShop in {WEBSHOP}")
def test_the_real_files_are_read_as_webshop_has_processed_them():
    made = read_products(WEBSHOP, "1000")
    processed = json.loads((WEBSHOP / "products_1000.json").read_text())
    known = json.loads((WEBSHOP / "items_ins_v2_1000.json").read_text())
    lines = (WEBSHOP / "documents_1k.jsonl").read_text().splitlines()
    documents = {d["id"]: d["contents"] for d in map(json.loads, lines)}
    assert len(made) == len(processed) == 1000
    for product, theirs in zip(made, processed, strict=True):
        assert product.asin == theirs["asin"]
        assert list(product.features) == theirs["BulletPoints"]
        assert list(product.pricing) == theirs["pricing"]
        assert product.price_tag == theirs["Price"]
        assert list(product.attributes) == known[product.asin]["attributes"]
        options = {k: [" ".join(v.split()) for v in vs] for k, vs in theirs["options"].items()}
        assert {k: list(v) for k, v in product.options.items()} == options
        assert search_text(product).split() == documents[product.asin].split()
    assert sum(product.synthetic is not None for product in made) == 415
    assert np.isfinite(draw_prices(made, rng())).all()


def test_options_are_lowercase_with_bars_for_slashes():
    [product] = parse_products(
        [item("B1", customization_options={"Pack  Size": option(" 1/2 KG ")})], {}, {}
    )
    assert product.options == {"pack  size": ("1 | 2 kg",)}
