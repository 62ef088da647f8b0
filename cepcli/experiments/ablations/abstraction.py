"""Ablations of the abstraction of states of control: how many annotations, how many wrong ones."""

from cepcli.experiments.ablation import Ablation, Column, Preparation, Variant, World
from cepcli.experiments.ablations.bases import CONTROL

_JUDGED = (
    Column("finds its text", ("retrieval", "top1"), ".2f", "abstraction"),
    Column("right descriptions", ("slots", "whole"), ".2f", "abstraction"),
    Column("KL of what is said, nats", ("prior_kl", "mean"), ".3f", "abstraction"),
)
_FIGURES = ("return", "success", "queries_per_decision")

_COUNTS = (50, 100, 200, 300)
_ANNOTATED = {
    f"annotations-{count}": Preparation(
        "annotations",
        f"{{slug}}-{count}",
        ("annotate", "auto", "--env", "{env}", "--count", f"{count}", "--name",
         f"{{slug}}-{count}"),
    )
    for count in _COUNTS
}  # fmt: skip
_LEARNED = {
    f"{count}": Preparation(
        "abstraction",
        f"{{family}}/{{slug}}-{count}",
        ("abstract", "train", "--env", "{env}", "--annotations", f"{{slug}}-{count}", "--prior",
         "{prior}", "--name", f"{{family}}/{{slug}}-{count}"),
        needs=(f"annotations-{count}",),
    )
    for count in _COUNTS
}  # fmt: skip

ANNOTATIONS = Ablation(
    name="annotations",
    question="How many annotated states does an abstraction need? A fifth of them only judge it.",
    worlds=(
        World(
            "walker2d",
            CONTROL,
            {
                f"{count}": Variant({"abstraction": f"{{family}}/{{slug}}-{count}"}, (f"{count}",))
                for count in _COUNTS
            },
            f"{_COUNTS[-1]}",
            {**_ANNOTATED, **_LEARNED},
        ),
    ),
    figures=_FIGURES,
    columns=_JUDGED,
)

_WRONG = (0, 10, 30)

LABEL_NOISE = Ablation(
    name="label-noise",
    question="What do wrong annotations cost? Those that judge the abstraction are right.",
    worlds=(
        World(
            "walker2d",
            CONTROL,
            {
                f"{wrong}%": Variant(
                    {"abstraction": f"{{family}}/{{slug}}-wrong-{wrong}"}, (f"{wrong}",)
                )
                for wrong in _WRONG
            },
            "0%",
            {
                f"{wrong}": Preparation(
                    "abstraction",
                    f"{{family}}/{{slug}}-wrong-{wrong}",
                    ("abstract", "train", "--env", "{env}", "--prior", "{prior}", "--name",
                     f"{{family}}/{{slug}}-wrong-{wrong}", "--set", f"wrong_labels={wrong / 100}"),
                )
                for wrong in _WRONG
            },
        ),
    ),
    figures=_FIGURES,
    columns=_JUDGED,
)  # fmt: skip
