"""Ablations of prior and posterior: whose prior, how asked, how used, and in which words."""

from cepcli.experiments.ablation import (
    Ablation,
    Column,
    Measurement,
    Preparation,
    Setup,
    Variant,
)
from cepcli.experiments.ablations.bases import BY_HITS, BY_RELIABLE_HITS, CONTROL, TEXT, control

_TEXT = {**TEXT, "cache": {"mode": "exact"}}
_UNTUNED = {**_TEXT, "prior": "embedded"}
_FIGURES = ("success", "auc", "return", "queries_per_decision", "llm_seconds")
_WITHOUT_TIME = _FIGURES[:-1]

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

SHOTS = Ablation(
    name="shots",
    question="How many demonstrations must a prior be tuned on?",
    setups=(
        Setup(
            "babyai/goto-redball",
            _TEXT,
            {
                "0": Variant({"prior": "embedded"}),
                **{f"{shots}": Variant({"prior": f"{{slug}}-{shots}shot"}, (f"{shots}",))
                   for shots in _SHOTS},
            },
            "0",
            {"demos": _DEMOS, **_TUNED},
        ),
    ),
    figures=_FIGURES,
    columns=(
        Column("top-1 of the expert's", ("after", "top1"), ".2f", "prior"),
        Column("NLL, nats", ("after", "nll"), ".2f", "prior"),
    ),
)  # fmt: skip

_SHUFFLED = {"prior": "{prior}", "shuffled_prior": True}
_PRIORS = {
    "tuned": Variant({"prior": "{prior}"}),
    "embedded": Variant({"prior": "embedded"}),
    "uniform": Variant({"prior": "uniform"}),
    "shuffled": Variant(_SHUFFLED),
    "shuffled-soft": Variant({**_SHUFFLED, "llm": {"smoothing": 0.5}}),
}

