"""A figure as SVG for the page of a report.

Colours are variables of its style sheet, so that figures follow the reader's theme. Each figure has
a title and a description for screen readers, and what can be pointed at carries its text as
`data-tip`, a line each.
"""

import io
import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from cepcli.report.document import Figure
from cepcli.report.drawing import PLACEHOLDERS, STYLE, WIDTH, Drawing, height_of, number, value_of

_VARIABLES = {colour: f"var(--{name})" for name, colour in PLACEHOLDERS.items()}


def draw_svg(figure: Figure, uid: str) -> str:
    """A figure as an SVG element; `uid` is unique on its page."""
    with mpl.rc_context(STYLE):
        whole = Canvas((WIDTH / 72, height_of(figure) / 72), layout="constrained")
        whole.patch.set_visible(False)
        drawing = Drawing(figure, whole.add_subplot(), PLACEHOLDERS)
        drawing.draw()
        text = io.StringIO()
        whole.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format",
                                                                  "Type")))  # fmt: skip
    return _themed(text.getvalue(), uid, drawing.tips, figure)


def _themed(text: str, uid: str, tips: Mapping[str, list[str]], figure: Figure) -> str:
    """The drawing without styles of its own: classes, variables for colours, ids of this page."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    root = ElementTree.fromstring(text)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        told = dict(_attributes(element.attrib, uid, used))
        if element.tag == "g" and (own := tips.get(element.get("id", ""))):
            for mark, tip in zip(_marks(element), own, strict=True):
                mark.set("data-tip", tip)
            told |= {"class": element.get("id", "").partition("|")[0]}
        tip = element.get("data-tip")
        element.attrib.clear()
        element.attrib.update(told | ({"data-tip": tip} if tip else {}))
    for number_, (tag, words) in enumerate(
        {"title": figure.title, "desc": f"{figure.about} {_in_words(figure)}".strip()}.items()
    ):
        added = ElementTree.Element(tag, id=f"{uid}-{tag}")
        added.text = words
        root.insert(number_, added)
    root.attrib = {
        "viewBox": root.attrib["viewBox"], "xmlns": "http://www.w3.org/2000/svg", "role": "img",
        "tabindex": "0", "aria-labelledby": f"{uid}-title {uid}-desc",
    }  # fmt: skip
    return ElementTree.tostring(root, encoding="unicode")


def _marks(group: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """The shapes in a group, in the order that they were given in; definitions are none."""
    for child in group:
        tag = child.tag.rpartition("}")[2]
        if tag in ("use", "path"):
            yield child
        elif tag != "defs":
            yield from _marks(child)


def _attributes(
    attributes: Mapping[str, str], uid: str, used: set[str]
) -> Iterator[tuple[str, str]]:
    for name, value in attributes.items():
        name = name.rpartition("}")[2]
        if name == "id":
            if value in used:
                yield "id", f"{uid}-{value}"
            elif "|" in value or value in ("axes_1", "legend_1"):
                yield "class", re.split(r"\||_1", value)[0]
        elif name == "style":
            for part in value.split(";"):
                key, _, said = part.partition(":")
                if key.strip() and not key.strip().startswith("font"):
                    yield key.strip(), _coloured(said.strip(), uid)
        else:
            yield name, f"#{uid}-{value[1:]}" if name == "href" else _coloured(value, uid)


def _coloured(value: str, uid: str) -> str:
    short = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", value)
    return _VARIABLES.get(value, short.replace("url(#", f"url(#{uid}-"))


def _in_words(figure: Figure) -> str:
    """Where each line begins and ends."""
    if figure.kind != "lines":
        return ""
    told = []
    for one in figure.series:
        points = [(x, y) for x, y in zip(one.x, one.y, strict=True) if y is not None]
        if points:
            ends = [f"{value_of(y, figure.y)} at {number(x)}" for x, y in (points[0], points[-1])]
            told.append(f"{one.label}: {', '.join(ends)}.")
    return " ".join(told)
