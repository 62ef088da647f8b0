"""Ablations of the posterior: its temperature, and over which actions it is."""

from cepcli.experiments.ablation import Ablation, Variant, World
from cepcli.experiments.ablations.bases import (
    BY_HITS,
    BY_RELIABLE_HITS,
    CONTROL,
    DESCRIBED,
    TEXT,
    described,
)

_SCHEDULES = {
    "hit-rate": Variant({"posterior": BY_HITS}),
    "reliable-hit-rate": Variant({"posterior": BY_RELIABLE_HITS}),
    "linear": Variant({"posterior": {"schedule": "linear", "temperature": 0.8}}),
    "constant-0.8": Variant({"posterior": {"schedule": "constant", "temperature": 0.8}}),
    "constant-0.3": Variant({"posterior": {"schedule": "constant", "temperature": 0.3}}),
    "constant-0.1": Variant({"posterior": {"schedule": "constant", "temperature": 0.1}}),
}
#: With keys learned early, so that hits on similar texts differ from reliable ones.
_CERTIFIED = {"cache": {"mode": "certified", "head_from": 50, "control_interval": 50}}

TEMPERATURE = Ablation(
    name="temperature",
    question="Should the temperature τ follow the hit rate, as published, or anything else?",
    worlds=(
        World("babyai/goto-redball", {**TEXT, **_CERTIFIED}, _SCHEDULES, "hit-rate"),
        World("walker2d", {**CONTROL, **_CERTIFIED}, described(_SCHEDULES), "hit-rate", DESCRIBED),
    ),
    figures=("success", "auc", "return", "queries_per_decision"),
)


def _drawn(k: int, *, again: bool) -> Variant:
    return Variant({"posterior": {"mode": "k-candidates", "candidates": k,
                                  "with_replacement": again}})  # fmt: skip


_CANDIDATES = {
    "all": Variant({"posterior": {"mode": "exact"}}),
    **{f"{k}": _drawn(k, again=False) for k in (1, 2, 3, 5)},
    **{f"{k}-again": _drawn(k, again=True) for k in (2, 5, 10)},
}

CANDIDATES = Ablation(
    name="candidates",
    question="How many candidates k must be drawn from the prior, and may one be drawn again?",
    worlds=(
        World(
            "babyai/goto-redball",
            TEXT,
            _CANDIDATES,
            "all",
        ),
        World("textworld/coin", TEXT, _CANDIDATES, "all"),
    ),
    figures=("success", "auc", "return", "queries_per_decision"),
)
