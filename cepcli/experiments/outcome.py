"""What a sweep came to: a row per variant, what was measured, the picture, all as an artifact."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tomli_w

from cepcli.experiments.ablation import Ablation, Column
from cepcli.experiments.tasks import Plan
from cepcli.report.comparison import (
    FIGURES,
    Group,
    as_json,
    estimated,
    has_success,
    load_groups,
    score,
)
from cepcli.report.curves import plot_tradeoff
from cepcli.report.frontier import plot_frontier, unbeaten
from cepcli.report.statistics import Estimate
from cepcli.workspace.artifacts import Artifact, Workspace, read_json, write_json, writing

_RETENTION = "retention"


def groups_of(plan: Plan, workspace: Workspace) -> list[Group]:
    """The finished runs of each variant, in the order of the variants."""
    by_variant: dict[str, list[str]] = {}
    for job in plan.jobs:
        by_variant.setdefault(job.variant, []).append(job.run)
    groups = []
    for variant, runs in by_variant.items():
        [group] = load_groups(workspace, runs)
        groups.append(Group(variant, group.summaries))
    return groups


def table(plan: Plan, groups: Sequence[Group], workspace: Workspace) -> list[dict[str, Any]]:
    """One row per variant: figures over seeds with their intervals, and retention.

    Retention is the score of each seed over that of the baseline with the same seed, where that is
    above 0. "unbeaten" says, where the ablation has a frontier, that no other variant has both a
    higher score and a larger share of hits.
    """
    [baseline] = [group for group in groups if group.label == plan.world.baseline]
    reference = {s["seed"]: score(s) for s in baseline.summaries}
    rows = []
    for group in groups:
        row: dict[str, Any] = {"variant": group.label, "seeds": len(group.summaries)}
        row[_RETENTION] = _retention(group.summaries, reference)
        for key in plan.ablation.figures:
            row[key] = as_json(group.estimate(key))
        for column in plan.ablation.columns:
            row[column.title] = estimated(_of_artifacts(column, group, workspace))
        rows.append(row)
    if plan.ablation.frontier:
        points = [frontier_point(group) for group in groups]
        best = unbeaten(points)
        for number, row in enumerate(rows):
            row["unbeaten"] = number in best
    return rows


def _retention(
    summaries: Sequence[Mapping[str, Any]], reference: Mapping[int, float]
) -> dict[str, Any] | None:
    """What is kept of the reference's score under the same seed, over the seeds that had one."""
    kept = [dict(s) for s in summaries if reference.get(s["seed"], 0.0) > 0.0]
    if not kept:
        return None
    scores, base = [score(s) for s in kept], [reference[s["seed"]] for s in kept]
    if all(map(has_success, kept)):
        episodes = [s["eval"]["episodes"] for s in kept]
        return as_json(Estimate.of_retentions(scores, base, episodes))
    return estimated([mine / theirs for mine, theirs in zip(scores, base, strict=True)])


def frontier_point(group: Group) -> tuple[float, float]:
    """Mean share of decisions that needed no query, and mean score."""
    saved = group.values("queries_saved")
    scores = [score(summary) for summary in group.summaries]
    return sum(saved) / len(saved), sum(scores) / len(scores)


def shown(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Key, title and format of the columns that say anything: success is none of walking."""
    columns = [(key, FIGURES[key][0], FIGURES[key][2]) for key in plan.ablation.figures]
    columns += [(one.title, one.title, one.form) for one in plan.ablation.columns]
    told = [column for column in columns if any(row[column[0]] is not None for row in rows)]
    return [(_RETENTION, f"retention of {plan.world.baseline}", ".0%"), *told]


def measured_rows(plan: Plan) -> list[dict[str, Any]]:
    """One row per variant and case: what was measured, over seeds; none without a measurement."""
    measurement = plan.ablation.measurement
    if measurement is None:
        return []
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for job in plan.jobs:
        file = plan.measured(job)
        if file is not None:
            for case in read_json(file)["rows"]:
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
    plan: Plan,
    groups: Sequence[Group],
    rows: Sequence[dict[str, Any]],
    measured: Sequence[dict[str, Any]],
    workspace: Workspace,
) -> Artifact:
    """The result as an artifact: a row per run (parquet), the tables (JSON), the picture (PNG)."""
    import pyarrow as pa
    from pyarrow import parquet

    with workspace.lock("ablation", plan.name):
        folder = workspace.begin("ablation", plan.name, overwrite=True)
        with writing(workspace.root):
            base = {key: value for key, value in plan.jobs[0].config.items() if key != "seed"}
            (folder / "config.toml").write_text(tomli_w.dumps(base), encoding="utf-8")
            result = {
                "ablation": plan.ablation.name,
                "question": plan.ablation.question,
                "env": plan.world.env,
                "baseline": plan.world.baseline,
                "rows": list(rows),
            }
            if measured:
                result["measured"] = list(measured)
            write_json(folder / "summary.json", result)
            data = pa.Table.from_pylist(list(_run_rows(plan.ablation, groups)))
            parquet.write_table(data, folder / "runs.parquet")
            plot_tradeoff(groups, folder / "tradeoff.png")
            if plan.ablation.frontier:
                points = {group.label: frontier_point(group) for group in groups}
                plot_frontier(points, folder / "frontier.png")
        runs = [workspace.open("run", job.run).reference for job in plan.jobs]
        return workspace.finish("ablation", plan.name, seed=None, inputs=runs)


def _run_rows(ablation: Ablation, groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    """One row per run, for a data file."""
    for group in groups:
        for summary in group.summaries:
            figures = {key: FIGURES[key][1](summary) for key in ablation.figures}
            yield {
                "variant": group.label, "seed": summary["seed"], "run": summary["run"], **figures
            }  # fmt: skip


def _of_artifacts(column: Column, group: Group, workspace: Workspace) -> list[float]:
    """What the artifacts that the runs used say of themselves; nothing of what has no report."""
    from cepcli.config import read_toml

    found = []
    for summary in group.summaries:
        config = read_toml(workspace.open("run", summary["run"]).path / "config.toml")
        name = config.get(column.artifact)
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
