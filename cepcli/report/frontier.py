"""Hits against the score that is left: which settings of a cache no other one beats."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cepcli.report.curves import plt, save_picture


def unbeaten(points: Sequence[tuple[float, float]]) -> list[int]:
    """Numbers of the points that no other one beats: at least as large in both, larger in one."""
    return [
        number
        for number, point in enumerate(points)
        if not any(
            other[0] >= point[0] and other[1] >= point[1] and other != point for other in points
        )
    ]


def plot_frontier(points: Mapping[str, tuple[float, float]], path: Path) -> Path:
    """A labelled point per setting (share of hits, score), those that are unbeaten joined."""
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    names, values = list(points), list(points.values())
    best = unbeaten(values)
    rest = [value for number, value in enumerate(values) if number not in best]
    if rest:
        axes.plot(*zip(*rest, strict=True), "o", color="0.6", label="beaten by another one")
    joined = sorted(values[number] for number in best)
    axes.plot(*zip(*joined, strict=True), "o-", label="Pareto points")
    for name, value in zip(names, values, strict=True):
        axes.annotate(name, value, xytext=(5, 5), textcoords="offset points", fontsize=8)
    axes.set(xlabel="share of decisions without a query", ylabel="held-out score")
    axes.legend()
    return save_picture(figure, path)
