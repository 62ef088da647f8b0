"""Replay memory for text worlds: rows of an embedding table, and the log-priors of both states.

Texts are stored by row number, action sets padded with −1, log-priors padded with −inf, so that a
batch is a few array reads and an update never asks the LLM.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

NO_ACTION = -1


@dataclass(frozen=True, slots=True)
class StateRows:
    """A state by row numbers: its goal, its text, its admissible actions and their log-prior."""

    goal: int
    text: int
    actions: tuple[int, ...]
    log_prior: tuple[float, ...]


class Transition(NamedTuple):
    """One n-step transition.

    `discount` is γ^n, or 0 when the episode terminated inside the n steps; truncation keeps γ^n.
    """

    state: StateRows
    action: int
    reward: float
    next_state: StateRows
    discount: float


class StateBatch(NamedTuple):
    """States as padded arrays: goal [B], text [B], actions [B, A], log_prior [B, A]."""

    goal: np.ndarray
    text: np.ndarray
    actions: np.ndarray
    log_prior: np.ndarray


class Batch(NamedTuple):
    """Transitions as padded arrays; `action` indexes the second axis of `state.actions`."""

    state: StateBatch
    action: np.ndarray
    reward: np.ndarray
    next_state: StateBatch
    discount: np.ndarray


class NStepWindow:
    """Turns single steps into n-step transitions.

    The step into a time limit is left out: its successor's prior was never asked for, and asking
    would cost a query that no decision needs. The steps before it bootstrap from the last state
    whose prior is known, so a time limit is never learned as an end.
    """

    def __init__(self, n: int, discount: float) -> None:
        self._n = n
        self._discount = discount
        self._pending: list[tuple[StateRows, int, float]] = []

    def arrive(self, state: StateRows) -> list[Transition]:
        """A new state with its prior is known; returns what it completes."""
        if len(self._pending) < self._n:
            return []
        done = self._transition(0, state, terminated=False)
        self._pending.pop(0)
        return [done]

    def step(self, state: StateRows, action: int, reward: float) -> None:
        """The action taken in `state` and its reward."""
        self._pending.append((state, action, reward))

    def terminate(self) -> list[Transition]:
        """The episode ended in a terminal state."""
        return self._all_to(self._pending[-1][0], terminated=True)

    def truncate(self) -> list[Transition]:
        """The episode was cut short by its time limit."""
        return self._all_to(self._pending.pop()[0], terminated=False)

    def _all_to(self, last: StateRows, *, terminated: bool) -> list[Transition]:
        """Every pending step as a transition to the episode's last state."""
        count = len(self._pending)
        done = [self._transition(i, last, terminated=terminated) for i in range(count)]
        self._pending.clear()
        return done

    def _transition(self, start: int, end: StateRows, *, terminated: bool) -> Transition:
        steps = self._pending[start:]
        reward = sum(self._discount**k * r for k, (_, _, r) in enumerate(steps))
        discount = 0.0 if terminated else self._discount ** len(steps)
        return Transition(steps[0][0], steps[0][1], reward, end, discount)

    def state(self) -> list[Any]:
        """The pending steps as JSON values, for a checkpoint."""
        return [
            [s.goal, s.text, list(s.actions), list(s.log_prior), action, reward]
            for s, action, reward in self._pending
        ]

    def restore(self, pending: list[Any]) -> None:
        """Take over what `state` returned."""
        self._pending = [
            (StateRows(goal, text, tuple(actions), tuple(log_prior)), action, reward)
            for goal, text, actions, log_prior, action, reward in pending
        ]


class TextReplay:
    """A ring of transitions that grows to `capacity`, then forgets the oldest."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._next = 0
        self._size = 0
        self._arrays = _allocate(min(capacity, 256), 8)

    def __len__(self) -> int:
        return self._size

    def add(self, transition: Transition) -> None:
        """Store one transition."""
        self._make_room(len(transition.state.actions), len(transition.next_state.actions))
        arrays, i = self._arrays, self._next
        arrays["action"][i] = transition.action
        arrays["reward"][i] = transition.reward
        arrays["discount"][i] = transition.discount
        for prefix, state in (("state", transition.state), ("next", transition.next_state)):
            count = len(state.actions)
            arrays[f"{prefix}_goal"][i] = state.goal
            arrays[f"{prefix}_text"][i] = state.text
            arrays[f"{prefix}_actions"][i] = NO_ACTION
            arrays[f"{prefix}_actions"][i, :count] = state.actions
            arrays[f"{prefix}_log_prior"][i] = -np.inf
            arrays[f"{prefix}_log_prior"][i, :count] = state.log_prior
        self._next = (i + 1) % self._capacity
        self._size = min(self._size + 1, self._capacity)

    def sample(self, count: int, generator: np.random.Generator) -> Batch:
        """`count` transitions drawn uniformly with replacement."""
        rows = generator.integers(self._size, size=count)
        return Batch(
            self._states("state", rows),
            self._arrays["action"][rows],
            self._arrays["reward"][rows],
            self._states("next", rows),
            self._arrays["discount"][rows],
        )

    def state(self) -> dict[str, np.ndarray]:
        """All arrays, for a checkpoint."""
        filled = {name: array[: self._size] for name, array in self._arrays.items()}
        return {**filled, "cursor": np.array([self._next])}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `state` returned."""
        arrays = dict(arrays)
        self._next = int(arrays.pop("cursor")[0])
        self._size = len(arrays["action"])
        self._arrays = _allocate(max(self._size, 1), arrays["state_actions"].shape[1])
        for name, array in arrays.items():
            self._arrays[name][: self._size] = array

    def _states(self, prefix: str, rows: np.ndarray) -> StateBatch:
        actions = self._arrays[f"{prefix}_actions"][rows]
        width = int((actions != NO_ACTION).sum(1).max())
        return StateBatch(
            self._arrays[f"{prefix}_goal"][rows],
            self._arrays[f"{prefix}_text"][rows],
            actions[:, :width],
            self._arrays[f"{prefix}_log_prior"][rows][:, :width],
        )

    def _make_room(self, *widths: int) -> None:
        length, width = self._arrays["state_actions"].shape
        full = self._next >= length
        wanted = min(2 * length, self._capacity) if full else length, max(width, *widths)
        if wanted == (length, width):
            return
        grown = _allocate(*wanted)
        for name, array in self._arrays.items():
            grown[name][tuple(slice(0, extent) for extent in array.shape)] = array
        self._arrays = grown


def _allocate(length: int, width: int) -> dict[str, np.ndarray]:
    states = {
        f"{prefix}_{name}": np.full(shape, value, kind)
        for prefix in ("state", "next")
        for name, shape, value, kind in (
            ("goal", length, 0, np.int32),
            ("text", length, 0, np.int32),
            ("actions", (length, width), NO_ACTION, np.int32),
            ("log_prior", (length, width), -np.inf, np.float32),
        )
    }
    return {
        "action": np.zeros(length, np.int64),
        "reward": np.zeros(length, np.float32),
        "discount": np.zeros(length, np.float32),
        **states,
    }
