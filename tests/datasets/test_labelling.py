import numpy as np
import pytest

from cepcli.cache.config import CacheConfig
from cepcli.datasets import labelling
from cepcli.datasets.labelling import LabelConfig, label
from cepcli.datasets.labels import labels_of, state_rows, with_labels
from cepcli.datasets.stored import read_text, write_rows
from cepcli.errors import ArtifactError, DataError
from cepcli.prior.base import PriorShape
from cepcli.prior.journal import Journal, JournaledScorer
from cepcli.prior.llm import LLMPrior
from cepcli.prior.load import load_prior
from cepcli.prior.prompts import PromptTemplate
from cepcli.workspace.artifacts import Workspace
from tests.datasets.data import walker
from tests.fakes import FakeScorer

STATES = 60


class Asked:
    """A scripted model that can be told to die after some states."""

    def __init__(self):
        self.scorer = FakeScorer()
        self.dies_after = None

    @property
    def states(self):
        return sum(len(call) for call in self.scorer.calls)

    def load(self, name, *, family, workspace, config, device, journal_path=None):
        if name == "uniform":
            return load_prior(
                name, family=family, workspace=workspace, config=config, device=device
            )
        self.scorer = FakeScorer()
        inner = self.scorer.score

        def score(prompts, action_sets):
            if self.dies_after is not None and self.states >= self.dies_after:
                raise KeyboardInterrupt
            return inner(prompts, action_sets)

        self.scorer.score = score
        journal_path.parent.mkdir(parents=True, exist_ok=True)
        scorer = JournaledScorer(self.scorer, Journal(journal_path))
        return LLMPrior(scorer, PromptTemplate("babyai"), "sum", PriorShape(temperature=5.0))


@pytest.fixture
def model(monkeypatch):
    asked = Asked()
    monkeypatch.setattr(labelling, "load_prior", asked.load)
    monkeypatch.setattr(labelling, "prior_inputs", lambda name, workspace: [])
    monkeypatch.setattr(labelling, "_SAVE_SECONDS", 0.0)
    return asked


