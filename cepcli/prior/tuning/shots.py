"""Shots of continuous control, where no expert speaks: small groups of annotated states.

A text may be annotated more than once, and under several goals. All its states are on one side of
the split, or what was learned by heart would count as held out; and the text alone decides which
side that is, or annotations that are added later would carry others across.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from cepcli.errors import PriorError
from cepcli.prior.tuning.decisions import Decision
from cepcli.types import TextState

#: Annotated states that make a shot.
STATES_PER_SHOT = 5
#: Shares of the distinct texts, about.
_VALIDATION, _TEST = 0.15, 0.15
#: Chosen, before anything was tuned, so that the families that ship have sides of like size.
_SALT = "23"

Labelled = tuple[TextState, str]


class Shots(NamedTuple):
    """Annotated states on three sides; an "episode" is a shot, an "instance" a distinct text."""

    train: list[Decision]
    validation: list[Decision]
    test: list[Decision]


def split_labelled(labelled: Sequence[Labelled], env_id: str) -> Shots:
    """Annotated states to tune on, to stop by, and to report on.

    Raises:
        PriorError: if one of the sides is empty.
    """
    ranked = sorted(labelled, key=lambda pair: _place(pair[0].text))
    places = [_place(state.text) for state, _ in ranked]
    first = sum(place < _VALIDATION for place in places)
    second = sum(place < _VALIDATION + _TEST for place in places)
    sides = ranked[second:], ranked[:first], ranked[first:second]
    if not all(sides):
        raise PriorError(
            f"{len(labelled)} annotated states of {env_id} are too few to tune on, to stop by and "
            "to report on.",
            f"Annotate more: cep annotate auto --env {env_id}",
        )
    return Shots(*map(_decisions, sides))


def _place(text: str) -> float:
    """Where a text stands in [0, 1), whatever other texts there are."""
    return int.from_bytes(hashlib.sha256(f"{_SALT}{text}".encode()).digest()[:8], "big") / 2**64


def _decisions(pairs: Sequence[Labelled]) -> list[Decision]:
    texts = {text: n for n, text in enumerate(dict.fromkeys(state.text for state, _ in pairs))}
    return [
        Decision(
            episode=number // STATES_PER_SHOT,
            instance=texts[state.text],
            step=number % STATES_PER_SHOT,
            state=state,
            action=action,
        )
        for number, (state, action) in enumerate(pairs)
    ]


def check_shots(train: Sequence[Decision], shots: int, env_id: str) -> None:
    """Refuse more shots than there are annotations for.

    Raises:
        PriorError: saying how many there are.
    """
    there = train[-1].episode + 1 if train else 0
    if there < shots:
        raise PriorError(
            f"{shots} shots of {env_id} need {shots} groups of {STATES_PER_SHOT} annotated states "
            f"to tune on; there are {len(train)} states, which makes {there} shots.",
            f"Annotate more (cep annotate auto --env {env_id}), or pass --shots {there}.",
        )
