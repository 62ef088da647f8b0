"""The values that every layer speaks of. Needs the standard library only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextState:
    """One state as the LLM sees it: what to achieve, what is seen, what may be done.

    Attributes:
        goal: the task text of the episode, constant within it ("go to the red ball").
        text: the description of the state (φ(s) for continuous environments).
        actions: the admissible symbolic actions; distinct, never empty, order is the order of
            every array over actions.
    """

    goal: str
    text: str
    actions: tuple[str, ...]
