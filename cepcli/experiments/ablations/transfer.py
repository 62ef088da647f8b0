"""The ablation of transfer: what was made on one task, used on another of the family."""

from cepcli.experiments.ablation import Ablation, Preparation, Variant, World
from cepcli.experiments.ablations.bases import CONTROL, TEXT

_CERTIFIED = {"mode": "certified", "head_from": 50, "control_interval": 50}


def _source(env: str, prior: str, *more: str) -> Preparation:
    """A run on another task, whose cache others start with."""
    return Preparation(
        "run",
        "{label}-source_s1000",
        ("train", "--env", env, "--prior", prior, "--cache", "certified", "--steps", "{steps}",
         "--set", "cache.head_from=50", "--set", "eval_episodes=1",
         "--set", "final_eval_episodes=1", "--seed", "1000", "--name", "{label}-source",
         "--resume", *more),
    )  # fmt: skip


_FROM_SOURCE = {"cache": {"start": "{label}-source_s1000"}}

_TEXT = World(
    "babyai/goto-local",
    {**TEXT, "cache": _CERTIFIED},
    {
        "own-adapter": Variant({"prior": "{prior}"}),
        "other-adapter": Variant({"prior": "goto-redball"}),
        "other-adapter-and-cache": Variant({"prior": "goto-redball", **_FROM_SOURCE}, ("source",)),
        "no-adapter": Variant({"prior": "embedded"}),
    },
    "own-adapter",
    {"source": _source("babyai/goto-redball", "goto-redball")},
)

#: Of Meta-World's tasks seven are annotated; this is none of them. Adapter and abstraction that
#: ship know those; an own abstraction is learned from annotations of this task.
_CONTROL = World(
    "metaworld/drawer-close",
    {**CONTROL, "cache": _CERTIFIED},
    {
        "own-abstraction": Variant({"abstraction": "{family}/{slug}"}, ("own",)),
        "other-abstraction": Variant({}, ("abstraction",)),
        "other-abstraction-and-cache": Variant(_FROM_SOURCE, ("source",)),
        "no-adapter": Variant({"prior": "embedded"}, ("abstraction",)),
        "uniform": Variant({"prior": "uniform"}),
    },
    "own-abstraction",
    {
        "annotations": Preparation(
            "annotations",
            "{slug}",
            ("annotate", "auto", "--env", "{env}", "--count", "100", "--name", "{slug}"),
        ),
        "own": Preparation(
            "abstraction",
            "{family}/{slug}",
            ("abstract", "train", "--env", "{env}", "--annotations", "{slug}", "--prior",
             "{prior}", "--name", "{family}/{slug}"),
            needs=("annotations",),
        ),
        "abstraction": Preparation(
            "abstraction", "{family}/default", ("abstract", "train", "--env", "{family}")
        ),
        "source": Preparation(
            "run",
            "{label}-source_s1000",
            _source("metaworld/drawer-open", "{prior}", "--set",
                    "abstraction={family}/default").command,
            needs=("abstraction",),
        ),
    },
)  # fmt: skip

TRANSFER = Ablation(
    name="transfer",
    question="Do adapter, cache and abstraction of other tasks serve an unseen one of the family?",
    worlds=(_TEXT, _CONTROL),
    figures=("success", "return", "queries_per_decision", "queries_saved", "audit_kl"),
)
