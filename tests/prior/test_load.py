"""From a name to a prior: what exists, what does not, and what does not fit."""

import json
from types import SimpleNamespace

import pytest

from cepcli.errors import ConfigError, PriorError
from cepcli.prior.base import UniformPrior
from cepcli.prior.config import FinetuneConfig, PriorConfig
from cepcli.prior.load import PriorSource, _shape, find_prior, load_prior, prior_inputs
from cepcli.prior.local import language_model
from cepcli.prior.local.adapter import vocabulary_sha256
from cepcli.workspace.artifacts import Workspace

CARD = {"model": "embedded", "template": "babyai-1", "normalisation": "sum", "temperature": 3.0}


@pytest.fixture
def workspace(workspace_root):
    return Workspace(workspace_root)


def tuned(workspace, name="mine", **card):
    folder = workspace.begin("prior", name)
    (folder / "prior.json").write_text(json.dumps(CARD | card))
    return workspace.finish("prior", name, seed=0)


def load(name, workspace, family="babyai", config=None):
    return load_prior(
        name, family=family, workspace=workspace, config=config or PriorConfig(), device="cpu"
    )


def test_uniform_needs_no_model(workspace):
    assert isinstance(load("uniform", workspace), UniformPrior)
    assert prior_inputs("uniform", workspace) == []


def test_unknown_name_suggests_the_nearest(workspace):
    tuned(workspace, "babyai-5shot")
    with pytest.raises(PriorError, match="no prior `babyai-5shoot`") as error:
        load("babyai-5shoot", workspace)
    assert "Did you mean `babyai-5shot`?" in error.value.hint
    with pytest.raises(PriorError) as error:
        load("embeded", workspace)
    assert "`embedded`" in error.value.hint


def test_tuned_prior_is_an_input_of_what_uses_it(workspace):
    artifact = tuned(workspace)
    source = find_prior("mine", workspace)
    assert (source.model, source.artifact) == ("embedded", artifact)
    assert [a.name for a in prior_inputs("mine", workspace)] == ["mine"]


def test_a_tuned_prior_reads_no_template_that_it_was_not_tuned_with(workspace):
    tuned(workspace)
    with pytest.raises(PriorError, match="tuned with prompt template babyai-1, not with `bare`"):
        load("mine", workspace, config=PriorConfig(template="bare"))


def test_prior_tuned_with_other_prompts_is_refused(workspace):
    tuned(workspace)
    with pytest.raises(PriorError, match="babyai-1, but textworld environments use textworld-1"):
        load("mine", workspace, family="textworld")


def test_directory_without_a_model_is_refused(workspace, tmp_path):
    with pytest.raises(PriorError, match=r"no config\.json"):
        load(str(tmp_path), workspace)
    with pytest.raises(PriorError, match="not a directory"):
        load(str(tmp_path / "absent"), workspace)


def test_directory_with_a_broken_model_is_refused(workspace, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PriorError, match="could not be loaded"):
        load(str(tmp_path), workspace)


def test_unreachable_hub_is_refused(workspace, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PriorError, match="could not be loaded") as error:
        load("no-such-owner/no-such-model", workspace)
    assert "--prior embedded" in error.value.hint


def test_missing_device_is_refused(workspace):
    with pytest.raises(ConfigError, match="no device"):
        load_prior(
            "embedded", family="babyai", workspace=workspace, config=PriorConfig(), device="tpux"
        )


def test_fitted_temperature_holds_unless_the_scores_are_others():
    source = PriorSource("embedded", None, CARD)
    assert _shape(PriorConfig(), source).temperature == 3.0
    assert _shape(PriorConfig(normalisation="sum"), source).temperature == 3.0
    assert _shape(PriorConfig(normalisation="mean"), source).temperature == 1.0
    assert _shape(PriorConfig(temperature=2.0), source).temperature == 2.0


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (PriorConfig, {"temperature": 0.0}),
        (PriorConfig, {"smoothing": 1.5}),
        (PriorConfig, {"row_tokens": 0}),
        (FinetuneConfig, {"shots": 0}),
        (FinetuneConfig, {"learning_rate": 0.0}),
        (FinetuneConfig, {"alpha": -1.0}),
        (FinetuneConfig, {"targets": ()}),
        (FinetuneConfig, {"epochs": 0.0}),
        (FinetuneConfig, {"warmup_steps": -1}),
        (FinetuneConfig, {"smoothing": -0.1}),
    ],
)
def test_values_out_of_range_are_refused(cls, values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        cls(**values)


def served(monkeypatch, vocabulary):
    """A model with this vocabulary, whatever is loaded."""
    tokenizer = SimpleNamespace(get_vocab=lambda: vocabulary)
    there = SimpleNamespace(
        name="models/mine", revision="b" * 64, adapter_sha256="", dtype="float32",
        tokenizer=tokenizer, encode=str.split, device=SimpleNamespace(type="cpu"),
    )  # fmt: skip
    monkeypatch.setattr(language_model, "load_language_model", lambda *_, **__: there)
    return there


def test_a_prior_tuned_on_another_vocabulary_is_refused(workspace, monkeypatch):
    """The same weights under other token ids are another model, also where they are pinned."""
    there = served(monkeypatch, {"go": 0, "stop": 1})
    tuned(workspace, "same", vocabulary=vocabulary_sha256(there.tokenizer))
    load("same", workspace)
    served(monkeypatch, {"go": 1, "stop": 0})
    with pytest.raises(PriorError, match=r"`same` was tuned on another vocabulary") as told:
        load("same", workspace)
    assert "--name same --set model=embedded --overwrite" in told.value.hint


def test_a_prior_tuned_on_other_weights_of_its_model_is_refused(workspace, monkeypatch):
    """An adapter fits every model of the same shape, so fitting is no reason to take it."""
    served(monkeypatch, {})
    tuned(workspace, "same", model="models/mine", revision="b" * 64)
    tuned(workspace, "other", model="models/mine", revision="a" * 64)
    tuned(workspace, "pinned", model="embedded", revision="a" * 64)
    tuned(workspace, "older", model="models/mine")
    for name in ("same", "pinned", "older"):
        load(name, workspace)
    with pytest.raises(
        PriorError, match=r"`other` was tuned on other weights .*a{12}.*b{12}"
    ) as told:
        load("other", workspace)
    assert "--name other --set model=models/mine --overwrite" in told.value.hint
