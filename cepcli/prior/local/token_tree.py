"""Several prompts and their candidate continuations as one row of tokens: a tree, not a batch.

Sequences that begin alike share their tokens; each token sees its ancestors only, through a 4-D
attention mask, and its position is its depth. One forward pass over the row then gives the
log-likelihood of every continuation of every prompt, without padding and without repeating a
prompt for each of its candidates. The last token of a continuation is only predicted, never read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray


@dataclass(frozen=True, slots=True)
class Branch:
    """One prompt and what may follow it, as token ids; each at least one token long.

    `dropped` is how many of the prompt's last tokens each continuation replaces; none if empty.
    """

    prompt: Sequence[int]
    continuations: Sequence[Sequence[int]]
    dropped: Sequence[int] = ()

    @property
    def shared(self) -> int:
        """How many first tokens of the prompt come before every continuation."""
        return len(self.prompt) - max(self.dropped, default=0)

    @property
    def size(self) -> int:
        """Tokens of the prompt and of all continuations, at most so many in a row."""
        return len(self.prompt) + sum(map(len, self.continuations))

    def behind(self, tokens: int) -> "Branch":
        """The branch without so many first tokens of its prompt."""
        return replace(self, prompt=self.prompt[tokens:])


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Nodes are tokens in an order in which parents come first.

    Attributes:
        tokens: token id of each node.
        parents: node before it, -1 for a first token.
        depths: tokens before it.
        readouts: the nodes whose predictions are needed, ascending.
        predictor: for each scored token, the index into `readouts` of the node that predicts it.
        target: for each scored token, its id.
        owner: for each scored token, the number of its continuation, over all branches in order.
        continuations: how many continuations there are.
    """

    tokens: Int[ndarray, " nodes"]
    parents: Int[ndarray, " nodes"]
    depths: Int[ndarray, " nodes"]
    readouts: Int[ndarray, " readouts"]
    predictor: Int[ndarray, " scored"]
    target: Int[ndarray, " scored"]
    owner: Int[ndarray, " scored"]
    continuations: int

    def ancestors(self) -> Bool[ndarray, "nodes nodes"]:
        """Row i is true where node i may look: at itself and at what leads to it."""
        mask = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                mask[node, : parent + 1] |= mask[parent, : parent + 1]
        return mask


def build_tree(branches: Sequence[Branch]) -> TokenTree:
    """The tree of all branches; a prefix they share appears once.

    Raises:
        ValueError: if a prompt or a continuation is empty.
    """
    nodes = _Nodes()
    scored: list[tuple[int, int, int]] = []  # predicting node, target token, continuation
    number = 0
    for branch in branches:
        if branch.shared < 1 or not all(branch.continuations):
            raise ValueError("A prompt and its continuations must hold at least one token each.")
        end = nodes.extend(-1, branch.prompt)
        for place, continuation in enumerate(branch.continuations):
            node = nodes.above(end, branch.dropped[place] if branch.dropped else 0)
            for position, token in enumerate(continuation):
                scored.append((node, token, number))
                if position + 1 < len(continuation):
                    node = nodes.extend(node, [token])
            number += 1
    predictors, targets, owners = np.array(scored, dtype=np.int64).reshape(-1, 3).T
    readouts, predictor = np.unique(predictors, return_inverse=True)
    return TokenTree(
        tokens=np.array(nodes.tokens, dtype=np.int64),
        parents=np.array(nodes.parents, dtype=np.int64),
        depths=np.array(nodes.depths, dtype=np.int64),
        readouts=readouts,
        predictor=predictor.astype(np.int64),
        target=targets,
        owner=owners,
        continuations=number,
    )


def pack(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Consecutive items grouped so that no group exceeds `capacity`, unless it is one item."""
    rows: list[list[int]] = []
    room = 0
    for item, size in enumerate(sizes):
        if not rows or size > room:
            rows.append([])
            room = capacity
        rows[-1].append(item)
        room -= size
    return rows


class _Nodes:
    """The growing tree; a (parent, token) pair exists once."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self._number: dict[tuple[int, int], int] = {}

    def extend(self, node: int, tokens: Sequence[int]) -> int:
        """Follow `tokens` below `node` (-1: the root), adding what is new; return the last node."""
        for token in tokens:
            key = (node, token)
            if key not in self._number:
                self._number[key] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(node)
                self.depths.append(self.depths[node] + 1 if node >= 0 else 0)
            node = self._number[key]
        return node

    def above(self, node: int, steps: int) -> int:
        """The ancestor of `node` so many steps up."""
        for _ in range(steps):
            node = self.parents[node]
        return node
