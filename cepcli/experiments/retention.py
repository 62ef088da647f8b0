"""What a run's cache costs in success: the same held-out episodes with it and without.

Example: cep eval my-run --episodes 1000 --against-off
"""

from dataclasses import asdict
from typing import Any

from cepcli.agents.parts import Notify
from cepcli.agents.runs import evaluate_both_ways
from cepcli.artifacts import Workspace
from cepcli.report.comparison import Estimate


def retention(workspace: Workspace, name: str, episodes: int, notify: Notify) -> dict[str, Any]:
    """Success of a finished run through its frozen cache over that without a cache.

    Returns:
        `retention`, the ratio with a 95 % bootstrap interval over the paired episodes, None where
        hardly any episode succeeds without a cache;
        `query_reduction`, LLM queries per decision without over with the cache (None without
        queries); and the two summaries, `cached` and `off`.
    """
    (cached, summary), (off, off_summary) = evaluate_both_ways(workspace, name, episodes, notify)
    asked, saved = (s["queries"]["total"] / s["decisions"] for s in (off_summary, summary))
    ratio = Estimate.of_ratio(cached.successes, off.successes)
    return {
        "run": name,
        "episodes": episodes,
        "retention": None if ratio is None else asdict(ratio),
        "query_reduction": asked / saved if saved else None,
        "cached": summary,
        "off": off_summary,
    }
