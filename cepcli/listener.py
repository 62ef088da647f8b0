"""Who is told about work that takes long: nobody, unless the caller passes a listener."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

Notify = Callable[[str], None]
#: Called with how many are done, and optionally with a remark.
Advance = Callable[..., None]


@contextmanager
def _unseen(title: str, total: int) -> Iterator[Advance]:
    yield lambda done, remark="": None


@dataclass(frozen=True, slots=True)
class Listener:
    """What to call while something long is prepared; by default nothing.

    Attributes:
        notify: told in one line about a step that takes seconds.
        progress: given a title and a total, opens a progress bar.
        before_model: told the name of a model before it is loaded, None for none.
    """

    notify: Notify = lambda text: None
    progress: Callable[[str, int], AbstractContextManager[Advance]] = _unseen
    before_model: Callable[[str | None], None] = lambda model: None


SILENT = Listener()
