"""Annotated states as arrays and columns, and the sentence form that their descriptions share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from cepcli.types import TextState

#: The only slot where most annotations do not say which phrase fills which: the whole description.
WHOLE = "description"


class Annotated(NamedTuple):
    """States with their labels, row by row.

    The goal is the task text of the state's environment, the primitive the best symbolic action;
    slots give phrases by slot, none where the description is in somebody's own words.
    """

    observations: Float[ndarray, "states features"]
    goals: tuple[str, ...]
    texts: tuple[str, ...]
    primitives: tuple[str, ...]
    slots: tuple[Mapping[str, str], ...]

    def take(self, rows: Sequence[int] | Int[ndarray, " rows"]) -> "Annotated":
        """Some of the rows."""
        taken: Any = [tuple(column[row] for row in rows) for column in self[1:]]
        return Annotated(self.observations[np.asarray(rows, np.int64)], *taken)

    @property
    def own_words(self) -> int:
        """How many descriptions are in somebody's own words, without phrases for slots."""
        return sum(not slots for slots in self.slots)

    def with_whole_texts(self) -> "Annotated":
        """The same with the description as its own slot, unless most states have slots."""
        if 2 * self.own_words < len(self.texts):
            return self
        return self._replace(slots=tuple({WHOLE: text} for text in self.texts))

    def states(self, actions: tuple[str, ...]) -> list[TextState]:
        """What the prior is asked about the states."""
        pairs = zip(self.goals, self.texts, strict=True)
        return [TextState(goal, text, actions) for goal, text in pairs]


def mislabelled(annotated: Annotated, share: float, random: np.random.Generator) -> Annotated:
    """The same states, a share of them with the labels of a state that is described otherwise.

    Fewer where states do not differ enough. The goals stay: a mistake is about what a state looks
    like and calls for, not about its task.
    """
    order = random.permutation(len(annotated.texts))[: round(share * len(annotated.texts))]
    source = np.arange(len(annotated.texts))
    texts = np.array(annotated.texts)
    for row in order.tolist():
        others = np.flatnonzero(texts != texts[row])
        if len(others):
            source[row] = random.choice(others)
    return annotated.take(source)._replace(
        observations=annotated.observations, goals=annotated.goals
    )


class Rollout(NamedTuple):
    """Part of an episode: the state before each reward."""

    observations: Float[ndarray, "steps features"]
    rewards: Float[ndarray, " steps"]


class SentenceForm(NamedTuple):
    """How the phrases of the slots make a description.

    Attributes:
        slots: in the order of the sentence.
        literals: what stands before, between and after their phrases; one more than slots.
        capitalised: whether a description begins with a capital, which no phrase need have.
    """

    slots: tuple[str, ...]
    literals: tuple[str, ...]
    capitalised: bool

    def compose(self, phrases: Sequence[str]) -> str:
        """The description with these phrases, one per slot."""
        pieces = [self.literals[0]]
        for phrase, after in zip(phrases, self.literals[1:], strict=True):
            pieces += (phrase, after)
        text = "".join(pieces)
        return text[:1].upper() + text[1:] if self.capitalised else text


def infer_form(texts: Sequence[str], slots: Sequence[Mapping[str, str]]) -> SentenceForm:
    """The form that most descriptions with slots have.

    It is read off them: where the phrases stand, and what stands between. Descriptions that a
    person rewrote, so that a phrase is not found, say nothing about it.
    """
    found: Counter[SentenceForm] = Counter()
    for text, phrases in zip(texts, slots, strict=True):
        form = _form_of(text, phrases)
        if form is not None:
            found[form] += 1
    if found:
        return found.most_common(1)[0][0]
    named = tuple(dict.fromkeys(slot for phrases in slots for slot in phrases))
    return SentenceForm(named, ("", *["; "] * (len(named) - 1), ""), capitalised=False)


def _form_of(text: str, phrases: Mapping[str, str]) -> SentenceForm | None:
    """The form of one description; None where a phrase is not in it."""
    spans: list[tuple[int, int, str]] = []
    folded = text.lower()
    for slot, phrase in sorted(phrases.items(), key=lambda pair: -len(pair[1])):
        start = _free(folded, phrase.lower(), spans)
        if start is None:
            return None
        spans.append((start, start + len(phrase), slot))
    if not spans:
        return None
    spans.sort()
    edges = [0, *(edge for start, end, _ in spans for edge in (start, end)), len(text)]
    literals = tuple(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))
    form = SentenceForm(tuple(slot for _, _, slot in spans), literals, text[:1].isupper())
    composed = form.compose([phrases[slot] for slot in form.slots])
    return form if composed == text else None


def _free(text: str, phrase: str, spans: Sequence[tuple[int, int, str]]) -> int | None:
    """Where `phrase` first stands in `text` outside `spans`; None where nowhere."""
    start = text.find(phrase) if phrase else -1
    while start >= 0:
        if all(end <= start or start + len(phrase) <= begin for begin, end, _ in spans):
            return start
        start = text.find(phrase, start + 1)
    return None
