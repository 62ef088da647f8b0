"""What the cache knows about one text, kept small: a cache may hold a hundred thousand of them."""

import hashlib
import math
import sys
from array import array
from collections.abc import (
    Container,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSet,
    Sequence,
)
from dataclasses import dataclass

#: Up to so many actions a scan finds one as fast as a hash table, which takes more memory.
_SCANNED = 16


def text_digest(goal: str, text: str) -> bytes:
    """The identity of an entry: the first 16 bytes of the SHA-256 of goal and text."""
    return hashlib.sha256(f"{goal}\0{text}".encode("utf-8", "surrogatepass")).digest()[:16]


def text_hash(goal: str, text: str) -> str:
    """`text_digest` in hexadecimal."""
    return text_digest(goal, text).hex()


class Scores(MutableMapping[str, float]):
    """Normalised score of each action, in nats: a dictionary at half the memory.

    The strings are shared between all entries, the numbers lie in one array.

    Args:
        actions: distinct interned strings (`sys.intern`).
        values: as many scores.
    """

    __slots__ = ("_actions", "_columns", "_values")

    def __init__(self, actions: tuple[str, ...], values: "array[float]") -> None:
        self._actions = actions
        self._values = values
        self._columns = self._index_columns()

    @property
    def known(self) -> Container[object]:
        """The actions, to ask `in` of many times."""
        return self._actions if self._columns is None else self._columns

    def of(self, actions: Sequence[str]) -> list[float]:
        """The score of each action; NaN where there is none."""
        if actions == self._actions:
            return self._values.tolist()
        return [self.get(action, math.nan) for action in actions]

    def put(self, actions: Sequence[str], values: Sequence[float]) -> None:
        """Set the score of each action."""
        if actions == self._actions:
            self._values = array("d", values)
            return
        for action, value in zip(actions, values, strict=True):
            self[action] = value

    def plain(self) -> dict[str, float]:
        """The same as a dictionary."""
        return dict(zip(self._actions, self._values, strict=True))

    def __getitem__(self, action: str) -> float:
        return self._values[self._column(action)]

    def __setitem__(self, action: str, score: float) -> None:
        try:
            self._values[self._column(action)] = score
        except KeyError:
            self._actions = (*self._actions, sys.intern(action))
            self._values.append(score)
            if self._columns is None:
                self._columns = self._index_columns()
            else:
                self._columns[action] = len(self._values) - 1

    def __delitem__(self, action: str) -> None:
        column = self._column(action)
        del self._values[column]
        self._actions = self._actions[:column] + self._actions[column + 1 :]
        self._columns = self._index_columns()

    def __contains__(self, action: object) -> bool:
        return action in self.known

    def __iter__(self) -> Iterator[str]:
        return iter(self._actions)

    def __len__(self) -> int:
        return len(self._actions)

    def __repr__(self) -> str:
        return f"Scores({self.plain()})"

    def _column(self, action: str) -> int:
        if self._columns is not None:
            return self._columns[action]
        try:
            return self._actions.index(action)
        except ValueError:
            raise KeyError(action) from None

    def _index_columns(self) -> dict[str, int] | None:
        many = len(self._actions) > _SCANNED
        return {action: i for i, action in enumerate(self._actions)} if many else None


@dataclass(slots=True)
class Entry:
    """What is known about one text.

    Attributes:
        slot: the entry's number, in order of insertion; never used twice in one cache.
        goal: the task text that the state belonged to.
        text: the state's description.
        scores: normalised score of each action scored so far, in nats.
        last_use: value of the cache's clock when it last answered, or came in.
        hits: how often it answered.
        audits: how often its answer was compared with a fresh one.
        last_span: span of the latest comparison.
        last_kl: KL(cached‖fresh) of the latest comparison.
        repels: similarity at or below which it was seen to be wrong by more than the budget; it
            answers only more similar texts, at 1 only its own. Infinite where it was set aside:
            then new keys change nothing.
        warmth: log2 of its decayed uses as of `last_use`; kept by the eviction policy `utility`.
    """

    slot: int
    goal: str
    text: str
    scores: Scores
    _borrowed: frozenset[str] = frozenset()
    last_use: int = 0
    hits: int = 0
    audits: int = 0
    last_span: float = 0.0
    last_kl: float = 0.0
    repels: float = -1.0
    warmth: float = 0.0

    @property
    def identity(self) -> str:
        """`text_hash` of goal and text."""
        return text_hash(self.goal, self.text)

    @property
    def borrowed(self) -> "BorrowedActions":
        """Actions whose score was given under a similar text, not this one.

        Caches saved by earlier versions have such scores. Good for semantic hits, but an exact hit
        must ask for them.
        """
        return BorrowedActions(self)

    @property
    def own_scores(self) -> dict[str, float]:
        """The scores that the LLM gave under this very text."""
        return {a: score for a, score in self.scores.items() if a not in self._borrowed}

    def lacks(self, actions: Iterable[str], *, own_text: bool) -> list[str]:
        """The actions without a valid score, for this very text or for a similar one."""
        known = self.scores.known
        if own_text and self._borrowed:
            return [a for a in actions if a not in known or a in self._borrowed]
        return [a for a in actions if a not in known]


class BorrowedActions(MutableSet[str]):
    """A live view of an entry's borrowed actions; most entries have none and keep no set."""

    __slots__ = ("_entry",)

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def __contains__(self, action: object) -> bool:
        return action in self._entry._borrowed

    def __iter__(self) -> Iterator[str]:
        return iter(self._entry._borrowed)

    def __len__(self) -> int:
        return len(self._entry._borrowed)

    def add(self, value: str) -> None:
        """Borrow one more."""
        self.update((value,))

    def discard(self, value: str) -> None:
        """Own its score from now on."""
        self.difference_update((value,))

    def update(self, actions: Iterable[str]) -> None:
        """Borrow more."""
        self._entry._borrowed = self._entry._borrowed.union(actions)

    def difference_update(self, actions: Iterable[str]) -> None:
        """Own their scores from now on."""
        if self._entry._borrowed:
            self._entry._borrowed = self._entry._borrowed.difference(actions)


def scores_of(scores: Mapping[str, float]) -> Scores:
    """`Scores` with the content of any mapping."""
    return Scores(tuple(map(sys.intern, scores)), array("d", scores.values()))
