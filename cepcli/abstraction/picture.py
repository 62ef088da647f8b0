"""The keys of a bank on a plane: their two principal components, coloured by primitive."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy import ndarray

from cepcli.abstraction.states import Abstraction

_COLOURS = 10  # of matplotlib's default cycle


def plot_map(abstraction: Abstraction, heldout: Float32[ndarray, "states dim"], path: Path) -> None:
    """Write the map as PNG; annotations are large points, propagated labels small, held-out rings.

    Args:
        abstraction: whose bank is shown.
        heldout: keys of states that are not in the bank.
        path: of the picture.
    """
    bank = abstraction.bank
    centre = bank.keys.mean(0)
    _, variances, directions = np.linalg.svd(bank.keys - centre, full_matrices=False)
    plane = directions[:2].T
    share = variances[:2] ** 2 / max(float((variances**2).sum()), np.finfo(float).tiny)

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = (bank.keys - centre) @ plane
    primitives = bank.codes[:, -1]
    for code in np.unique(primitives):
        name = abstraction.primitives[code] if code >= 0 else "none"
        here = primitives == code
        for shown, size in ((here & ~bank.annotated, 4), (here & bank.annotated, 28)):
            label = name if size > 4 else None
            axes.scatter(*points[shown].T, s=size, color=f"C{code % _COLOURS}", label=label)
    rings = (heldout - centre) @ plane
    axes.scatter(*rings.T, s=40, facecolors="none", edgecolors="0.3", label="held out")
    axes.set(
        title=f"Keys of {abstraction.family}, by primitive",
        xlabel=f"first principal component, {share[0]:.0%} of the variance",
        ylabel=f"second, {share[1]:.0%}",
    )
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)
