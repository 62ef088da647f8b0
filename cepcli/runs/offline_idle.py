"""Settings of an offline run that count for nothing under its algorithm, each with the reason."""

from cepcli.agents.offline_config import OfflineConfig

_CQL = ("cql", "cql-prior")
_WITH_CRITICS = (*_CQL, "iql", "td3-bc")
#: Sections and keys by the algorithms that they are for.
_OF_ALGORITHMS: dict[str, tuple[str, ...]] = {
    "cql": _CQL,
    "symbols": ("cql-prior",),
    "iql": ("iql",),
    "td3_bc": ("td3-bc",),
    "text": (*_CQL, "iql", "bc"),
    "llm": ("cql-prior",),
    **dict.fromkeys(("text.weight", "text.temperature"), _CQL),
    **dict.fromkeys(("text.discount", "text.members", "text.target_interval"), _WITH_CRITICS),
    **dict.fromkeys(("control.discount", "control.critic_rate", "control.polyak"), _WITH_CRITICS),
    **dict.fromkeys(
        ("control.entropy_rate", "control.entropy_weight", "control.entropy_per_control"), _CQL
    ),
}


def idle_settings(config: OfflineConfig) -> dict[str, str]:
    """Why each key, or section, counts for nothing in this run; keys that count are not here."""
    idle = {
        key: f"`{config.algorithm}` has none of it"
        for key, algorithms in _OF_ALGORITHMS.items()
        if config.algorithm not in algorithms
    }
    if not config.cql.lagrange:
        why = "`cql.lagrange` is off"
        idle = {**dict.fromkeys(("cql.threshold", "cql.lagrange_rate"), why), **idle}
    return idle
