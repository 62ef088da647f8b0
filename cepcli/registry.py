"""Names to things, with a suggestion when the name is almost right."""

import difflib
from collections.abc import Iterable


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known name, or lists what is known when none is near."""
    names = sorted(known)
    if not names:
        return "There is none to choose from."
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean `{near[0]}`?"
    return "Known: " + ", ".join(names) + "."
