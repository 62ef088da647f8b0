"""A report as one HTML page that needs nothing else: no network, no other file.

Its security policy lets nothing run or be drawn but the script, the style and the pictures that are
in it; figures follow the reader's theme.
"""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cepcli.report.document import Figure, Report
from cepcli.report.marks import PATTERNS, fill, marker, tag
from cepcli.report.svg import draw

_FOLDER = Path(__file__).parent / "page"
_STYLE, _SCRIPT, _TEMPLATE = "report.css", "report.js", "report.html.j2"


def render_page(report: Report) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in (_STYLE, _SCRIPT))
    return environment.get_template(_TEMPLATE).render(
        report=report,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        patterns=Markup(PATTERNS),
        drawing=_drawing,
        picture=_picture,
        swatch=_swatch,
    )


def _policy(style: str, script: str) -> str:
    """What the page may do: nothing but what is in it, told by hashes."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _drawing(figure: Figure, uid: str) -> Markup:
    return Markup(draw(figure, uid))


def _picture(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode()


def _swatch(colour: str, shape: int) -> Markup:
    """The marker of a setting, beside its name."""
    drawn = marker(7.0, 7.0, shape, 4.6, f"{fill(shape)} s-{colour}")
    return Markup(tag("svg", drawn, class_="swatch", viewBox="0 0 14 14", aria_hidden="true"))
