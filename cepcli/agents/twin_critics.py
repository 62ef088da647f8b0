"""What soft actor-critic and its kin ask of two critics: the smaller value, and its slope."""

import torch
from jaxtyping import Float
from torch import Tensor

from cepcli.agents.perceptrons import Perceptrons, Room, Rooms


def lower_value(
    critics: Perceptrons, pairs: Float[Tensor, "rows inputs"], room: Room
) -> Float[Tensor, " rows"]:
    """The smaller of two critics' values; `room` is overwritten."""
    first, second = (critic.forward(pairs, room) for critic in critics.members)
    return torch.minimum(first, second)[:, 0]


def lower_slope(
    critics: Perceptrons,
    pairs: Float[Tensor, "batch inputs"],
    columns: slice,
    rooms: tuple[Room, Room],
    gathering: Rooms,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch columns"]]:
    """min_i Q_i and its slope in some of the inputs: back through the smaller critic alone.

    `rooms` and `gathering` are for as many rows as `pairs`, and are overwritten.
    """
    networks = critics.members
    values = [network.forward(pairs, room) for network, room in zip(networks, rooms, strict=True)]
    lower = (values[0] <= values[1])[:, 0]
    width = len(range(*columns.indices(pairs.shape[1])))
    slope = pairs.new_empty(len(pairs), width)
    for network, room, mask in zip(networks, rooms, (lower, ~lower), strict=True):
        rows = mask.nonzero()[:, 0]
        slope[rows] = network.input_gradient(room, rows, columns, gathering.of(len(rows)))
    return torch.minimum(*values)[:, 0], slope
