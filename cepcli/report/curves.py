"""Learning curves as PNG, from finished or running runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from cepcli.errors import ArtifactError
from cepcli.report.comparison import Group, has_success
from cepcli.report.statistics import Tasks, performance_profile
from cepcli.whole_files import whole_file
from cepcli.workspace.artifacts import writing
from cepcli.workspace.metrics import read_metrics

mpl.use("Agg")

import matplotlib.pyplot as plt

_LEGEND_COLUMNS = 3
_LEVELS = 101  # of a profile
_DASHES = ("-", "--", ":")
#: What an offline run is shown by.
_LOSSES = (
    "train/td_loss", "train/conservative_loss", "train/value_loss", "train/policy_loss",
)  # fmt: skip
#: By whether episodes can be solved.
_AXIS = {True: "success rate", False: "return"}


def plot_run(run: Path) -> Path:
    """`curve.png` of one run: its score over its steps, and how decisions were answered.

    The score is success, or return where nothing can be solved. An offline run decides nothing: its
    losses are shown instead.
    """
    rows = read_metrics(run / "metrics.jsonl")
    solvable = any("eval/success_rate" in row for row in rows)
    score = "success_rate" if solvable else "return_mean"
    evaluations = [(r["step"], r[f"eval/{score}"]) for r in rows if f"eval/{score}" in r]
    training = [r for r in rows if f"train/{score}" in r]
    losses = sorted({key for r in rows for key in r if key in _LOSSES})
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, layout="constrained")
    steps = [r["step"] for r in training]
    if training:
        top.plot(steps, [r[f"train/{score}"] for r in training], color="0.6", label="training")
    if evaluations:
        top.plot(*zip(*evaluations, strict=True), marker="o", label="evaluation")
    top.set(ylabel=_AXIS[solvable], title=run.name.removesuffix(".partial"))
    _limit(top, solvable)
    if training or evaluations:
        top.legend()
    if training:
        _answers(bottom, training)
    else:
        for key in losses:
            told = [(r["step"], r[key]) for r in rows if key in r]
            bottom.plot(*zip(*told, strict=True), label=key.removeprefix("train/"))
        bottom.set(xlabel="gradient steps", ylabel="loss")
    if training or losses:
        bottom.legend()
    return save_picture(figure, run / "curve.png")


def _answers(axes: Any, training: Sequence[dict[str, Any]]) -> None:
    """How decisions were answered, in numbers."""
    shares = {
        "exact hits": [r["cache/hits_exact"] for r in training],
        "semantic hits": [r["cache/hits_semantic"] for r in training],
        "queries": [r["prior/queries"] for r in training],
    }
    for label, counts in shares.items():
        axes.plot([r["step"] for r in training], counts, label=label)
    axes.set(xlabel="steps", ylabel="decisions so far")


def plot_comparison(groups: Sequence[Group], path: Path) -> Path:
    """Held-out score over steps, and how decisions were answered; a line, a bar a group.

    Without the bars where there are no decisions, as under `sac`; groups without a finished run are
    not drawn.
    """
    groups = [group for group in groups if group.summaries]
    solvable = _solvable(groups)
    answered = any(summary["decisions"] for group in groups for summary in group.summaries)
    legend_rows = -(-len(groups) // _LEGEND_COLUMNS)
    height = max(4.0, 1.0 + 0.3 * len(groups)) + 0.25 * legend_rows
    columns = 2 if answered else 1
    figure, axes = plt.subplots(
        1, columns, figsize=(6 * columns, height), layout="constrained", squeeze=False
    )
    left = axes[0, 0]
    for number, group in enumerate(groups):
        steps, mean, low, high = _band(group.summaries, solvable)
        count = len(group.summaries)
        label = f"{group.label} ({count} seed{'s' if count > 1 else ''})"
        dashes = _DASHES[number // 10 % len(_DASHES)]
        [line] = left.plot(steps, mean, dashes, marker="o", markersize=4, label=label)
        left.fill_between(steps, low, high, alpha=0.15, color=line.get_color())
    left.set(xlabel="steps", ylabel=f"held-out {_AXIS[solvable]}")
    _limit(left, solvable)
    if answered:
        _stacked_answers(axes[0, 1], groups)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=_LEGEND_COLUMNS, fontsize=8)
    return save_picture(figure, path)


def plot_profiles(scores: Mapping[str, Tasks], path: Path) -> Path:
    """The share of runs above each score, with its pointwise interval; a line a setting."""
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    every = [score for tasks in scores.values() for own in tasks for score in own]
    levels = np.linspace(min(every), max(every), _LEVELS)
    for label, tasks in scores.items():
        found = performance_profile(tasks, levels.tolist())
        named = f"{label} (seeds of each task: {', '.join(str(len(own)) for own in tasks)})"
        [line] = axes.plot(levels, [one.mean for one in found], label=named)
        ends = np.array([(one.low, one.high) for one in found if one.low is not None])
        if len(ends):
            low, high = ends.T
            axes.fill_between(levels, low, high, alpha=0.15, color=line.get_color())
    axes.set(xlabel="score τ", ylabel="share of runs above τ", ylim=(-0.02, 1.02))
    axes.legend(fontsize=8)
    return save_picture(figure, path)


def plot_tradeoff(groups: Sequence[Group], path: Path) -> Path:
    """Score against queries per decision: a small point a seed, a large one their mean."""
    solvable = _solvable(groups)
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for group in groups:
        queries = group.values("queries_per_decision")
        scores = group.values("success" if solvable else "return")
        [mean] = axes.plot(np.mean(queries), np.mean(scores), "o", markersize=9, label=group.label)
        axes.plot(queries, scores, ".", color=mean.get_color(), alpha=0.6)
    axes.set(xlabel="LLM queries per decision", ylabel=f"held-out {_AXIS[solvable]}")
    _limit(axes, solvable)
    axes.set_xlim(left=0)
    axes.legend(fontsize=8)
    return save_picture(figure, path)


def _solvable(groups: Sequence[Group]) -> bool:
    """Whether success is what these runs have in common."""
    return all(has_success(summary) for group in groups for summary in group.summaries)


def _limit(axes: Any, solvable: bool) -> None:
    if solvable:
        axes.set_ylim(-0.02, 1.02)


def _band(summaries: Sequence[dict[str, Any]], solvable: bool) -> tuple[Any, Any, Any, Any]:
    """Steps that all seeds evaluated at, with mean, minimum and maximum of the score."""
    curve = "curve" if solvable else "return_curve"
    curves = [dict(map(tuple, summary["eval"][curve])) for summary in summaries]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = np.array([[curve[step] for step in steps] for curve in curves])
    return steps, values.mean(0), values.min(0), values.max(0)


def _stacked_answers(axes: Any, groups: Sequence[Group]) -> None:
    """How the decisions of each group were answered, as shares."""
    kinds = {
        "exact hit": lambda s: s["hits"]["exact"],
        "semantic hit": lambda s: s["hits"]["semantic"],
        "LLM query": lambda s: s["queries"]["total"],
    }
    left = np.zeros(len(groups))
    rows = np.arange(len(groups))
    for label, count in kinds.items():
        shares = np.array(
            [np.mean([count(s) / max(s["decisions"], 1) for s in g.summaries]) for g in groups]
        )
        axes.barh(rows, shares, left=left, label=label)
        left += shares
    axes.barh(rows, 1.0 - left, left=left, label="no LLM", color="0.9")
    axes.set_yticks(rows, [group.label for group in groups], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="share of decisions", xlim=(0, 1))
    axes.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def save_picture(figure: Any, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all, and close it."""
    if path.suffix != ".png" or (path.exists() and not path.is_file()):
        raise ArtifactError(f"`{path}` cannot hold a picture.", "Name a file that ends in .png.")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as new:
            figure.savefig(new, dpi=130, format="png")
        plt.close(figure)
    return path