@pytest.fixture
def text(tmp_path):
    """Decisions in a text world whose states come again."""
    actions = [["left", "right"], ["left", "right", "wait"]]
    rows = {
        "episode": [n // 10 for n in range(STATES)],
        "goal": ["win"] * STATES,
        "text": [f"tile {n % 20}" for n in range(STATES)],
        "actions": [actions[n % 2] for n in range(STATES)],
        "action": ["left"] * STATES,
        "reward": [0.0] * STATES,
        "terminated": [n % 10 == 9 for n in range(STATES)],
        "truncated": [False] * STATES,
        "success": [False] * STATES,
    }
    write_rows(tmp_path / "t.parquet", rows)
    return read_text(tmp_path / "t.parquet", env="babyai/goto-local", source="made up")


def config(mode="exact", **more):
    cache = CacheConfig(mode=mode, encoder="hash")
    return LabelConfig(prior="scripted", cache=cache, batch=8, **more)


class Describer:
    """What a walker's state is called: one of a few words."""

    sha256 = "words"

    def texts(self, observations):
        return [f"leg {int(abs(value) * 2)}" for value in observations[:, 2]]


def test_every_state_of_text_has_its_prior(model, text, tmp_path):
    space = Workspace(tmp_path)
    label(text, config(), space)
    data = with_labels(text, "it", "scripted", space)
    bare = LLMPrior(FakeScorer(), PromptTemplate("babyai"), "sum", PriorShape(temperature=5.0))
    for row in range(STATES):
        state = text.state(row)
        expected = bare.log_probs([state])[0].log_prior
        np.testing.assert_allclose(data.log_prior[row, : len(expected)], expected, rtol=1e-6)
        assert np.all(data.log_prior[row, len(expected) :] == -np.inf)
    assert data.prior == "scripted"
    assert "temperature=5" in data.fingerprint


def test_the_exact_cache_asks_once_for_each_text(model, text, tmp_path):
    found = label(text, config(), Workspace(tmp_path))
    assert found["states"] == STATES
    assert found["queries"]["total"] == model.states == 20
    assert found["queries_per_state"] == pytest.approx(20 / 60)
    assert found["hits"]["exact"] == 40


def test_without_a_cache_every_state_is_a_query(model, text, tmp_path):
    found = label(text, config("off"), Workspace(tmp_path))
    assert found["queries_per_state"] == 1.0


def test_every_state_of_control_has_a_row_and_every_next_one(model, tmp_path):
    space, data = Workspace(tmp_path), walker()
    label(data, config(), space, words=(Describer(), None))
    labels = with_labels(data, "it", "scripted", space).labels
    assert labels.log_prior.shape == (52, 8)  # 50 states, and 2 with which episodes were cut
    assert labels.symbols[0] == "swing the right leg forward"
    np.testing.assert_allclose(np.exp(labels.log_prior).sum(1), 1, rtol=1e-5)
    assert np.array_equal(labels.state, np.arange(50))
    inside = np.setdiff1d(np.arange(50), [19, 39, 49])
    assert np.array_equal(labels.next_state[inside], inside + 1)
    assert labels.next_state[[39, 49]].tolist() == [50, 51]
    assert labels.next_state[19] == 19  # it terminated: nothing follows
    texts = Describer().texts(data.observations)
    same = [n for n in range(50) if texts[n] == texts[0]]
    assert len({labels.log_prior[n].tobytes() for n in same}) == 1


def test_data_that_stop_in_an_episode_have_a_last_next_state():
    data = walker()
    data.truncated[49] = False
    assert state_rows(data)[1][49] == 51


@pytest.mark.parametrize("mode", ["exact", "certified", "lru"])
def test_a_labelling_that_died_goes_on_to_the_same_labels_and_asks_nothing_twice(
    model, text, tmp_path, mode
):
    whole = Workspace(tmp_path / "whole")
    expected = label(text, config(mode), whole)
    asked = model.states
    cut = Workspace(tmp_path / "cut")
    model.dies_after = 10
    with pytest.raises(KeyboardInterrupt):
        label(text, config(mode), cut)
    before = model.states
    assert 10 <= before < asked
    model.dies_after = None
    found = label(text, config(mode), cut)
    assert before + model.states == asked
    assert found["queries"] == expected["queries"]
    assert found["hits"] == expected["hits"]
    ours = with_labels(text, "it", "scripted", cut).log_prior
    assert np.array_equal(ours, with_labels(text, "it", "scripted", whole).log_prior)


def test_going_on_begins_where_it_was_written_down(model, text, tmp_path):
    model.dies_after = 10
    with pytest.raises(KeyboardInterrupt):
        label(text, config(), Workspace(tmp_path))
    model.dies_after = None
    seen = []
    label(text, config(), Workspace(tmp_path), advance=lambda done, remark: seen.append(done))
    assert seen[0] == 24  # two batches of 8 were written down
    assert not list((tmp_path / "labels").glob("*/*/progress-*"))


def test_other_settings_begin_anew(model, text, tmp_path):
    model.dies_after = 10
    with pytest.raises(KeyboardInterrupt):
        label(text, config(), Workspace(tmp_path))
    model.dies_after = None
    seen = []
    label(text, config("off"), Workspace(tmp_path), advance=lambda done, _: seen.append(done))
    assert seen[0] == 8


def test_a_first_few_states_cost_and_store_nothing(model, text, tmp_path):
    found = label(text, config("off", states=10), Workspace(tmp_path))
    assert (found["states"], found["queries"]["total"]) == (10, 10)
    assert "path" not in found
    assert not (tmp_path / "labels").exists()


def test_uniform_labels_need_no_words(model, tmp_path):
    space, data = Workspace(tmp_path), walker()
    found = label(data, LabelConfig(prior="uniform"), space)
    assert found["queries_per_state"] == 0
    labels = with_labels(data, "it", "uniform", space).labels
    np.testing.assert_allclose(labels.log_prior, -np.log(8), rtol=1e-6)


def test_labels_are_not_replaced_unasked(model, text, tmp_path):
    label(text, config(), Workspace(tmp_path))
    with pytest.raises(ArtifactError, match="exist already"):
        label(text, config(), Workspace(tmp_path))
    label(text, config(), Workspace(tmp_path), overwrite=True)


def test_labels_of_another_prior_are_not_taken(model, text, tmp_path):
    space = Workspace(tmp_path)
    label(text, config(), space)
    assert labels_of(text, space) == ["scripted"]
    with pytest.raises(ArtifactError, match="no labels of the prior `other`; it has") as error:
        with_labels(text, "it", "other", space)
    assert error.value.hint == "Label it: cep offline label --dataset it --prior other"


def test_labels_of_other_states_are_not_taken(model, tmp_path):
    space, data = Workspace(tmp_path), walker()
    label(data, LabelConfig(prior="uniform"), space)
    with pytest.raises(ArtifactError, match="has no labels"):
        with_labels(walker(seed=1), "it", "uniform", space)


def test_labels_of_a_prior_that_was_made_anew_are_refused(model, text, tmp_path, monkeypatch):
    space = Workspace(tmp_path)

    def make_prior(content):
        folder = space.begin("prior", "scripted", overwrite=True)
        (folder / "prior.json").write_text(content)
        return space.finish("prior", "scripted", seed=0)

    make_prior("{}")
    monkeypatch.setattr(
        labelling, "prior_inputs", lambda name, workspace: [workspace.open("prior", name)]
    )
    label(text, config(), space)
    with_labels(text, "it", "scripted", space)
    make_prior('{"other": 1}')
    with pytest.raises(DataError, match="as it was before it was made anew") as error:
        with_labels(text, "it", "scripted", space)
    assert "--overwrite" in error.value.hint
