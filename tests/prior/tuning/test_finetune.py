"""Tuning: schedules by hand, two real steps, and a killed tuning that goes on exactly."""

import json

import numpy as np
import pytest
import torch

from cepcli.errors import ArtifactError, PriorError
from cepcli.prior.base import PriorShape
from cepcli.prior.config import FinetuneConfig
from cepcli.prior.llm import LLMPrior
from cepcli.prior.local.hf import HFScorer
from cepcli.prior.prompts import PromptTemplate
from cepcli.prior.tuning import finetune
from cepcli.prior.tuning.decisions import ExpertDecision
from cepcli.prior.tuning.finetune import (
    Tuner,
    batch_at,
    candidate_loss,
    learning_rate_at,
    planned_steps,
    subset,
)
from cepcli.prior.tuning.lessons import (
    Lesson,
    TuningData,
    ask_lessons,
    lessons_in_file,
    split_heldout,
)
from cepcli.prior.tuning.lora import Checkpoint
from cepcli.types import TextState
from tests.prior.tiny import KINDS, save_tiny

ACTIONS = ("turn left", "turn right", "go forward")
TEXTS = ("You see a red ball 2 steps left.", "You see a red ball 3 steps forward.")
WARNINGS = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning"
)


def decision(episode, step=0, instance=None):
    text = TEXTS[episode % 2]
    state = TextState("go to the red ball", text, ACTIONS)
    label = ACTIONS[0] if episode % 2 == 0 else ACTIONS[2]
    return ExpertDecision(episode, episode if instance is None else instance, step, state, label)


DECISIONS = [decision(episode, step) for episode in range(8) for step in range(2)]
LESSONS = [Lesson(PromptTemplate("babyai"), made) for made in DECISIONS]


def test_batches_visit_every_decision_once_per_epoch():
    seen = [i for step in range(5) for i in batch_at(10, 2, step, seed=3)]
    assert sorted(seen) == list(range(10))
    assert batch_at(10, 2, 1, seed=3) == batch_at(10, 2, 1, seed=3)
    assert batch_at(3, 8, 0, seed=0) != []
    assert sorted(batch_at(3, 8, 0, seed=0)) == [0, 1, 2]


def test_learning_rate_warms_up_and_ends_at_zero():
    config = FinetuneConfig(learning_rate=1.0, warmup_steps=4)
    rates = [learning_rate_at(step, 14, config) for step in (0, 4, 9, 13)]
    np.testing.assert_allclose(rates, [0.2, 1.0, 0.5, 0.1])


def test_steps_follow_the_decisions_within_bounds():
    config = FinetuneConfig(epochs=4.0, batch_decisions=8, min_steps=30, max_steps=140)
    assert [planned_steps(config, count) for count in (1, 101, 1000)] == [30, 51, 140]
    assert planned_steps(FinetuneConfig(min_steps=30, max_steps=2), 100) == 2


def test_heldout_halves_share_no_episode():
    validation, test = split_heldout(DECISIONS)
    assert {d.episode for d in validation} == {0, 2, 4, 6}
    assert {d.episode for d in test} == {1, 3, 5, 7}


