"""Ablations of the prior cache: which one, who moves its parameters, each of them, how stale."""

from typing import Any

from cepcli.experiments.ablation import (
    Ablation,
    Column,
    Measurement,
    Preparation,
    Setup,
    Variant,
)
from cepcli.experiments.ablations.bases import (
    BY_HITS,
    BY_RELIABLE_HITS,
    CONTROL,
    TEXT,
    cached,
    control,
)

_FIGURES = (
    "success", "return", "queries_per_decision", "latency_ms", "latency_p95_ms", "audit_kl",
    "overhead",
)  # fmt: skip

#: More hits than usual are audited, so that their KL is known.
_CACHE_TEXT = {**TEXT, "steps": 300, "eval_interval": 300, "cache": {"refresh_rate": 0.1}}
_CACHE_CONTROL = {**CONTROL, "cache": {"refresh_rate": 0.1}}

#: By similarity alone, as in the paper.
_PLAIN_RULE = {"gate": "off"}

#: What a semantic cache is without learning: raw sentence embeddings, a goal at a time.
_RAW_KEYS = {**_PLAIN_RULE, "encoder": "minilm", "focus": False, "learn_head": False}

_TIGHTEN = cached("surrogate", surrogate={"td_error_sign": "tighten"})

_MODES = {
    "off": cached("off"),
    "exact": cached("exact"),
    "lru": cached("lru"),
    "lru-plain-rule": cached("lru", **_PLAIN_RULE),
    "lru-raw-keys": cached("lru", **_RAW_KEYS),
    "fifo": cached("fifo"),
    "surrogate": cached("surrogate"),
    "surrogate-tighten": _TIGHTEN,
    "certified": cached("certified"),
    "certified-tau-hits": Variant({"cache": {"mode": "certified"}, "posterior": BY_HITS}),
    "certified-tau-reliable": Variant(
        {"cache": {"mode": "certified"}, "posterior": BY_RELIABLE_HITS}
    ),
}

CACHE = Ablation(
    name="cache",
    question="What does each way of caching cost, and what does it keep?",
    setups=(
        Setup("babyai/goto-redball", _CACHE_TEXT, _MODES, "off"),
        Setup("alfworld/pick", _CACHE_TEXT, _MODES, "off"),
        control("halfcheetah", _CACHE_CONTROL, _MODES, "off"),
    ),
    figures=_FIGURES,
)

#: Keys are made early, so that similar texts are met at all within a short run; thresholds mean
#: something else after each time that they are learned.
_EARLY_KEYS = {"mode": "lru", "head_from": 50, "control_interval": 50}
_LONGER = {**TEXT, "steps": 600, "eval_interval": 600}
#: The gate would hide what a parameter does, as it lets few similar texts answer.
_LRU = {**_EARLY_KEYS, **_PLAIN_RULE}
_AUDITED = {**_LRU, "refresh_rate": 0.05}

#: Keys, threshold and head from a run that was recorded before: known from the first decision.
_FOUND = {
    "trace": Preparation(
        "run",
        "{label}-trace_s1000",
        ("train", "--env", "{env}", "--agent", "direct-llm", "--prior", "{prior}", "--cache", "off",
         "--trace", "--steps", "{steps}", "--seed", "1000", "--name", "{label}-trace",
         "--set", "eval_episodes=1", "--set", "final_eval_episodes=1", "--resume"),
    ),
    "settings": Preparation(
        "file",
        "{label}.toml",
        ("cache", "train-head", "{label}-trace_s1000", "-o", "{folder}/{label}.safetensors",
         "--settings", "{folder}/{label}.toml"),
        needs=("trace",),
    ),
}  # fmt: skip

CONTROLLER = Ablation(
    name="controller",
    question="Is it worth adapting the cache online, against fixed values good from the start?",
    setups=(
        Setup(
            "babyai/goto-redball",
            {**_LONGER, "cache": {**_EARLY_KEYS, "refresh_rate": 0.05}},
            {
                "exact": cached("exact"),
                "fixed": Variant(),
                "fixed-found-before": Variant({}, ("settings",), "{label}.toml"),
                "surrogate": cached("surrogate"),
                "surrogate-tighten": _TIGHTEN,
                "surrogate-found-before": Variant(
                    {"cache": {"mode": "surrogate"}}, ("settings",), "{label}.toml"
                ),
                "certified": cached("certified"),
            },
            "exact",
            _FOUND,
        ),
    ),
    figures=_FIGURES,
)


def _parameter(
    name: str, question: str, cache: dict[str, Any], key: str, values: tuple[float, ...],
    baseline: str, figure: str = "audit_kl",
) -> Ablation:  # fmt: skip
    """One parameter of a cache with LRU eviction, in text and in control."""
    variants = {f"{value:g}": Variant({"cache": {key: value}}) for value in values}
    setups = (
        Setup("babyai/goto-redball", {**_LONGER, "cache": cache}, variants, baseline),
        control("halfcheetah", {**CONTROL, "cache": cache}, variants, baseline),
    )
    figures = ("success", "return", "queries_saved", "queries_per_decision", figure)
    return Ablation(name, question, setups, figures, frontier=True)


DELTA = _parameter(
    "delta", "How much may be reused, by the threshold δ, before it costs return?", _AUDITED,
    "threshold", (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999), "0.999",
)  # fmt: skip
CAPACITY = _parameter(
    "capacity", "How many entries K does a cache need?", _AUDITED,
    "capacity", (8, 16, 32, 64, 128, 10_000), "10000", "overhead",
)  # fmt: skip
#: With a loose threshold, so that there are errors for audits to find.
REFRESH = _parameter(
    "refresh", "What share r of semantic hits is worth asking again?", {**_LRU, "threshold": 0.95},
    "refresh_rate", (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5), "0",
)  # fmt: skip

_STALE = {
    "off": cached("off"),
    "lru-unaudited": cached("lru", refresh_rate=0.0),
    "lru": cached("lru", refresh_rate=0.05),
    "lru-much-audited": cached("lru", refresh_rate=0.3),
    "certified": cached("certified"),
    "certified-unrenewed": cached("certified", certified={"renew": False}),
}
_TRACED = {"trace": True, "cache": {"head_from": 50, "control_interval": 50, "threshold": 0.9}}

STALENESS = Ablation(
    name="staleness",
    question="How far are cached priors from fresh ones on held-out states as a run goes on?",
    setups=(
        Setup("babyai/goto-redball", {**TEXT, **_TRACED}, _STALE, "off"),
        control("walker2d", {**CONTROL, **_TRACED}, _STALE, "off"),
    ),
    figures=("success", "return", "queries_per_decision", "audit_kl"),
    measurement=Measurement(
        ("cache", "staleness", "{run}", "--states-of", "{baseline}"),
        "Cached against fresh priors on held-out states, by decisions of training",
        (
            Column("entries", ("entries",), ".0f"),
            Column("exact hits", ("exact",), ".0%"),
            Column("semantic hits", ("semantic",), ".0%"),
            Column("KL of semantic hits, nats", ("kl_mean",), ".4f"),
            Column("the same without audits", ("kl_mean_unaudited",), ".4f"),
            Column("95th percentile", ("kl_p95",), ".3f"),
            Column("over κ", ("over_budget",), ".1%"),
            Column("KL of the posterior", ("posterior_kl_mean",), ".4f"),
            Column("audits", ("audits",), ".0f"),
            Column("of them over κ", ("audits_over_budget",), ".0f"),
        ),
        on=tuple(name for name in _STALE if name != "off"),
    ),
)
