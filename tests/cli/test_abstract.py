"""`cep abstract` as typed, on annotations of walker2d that two of its features decide."""

import json

import numpy as np
import pytest

from cepcli.workspace.artifacts import Workspace
from tests.fakes import FakeScorer

pytestmark = pytest.mark.usefixtures("short_search")
QUICK = ("--set=encoder=hash", "--set=steps=20", "--set=rollout_states=60", "--quiet")


def annotation(observation):
    tilt = "leaning forward" if observation[1] > 0 else "leaning back"
    pace = "moving forward" if observation[8] > 0 else "moving backward"
    row = {
        "observation": [round(float(value), 5) for value in observation],
        "text": f"The walker is {tilt} and {pace}.",
        "primitive": "straighten up" if observation[1] > 0 else "lean forward",
        "slots": {"torso": tilt, "pace": pace},
        "source": "auto",
        "env": "walker2d",
    }
    return json.dumps(row)


@pytest.fixture
def annotations(workspace_root):
    """120 annotated states in the workspace."""
    random = np.random.default_rng(0)
    rows = [annotation(row) for row in random.standard_normal((120, 17))]
    space = Workspace(workspace_root)
    folder = space.begin("annotations", "walker2d")
    (folder / "annotations.jsonl").write_text("\n".join(rows) + "\n")
    space.finish("annotations", "walker2d", seed=0)
    return space


@pytest.fixture
def scorers(monkeypatch):
    """No language model is loaded; what would be asked of it goes to fake scorers, in order."""
    made = []

    def scorer(*args, **kwargs):
        made.append(FakeScorer())
        return made[-1]

    monkeypatch.setattr(
        "cepcli.prior.local.language_model.load_language_model", lambda *a, **k: None
    )
    monkeypatch.setattr("cepcli.prior.local.hf.HFScorer", scorer)
    return made


@pytest.fixture
def trained(cep, annotations, made_once):
    """An abstraction under the uniform prior, and what it was made of, in the workspace."""

    def make():
        assert cep("abstract", "train", "--prior", "uniform", *QUICK).code == 0

    made_once("abstraction", annotations.root, make)


def test_train_leaves_an_abstraction_and_says_how_good_it_is(cep, annotations, scorers):
    done = cep("abstract", "train", "--prior", "embedded", "--json", *QUICK)
    assert (done.code, done.err) == (0, "")
    found = done.json
    assert found["abstraction"] == "walker2d/default"
    assert found["states"] == 24
    assert found["training"]["annotations"] == 96
    assert found["retrieval"]["texts"] <= 4
    assert {"lipschitz", "largest", "hit_rate"} == set(found["keys"]["before"])
    assert found["slots"]["mean"] > 0.6
    manifest = annotations.open("abstraction", "walker2d/default").manifest
    assert [made["kind"] for made in manifest["inputs"]] == ["annotations"]

    judged = cep("abstract", "eval", "--json")
    assert {k: v for k, v in judged.json.items() if k != "path"} == {
        k: v for k, v in found.items() if k != "path"
    }
    table = cep("abstract", "eval", "walker2d/default").out
    assert "L (99 % of pairs) after stage 3" in table
    assert "map.png" in table


@pytest.mark.parametrize("blocker", ["abstraction", "abstraction/walker2d"])
def test_a_workspace_that_cannot_be_written_is_refused_before_the_work(
    cep, annotations, scorers, monkeypatch, blocker
):
    played = []
    monkeypatch.setattr("cepcli.runs.preparation._rollouts", lambda *given: played.append(given))
    file = annotations.root / blocker
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    done = cep("abstract", "train", "--prior", "embedded", *QUICK)
    assert done.code == 2
    assert "Cannot write to" in done.err
    assert not played
    assert not scorers


def test_what_was_made_so_is_taken_as_it_is(cep, annotations, scorers):
    first = cep("abstract", "train", "--prior", "embedded", "--json", *QUICK)
    again = cep("abstract", "train", "--prior", "embedded", "--json", *QUICK[:-1])
    assert "Using the existing abstraction" in again.err
    assert again.json == first.json
    other = cep("abstract", "train", "--prior", "embedded", "--seed", "1", *QUICK)
    assert (other.code, "exists already" in other.err) == (2, True)
    over = cep("abstract", "train", "--prior", "embedded", "--overwrite", "--json", *QUICK)
    assert over.json["slots"] == first.json["slots"]
    asked = [sum(len(call) for call in scorer.calls) for scorer in scorers]
    assert asked[0] == 4
    assert asked[1:] == [0]  # the journal answers


