"""What the tables share: the settings under which their runs are short enough for two cores."""

from typing import Any

from cepcli.experiments.ablation import Preparation, Variant

#: τ is the same for all: by default it follows the hit rate, and whatever changes that changes it.
SAME_TEMPERATURE = {"schedule": "constant", "temperature": 0.3}

#: τ as published, by one hit rate or another; for variants that are about it.
BY_HITS: dict[str, Any] = {"schedule": "hit-rate", "temperature": 0.8}
BY_RELIABLE_HITS: dict[str, Any] = {"schedule": "reliable-hit-rate", "temperature": 0.8}

#: A world of text: some hundred decisions, judged by thirty episodes at the end.
TEXT: dict[str, Any] = {
    "prior": "{prior}",
    "steps": 400,
    "eval_interval": 400,
    "eval_episodes": 1,
    "final_eval_episodes": 30,
    "checkpoint_interval": 100,
    "posterior": SAME_TEMPERATURE,
}

#: Continuous control: some hundred decisions are some thousand steps.
CONTROL: dict[str, Any] = {
    "agent": "hybrid-sac",
    "prior": "{prior}",
    "abstraction": "{family}/default",
    "steps": 5_000,
    "eval_interval": 5_000,
    "eval_episodes": 1,
    "final_eval_episodes": 5,
    "checkpoint_interval": 2_500,
    "posterior": SAME_TEMPERATURE,
}

#: Runs of control ask an LLM in the words of an abstraction; the family's is made once.
DESCRIBED = {
    "abstraction": Preparation(
        "abstraction", "{family}/default", ("abstract", "train", "--env", "{env}")
    )
}


def described(variants: dict[str, Variant]) -> dict[str, Variant]:
    """The variants, each after the family's abstraction."""
    return {
        name: Variant(one.config, (*one.needs, "abstraction"), one.settings)
        for name, one in variants.items()
    }
