"""The Pareto picture of a replay: LLM queries against the error of reused priors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cepcli.report.curves import plt, save_picture


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Numbers of the points that no other one beats in both coordinates, by the first one."""
    order = sorted(range(len(points)), key=lambda i: points[i])
    kept: list[int] = []
    for number in order:
        if not kept or points[number][1] < points[kept[-1]][1]:
            kept.append(number)
    return kept


def rivals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each `certified` row what fixed thresholds need at its error.

    A rival is a row with a fixed threshold; those whose KL p95 is at most that of the certified row
    compete, and the one with the fewest queries is the best. It knew the trace beforehand.

    Returns:
        Per certified row: `kl_p95`, `queries_per_decision`, and `best`, the best rival's row, or
        None if every rival errs more.
    """
    fixed = [row for row in rows if row["cache"] in ("lru", "fifo")]
    found = []
    for row in rows:
        if row["cache"] != "certified" or not fixed:
            continue
        fair = [one for one in fixed if one["kl_p95"] <= row["kl_p95"]]
        best = min(fair, key=lambda one: one["queries_per_decision"], default=None)
        figures = {key: row[key] for key in ("kl_p95", "queries_per_decision")}
        found.append({**figures, "best": best})
    return found


def plot_pareto(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Queries per decision against the KL's 95th percentile, a point per setting."""
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    points = [(row["queries_per_decision"], row["kl_p95"]) for row in rows]
    labels = [_label(row) for row in rows]
    for label in dict.fromkeys(labels):
        own = [point for point, its in zip(points, labels, strict=True) if its == label]
        axes.plot(*zip(*own, strict=True), "o", label=label)
    front = [points[number] for number in pareto(points)]
    axes.plot(*zip(*front, strict=True), color="0.7", zorder=0, label="Pareto front")
    axes.set(xlabel="LLM queries per decision", ylabel="KL of semantic hits, 95th percentile, nats")
    axes.set_xlim(left=0)
    axes.legend()
    return save_picture(figure, path)


def _label(row: dict[str, Any]) -> str:
    return f"{row['cache']}, no gate" if row.get("gate") == "off" else row["cache"]
