"""The page of a report in a real browser."""

import re
from xml.etree import ElementTree

import pytest
from playwright.sync_api import expect

from cepcli.workspace.artifacts import Workspace
from tests.report import worlds

NARROW = {"width": 360, "height": 740}
HOSTILE = "cep train --name '<img src=x onerror=alert(1)>' --set a.b=</script>"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A report of everything at once: two worlds, an ablation, a dead run, a record, a map."""
    from cepcli.report.build import build_report
    from cepcli.report.selection import select
    from cepcli.report.writers import render_page

    root = tmp_path_factory.mktemp("report")
    space = Workspace(root / "w")
    worlds.make_all(space)
    worlds.make_run(space, "odd", command=HOSTILE, steps=200)
    worlds.make_ablation(space, "cache", {"off": 0.9, "exact": 0.9, "certified": 0.85}, 1)
    names = ["certified_s?", "off_s?", "dqn_s0", "walker2d-*", "odd_s0", "cache"]
    path = root / "report.html"
    path.write_text(render_page(build_report(select(space, names), space, HOSTILE)))
    return path


@pytest.fixture
def open_page(context, file):
    """Opens the report; whatever it asks the network for, or complains of, is an error."""
    troubles = []

    def opened(**media):
        page = context.new_page()
        page.emulate_media(**media)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked(request.url))
        page.goto(file.as_uri())
        return page

    def asked(url):
        if not url.startswith("data:") and url != file.as_uri():
            troubles.append(url)

    yield opened
    assert troubles == []


#: For each figure its name, and each part that is empty or leaves its view box.
MISDRAWN = """() => [...document.querySelectorAll('.chart > svg')].flatMap(svg => {
  const view = svg.viewBox.baseVal, name = svg.parentElement.dataset.name, slack = 1;
  const drawn = '.line, .band, .box, .range, .point';
  const found = svg.querySelector(drawn) ? [] : [`${name}: nothing is drawn`];
  for (const part of svg.querySelectorAll(`text, ${drawn}`)) {
    const box = part.getBBox(), at = part.getCTM(), own = svg.getCTM().inverse().multiply(at);
    const corners = [[box.x, box.y], [box.x + box.width, box.y + box.height]].map(([x, y]) =>
      [own.a * x + own.c * y + own.e, own.b * x + own.d * y + own.f]);
    for (const [x, y] of corners)
      if (!(x >= -slack && y >= -slack && x <= view.width + slack && y <= view.height + slack))
        found.push(`${name}: ${part.outerHTML.slice(0, 90)} at ${x}, ${y}`);
  }
  return found;
})"""

OVERLAPPING = """() => [...document.querySelectorAll('.chart > svg')].flatMap(svg => {
  const texts = [...svg.querySelectorAll('text:not(.guide-label *)')];
  const boxes = texts.map(text => text.getBoundingClientRect());
  return texts.flatMap((text, i) => texts.slice(i + 1).flatMap((other, j) => {
    const [a, b] = [boxes[i], boxes[i + 1 + j]], air = 0.5;
    const apart = a.right < b.left + air || b.right < a.left + air ||
      a.bottom < b.top + air || b.bottom < a.top + air;
    const name = svg.parentElement.dataset.name;
    return apart ? [] : [`${name}: ${text.textContent} | ${other.textContent}`];
  }));
})"""


def test_every_figure_is_drawn_inside_its_frame_and_no_label_lies_on_another(open_page):
    page = open_page()
    figures = page.locator(".chart > svg")
    assert figures.count() > 30
    assert page.evaluate(MISDRAWN) == []
    assert page.evaluate(OVERLAPPING) == []
    assert page.locator(".chart > img").count() == 1
    assert page.evaluate("document.querySelector('.chart > img').naturalWidth") > 100


def test_figures_say_what_they_show_to_who_does_not_see_them(open_page):
    page = open_page()
    described = page.evaluate(
        "[...document.querySelectorAll('.chart > svg')].map(svg => "
        "svg.getAttribute('aria-labelledby').split(' ').map(id => "
        "document.getElementById(id).textContent))"
    )
    assert all(title and about for title, about in described)
    names = page.locator("[id]").evaluate_all("all => all.map(one => one.id)")
    assert len(names) == len(set(names))


def column(page, number):
    return page.locator(f"#all-runs tbody tr > :nth-child({number})").all_inner_texts()


def test_tables_sort_by_mouse_and_keyboard_and_what_is_missing_comes_last(open_page):
    page = open_page()
    success = page.locator("#all-runs th", has_text="success")
    number = page.locator("#all-runs th").all_inner_texts().index("success") + 1
    success.get_by_role("button").click()
    expect(success).to_have_attribute("aria-sort", "ascending")
    rising = [text for text in column(page, number) if text != "–"]
    assert rising == sorted(rising, key=float)
    missing = column(page, number).count("–")
    assert missing >= 3
    assert column(page, number)[-missing:] == ["–"] * missing
    success.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(success).to_have_attribute("aria-sort", "descending")
    assert column(page, number)[: len(rising)] == rising[::-1]
    assert column(page, number)[-missing:] == ["–"] * missing
    page.locator("#all-runs th").nth(1).get_by_role("button").click()
    assert column(page, 2) == sorted(column(page, 2), key=lambda name: name.replace("_", " "))
    expect(success).to_have_attribute("aria-sort", "none")


def ground(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


@pytest.mark.slow
def test_the_theme_follows_the_system_until_it_is_chosen(open_page):
    page = open_page(color_scheme="light")
    light = ground(page)
    page.emulate_media(color_scheme="dark")
    dark = ground(page)
    assert light != dark
    line = page.locator(".chart .line path").first
    stroke = line.evaluate("line => getComputedStyle(line).stroke")
    page.click("#theme")
    expect(page.locator("#theme")).to_have_text("Theme: light")
    assert ground(page) == light
    assert line.evaluate("line => getComputedStyle(line).stroke") != stroke
    page.reload()
    assert ground(page) == light, "the choice is kept"
    page.click("#theme")
    expect(page.locator("#theme")).to_have_text("Theme: dark")
    assert ground(page) == dark


def test_a_narrow_window_needs_no_scrolling_sideways(open_page):
    page = open_page()
    page.set_viewport_size(NARROW)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    assert page.evaluate(MISDRAWN) == []


@pytest.mark.slow
def test_pointing_and_arrow_keys_tell_values(open_page):
    page = open_page()
    figure = page.locator("[data-name=s1-learning-curve]")
    figure.locator(".strip [data-tip]").last.hover()
    tip = page.locator("#tip")
    expect(tip).to_contain_text("step 400")
    expect(tip).to_contain_text("3 seeds")
    page.mouse.move(0, 0)
    expect(tip).to_be_hidden()
    figure.locator("svg").focus()
    page.keyboard.press("ArrowRight")
    expect(tip).to_contain_text("step 0")
    page.keyboard.press("ArrowRight")
    expect(tip).to_contain_text("step 100")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()


def saved(page, figure, kind):
    with page.expect_download() as waiting:
        figure.locator(f"[data-save={kind}]").click()
    return waiting.value.suggested_filename, waiting.value.path().read_bytes()


@pytest.mark.slow
def test_a_figure_is_saved_as_it_looks(open_page):
    page = open_page(color_scheme="dark")
    figure = page.locator("[data-name$=answers]").first
    name, content = saved(page, figure, "svg")
    root = ElementTree.fromstring(content)
    assert name.endswith("answers.svg")
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = content.decode()
    assert "class=" not in text
    assert "var(" not in text
    assert "<pattern" in text
    assert "data-tip" not in text
    fills = [part.get("fill", "") for part in root.iter()]
    assert any(fill.startswith("rgb(61, 148, 214") for fill in fills)
    name, content = saved(page, figure, "png")
    assert name.endswith("answers.png")
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(content) > 5000


def test_a_table_is_saved_as_it_is_sorted(open_page):
    page = open_page()
    name, content = saved(page, page.locator("#all-runs"), "csv")
    head, first, *_ = content.decode().splitlines()
    assert name == "all-runs.csv"
    assert head.startswith("environment,run,setting,state,seed,steps,success")
    assert first.startswith("babyai/goto-local,certified_s0,certified,finished,0,400,")


def test_what_runs_are_called_is_text_and_nothing_else(open_page):
    page = open_page()
    shown = page.locator(".command code").all_inner_texts()
    assert shown.count(HOSTILE) == 2
    assert page.locator("img:not(.chart > img)").count() == 0


@pytest.mark.slow
def test_print_leaves_out_what_cannot_be_pressed_and_is_light(open_page):
    page = open_page(color_scheme="dark")
    dark = ground(page)
    page.emulate_media(media="print", color_scheme="dark")
    assert ground(page) != dark
    expect(page.locator("#theme")).to_be_hidden()
    expect(page.locator("[data-save]").first).to_be_hidden()
    pdf = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 3
