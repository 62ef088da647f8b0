"""Small datasets of control, and D4RL files made of them, whole or damaged."""

from itertools import pairwise

import h5py
import numpy as np

from cepcli.datasets.columns import COLUMNS
from cepcli.datasets.d4rl import read_d4rl, write_d4rl
from cepcli.datasets.dataset import ControlData
from cepcli.workspace.artifacts import Workspace


def walker(ends=(("terminated", 19), ("truncated", 39), ("truncated", 49)), seed=0):
    """Random walker2d transitions that look like some; episodes end where `ends` says."""
    random = np.random.default_rng(seed)
    steps = ends[-1][1] + 1
    starts = [0, *(at + 1 for _, at in ends)]
    states, following = [], []
    for start, stop in pairwise(starts):
        episode = random.normal(size=(stop - start + 1, 17)).astype(np.float32)
        episode[:, 0] = 1.2
        states.append(episode[:-1])
        following.append(episode[1:])
    flags = {name: np.zeros(steps, bool) for name in ("terminated", "truncated")}
    for name, at in ends:
        flags[name][at] = True
    return ControlData(
        "walker2d",
        "made up",
        np.concatenate(states),
        random.uniform(-1, 1, (steps, 6)).astype(np.float32),
        random.normal(size=steps).astype(np.float32),
        np.concatenate(following),
        flags["terminated"],
        flags["truncated"],
    )


def d4rl_file(path, data=None, without=(), **columns):
    """A file in D4RL's layout with some columns left out or replaced; no env is written."""
    write_d4rl(path, data or walker())
    with h5py.File(path, "a") as file:
        file.attrs.clear()
        for name in (*without, *columns):
            if name in file:
                del file[name]
        for name, values in columns.items():
            file[name] = values
    return path


def read(path, root, env=None):
    """A file's data, and what was said about them."""
    said = []
    data = read_d4rl(path, env=env, workspace=Workspace(root), notify=said.append)
    return data, said


def same(one, other, *, but=()):
    """Whether two datasets hold the same arrays."""
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in COLUMNS
        if name not in but
    )
