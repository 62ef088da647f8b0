"""The page in a real browser."""

import pytest
from playwright.sync_api import expect

from cepcli.annotate.records import read_annotations


@pytest.fixture
def errors():
    """What the page's script or its security policy complained of."""
    found = []
    yield found
    assert found == []


@pytest.fixture
def open_tab(context, site, errors):
    def tab(state=None):
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console", lambda said: "Content Security" in said.text and errors.append(said.text)
        )
        page.goto(site.address + ("" if state is None else f"#{state}"))
        expect(page.locator("#primitives button")).to_have_count(8)
        return page

    return tab


def people(site):
    return [
        (a.text, a.primitive)
        for a in read_annotations(site.path, "walker2d")
        if a.source == "person"
    ]


def shows(page, site, number):
    """Wait until the page shows state `number`, counted from 0."""
    expect(page.locator("body")).to_have_attribute("data-state", site.session.order[number])


def write(page, text):
    page.keyboard.press("e")
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def test_answering_by_keyboard_saves_each_answer_at_once(site, open_tab):
    page = open_tab()
    shows(page, site, 0)
    suggested = page.locator("#text").input_value()
    page.keyboard.press("8")
    page.keyboard.press("Enter")
    shows(page, site, 1)
    assert people(site) == [(suggested, "rise")]
    write(page, "It stumbles, 2 feet in the air")
    page.keyboard.press("Alt+7")
    page.keyboard.press("Enter")
    shows(page, site, 2)
    assert people(site)[1] == ("It stumbles, 2 feet in the air", "brake")
    expect(page.locator("#progress")).to_have_text("2 of 5 answered")
    page.keyboard.press("s")
    shows(page, site, 3)
    page.keyboard.press("ArrowLeft")
    shows(page, site, 2)
    assert len(people(site)) == 2


def test_features_primitives_and_goal_are_shown(site, open_tab):
    page = open_tab(site.session.order[2])
    speed = page.locator("#features tr", has_text="forward_speed")
    expect(speed).to_contain_text("2.000")
    expect(speed).to_contain_text("m/s")
    expect(page.locator("#goal")).to_have_text("walk forward quickly without falling over")
    expect(page.locator("#primitives li").nth(6)).to_contain_text("hold back with the leading leg")
    expect(page.locator("#notices")).to_contain_text("No pictures")


def test_undo_brings_the_answer_back_into_the_form(site, open_tab):
    page = open_tab()
    write(page, "wrong")
    page.keyboard.press("Enter")
    shows(page, site, 1)
    page.keyboard.press("u")
    shows(page, site, 0)
    assert people(site) == []
    expect(page.locator("#text")).to_have_value("wrong")
    expect(page.locator("#progress")).to_have_text("0 of 5 answered")
    write(page, "right")
    page.keyboard.press("Enter")
    shows(page, site, 1)
    assert [text for text, _ in people(site)] == ["right"]


def test_a_reload_loses_neither_the_answers_nor_what_is_being_typed(site, open_tab):
    page = open_tab()
    page.keyboard.press("Enter")
    shows(page, site, 1)
    write(page, "half a sent")
    page.keyboard.press("Escape")
    page.keyboard.press("3")
    page.reload()
    shows(page, site, 1)
    expect(page.locator("#text")).to_have_value("half a sent")
    expect(page.locator("#primitives button[aria-pressed=true]")).to_contain_text("push off with")
    expect(page.locator("#progress")).to_have_text("1 of 5 answered")
    assert len(people(site)) == 1


@pytest.mark.slow
def test_two_tabs_on_one_state_lose_no_answer(site, open_tab):
    first = site.session.order[0]
    one, other = open_tab(first), open_tab(first)
    write(one, "from one tab")
    write(other, "from the other")
    other.route("**/api/overview", lambda route: route.abort())  # it has not heard of the first
    one.keyboard.press("Enter")
    shows(one, site, 1)
    other.keyboard.press("Enter")
    expect(other.locator("#conflict")).to_be_visible()
    expect(other.locator("#theirs")).to_contain_text("from one tab")
    expect(other.locator("#text")).to_have_value("from the other")
    assert [text for text, _ in people(site)] == ["from one tab"]
    other.unroute("**/api/overview")
    other.click("#use-mine")
    shows(other, site, 1)
    assert [text for text, _ in people(site)] == ["from the other"]


