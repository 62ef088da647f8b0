"""Shots of continuous control, where no expert speaks: small groups of annotated states.

A text may be annotated more than once. All its states are on one side of the split, or what was
learned by heart would count as held out.
"""

from collections.abc import Sequence

from cepcli.errors import PriorError
from cepcli.prior.decisions import Decision
from cepcli.seeding import generator
from cepcli.types import TextState

#: Annotated states that make a shot.
STATES_PER_SHOT = 5
_HELDOUT = 0.3  # share of the distinct texts

Labelled = tuple[TextState, str]


def split_labelled(labelled: Sequence[Labelled]) -> tuple[list[Decision], list[Decision]]:
    """Annotated states to tune on, as shots, and held-out ones; the same for the same states.

    An "episode" is a shot, an "instance" a distinct text.
    """
    texts = list(dict.fromkeys((state.goal, state.text) for state, _ in labelled))
    order = generator(0, "shots of annotations").permutation(len(texts))
    rank = {texts[number]: int(place) for place, number in enumerate(order)}
    ranked = sorted(labelled, key=lambda pair: rank[pair[0].goal, pair[0].text])
    first = round(_HELDOUT * len(texts))

    def decisions(pairs: Sequence[Labelled]) -> list[Decision]:
        return [
            Decision(
                episode=number // STATES_PER_SHOT,
                instance=rank[state.goal, state.text],
                step=number % STATES_PER_SHOT,
                state=state,
                action=action,
            )
            for number, (state, action) in enumerate(pairs)
        ]

    heldout = [pair for pair in ranked if rank[pair[0].goal, pair[0].text] < first]
    return decisions(ranked[len(heldout) :]), decisions(heldout)


def check_shots(train: Sequence[Decision], shots: int, env_id: str) -> None:
    """Refuse more shots than there are annotations for.

    Raises:
        PriorError: saying how many there are.
    """
    there = train[-1].episode + 1 if train else 0
    if there < shots:
        raise PriorError(
            f"{shots} shots of {env_id} need {shots * STATES_PER_SHOT} annotated states to tune "
            f"on; there are {len(train)}, which makes {there} shots.",
            f"Annotate more (cep annotate auto --env {env_id}), or pass --shots {there}.",
        )