PRIORS = Ablation(
    name="priors",
    question="What is a prior worth, and does the posterior survive one that is wrong?",
    setups=(
        Setup("babyai/goto-redball", {**_TEXT, "steps": 600, "eval_interval": 200}, _PRIORS,
              "tuned"),
        control("walker2d", {**CONTROL, "eval_interval": 2_500}, _PRIORS, "tuned"),
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
    setups=(Setup("textworld/coin", _UNTUNED, _TEMPLATES, "family"),),
    figures=_FIGURES,
)

_NORMALISATIONS = {
    name: Variant({"llm": {"normalisation": name}}) for name in ("mean", "sum", "pmi")
}

SCORING = Ablation(
    name="scoring",
    question="How should an untuned model's scores of actions of different length be normalised?",
    setups=(Setup("textworld/coin", _UNTUNED, _NORMALISATIONS, "mean"),),
    figures=_FIGURES,
)

_SCHEDULES = {
    "hit-rate": Variant({"posterior": BY_HITS}),
    "reliable-hit-rate": Variant({"posterior": BY_RELIABLE_HITS}),
    "linear": Variant({"posterior": {"schedule": "linear", "temperature": 0.8}}),
    **{f"constant-{tau}": Variant({"posterior": {"schedule": "constant", "temperature": tau}})
       for tau in (0.8, 0.3, 0.1)},
}  # fmt: skip
#: With keys learned early, so that hits on similar texts differ from reliable ones.
_EARLY = {"mode": "certified", "head_from": 50, "control_interval": 50}

TEMPERATURE = Ablation(
    name="temperature",
    question="Should the temperature τ follow the hit rate, as published, or anything else?",
    setups=(
        Setup("babyai/goto-redball", {**TEXT, "cache": _EARLY}, _SCHEDULES, "hit-rate"),
        control("walker2d", {**CONTROL, "cache": _EARLY}, _SCHEDULES, "hit-rate"),
    ),
    figures=_WITHOUT_TIME,
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
    setups=tuple(
        Setup(env, TEXT, _CANDIDATES, "all") for env in ("babyai/goto-redball", "textworld/coin")
    ),
    figures=_WITHOUT_TIME,
)

# -- the abstraction -----------------------------------------------------------------------------

_JUDGED = (
    Column("finds its text", ("retrieval", "top1"), ".2f", "abstraction"),
    Column("right descriptions", ("slots", "whole"), ".2f", "abstraction"),
    Column("KL of what is said, nats", ("prior_kl", "mean"), ".3f", "abstraction"),
)
_OF_CONTROL = ("return", "success", "queries_per_decision")


def _annotated(count: int, name: str) -> Preparation:
    return Preparation(
        "annotations",
        name,
        ("annotate", "auto", "--env", "{env}", "--count", f"{count}", "--name", name),
    )


def _learned(name: str, *options: str, needs: tuple[str, ...] = ()) -> Preparation:
    """An abstraction of that name of the family."""
    command = ["abstract", "train", "--env", "{env}", "--prior", "{prior}", "--name", name]
    at = 4 if "--annotations" in options else len(command)
    return Preparation("abstraction", name, (*command[:at], *options, *command[at:]), needs)


_COUNTS = (50, 100, 200, 300)

ANNOTATIONS = Ablation(
    name="annotations",
    question="How many annotated states does an abstraction need? A fifth of them only judge it.",
    setups=(
        Setup(
            "walker2d",
            CONTROL,
            {f"{n}": Variant({"abstraction": f"{{family}}/{{slug}}-{n}"}, (f"{n}",))
             for n in _COUNTS},
            f"{_COUNTS[-1]}",
            {
                **{f"annotations-{n}": _annotated(n, f"{{slug}}-{n}") for n in _COUNTS},
                **{f"{n}": _learned(f"{{family}}/{{slug}}-{n}", "--annotations", f"{{slug}}-{n}",
                                    needs=(f"annotations-{n}",)) for n in _COUNTS},
            },
        ),
    ),
    figures=_OF_CONTROL,
    columns=_JUDGED,
)  # fmt: skip

_WRONG = {f"{wrong}": f"{{family}}/{{slug}}-wrong-{wrong}" for wrong in (0, 10, 30)}

LABEL_NOISE = Ablation(
    name="label-noise",
    question="What do wrong annotations cost? Those that judge the abstraction are right.",
    setups=(
        Setup(
            "walker2d",
            CONTROL,
            {f"{wrong}%": Variant({"abstraction": name}, (wrong,))
             for wrong, name in _WRONG.items()},
            "0%",
            {wrong: _learned(name, "--set", f"wrong_labels={int(wrong) / 100}")
             for wrong, name in _WRONG.items()},
        ),
    ),
    figures=_OF_CONTROL,
    columns=_JUDGED,
)  # fmt: skip

KL_BOUND = Ablation(
    name="kl-bound",
    question="Does KL(π̂‖π) keep to span²/8 and to L²(1−δ) when the abstraction is disturbed?",
    setups=(control("walker2d", {**CONTROL, "cache": {"mode": "lru"}}, {"run": Variant()}, "run"),),
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

# -- transfer ------------------------------------------------------------------------------------

_FROM_SOURCE = {"cache": {"start": "{label}-source_s1000"}}


def _source(env: str, prior: str, *more: str, needs: tuple[str, ...] = ()) -> Preparation:
    """A run on another task, whose cache others start with."""
    return Preparation(
        "run",
        "{label}-source_s1000",
        ("train", "--env", env, "--prior", prior, "--cache", "certified", "--steps", "{steps}",
         "--set", "cache.head_from=50", "--set", "eval_episodes=1",
         "--set", "final_eval_episodes=1", "--seed", "1000", "--name", "{label}-source",
         "--resume", *more),
        needs,
    )  # fmt: skip


_TEXT_TASKS = Setup(
    "babyai/goto-local",
    {**TEXT, "cache": _EARLY},
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
_CONTROL_TASKS = Setup(
    "metaworld/drawer-close",
    {**CONTROL, "cache": _EARLY},
    {
        "own-abstraction": Variant({"abstraction": "{family}/{slug}"}, ("own",)),
        "other-abstraction": Variant({}, ("abstraction",)),
        "other-abstraction-and-cache": Variant(_FROM_SOURCE, ("source",)),
        "no-adapter": Variant({"prior": "embedded"}, ("abstraction",)),
        "uniform": Variant({"prior": "uniform"}),
    },
    "own-abstraction",
    {
        "annotations": _annotated(100, "{slug}"),
        "own": _learned("{family}/{slug}", "--annotations", "{slug}", needs=("annotations",)),
        "abstraction": Preparation(
            "abstraction", "{family}/default", ("abstract", "train", "--env", "{family}")
        ),
        "source": _source("metaworld/drawer-open", "{prior}", "--set",
                          "abstraction={family}/default", needs=("abstraction",)),
    },
)  # fmt: skip

TRANSFER = Ablation(
    name="transfer",
    question="Do adapter, cache and abstraction of other tasks serve an unseen one of the family?",
    setups=(_TEXT_TASKS, _CONTROL_TASKS),
    figures=("success", "return", "queries_per_decision", "queries_saved", "audit_kl"),
)
