"""WebShop's pages: what they show, where clicks lead, what is forgotten when."""

import pytest

from cepcli.envs.base import MAX_TEXT
from cepcli.envs.webshop.products import parse_products
from cepcli.envs.webshop.shop import TOP, Place, SearchEngine, Shop, WebShopOptions
from tests.envs.shops import item, shop

START = Place("index")


def walk(shop, *actions, place=START):
    for action in actions:
        place = shop.do(place, action)
    return place


def many(count, **options):
    made = parse_products([item(f"B{n:09}", name="Same Lamp") for n in range(count)], {}, {})
    return Shop(made, SearchEngine([f"lamp {n}" for n in range(count)]), WebShopOptions(**options))


def test_the_page_with_the_search_bar():
    assert shop().text(START) == "WebShop [SEP] Search"
    assert shop().links(START) == {}


def test_results_show_number_title_and_price():
    world = shop()
    place = world.do(START, "search[soft blanket]")
    assert place == Place("results", "soft blanket")
    assert world.text(place) == (
        "Back to Search [SEP] Page 1 (Total results: 2) [SEP] Next > [SEP] B000000001 [SEP] "
        "Acme Soft Red Blanket [SEP] $19.99 to $29.99 [SEP] B000000002 [SEP] "
        "Acme Soft Blue Blanket [SEP] $10.0"
    )
    assert list(world.links(place)) == ["back to search", "next >", "b000000001", "b000000002"]


def test_fifty_results_are_shown_ten_at_a_time():
    world = many(60)
    place = walk(world, "search[lamp]")
    assert world.text(place).startswith(
        "Back to Search [SEP] Page 1 (Total results: 50) [SEP] Next"
    )
    shown = []
    for number in range(1, 6):
        assert place.number == number
        shown += world.shown(place)
        place = world.do(place, "click[next >]")
    assert shown == list(range(TOP))
    assert world.text(place) == (
        "Back to Search [SEP] Page 6 (Total results: 50) [SEP] < Prev [SEP] Next >"
    )
    assert list(world.links(place)) == ["back to search", "< prev", "next >"]
    assert world.do(place, "click[< prev]").number == 5


def test_a_search_without_results_has_an_empty_page():
    world = shop()
    place = walk(world, "search[spaceship]")
    assert "Page 1 (Total results: 0)" in world.text(place)
    assert list(world.links(place)) == ["back to search", "next >"]


def test_an_item_shows_options_title_price_rating_and_buttons():
    world = shop()
    place = walk(world, "search[blanket]", "click[b000000001]")
    assert world.text(place) == (
        "Back to Search [SEP] < Prev [SEP] color [SEP] red [SEP] navy blue [SEP] size [SEP] "
        '50" | 60" [SEP] large [SEP] Acme Soft Red Blanket [SEP] Price: $19.99 to $29.99 [SEP] '
        "Rating: N.A. [SEP] Description [SEP] Features [SEP] Reviews [SEP] Buy Now"
    )
    assert list(world.links(place)) == [
        "back to search", "< prev", "red", "navy blue", '50" | 60"', "large",
        "description", "features", "reviews", "buy now",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("description", "A blanket for every sofa."),
        ("features", "Warm wool. [SEP] Machine washable."),
        ("reviews", '"Nice" [SEP] 4 [SEP] It is warm.'),
    ],
)
def test_sub_pages_show_a_text_and_lead_back(page, text):
    world = shop()
    opened = walk(world, "search[blanket]", "click[b000000001]", "click[large]")
    place = world.do(opened, f"click[{page}]")
    assert world.text(place) == f"Back to Search [SEP] < Prev [SEP] {text}"
    assert list(world.links(place)) == ["back to search", "< prev"]
    assert world.do(place, "click[< prev]") == opened
    assert world.do(place, "click[back to search]") == START


def test_sub_pages_of_a_product_without_texts_say_so():
    world = shop()
    place = walk(world, "search[lamp]", "click[b000000003]", "click[description]")
    assert world.text(place).endswith("No Description")
    assert world.text(walk(world, "click[< prev]", "click[reviews]", place=place)).endswith(
        "No Reviews"
    )


def test_chosen_options_last_through_sub_pages_and_until_the_results():
    world = shop()
    place = walk(world, "search[blanket]", "click[b000000001]", "click[large]", "click[red]",
                 "click[navy blue]", "click[features]", "click[< prev]")  # fmt: skip
    assert place.chosen == (("size", "large"), ("color", "navy blue"))
    assert world.text(place).startswith(
        "You have clicked navy blue. [SEP] You have clicked large. [SEP] Back to Search"
    )
    listed = world.do(place, "click[< prev]")
    assert listed == Place("results", "blanket")
    assert world.do(listed, "click[b000000001]").chosen == ()
    assert walk(world, "search[blanket]", place=place).chosen == ()


