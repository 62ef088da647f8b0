"""What a cache costs in success or return: the same held-out episodes with it and without.

Against `off` the run's own agent plays both ways; against another run the agents differ, too, as
one that has learned behind a cache does from one that asked for every decision.

Example: cep eval my-run --episodes 1000 --against off
"""

from dataclasses import asdict
from typing import Any

from cepcli.listener import Notify
from cepcli.report.statistics import Estimate
from cepcli.runs.engine import evaluate_pair
from cepcli.workspace.artifacts import Workspace
from cepcli.workspace.run_directory import summary_of

#: Instead of another run: the same run without its cache.
OFF = "off"


def retention(
    workspace: Workspace, name: str, against: str, episodes: int, notify: Notify
) -> dict[str, Any]:
    """Success of a finished run through its frozen cache over that of `against` without a cache.

    Where nothing can be solved, the return.

    Args:
        workspace: where the runs are.
        name: the run with the cache.
        against: `OFF`, or another finished run of the same environment and seed.
        episodes: how many each plays.
        notify: told what goes on.

    Returns:
        `retention`, the ratio with a 95 % interval over the paired episodes, None where
        hardly any episode succeeds without a cache; `of`, "success" or "return";
        `query_reduction`, LLM queries per decision without over with the cache (None without
        queries), and `training_query_reduction`, the same of the training runs (against `OFF`: of
        one query per decision); and the two summaries, `cached` and `off`.

    Raises:
        ConfigError: if the two runs do not play the same episodes.
    """
    other = None if against == OFF else against
    (cached, summary), (off, off_summary) = evaluate_pair(workspace, name, other, episodes, notify)
    trained = 1.0 if other is None else _queries(summary_of(workspace, other))
    ratio = Estimate.of_ratio(cached.scores, off.scores)
    return {
        "run": name,
        "against": against,
        "episodes": episodes,
        "of": "return" if cached.successes is None else "success",
        "retention": None if ratio is None else asdict(ratio),
        "query_reduction": _reduction(_queries(off_summary), _queries(summary)),
        "training_query_reduction": _reduction(trained, _queries(summary_of(workspace, name))),
        "cached": summary,
        "off": off_summary,
    }


def _queries(summary: dict[str, Any]) -> float:
    """Per decision."""
    return summary["queries"]["total"] / max(summary["decisions"], 1)


def _reduction(asked: float, saved: float) -> float | None:
    return asked / saved if saved else None
