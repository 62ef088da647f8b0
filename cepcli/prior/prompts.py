"""From a state to a prompt, by one jinja2 template per environment family.

A template has a version in its first line and two blocks: `prefix`, the same all run long, and
`state`, which takes `goal` and `text` and ends so that " action" follows. The admissible actions
are never listed: a small model then scores by position in the list. A text that is too long is
shortened before (`shortened`).
"""

import re
from collections.abc import Callable
from importlib import resources

import jinja2

from cepcli.errors import PriorError
from cepcli.prior.base import Prompt
from cepcli.registry import suggest
from cepcli.types import TextState

#: Template of families that have none of their own.
DEFAULT = "default"
_SUFFIX = ".j2"
#: Version of how a thought is asked for.
THINKING = "react-1"
_BEFORE_ACTING = "It first says in one short sentence what to do next and why.\n"
_WORD = re.compile(r"\s*\S+")
_VERSION = re.compile(r"\{#-?\s*version:\s*(\S+)\s*-?#\}")


def shortened(text: str, most_tokens: int, count: Callable[[str], int]) -> str:
    """A text of at most so many tokens, which `count` counts; one that fits is left as it is.

    Otherwise its first and last words, as many of the beginning as of the end, and " …" between.
    """
    tokens = count(text)
    if tokens <= most_tokens:
        return text
    words = _WORD.findall(text)
    kept = len(words) * most_tokens // tokens
    while kept > 0:
        found = "".join(words[: (kept + 1) // 2]) + " …" + "".join(words[len(words) - kept // 2 :])
        if count(found) <= most_tokens:
            return found
        kept -= max(1, kept // 16)
    return "…"


class PromptTemplate:
    """The prompt template of an environment family; families without one share the default.

    Args:
        family: of environments.
        name: another template than the family's own, by its name.

    Attributes:
        version: names template and version; part of every score's fingerprint.

    Raises:
        PriorError: if no template has that name.
    """

    def __init__(self, family: str, name: str | None = None) -> None:
        folder = resources.files("cepcli.prior").joinpath("templates")
        files = [file for file in folder.iterdir() if file.name.endswith(_SUFFIX)]
        sources = {file.name.removesuffix(_SUFFIX): file for file in files}
        if name is not None and name not in sources:
            raise PriorError(f"There is no prompt template `{name}`.", suggest(name, sources))
        source = sources.get(name or family, sources[DEFAULT]).read_text(encoding="utf-8")
        found = _VERSION.match(source)
        if not found:
            raise PriorError(
                f"The prompt template `{name or family}` has no version in its first line."
            )
        self.version = found.group(1)
        environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined, keep_trailing_newline=True
        )
        self._template = environment.from_string(source)
        self._prefix = self._block("prefix", {})

    def render(self, state: TextState) -> Prompt:
        """The prompt of a state."""
        return self._render(state.goal, state.text)

    def neutral(self) -> Prompt:
        """A prompt that says nothing about any state, for the PMI normalisation."""
        return self._render("unknown", "Nothing is known.")

    def thinking(self, state: TextState) -> Prompt:
        """The prompt after which a thought about a state is to be written."""
        before, _ = self._parts(state)
        return Prompt(self._prefix + _BEFORE_ACTING, f"{before}Thought:")

    def acting(self, state: TextState, thought: str) -> Prompt:
        """The prompt of a state after a thought about it."""
        before, cue = self._parts(state)
        return Prompt(self._prefix + _BEFORE_ACTING, f"{before}Thought: {thought}\n{cue}")

    def _parts(self, state: TextState) -> tuple[str, str]:
        """A state's prompt, and its last line, which asks for the action."""
        text = self.render(state).state
        start = text.rfind("\n") + 1
        return text[:start], text[start:]

    def _render(self, goal: str, text: str) -> Prompt:
        state = self._block("state", {"goal": goal.strip(), "text": text.strip()})
        return Prompt(prefix=self._prefix, state=state)

    def _block(self, name: str, values: dict[str, str]) -> str:
        return "".join(self._template.blocks[name](self._template.new_context(values)))