def test_what_was_chosen_is_shown_unless_the_page_is_to_be_webshops_own():
    plain = shop(show_chosen=False)
    place = walk(plain, "search[blanket]", "click[b000000001]")
    assert plain.text(plain.do(place, "click[red]")) == plain.text(place)


def test_of_a_value_that_two_options_share_the_later_takes_the_click():
    world = shop()
    place = walk(world, "search[blue blanket]", "click[b000000002]", "click[wide]")
    assert place.chosen == (("cut", "wide"),)
    assert list(world.links(place)).count("wide") == 1


def test_a_value_named_as_a_button_leaves_the_button_its_click():
    product = item("B1", customization_options={"Show": [{"value": "Features"}, {"value": "all"}]})
    made = parse_products([product], {}, {})
    world = Shop(made, SearchEngine(["lamp"]), WebShopOptions())
    place = walk(world, "search[lamp]", "click[b1]", "click[features]")
    assert (place.page, place.chosen) == ("sub", ())


def test_back_to_search_and_previous_remember_the_page():
    world = many(30)
    item_place = walk(world, "search[lamp]", "click[next >]", "click[b000000012]")
    assert item_place == Place("item", "lamp", 2, 12)
    assert world.do(item_place, "click[< prev]") == Place("results", "lamp", 2)
    assert world.do(item_place, "click[back to search]") == START


@pytest.mark.parametrize(
    "action",
    ["click[b000000003]", "click[buy now]", "buy", "click[]", "search[]", "", "Click[next >]",
     "push[next >]", "click[next >] "],
)  # fmt: skip
def test_anything_else_changes_nothing(action):
    world = shop()
    place = walk(world, "search[blanket]")
    assert world.do(place, action) == place


def test_arguments_are_taken_in_lowercase_and_searches_from_every_page():
    world = shop()
    place = walk(world, "search[BLANKET]", "click[B000000001]", "click[RED]")
    assert place == Place("item", "blanket", 1, 0, (("color", "red"),))
    assert world.do(place, "search[Lamp]") == Place("results", "lamp")


def test_a_purchase_ends_all():
    world = shop()
    done = walk(world, "search[blanket]", "click[b000000001]", "click[red]", "click[buy now]")
    assert (done.page, done.item, done.chosen) == ("done", 0, (("color", "red"),))
    assert world.links(done) == {}
    assert world.do(done, "search[lamp]") == done
    assert "Thank you" in world.text(done)


def test_items_may_be_clicked_by_title_and_doubles_by_number_too():
    world = many(3, item_links="title")
    place = walk(world, "search[lamp]")
    assert list(world.links(place))[2:] == [
        "item - same lamp", "item - same lamp (b000000001)", "item - same lamp (b000000002)",
    ]  # fmt: skip
    for number, link in enumerate(list(world.links(place))[2:]):
        assert world.do(place, f"click[{link}]").item == number


def test_a_title_with_brackets_can_be_clicked():
    made = parse_products([item("B1", name="Lamp [2 pack]")], {}, {})
    world = Shop(made, SearchEngine(["lamp"]), WebShopOptions(item_links="title"))
    assert walk(world, "search[lamp]", "click[item - lamp [2 pack]]").item == 0


@pytest.mark.parametrize("options", [{}, {"item_links": "title"}])
def test_doubled_blanks_of_a_title_are_shown_as_one(options):
    made = parse_products([item("B1", name=" Red  Lamp")], {}, {})
    world = Shop(made, SearchEngine(["lamp"]), WebShopOptions(**options))
    place = walk(world, "search[lamp]")
    assert "B1 [SEP] Red Lamp [SEP] $10.0" in world.text(place)
    assert list(world.links(place))[2] == ("item - red lamp" if options else "b1")


def test_long_titles_are_cut_on_request():
    world = shop(title_words=2)
    place = walk(world, "search[blanket]")
    assert "B000000001 [SEP] Acme Soft … [SEP] $19.99" in world.text(place)
    assert "[SEP] Acme Soft … [SEP] Price" in world.text(world.do(place, "click[b000000001]"))


def test_a_page_that_is_too_long_is_cut_after_a_whole_word():
    made = parse_products([item("B1", full_description="word " * 9000)], {}, {})
    world = Shop(made, SearchEngine(["lamp"]), WebShopOptions())
    text = world.text(walk(world, "search[lamp]", "click[b1]", "click[description]"))
    assert MAX_TEXT - 10 < len(text) <= MAX_TEXT
    assert text.endswith("word word …")


def test_results_are_remembered_and_forgotten_without_a_difference(monkeypatch):
    monkeypatch.setattr("cepcli.envs.webshop.shop._REMEMBERED", 1)
    world = shop()
    before = world.results("blanket")
    world.results("lamp")
    assert world.results("blanket") == before == shop().results("blanket")
