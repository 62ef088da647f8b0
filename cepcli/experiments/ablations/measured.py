"""Ablations that measure more than training tells: the bounds on KL, and how stale a cache is."""

from cepcli.experiments.ablation import Ablation, Column, Measurement, Variant, World
from cepcli.experiments.ablations.bases import (
    CONTROL,
    DESCRIBED,
    TEXT,
    described,
)

KL_BOUND = Ablation(
    name="kl-bound",
    question="Does KL(π̂‖π) keep to span²/8 and to L²(1−δ) when the abstraction is disturbed?",
    worlds=(
        World(
            "walker2d",
            {**CONTROL, "cache": {"mode": "lru"}},
            described({"run": Variant()}),
            "run",
            DESCRIBED,
        ),
    ),
    figures=("return", "queries_per_decision"),
    measurement=Measurement(
        ("bench", "kl-bound", "{run}"),
        "KL of the posterior under noise in the abstraction",
        (
            Column("pairs", ("pairs",), ".0f"),
            Column("mean KL, nats", ("kl_mean",), ".4f"),
            Column("largest KL", ("kl_max",), ".3f"),
            Column("over span²/8", ("span_violations",), ".0f"),
            Column("KL/(span²/8), mean", ("span_tightness",), ".3f"),
            Column("L", ("lipschitz",), ".2f"),
            Column("over L²(1−δ)", ("key_violations",), ".2%"),
            Column("KL/(L²(1−δ)), mean", ("key_tightness",), ".4f"),
        ),
    ),
)

_STALE = {
    "off": Variant({"cache": {"mode": "off"}}),
    "lru-unaudited": Variant({"cache": {"mode": "lru", "refresh_rate": 0.0}}),
    "lru": Variant({"cache": {"mode": "lru", "refresh_rate": 0.05}}),
    "lru-much-audited": Variant({"cache": {"mode": "lru", "refresh_rate": 0.3}}),
    "certified": Variant({"cache": {"mode": "certified"}}),
    "certified-unrenewed": Variant({"cache": {"mode": "certified", "certified": {"renew": False}}}),
}
_LOOSE_KEYS = {"head_from": 50, "control_interval": 50, "threshold": 0.9}
_TRACED = {"trace": True, "cache": _LOOSE_KEYS}
_CACHED = tuple(name for name in _STALE if name != "off")

STALENESS = Ablation(
    name="staleness",
    question="How far are cached priors from fresh ones on held-out states as a run goes on?",
    worlds=(
        World("babyai/goto-redball", {**TEXT, **_TRACED}, _STALE, "off"),
        World("walker2d", {**CONTROL, **_TRACED}, described(_STALE), "off", DESCRIBED),
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
        on=_CACHED,
    ),
)