def test_describe_says_states_in_words(cep, trained, tmp_path):
    shown = cep("abstract", "describe", "--steps", "3")
    assert shown.code == 0
    assert shown.out.count("The walker is leaning") == 3
    file = tmp_path / "o.json"
    observation = np.zeros(17)
    observation[1], observation[8] = 2.0, -2.0
    file.write_text(json.dumps(observation.tolist()))
    found = cep("abstract", "describe", "walker2d/default", "--observation", file, "--json").json
    assert found["states"] == [
        {"text": "The walker is leaning forward and moving backward.",
         "primitive": "straighten up"}
    ]  # fmt: skip
    np.save(tmp_path / "o.npy", np.stack([observation, -observation]))
    many = cep("abstract", "describe", "--observation", tmp_path / "o.npy", "--json").json
    assert [row["primitive"] for row in many["states"]] == ["straighten up", "lean forward"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1, 2]", "expected 17 numbers each"), ("{", "Cannot read observations"),
     (json.dumps([float("nan")] * 17), "Observation 0 of"), ('"x"', "Cannot read observations")],
)  # fmt: skip
def test_observations_that_are_none_are_refused(cep, trained, tmp_path, content, message):
    file = tmp_path / "o.json"
    file.write_text(content)
    done = cep("abstract", "describe", "--observation", file)
    assert done.code == 2
    assert message in done.err


def test_an_abstraction_of_other_states_is_refused(cep, trained):
    done = cep("abstract", "describe", "walker2d/default", "--env", "ant")
    assert done.code == 2
    assert "was trained on walker2d, not on ant" in done.err
    assert "cep abstract train --env ant --name ant/NAME" in done.err


def test_mistakes_are_named(cep, annotations, workspace_root):
    missing = cep("abstract", "eval", "walker2d/other")
    assert (missing.code, "cep abstract train" in missing.err) == (2, True)
    named = cep("abstract", "train", "--name", "ant/x", *QUICK)
    assert (named.code, "expected walker2d/NAME" in named.err) == (2, True)
    env = cep("abstract", "train", "--env", "walker3d", *QUICK)
    assert (env.code, "walker2d" in env.err) == (2, True)
    text = cep("abstract", "train", "--env", "babyai/goto-local", *QUICK)
    assert text.code == 2
    path = workspace_root / "annotations" / "walker2d" / "annotations.jsonl"
    path.write_text(path.read_text().replace('"lean forward"', '"fly"', 1))
    unknown = cep("abstract", "train", *QUICK)
    assert unknown.code == 2
    assert "annotations.jsonl:" in unknown.err


def test_train_without_the_default_makes_it_for_whoever_asks(annotations, monkeypatch):
    from cepcli.keys.config import AbstractionConfig
    from cepcli.listener import Listener
    from cepcli.runs import preparation

    said = []
    listener = Listener(notify=said.append)

    quick = AbstractionConfig(encoder="hash", steps=2, rollout_states=20, prior="uniform")
    monkeypatch.setattr(preparation, "AbstractionConfig", lambda env: quick)
    made, artifact = preparation.abstraction_for(
        "walker2d", "walker2d/default", annotations, "cpu", listener
    )
    assert said[0].startswith("There is no abstraction `walker2d/default` yet")
    said.clear()
    assert made.text(np.zeros(17)).startswith("The walker is")
    again, _ = preparation.abstraction_for("walker2d", artifact.name, annotations, "cpu", listener)
    assert again.sha256 == made.sha256
    assert not any("Stage" in text for text in said)


def test_a_fresh_workspace_uses_the_annotations_that_ship_with_cep(cep, workspace_root, scorers):
    done = cep("abstract", "train", "--prior", "embedded", *QUICK[:-1])
    assert done.code == 0
    assert "Using the 250 annotations of walker2d that ship with cep" in done.err
    assert "description: right phrases" in done.out
    assert not (workspace_root / "annotations").exists()


def test_who_shapes_the_keys_by_default_is_said(cep, annotations, scorers, monkeypatch):
    monkeypatch.setattr(
        "cepcli.workspace.artifacts.shipped_root", lambda: annotations.root / "nothing"
    )
    done = cep("abstract", "train", *QUICK[:-1], "--json")
    assert "No prior is named `walker2d`: asking the untuned one" in done.err
    assert "Asking embedded: 4/4" in done.err  # each distinct text once
    assert done.json["training"]["prior"] == "embedded"