@pytest.mark.slow
def test_the_other_tabs_answer_can_be_kept(site, open_tab):
    first = site.session.order[0]
    one, other = open_tab(first), open_tab(first)
    write(other, "from the other")
    write(one, "from one tab")
    one.keyboard.press("Enter")
    shows(one, site, 1)
    expect(other.locator("#conflict")).to_be_visible()  # without a key pressed in it
    other.keyboard.press("Enter")  # which must not choose
    expect(other.locator("#conflict")).to_be_visible()
    expect(other.locator("#text")).to_have_value("from the other")
    other.click("#keep-theirs")
    expect(other.locator("#text")).to_have_value("from one tab")
    assert [text for text, _ in people(site)] == ["from one tab"]


@pytest.mark.slow
def test_two_tabs_on_two_states_both_save(site, open_tab):
    one, other = open_tab(site.session.order[0]), open_tab(site.session.order[3])
    one.keyboard.press("Enter")
    other.keyboard.press("Enter")
    shows(one, site, 1)
    shows(other, site, 4)
    assert len(people(site)) == 2
    expect(one.locator("#progress")).to_have_text("2 of 5 answered")


@pytest.mark.slow
def test_the_file_edited_by_hand_meanwhile_is_shown(site, open_tab):
    page = open_tab()
    write(page, "typed on the page")
    page.keyboard.press("Enter")
    shows(page, site, 1)
    page.keyboard.press("ArrowLeft")
    shows(page, site, 0)
    text = site.path.read_text()
    site.path.write_text(text.replace("typed on the page", "typed by hand"))
    expect(page.locator("#text")).to_have_value("typed by hand")
    with site.path.open("a") as file:
        file.write("half a li")
    expect(page.locator("#notices")).to_contain_text("Line 7 of the file")
    page.keyboard.press("ArrowRight")
    shows(page, site, 1)
    page.keyboard.press("Enter")
    shows(page, site, 2)
    lines = site.path.read_text().splitlines()
    assert lines[6] == "half a li"
    assert '"person"' in lines[7]


@pytest.mark.slow
def test_an_older_copy_saved_by_an_editor_costs_no_answer(site, open_tab):
    page = open_tab()
    opened = site.path.read_text()
    page.keyboard.press("Enter")
    shows(page, site, 1)
    site.path.write_text(opened + "\n")
    expect(page.locator("#notices")).to_contain_text("without the last 1 answer; put back")
    assert len(people(site)) == 1


def test_an_answer_that_cannot_be_saved_stays_in_the_form(site, open_tab):
    page = open_tab()
    write(page, "   ")
    page.keyboard.press("Enter")
    expect(page.locator("#notices")).to_contain_text("The text is empty")
    shows(page, site, 0)
    assert people(site) == []


def test_after_the_last_state_it_says_so(site, open_tab):
    page = open_tab()
    for number in range(1, 5):
        page.keyboard.press("Enter")
        shows(page, site, number)
    page.keyboard.press("Enter")
    expect(page.locator("#notices")).to_contain_text("Every state is answered")
    assert len(people(site)) == 5


@pytest.mark.slow
def test_without_a_server_it_says_so_and_keeps_what_was_typed(site, open_tab, errors):
    page = open_tab()
    write(page, "typed too late")
    page.route("**/api/**", lambda route: route.abort())
    page.keyboard.press("Enter")
    expect(page.locator("#notices")).to_contain_text("The server does not answer")
    expect(page.locator("#text")).to_have_value("typed too late")
    page.unroute("**/api/**")
    expect(page.locator("#notices")).not_to_contain_text("The server does not answer")
    page.keyboard.press("Enter")
    shows(page, site, 1)
    assert [text for text, _ in people(site)] == ["typed too late"]