def test_heldout_halves_share_no_instance_when_few_are_played_often():
    decisions = [decision(episode, instance=episode // 2 % 3) for episode in range(12)]
    validation, test = split_heldout(decisions)
    assert {d.instance for d in validation} == {0, 2}
    assert {d.instance for d in test} == {1}
    assert sorted([*validation, *test], key=decisions.index) == decisions


def test_one_heldout_instance_is_too_few():
    with pytest.raises(ArtifactError, match="of 1 instance") as error:
        split_heldout(DECISIONS[:2])
    assert "--heldout-episodes" in error.value.hint


def test_subset_keeps_order_and_size():
    found = subset(DECISIONS, 5, seed=0)
    assert len(found) == 5
    assert found == sorted(found, key=DECISIONS.index)
    assert subset(DECISIONS, 99, seed=0) == DECISIONS


@pytest.mark.parametrize("normalisation", ["sum", "mean"])
def test_loss_is_the_cross_entropy_of_the_prior(embedded_model, normalisation):
    template = PromptTemplate("babyai")
    config = FinetuneConfig(normalisation=normalisation)
    with torch.inference_mode():
        loss = candidate_loss(embedded_model, LESSONS[:4], config)
    scorer = HFScorer(embedded_model, template="t", row_tokens=512)
    prior = LLMPrior(scorer, template, normalisation, PriorShape(smoothing=0.0))
    answers = prior.log_probs([d.state for d in DECISIONS[:4]])
    pairs = zip(answers, DECISIONS[:4], strict=True)
    assert float(loss) == pytest.approx(-sum(a.log_prior[d.label] for a, d in pairs), abs=1e-3)


def test_a_demonstration_longer_than_the_context_is_not_learned_from(embedded_model):
    context = embedded_model.model.config.max_position_embeddings
    state = TextState("go" + " far" * context, TEXTS[0], ACTIONS)
    long = LESSONS[0]._replace(decision=ExpertDecision(0, 0, 0, state, ACTIONS[0]))
    with pytest.raises(PriorError, match=f"takes {context}"):
        candidate_loss(embedded_model, [long], FinetuneConfig())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of a language model with random weights, which takes long prompts."""
    folder = save_tiny(tmp_path_factory.mktemp("tiny"), KINDS["byte-level"]())
    shape = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(shape | {"max_position_embeddings": 4096}))
    return str(folder)


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


@WARNINGS
def test_killed_tuning_goes_on_exactly(tmp_path, tiny):
    from cepcli.prior.local.language_model import load_language_model

    config = FinetuneConfig(
        shots=4, rank=2, alpha=4.0, max_steps=2, warmup_steps=0, batch_decisions=2,
        evaluate_every=1, validation_decisions=2, dtype="float32", targets=("v_proj",),
    )  # fmt: skip

    def tuner(path):
        model = load_language_model(tiny, dtype="float32")
        return Tuner(model, LESSONS, LESSONS[:4], config, path)

    whole = tuner(tmp_path / "whole")
    whole.run()

    class Killed(Exception):
        pass

    def kill(step):
        raise Killed

    with pytest.raises(Killed):
        tuner(tmp_path / "cut").run(kill)
    resumed = tuner(tmp_path / "cut")
    steps = []
    resumed.run(lambda step: steps.append(step.step))

    assert steps == [2]
    assert resumed.history == whole.history
    assert whole.history[-1]["nll"] != whole.history[0]["nll"]
    for name, weight in whole.adapter.weights().items():
        torch.testing.assert_close(resumed.adapter.weights()[name], weight, rtol=0, atol=0)

    for moment in ("step", "validation"):
        path = tmp_path / moment
        cut = tuner(path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finetune, "ask_lessons" if moment == "validation" else "pack", interrupt)
            with pytest.raises(KeyboardInterrupt):
                cut.run()
        assert Checkpoint.read(path).progress["step"] == (1 if moment == "validation" else 0)
        resumed = tuner(path)
        resumed.run()
        assert resumed.history == whole.history
        for name, weight in whole.adapter.weights().items():
            torch.testing.assert_close(resumed.adapter.weights()[name], weight, rtol=0, atol=0)

    checkpoint = tmp_path / "cut"
    saved = Checkpoint.read(checkpoint)
    saved._replace(best={"another": torch.zeros(1)}).write(checkpoint)
    with pytest.raises(PriorError, match=r"Cannot resume .*has no use for `another`"):
        tuner(checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(PriorError, match=r"Cannot resume .* its checkpoint is damaged") as error:
        tuner(checkpoint)
    assert error.value.hint == f"Start over: rm -r {tmp_path}"


@pytest.fixture
def tunable(workspace_root, tiny):
    """Data of two families, and a configuration that is quick."""
    from cepcli.workspace.artifacts import Workspace

    space = Workspace(workspace_root)
    space.begin("demos", "d")
    demos = space.finish("demos", "d", seed=0).reference
    halves = DECISIONS[:8], DECISIONS[8:]
    data = [
        TuningData("test/rule", "babyai", DECISIONS, *halves, demos),
        TuningData("test/other", "textworld", DECISIONS, *halves, demos),
    ]
    config = FinetuneConfig(
        model=tiny, shots=2, rank=2, max_steps=2, batch_decisions=2, evaluate_every=1,
        validation_decisions=2,
        dtype="float32", targets=("v_proj",),
    )  # fmt: skip
    return space, data, config


@WARNINGS
def test_tuned_prior_is_an_artifact_that_loads_with_its_temperature(tunable):
    from cepcli.prior.config import PriorConfig
    from cepcli.prior.load import load_prior
    from cepcli.prior.tuning.evaluate import evaluate_prior
    from cepcli.prior.tuning.tuned import (
        TuningHooks,
        measure_untuned,
        reporting_lessons,
        tune_prior,
    )
    from cepcli.workspace.artifacts import read_json

    space, data, config = tunable
    before = measure_untuned(reporting_lessons(data), config, "cpu")
    steps, notes = [], []
    hooks = TuningHooks(steps.append, notes.append)
    artifact = tune_prior(data, config, space, "mine", before=before, hooks=hooks, force=True)

    assert [step.step for step in steps] == [1, 2]
    assert "Fitting the temperature" in notes
    files = {output["file"] for output in artifact.manifest["outputs"]}
    assert files == {
        "adapter_config.json", "adapter_model.safetensors", "config.toml", "prior.json",
        "report.json",
    }  # fmt: skip
    assert {i["name"] for i in artifact.manifest["inputs"]} == {"d"}
    card, report = read_json(artifact.path / "prior.json"), read_json(artifact.path / "report.json")
    assert (card["env"], card["shots"], card["normalisation"]) == (
        "test/rule, test/other",
        2,
        "sum",
    )
    assert set(card["templates"]) == {"babyai", "textworld"}
    assert report["before"]["nll"] == before.quality.nll
    assert report["train_decisions"] == 8
    assert len(report["validation"]) == 2
    assert report["kl_from_untuned"] > 0.0

    for family, env in (("babyai", "test/rule"), ("textworld", "test/other")):
        prior = load_prior(
            "mine", family=family, workspace=space, config=PriorConfig(dtype="float32"),
            device="cpu",
        )  # fmt: skip
        assert prior.shape.temperature == card["temperature"] != 1.0
        after = evaluate_prior(prior, DECISIONS[8:])
        told = report["after_by_env"][env]
        assert (after.nll, after.decisions) == (pytest.approx(told["nll"], abs=1e-4), 8)
    with pytest.raises(PriorError, match="tuned with prompt template"):
        load_prior("mine", family="alfworld", workspace=space, config=PriorConfig(), device="cpu")


@pytest.mark.slow
@WARNINGS
def test_a_prior_that_is_worse_than_chance_is_kept_only_by_force(tunable):
    """It is judged by the contrary of what it was told."""
    from dataclasses import replace

    from cepcli.prior.tuning.tuned import (
        TuningHooks,
        WorseThanChanceError,
        measure_untuned,
        reporting_lessons,
        tune_prior,
    )

    space, [one, _], config = tunable
    config = replace(config, model="embedded", max_steps=5, evaluate_every=5, learning_rate=0.03)
    contrary = [replace(d, action=ACTIONS[1]) for d in one.test]
    data = [replace(one, test=contrary)]
    before = measure_untuned(reporting_lessons(data), config, "cpu")
    with pytest.raises(WorseThanChanceError, match=r"worse than chance .* NLL .* against 1\.099"):
        tune_prior(data, config, space, "bad", before=before)
    assert not space.exists("prior", "bad")
    other = replace(one, env_id="babyai/goto-local", test=[d for d in one.test for _ in range(9)])
    both = [replace(data[0], test=contrary[:2]), other]
    both_before = measure_untuned(reporting_lessons(both), config, "cpu")
    with pytest.raises(WorseThanChanceError, match=f"of `{one.env_id}`") as told:
        tune_prior(both, config, space, "half", before=both_before)
    assert told.value.quality.nll < told.value.quality.chance_nll, "good at the other one"
    steps = []
    made = tune_prior(
        data, config, space, "bad", before=before, force=True, hooks=TuningHooks(steps.append)
    )
    assert steps == [], "what was paid for is not done again"
    assert (made.path / "adapter_model.safetensors").is_file()


def test_lessons_are_asked_under_their_own_templates_in_their_own_order():
    from tests.fakes import FakeScorer

    other = [Lesson(PromptTemplate("textworld"), made) for made in DECISIONS[:3]]
    mixed = [other[0], LESSONS[0], other[1], LESSONS[1], other[2]]
    asked = {}

    def prior_of(template):
        asked[template.version] = scorer = FakeScorer()
        return LLMPrior(scorer, template, "sum", PriorShape())

    answers = ask_lessons(prior_of, mixed)
    assert len(answers) == 5
    assert set(asked) == {lesson.template.version for lesson in mixed}


def test_a_file_of_decisions_is_split_by_instance(tmp_path):
    from cepcli.prior.tuning.decisions import write_decisions

    path = tmp_path / "mine.jsonl"
    write_decisions(path, [decision(episode, step) for episode in range(8) for step in range(2)])
    data = lessons_in_file(path, "babyai/goto-redball", "babyai")
    assert {d.instance for d in data.train} == {0, 1, 2, 4, 5, 6}
    assert ({d.instance for d in data.validation}, {d.instance for d in data.test}) == ({3}, {7})
    assert data.source.name == str(path)
    write_decisions(path, DECISIONS[:-2])
    with pytest.raises(ArtifactError, match="7 instances, expected at least 8"):
        lessons_in_file(path, "babyai/goto-redball", "babyai")


@pytest.mark.slow
@WARNINGS
def test_few_shots_learn_a_simple_rule(tmp_path):
    from cepcli.prior.local.language_model import load_language_model

    config = FinetuneConfig(shots=8, max_steps=30, evaluate_every=10, batch_decisions=4)
    tuner = Tuner(load_language_model("embedded"), LESSONS, LESSONS, config, tmp_path / "c")
    tuner.run()
    assert tuner.history[-1]["top1"] == 1.0
