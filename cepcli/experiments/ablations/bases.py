"""What the tables share: the settings under which their runs are short enough for two cores."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cepcli.experiments.ablation import Preparation, Setup, Variant

#: τ is the same for all: by default it follows the hit rate, and whatever changes that changes it.
SAME_TEMPERATURE = {"schedule": "constant", "temperature": 0.3}

#: τ as published, by one hit rate or another; for variants that are about it.
BY_HITS: dict[str, Any] = {"schedule": "hit-rate", "temperature": 0.8}
BY_RELIABLE_HITS: dict[str, Any] = {"schedule": "reliable-hit-rate", "temperature": 0.8}

#: A world of text: some hundred decisions, judged by thirty episodes at the end.
TEXT: dict[str, Any] = {
    "prior": "{prior}", "steps": 400, "eval_interval": 400, "eval_episodes": 1,
    "final_eval_episodes": 30, "checkpoint_interval": 100, "posterior": SAME_TEMPERATURE,
}  # fmt: skip

#: Continuous control: some hundred decisions are some thousand steps.
CONTROL: dict[str, Any] = {
    "agent": "hybrid-sac", "prior": "{prior}", "abstraction": "{family}/default", "steps": 5_000,
    "eval_interval": 5_000, "eval_episodes": 1, "final_eval_episodes": 5,
    "checkpoint_interval": 2_500, "posterior": SAME_TEMPERATURE,
}  # fmt: skip


def control(
    env: str, base: Mapping[str, Any], variants: Mapping[str, Variant], baseline: str
) -> Setup:
    """Runs of control, which ask an LLM in the words of the family's abstraction, made once."""
    words = Preparation(
        "abstraction", "{family}/default", ("abstract", "train", "--env", "{env}")
    )  # fmt: skip
    described = {
        name: replace(one, needs=(*one.needs, "abstraction")) for name, one in variants.items()
    }
    return Setup(env, base, described, baseline, {"abstraction": words})


def cached(mode: str, **settings: Any) -> Variant:
    """A variant with another cache."""
    return Variant({"cache": {"mode": mode, **settings}})
