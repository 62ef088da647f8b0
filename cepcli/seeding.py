"""One seed in, named independent streams out."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_seed(seed: int, name: str) -> int:
    """A 63-bit seed for the stream `name`, independent of every other stream of `seed`."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, name: str) -> np.random.Generator:
    """A NumPy generator for the stream `name` of `seed`."""
    return np.random.default_rng(stream_seed(seed, name))


def torch_generator(seed: int, name: str) -> "torch.Generator":
    """A CPU torch generator for the stream `name` of `seed`."""
    import torch

    return torch.Generator().manual_seed(stream_seed(seed, name))
