"""README and the pages under docs/ as tests read them: fences, headings, links."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_LINK = re.compile(r"(\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^()\s]+)\)")


class Fence(NamedTuple):
    """A fenced block: the words behind its opening, and what is in it."""

    info: tuple[str, ...]
    body: str

    @property
    def language(self):
        return self.info[0] if self.info else ""

    @property
    def file(self):
        """The file that the block is: the word after its language."""
        return self.info[1] if len(self.info) > 1 else None


class Link(NamedTuple):
    text: str
    target: str


def label(page):
    """How a test names a page."""
    return str(page.relative_to(ROOT))


def fences(text):
    return [Fence(tuple(info.split()), body) for info, body in _FENCE.findall(text)]


def prose(text):
    """A page without its fenced blocks and comments."""
    return re.sub(r"<!--.*?-->", "", _FENCE.sub("", text), flags=re.DOTALL)


def commands(fence):
    """The command lines of a console block, continued ones joined."""
    lines = fence.body.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip()]


def anchors(text):
    """What a link to a heading of this page may name, as GitHub makes it."""
    made, seen = set(), {}
    for heading in _HEADING.findall(prose(text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        again = seen.get(slug, 0)
        seen[slug] = again + 1
        made.add(f"{slug}-{again}" if again else slug)
    return made


def links(text):
    """Links and pictures of a page."""
    found = [Link(shown[1:-1], target) for shown, target in _LINK.findall(prose(text))]
    return found + [Link("", src) for src in re.findall(r'<img[^>]*src="([^"]+)"', text)]


def section(page, heading):
    """What stands under a second-level heading of a page."""
    return page.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
