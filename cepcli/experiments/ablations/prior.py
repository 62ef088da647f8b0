"""Ablations of the prior: whose it is, what it was tuned on, how it is asked and how read."""

from cepcli.experiments.ablation import Ablation, Column, Preparation, Variant, World
from cepcli.experiments.ablations.bases import (
    CONTROL,
    DESCRIBED,
    TEXT,
    described,
)

_TEXT = {**TEXT, "cache": {"mode": "exact"}}
_FIGURES = ("success", "auc", "return", "queries_per_decision", "llm_seconds")

_SHOTS = (1, 5, 10, 50)
_EPISODES = f"{{slug}}-{max(_SHOTS)}"
#: A prior that is worse than chance is kept: that is what is asked.
_TUNED = {
    f"{shots}": Preparation(
        "prior",
        f"{{slug}}-{shots}shot",
        ("prior", "finetune", "--env", "{env}", "--shots", f"{shots}", "--demos", _EPISODES,
         "--name", f"{{slug}}-{shots}shot", "--force"),
        needs=("demos",),
    )
    for shots in _SHOTS
}  # fmt: skip
_DEMOS = Preparation(
    "demos",
    _EPISODES,
    ("prior", "demos", "--env", "{env}", "--episodes", f"{max(_SHOTS)}", "--name", _EPISODES),
)
_KNOWN = (
    Column("top-1 of the expert's", ("after", "top1"), ".2f", "prior"),
    Column("NLL, nats", ("after", "nll"), ".2f", "prior"),
)

SHOTS = Ablation(
    name="shots",
    question="How many demonstrations must a prior be tuned on?",
    worlds=(
        World(
            "babyai/goto-redball",
            _TEXT,
            {
                "0": Variant({"prior": "embedded"}),
                **{
                    f"{shots}": Variant({"prior": f"{{slug}}-{shots}shot"}, (f"{shots}",))
                    for shots in _SHOTS
                },
            },
            "0",
            {"demos": _DEMOS, **_TUNED},
        ),
    ),
    figures=_FIGURES,
    columns=_KNOWN,
)

_PRIORS = {
    "tuned": Variant({"prior": "{prior}"}),
    "embedded": Variant({"prior": "embedded"}),
    "uniform": Variant({"prior": "uniform"}),
    "shuffled": Variant({"prior": "{prior}", "shuffled_prior": True}),
    "shuffled-soft": Variant(
        {"prior": "{prior}", "shuffled_prior": True, "llm": {"smoothing": 0.5}}
    ),
}

PRIORS = Ablation(
    name="priors",
    question="What is a prior worth, and does the posterior survive one that is wrong?",
    worlds=(
        World("babyai/goto-redball", {**_TEXT, "steps": 600, "eval_interval": 200}, _PRIORS,
              "tuned"),
        World("walker2d", {**CONTROL, "eval_interval": 2_500}, described(_PRIORS), "tuned",
              DESCRIBED),
    ),
    figures=_FIGURES,
)  # fmt: skip

#: Untuned: a tuned prior knows the one template that it was tuned with.
_TEMPLATES = {
    "family": Variant(),
    **{name: Variant({"llm": {"template": name}}) for name in ("default", "bare", "question")},
}

PROMPTS = Ablation(
    name="prompts",
    question="How much hangs on the words of the prompt, for a model that was not tuned?",
    worlds=(World("textworld/coin", {**_TEXT, "prior": "embedded"}, _TEMPLATES, "family"),),
    figures=_FIGURES,
)

_NORMALISATIONS = {
    name: Variant({"llm": {"normalisation": name}}) for name in ("mean", "sum", "pmi")
}

SCORING = Ablation(
    name="scoring",
    question="How should an untuned model's scores of actions of different length be normalised?",
    worlds=(World("textworld/coin", {**_TEXT, "prior": "embedded"}, _NORMALISATIONS, "mean"),),
    figures=_FIGURES,
)
