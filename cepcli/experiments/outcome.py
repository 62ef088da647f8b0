"""What a sweep came to: a row per variant, what was measured, the picture, all as an artifact."""

from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w

from cepcli.experiments.ablation import Column
from cepcli.experiments.plan import SweepPlan
from cepcli.report.comparison import (
    FIGURES,
    Group,
    as_json,
    estimated,
    has_success,
    load_groups,
    score,
)
from cepcli.report.frames import write_frame
from cepcli.report.plots import plot_frontier, plot_tradeoff, unbeaten
from cepcli.report.saved_runs import read_finished
from cepcli.report.statistics import Estimate
from cepcli.workspace.artifacts import Artifact, Workspace, read_json, write_json, writing


def groups_of(plan: SweepPlan, workspace: Workspace) -> list[Group]:
    """The finished runs of each variant, in the order of the variants."""
    found: list[Group] = []
    for variant in dict.fromkeys(job.variant for job in plan.jobs):
        runs = [job.run for job in plan.jobs if job.variant == variant]
        found += [Group(variant, group.summaries) for group in load_groups(workspace, runs)]
    return found


def table(plan: SweepPlan, groups: Sequence[Group], workspace: Workspace) -> list[dict[str, Any]]:
    """One row per variant: figures over seeds with their intervals, and retention.

    Retention is the score of each seed over that of the baseline with the same seed, where that is
    above 0. "unbeaten" says, where the ablation has a frontier, that no other variant has both a
    higher score and a larger share of hits.
    """
    [baseline] = [group for group in groups if group.label == plan.setup.baseline]
    reference = {s["seed"]: score(s) for s in baseline.summaries}
    rows = []
    for group in groups:
        row: dict[str, Any] = {"variant": group.label, "seeds": len(group.summaries)}
        row["retention"] = _retention(group.summaries, reference)
        for key in plan.ablation.figures:
            row[key] = as_json(group.estimate(key))
        for column in plan.ablation.columns:
            row[column.title] = estimated(_of_artifacts(column, group, workspace))
        rows.append(row)
    if plan.ablation.frontier:
        best = unbeaten([frontier_point(group) for group in groups])
        for number, row in enumerate(rows):
            row["unbeaten"] = number in best
    return rows


def _retention(
    summaries: Sequence[Mapping[str, Any]], reference: Mapping[int, float]
) -> dict[str, Any] | None:
    """What is kept of the reference's score under the same seed, over the seeds that had one."""
    scored = [dict(s) for s in summaries if reference.get(s["seed"], 0.0) > 0.0]
    if not scored:
        return None
    scores, base = [score(s) for s in scored], [reference[s["seed"]] for s in scored]
    if all(map(has_success, scored)):
        episodes = [s["eval"]["episodes"] for s in scored]
        return as_json(Estimate.of_rates(scores, episodes, base))
    return estimated([mine / theirs for mine, theirs in zip(scores, base, strict=True)])


def frontier_point(group: Group) -> tuple[float, float]:
    """Mean share of decisions that needed no query, and mean score."""
    saved = group.values("queries_saved")
    scores = [score(summary) for summary in group.summaries]
    return sum(saved) / len(saved), sum(scores) / len(scores)


def shown(plan: SweepPlan, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Key, title and format of the columns that say anything: success is none of walking."""
    columns = [(key, FIGURES[key][0], FIGURES[key][2]) for key in plan.ablation.figures]
    columns += [(one.title, one.title, one.form) for one in plan.ablation.columns]
    told = [column for column in columns if any(row[column[0]] is not None for row in rows)]
    return [("retention", f"retention of {plan.setup.baseline}", ".0%"), *told]


def measured_rows(plan: SweepPlan) -> list[dict[str, Any]]:
    """One row per variant and case: what was measured, over seeds; none without a measurement."""
    measurement = plan.ablation.measurement
    if measurement is None:
        return []
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for job in plan.jobs:
        file = plan.measured(job)
        for case in read_json(file)["rows"] if file is not None else []:
            found.setdefault((job.variant, case["case"]), []).append(case)
    return [
        {
            "variant": variant,
            "case": case,
            "seeds": len(cases),
            **{column.title: estimated(_told(column, cases)) for column in measurement.columns},
        }
        for (variant, case), cases in found.items()
    ]


def store(
    plan: SweepPlan,
    groups: Sequence[Group],
    rows: Sequence[dict[str, Any]],
    measured: Sequence[dict[str, Any]],
    workspace: Workspace,
) -> Artifact:
    """The result as an artifact: a row per run (parquet), the tables (JSON), the picture (PNG)."""
    import pandas as pd

    with workspace.lock("ablation", plan.name):
        folder = workspace.begin("ablation", plan.name, overwrite=True)
        with writing(workspace.root):
            base = {key: value for key, value in plan.jobs[0].config.items() if key != "seed"}
            (folder / "config.toml").write_text(tomli_w.dumps(base), encoding="utf-8")
            result = {
                "ablation": plan.ablation.name,
                "question": plan.ablation.question,
                "env": plan.setup.env,
                "baseline": plan.setup.baseline,
                "rows": list(rows),
            }
            if measured:
                result["measured"] = list(measured)
            write_json(folder / "summary.json", result)
            runs = [
                {"variant": group.label, "seed": summary["seed"], "run": summary["run"],
                 **{key: FIGURES[key][1](summary) for key in plan.ablation.figures}}
                for group in groups for summary in group.summaries
            ]  # fmt: skip
            write_frame(pd.DataFrame(runs), folder / "runs.parquet", "parquet")
            plot_tradeoff(groups, folder / "tradeoff.png")
            if plan.ablation.frontier:
                points = {group.label: frontier_point(group) for group in groups}
                plot_frontier(points, folder / "frontier.png")
        inputs = [workspace.open("run", job.run).reference for job in plan.jobs]
        return workspace.finish("ablation", plan.name, seed=None, inputs=inputs)


def _of_artifacts(column: Column, group: Group, workspace: Workspace) -> list[float]:
    """What the artifacts that the runs used say of themselves; nothing of what has no report."""
    found = []
    for summary in group.summaries:
        name = read_finished(workspace, summary["run"]).config.get(column.artifact)
        if name in workspace.names(column.artifact):
            report = workspace.open(column.artifact, name).path / "report.json"
            found += _told(column, [read_json(report)])
    return found


def _told(column: Column, reports: Sequence[Mapping[str, Any]]) -> list[float]:
    """A column's value in each report that has it."""
    found = []
    for report in reports:
        value: Any = report
        for key in column.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            found.append(float(value))
    return found
