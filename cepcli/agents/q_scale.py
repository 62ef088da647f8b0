"""The running scale of Q: what makes one temperature mean the same in every world."""

_DECAY = 0.97
_SMALLEST = 1e-3


class RunningSpread:
    """Running mean of max_a Q − min_a Q over states, corrected for its start at zero."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._weight = 0.0

    @property
    def mean(self) -> float:
        """The running mean; 0 before the first state."""
        return self._sum / self._weight if self._weight else 0.0

    def update(self, spread: float) -> None:
        """Take in the mean spread of one batch of states."""
        self._sum = _DECAY * self._sum + (1.0 - _DECAY) * spread
        self._weight = _DECAY * self._weight + (1.0 - _DECAY)

    def gain(self, q_range: float) -> float:
        """What Q is multiplied by so that its spread becomes `q_range`."""
        return q_range / max(self.mean, _SMALLEST)

    def state(self) -> list[float]:
        """For a checkpoint."""
        return [self._sum, self._weight]

    def restore(self, state: list[float]) -> None:
        """Take over what `state` returned."""
        self._sum, self._weight = state
