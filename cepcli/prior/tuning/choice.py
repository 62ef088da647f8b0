"""Which demonstrated episodes a tuning learns from: few-shot results hang on the choice."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.errors import PriorError
from cepcli.prior.config import Choice
from cepcli.prior.tuning.decisions import ExpertDecision, episodes
from cepcli.seeding import generator

#: Above so many different actions they are told apart by their first word alone: "click" of
#: "click[buy now]".
_MOST_ACTIONS = 32
_WORD = re.compile(r"\w+")


def choose_shots(
    decisions: Sequence[ExpertDecision], shots: int, seed: int, choice: Choice = "random"
) -> list[ExpertDecision]:
    """The decisions of `shots` episodes.

    Fewer shots of the same seed and choice are a subset of more.

    Args:
        decisions: of all demonstrated episodes.
        shots: how many episodes to choose.
        seed: of the order; of the first episode, and of ties, where the choice is not random.
        choice: "random"; "diverse": each the farthest from those before, by the words of goal,
            texts and the expert's actions (the greedy k-centre of Gonzalez 1985); "stratified":
            each such that the expert's actions come as evenly as they can.

    Raises:
        PriorError: if there are fewer episodes.
    """
    by_episode = episodes(decisions)
    if len(by_episode) < shots:
        raise PriorError(
            f"{shots} shots need as many demonstrated episodes; there are {len(by_episode)}.",
            f"Take fewer, or record more: cep prior demos --env ID --episodes {shots} --name NAME",
        )
    names = sorted(by_episode)
    order = generator(seed, "shots").permutation(len(names)).tolist()
    if choice == "diverse":
        order = _diverse(_words([by_episode[names[i]] for i in order]), order, shots)
    elif choice == "stratified":
        order = _stratified(_actions([by_episode[names[i]] for i in order]), order, shots)
    return [decision for i in order[:shots] for decision in by_episode[names[i]]]


def _diverse(
    words: Float[ndarray, "episodes words"], order: Sequence[int], shots: int
) -> list[int]:
    """`order` rearranged; its rows are those of `words`."""
    farthest = np.full(len(order), np.inf)
    chosen = [0]
    while len(chosen) < shots:
        farthest = np.minimum(farthest, 1.0 - words @ words[chosen[-1]])
        farthest[chosen] = -1.0
        chosen.append(int(farthest.argmax()))
    return [order[row] for row in chosen]


def _stratified(
    counts: Float[ndarray, "episodes actions"], order: Sequence[int], shots: int
) -> list[int]:
    """`order` rearranged; its rows are those of `counts`."""
    total = counts[0]
    chosen = [0]
    while len(chosen) < shots:
        entropies = _entropy(total + counts)
        entropies[chosen] = -1.0
        chosen.append(int(entropies.argmax()))
        total = total + counts[chosen[-1]]
    return [order[row] for row in chosen]


def _entropy(counts: Float[ndarray, "rows actions"]) -> Float[ndarray, " rows"]:
    shares = counts / counts.sum(1, keepdims=True)
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(1)


def _words(members: Sequence[Sequence[ExpertDecision]]) -> Float[ndarray, "episodes words"]:
    """Which words an episode has, each weighed by its rarity, as unit vectors."""
    there = []
    for episode in members:
        lines = [line for d in episode for line in (d.state.goal, d.state.text, d.action)]
        # an episode without a word has one, so that no vector is 0
        there.append({word for line in lines for word in _WORD.findall(line.lower())} or {""})
    frequency = Counter(word for words in there for word in words)
    column = {word: i for i, word in enumerate(sorted(frequency))}
    rows = np.zeros((len(there), len(column)))
    for row, words in zip(rows, there, strict=True):
        for word in words:
            row[column[word]] = np.log((1 + len(there)) / frequency[word])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _actions(members: Sequence[Sequence[ExpertDecision]]) -> Float[ndarray, "episodes actions"]:
    """How often the expert took each kind of action in an episode."""
    taken = [[decision.action for decision in episode] for episode in members]
    if len({action for actions in taken for action in actions}) > _MOST_ACTIONS:
        taken = [
            [(_WORD.findall(action) or [action])[0] for action in actions] for actions in taken
        ]
    kinds = sorted({action for actions in taken for action in actions})
    counts = [Counter(actions) for actions in taken]
    return np.array([[count[kind] for kind in kinds] for count in counts], float)
