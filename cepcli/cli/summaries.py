"""What a run came to, in words."""

from collections.abc import Mapping
from typing import Any

import typer


def duration(seconds: float) -> str:
    """So many seconds, as people say it."""
    if seconds < 1.0:
        return "under 1 s"
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60.0)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def outcome(evaluation: Mapping[str, Any]) -> str:
    """How held-out episodes went; success only where there is such a thing."""
    success, score = evaluation["success_rate"], f"return {evaluation['return_mean']:.2f}"
    return score if success is None else f"success {success:.2f}, {score}"


def print_summary(summary: dict[str, Any]) -> None:
    """The result of a run, online or offline, in a few lines."""
    evaluation = summary["eval"]
    told = "not evaluated"
    if evaluation["episodes"]:
        score = evaluation.get("normalised_score")
        told = outcome(evaluation) + ("" if score is None else f", normalised score {score:.1f}")
        told += f" over {evaluation['episodes']} held-out episodes"
    typer.echo(f"{summary['run']}: {told}")
    wall = f"wall {summary['wall_seconds']:.1f} s"
    if "dataset" in summary:
        rate = summary["steps"] / max(summary["learning_seconds"], 1e-9)
        prior = f", prior {summary['prior']}" if summary["agent"] == "cql-prior" else ""
        typer.echo(
            f"  {summary['steps']} gradient steps of {summary['agent']}{prior}, {rate:.1f} per "
            f"second; {wall}\n  {summary['dataset']['source']}"
        )
    elif summary["decisions"]:
        _print_decisions(summary, wall)
    else:  # plain control chooses no symbols
        typer.echo(f"  {summary['steps']} steps; {wall}")


def _print_decisions(summary: dict[str, Any], wall: str) -> None:
    """What the decisions of a run cost, and what saved it."""
    from cepcli.report.comparison import seconds_saved

    queries, hits = summary["queries"], summary["hits"]
    typer.echo(
        f"  {summary['decisions']} decisions, {queries['total']} LLM queries "
        f"({queries['misses']} misses, {queries['partial']} partial, {queries['audits']} audits), "
        f"hits {hits['exact']} exact + {hits['semantic']} semantic\n"
        f"  LLM {summary['llm_seconds']:.1f} s live, {summary['llm_seconds_recorded']:.1f} s "
        f"recorded, {seconds_saved(summary):.1f} s saved by hits; {wall}"
    )
    cost = summary.get("evaluations")
    if cost is not None and cost["queries"]:
        typer.echo(f"  in addition, {evaluation_cost(cost)}")
    if summary.get("demos"):
        typer.echo(
            "  started with {episodes} demonstrated episodes of {decisions} decisions, whose "
            "priors took {queries} more queries".format(**summary["demos"])
        )
    if summary.get("warm_entries"):
        typer.echo(f"  started from a cache of {summary['warm_entries']} entries")
    if summary.get("certificate") is not None:
        typer.echo(f"  certificate: {certificate(summary['certificate'], interval=True)}")


def evaluation_cost(cost: Mapping[str, Any]) -> str:
    """What the evaluations of a run took; records of older versions do not know it."""
    told = f"{cost['count']} evaluations took {cost['queries']} LLM queries"
    if cost["llm_tokens"] is None:
        return told
    return (
        f"{told} ({cost['llm_tokens']:,} tokens, {cost['llm_seconds']:.1f} s live, "
        f"{cost['llm_seconds_recorded']:.1f} s recorded)"
    )


def certificate(found: Mapping[str, Any] | None, *, interval: bool = False) -> str:
    """What a cache promises, in one line: "δ 0.94, ≤10% over 0.5 nats (95%), seen 2.1% of 312".

    Args:
        found: the certificate of a run's summary or a saved cache; None if nothing is promised.
        interval: add the exact interval of the share seen, at the certificate's confidence.
    """
    if found is None:
        return "none"
    if found["threshold"] is None:
        return "withdrawn, no proof yet" if found.get("alarms") else "no proof yet"
    line = (
        f"δ {found['threshold']:g}, ≤{100 * found['alpha']:g}% over {found['kappa']:g} nats "
        f"({100 * found['confidence']:g}%), "
    )
    if not found["audits"]:
        return line + "no hit audited yet"
    line += f"seen {found['rate']:.1%} of {found['audits']}"
    if interval:
        line += f" [{found['low']:.1%}, {found['high']:.1%}]"
    return line
