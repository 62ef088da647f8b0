"""Settings of a training run that count for nothing beside its others, each with the reason.

A file of settings is of a whole run and may hold them; what was typed is refused.
"""

from cepcli.agents.config import CONTROL, LEARNING, TrainConfig

_LRU = ("lru", "fifo", "surrogate", "certified")
#: Keys of `cache` by the modes that they are for.
_OF_MODES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("capacity", "start", "eviction", "audit_penalty"), ("exact", *_LRU)),
    **dict.fromkeys(
        (
            "refresh_rate",
            "index",
            "encoder",
            "focus",
            "pool_goals",
            "head",
            "learn_head",
            "head_from",
            "learned",
        ),
        _LRU,
    ),
    **dict.fromkeys(("threshold", "gate"), ("lru", "fifo", "surrogate")),
    "surrogate": ("surrogate",),
    **dict.fromkeys(("most_capacity", "control_interval"), ("surrogate", "certified")),
}
#: Keys of `posterior` by the modes that they are for.
_OF_POSTERIORS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("candidates", "with_replacement"), ("k-candidates",)),
    **dict.fromkeys(("epsilon", "final_epsilon", "exploration"), ("epsilon-greedy",)),
    **dict.fromkeys(
        ("schedule", "temperature", "decay", "final_temperature"), ("exact", "k-candidates")
    ),
}
#: Keys of `posterior` by the schedules that they are for.
_OF_SCHEDULES: dict[str, tuple[str, ...]] = {
    "decay": ("hit-rate", "reliable-hit-rate"),
    "final_temperature": ("linear",),
}
#: What plain `sac` has none of: symbols.
_OF_SYMBOLS = ("symbol_steps", "relabel", "residual", "residual_starts")


def idle_settings(config: TrainConfig) -> dict[str, str]:
    """Why each key, or section, counts for nothing in this run; keys that count are not here."""
    return {
        **_of_the_agent(config),
        **_of_the_posterior(config),
        **_of_the_cache(config),
    }


def _of_the_agent(config: TrainConfig) -> dict[str, str]:
    agent, idle = config.agent, {}
    if agent not in LEARNING:
        idle["learner"] = f"agent `{agent}` has none of it"
    if agent not in (*LEARNING, "hybrid-sac"):
        idle["posterior"] = f"agent `{agent}` has none of it"
    if agent not in CONTROL:
        idle["sac"] = f"it is of continuous control, and agent `{agent}` is not"
    if agent == "sac":
        idle |= dict.fromkeys((f"sac.{key}" for key in _OF_SYMBOLS), "`sac` has no symbols")
    if config.prior == "uniform":
        idle["llm"] = "no LLM is asked"
    return idle


def _of_the_posterior(config: TrainConfig) -> dict[str, str]:
    posterior, idle = config.posterior, {}
    for key, schedules in _OF_SCHEDULES.items():
        if posterior.schedule not in schedules:
            idle[f"posterior.{key}"] = f"`posterior.schedule` is {posterior.schedule}"
    for key, modes in _OF_POSTERIORS.items():
        drawn = key in ("candidates", "with_replacement")
        drawn_in_backup = drawn and config.learner.backup == "max-candidates"
        if posterior.mode not in modes and not drawn_in_backup:
            idle[f"posterior.{key}"] = f"`posterior.mode` is {posterior.mode}"
    if not posterior.normalise_q:
        idle["posterior.q_range"] = "`posterior.normalise_q` is off"
    if config.learner.members == 1:
        idle["learner.doubt"] = "there is one network, which cannot disagree"
    return idle


def _of_the_cache(config: TrainConfig) -> dict[str, str]:
    """All modes' audits are judged by κ and α of `certified`, which count wherever hits do."""
    if config.prior == "uniform":
        return {"cache": "no LLM is asked"}
    mode = config.cache.mode
    why = f"`cache.mode` is {mode}"
    idle = {f"cache.{key}": why for key, modes in _OF_MODES.items() if mode not in modes}
    if config.cache.head is not None or not config.cache.learn_head:
        idle |= dict.fromkeys(("cache.head_from", "cache.learned"), "no head is learned")
    if config.cache.gated:
        idle["cache.index"] = "`cache.gate` is words, and its index is always flat"
    if mode != "off" and config.cache.policy != "utility":
        idle["cache.audit_penalty"] = f"the eviction is {config.cache.policy}, not utility"
    return idle
