"""Ablations of the prior cache: which one, who moves its parameters, and each parameter alone."""

from cepcli.experiments.ablation import Ablation, Preparation, Variant, World
from cepcli.experiments.ablations.bases import (
    BY_HITS,
    BY_RELIABLE_HITS,
    CONTROL,
    DESCRIBED,
    TEXT,
    described,
)

_FIGURES = (
    "success", "return", "queries_per_decision", "latency_ms", "latency_p95_ms", "audit_kl",
    "overhead",
)  # fmt: skip

#: More hits than usual are audited, so that their KL is known.
_CACHE_TEXT = {
    **TEXT, "steps": 300, "eval_interval": 300, "cache": {"refresh_rate": 0.1},
}  # fmt: skip
_CACHE_CONTROL = {**CONTROL, "cache": {"refresh_rate": 0.1}}

#: By similarity alone, as in the paper.
_PLAIN_RULE = {"gate": "off"}

#: What a semantic cache is without learning: raw sentence embeddings, a goal at a time.
_RAW_KEYS = {**_PLAIN_RULE, "encoder": "minilm", "focus": False, "learn_head": False}

_MODES = {
    "off": Variant({"cache": {"mode": "off"}}),
    "exact": Variant({"cache": {"mode": "exact"}}),
    "lru": Variant({"cache": {"mode": "lru"}}),
    "lru-plain-rule": Variant({"cache": {"mode": "lru", **_PLAIN_RULE}}),
    "lru-raw-keys": Variant({"cache": {"mode": "lru", **_RAW_KEYS}}),
    "fifo": Variant({"cache": {"mode": "fifo"}}),
    "surrogate": Variant({"cache": {"mode": "surrogate"}}),
    "surrogate-tighten": Variant(
        {"cache": {"mode": "surrogate", "surrogate": {"td_error_sign": "tighten"}}}
    ),
    "certified": Variant({"cache": {"mode": "certified"}}),
    "certified-tau-hits": Variant({"cache": {"mode": "certified"}, "posterior": BY_HITS}),
    "certified-tau-reliable": Variant(
        {"cache": {"mode": "certified"}, "posterior": BY_RELIABLE_HITS}
    ),
}

CACHE = Ablation(
    name="cache",
    question="What does each way of caching cost, and what does it keep?",
    worlds=(
        World("babyai/goto-redball", _CACHE_TEXT, _MODES, "off"),
        World("alfworld/pick", _CACHE_TEXT, _MODES, "off"),
        World("halfcheetah", _CACHE_CONTROL, described(_MODES), "off", DESCRIBED),
    ),
    figures=_FIGURES,
)

#: Keys are made early, so that similar texts are met at all within a short run; thresholds mean
#: something else after each time that they are learned.
_EARLY_KEYS = {"mode": "lru", "head_from": 50, "control_interval": 50}
_LONGER = {**TEXT, "steps": 600, "eval_interval": 600}
#: The gate would hide what a parameter does, as it lets few similar texts answer.
_LRU = {**_EARLY_KEYS, **_PLAIN_RULE}
_LRU_TEXT = {**_LONGER, "cache": {**_LRU, "refresh_rate": 0.05}}
_LRU_CONTROL = {**_CACHE_CONTROL, "cache": {**_LRU, "refresh_rate": 0.05}}

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
    worlds=(
        World(
            "babyai/goto-redball",
            {**_LONGER, "cache": {**_EARLY_KEYS, "refresh_rate": 0.05}},
            {
                "exact": Variant({"cache": {"mode": "exact"}}),
                "fixed": Variant(),
                "fixed-found-before": Variant({}, ("settings",), "{label}.toml"),
                "surrogate": Variant({"cache": {"mode": "surrogate"}}),
                "surrogate-tighten": Variant(
                    {"cache": {"mode": "surrogate", "surrogate": {"td_error_sign": "tighten"}}}
                ),
                "surrogate-found-before": Variant(
                    {"cache": {"mode": "surrogate"}}, ("settings",), "{label}.toml"
                ),
                "certified": Variant({"cache": {"mode": "certified"}}),
            },
            "exact",
            _FOUND,
        ),
    ),
    figures=_FIGURES,
)

_THRESHOLDS = {
    f"{delta:g}": Variant({"cache": {"threshold": delta}})
    for delta in (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999)
}

DELTA = Ablation(
    name="delta",
    question="How much may be reused, by the threshold δ, before it costs return?",
    worlds=(
        World("babyai/goto-redball", _LRU_TEXT, _THRESHOLDS, "0.999"),
        World("halfcheetah", _LRU_CONTROL, described(_THRESHOLDS), "0.999", DESCRIBED),
    ),
    figures=("success", "return", "queries_saved", "queries_per_decision", "audit_kl"),
    frontier=True,
)

_CAPACITIES = {
    f"{capacity}": Variant({"cache": {"capacity": capacity}})
    for capacity in (8, 16, 32, 64, 128, 10_000)
}

CAPACITY = Ablation(
    name="capacity",
    question="How many entries K does a cache need?",
    worlds=(
        World("babyai/goto-redball", _LRU_TEXT, _CAPACITIES, "10000"),
        World("halfcheetah", _LRU_CONTROL, described(_CAPACITIES), "10000", DESCRIBED),
    ),
    figures=("success", "return", "queries_saved", "queries_per_decision", "overhead"),
    frontier=True,
)

_REFRESH_RATES = {
    f"{rate:g}": Variant({"cache": {"refresh_rate": rate}})
    for rate in (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
}
#: Loose, so that there are errors for audits to find.
_LOOSE_TEXT = {**_LONGER, "cache": {**_LRU, "threshold": 0.95}}
_LOOSE_CONTROL = {**_CACHE_CONTROL, "cache": {**_LRU, "threshold": 0.95}}

REFRESH = Ablation(
    name="refresh",
    question="What share r of semantic hits is worth asking again?",
    worlds=(
        World("babyai/goto-redball", _LOOSE_TEXT, _REFRESH_RATES, "0"),
        World("halfcheetah", _LOOSE_CONTROL, described(_REFRESH_RATES), "0", DESCRIBED),
    ),
    figures=("success", "return", "queries_saved", "queries_per_decision", "audit_kl"),
    frontier=True,
)
