import pytest

from cepcli.datasets.batches import KnownTexts
from cepcli.runs.offline import OfflineRun
from cepcli.runs.run import Progress
from cepcli.workspace.artifacts import Workspace
from tests.agents.worlds import HashEncoder
from tests.datasets import worlds


class Counting(HashEncoder):
    """Remembers what it was asked to encode."""

    def __init__(self):
        self.asked = []

    def encode(self, text):
        self.asked.append(text)
        return super().encode(text)


@pytest.fixture(autouse=True)
def _worlds(monkeypatch):
    worlds.install(monkeypatch.setattr)


def built(root, **flags):
    return OfflineRun.build(worlds.config(**flags), Workspace(root), lambda text: None)


def test_the_prior_is_asked_about_a_state_of_every_episode_at_once(tmp_path, monkeypatch):
    run = built(tmp_path, algorithm="cql-prior", dataset="corridor", eval_lanes=3)
    kind = type(run.world.prior)
    asked, ask = [], kind.log_probs

    def counted(prior, states):
        asked.append(len(states))
        return ask(prior, states)

    monkeypatch.setattr(kind, "log_probs", counted)
    found = run.evaluate(Progress(), 4)
    assert max(asked) == 3
    assert sum(asked) == sum(found.lengths) == found.telemetry.queries


@pytest.mark.parametrize("algorithm", ["cql", "cql-prior", "bc"])
def test_no_episode_changes_another(algorithm, tmp_path):
    one, many = (
        built(tmp_path, algorithm=algorithm, dataset="corridor", eval_lanes=count).evaluate(
            Progress(), 5
        )
        for count in (1, 4)
    )
    assert (one.returns, one.lengths, one.successes) == (many.returns, many.lengths, many.successes)


def test_a_text_is_embedded_once_over_all_evaluations(tmp_path, monkeypatch):
    encoder = Counting()
    monkeypatch.setattr("cepcli.runs.assembly.MiniLM", lambda device: encoder)
    run = built(tmp_path, algorithm="cql", dataset="corridor")
    encoder.asked.clear()
    for _ in range(2):
        run.evaluate(Progress(), 3)
    assert encoder.asked == []  # the corridor's texts are all in the dataset


def test_what_the_dataset_lacks_is_encoded_once():
    encoder = Counting()
    known = KnownTexts(["a"], HashEncoder().encode_many(["a"]), encoder)
    for _ in range(2):
        for text in ("a", "b"):
            assert (known.encode(text) == HashEncoder().encode(text)).all()
    assert encoder.asked == ["b"]


def test_a_run_that_was_evaluated_nowhere_asks_its_prior_when_it_is(tmp_path):
    from cepcli.runs.engine import evaluate_offline_run

    worlds.run(tmp_path, "a", algorithm="cql-prior", dataset="corridor", steps=4, eval_env=False)
    found = evaluate_offline_run(Workspace(tmp_path), "a", 2, lambda text: None)
    assert found["eval"]["queries"] > 0
