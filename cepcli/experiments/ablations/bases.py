"""What the tables share: the settings under which their runs are short enough for two cores."""

from typing import Any

from cepcli.experiments.ablation import Preparation, Variant

#: τ is the same for all, since it would follow the hit rate otherwise.
SAME_TEMPERATURE = {"schedule": "constant", "temperature": 0.3}

#: A world of text: some hundred decisions, judged by thirty episodes at the end.
TEXT: dict[str, Any] = {
    "prior": "{prior}",
    "steps": 400,
    "eval_interval": 400,
    "eval_episodes": 1,
    "final_eval_episodes": 30,
    "checkpoint_interval": 100,
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
