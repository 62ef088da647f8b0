"""The three stages on a made-up world whose right answers are known."""

from dataclasses import replace

import numpy as np
import pytest

from cepcli.abstraction.build import (
    MAP,
    REPORT,
    build_abstraction,
    is_made_so,
    relevance,
    split,
    train_abstraction,
    usual_bound,
)
from cepcli.abstraction.judge import HeldOut, judge
from cepcli.abstraction.states import Abstraction
from cepcli.errors import ArtifactError, ConfigError
from cepcli.keys.config import AbstractionConfig
from cepcli.keys.hashing import HashEncoder
from cepcli.workspace.artifacts import Workspace, read_json, sha256, write_json
from tests.abstraction.control_worlds import (
    FEATURES,
    INPUTS,
    SPEC,
    annotated,
    ask,
    compose,
    slots_of,
    sources,
)

CONFIG = AbstractionConfig(env="toy", encoder="hash", rollout_states=400, steps=60)
NAME = "toy/default"


@pytest.fixture(scope="module")
def trained():
    return train_abstraction(sources(), CONFIG, HashEncoder(), ask)


@pytest.fixture(scope="module")
def report(trained):
    return judge(trained.abstraction, trained.heldout, CONFIG.margin)


def test_heldout_states_find_their_descriptions(report):
    retrieval = report["retrieval"]
    assert retrieval["top1"] > 5 * retrieval["chance"]
    assert retrieval["top5"] > 0.9
    assert report["states"] == 48


def test_labels_propagate_to_states_like_theirs(trained, report):
    assert 0.5 < report["propagation"]["coverage"] < 1.0
    assert report["propagation"]["slots"] > 0.85
    assert report["propagation"]["primitive"] > 0.75
    assert trained.training["propagated"] > 200


def test_a_wider_margin_propagates_less_and_better(trained, report):
    strict = judge(trained.abstraction, trained.heldout, 0.95)["propagation"]
    assert strict["coverage"] < report["propagation"]["coverage"]
    assert strict["slots"] > report["propagation"]["slots"]


def test_only_states_with_a_clear_vote_take_labels():
    config = replace(CONFIG, margin=0.95, steps=30)
    notes = []
    made = train_abstraction(sources(), config, HashEncoder(), ask, notes.append)
    assert made.training["propagated"] == (~made.abstraction.bank.annotated).sum() < 300
    [stage] = [note for note in notes if note.startswith("Stage 2")]
    assert 0 < int(stage.split("with ")[1].split()[0]) < 300


def test_slots_are_described_far_better_than_by_the_commonest_phrase(report):
    assert report["slots"]["mean"] > 0.85 > report["slots"]["majority"] + 0.2
    assert set(report["slots"]["by_slot"]) == {"pace", "torso", "leg"}


def test_the_joint_stage_lowers_the_lipschitz_constant(report):
    before, after = report["keys"]["before"], report["keys"]["after"]
    assert after["lipschitz"] < 0.85 * before["lipschitz"]
    assert after["largest"] < before["largest"]
    assert after["hit_rate"] > before["hit_rate"]


def test_it_is_the_prior_that_lowers_it():
    config = replace(CONFIG, prior_weight=0.0)
    made = train_abstraction(sources(), config, HashEncoder(), ask)
    keys = judge(made.abstraction, made.heldout, config.margin)["keys"]
    assert keys["after"]["lipschitz"] > 0.9 * keys["before"]["lipschitz"]


def test_the_right_description_has_the_right_prior(report):
    assert report["prior_kl"]["median"] == pytest.approx(0.0, abs=1e-9)
    assert report["prior_kl"]["mean"] < 0.9


def test_descriptions_have_the_form_of_the_annotations(trained):
    combined = {compose(slots_of(row)) for row in annotated(2000, seed=5).observations}
    said = trained.abstraction.texts(annotated(300, seed=6).observations)
    assert len(set(said)) > 6
    assert set(said) <= combined


def test_one_state_is_described_as_among_many(trained):
    states = annotated(60, seed=7).observations
    one_by_one = [trained.abstraction.text(state) for state in states]
    assert one_by_one == trained.abstraction.texts(states)
    keys = trained.abstraction.keys(states)
    np.testing.assert_allclose(keys[3], trained.abstraction.key(states[3]), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1.0, atol=1e-5)
    named = np.array([trained.abstraction.primitive(state) for state in states])
    assert (named == np.array(annotated(60, seed=7).primitives)).mean() > 0.7


def test_features_that_tell_of_a_slot_weigh_most():
    world = annotated(400)
    codes = np.array([[slots["torso"] == "leaning back", 0] for slots in world.slots], np.int64)
    weights = relevance(world.observations, codes)
    assert weights.argmax() == FEATURES.index("tilt")
    assert weights.max() == 1.0
    assert np.delete(weights, FEATURES.index("tilt")).max() < 0.25


def test_the_scale_of_spans_is_that_of_the_priors():
    spans = np.full((4, 4), 4.0, np.float32)
    np.fill_diagonal(spans, np.nan)
    assert usual_bound(spans) == pytest.approx(2.0 / 3.0)
    assert usual_bound(np.full((2, 2), np.nan, np.float32)) == 1.0
    assert usual_bound(np.zeros((2, 2), np.float32)) == 1.0


def test_the_seed_decides(trained):
    again = train_abstraction(sources(), CONFIG, HashEncoder(), ask)
    other = train_abstraction(sources(), replace(CONFIG, seed=1), HashEncoder(), ask)
    assert again.abstraction.sha256 == trained.abstraction.sha256 != other.abstraction.sha256
    assert again.training == trained.training


def test_nobody_judges_what_it_learned_from():
    train, heldout = split(annotated(), CONFIG)
    assert len(train.texts) + len(heldout.texts) == 240
    assert not set(map(tuple, train.observations)) & set(map(tuple, heldout.observations))


def test_own_words_without_slots_are_given_back_whole():
    world = annotated(120)._replace(slots=({},) * 120)
    made = train_abstraction(sources(annotated=world), CONFIG, HashEncoder(), ask)
    said = set(made.abstraction.texts(annotated(50, seed=8).observations))
    assert said <= set(world.texts)


def test_without_rollouts_the_annotations_do():
    made = train_abstraction(sources(rollouts=[]), CONFIG, HashEncoder(), ask)
    assert made.training["unlabelled"] == 0
    assert "value_r2" not in made.training
    assert judge(made.abstraction, made.heldout, 0.4)["slots"]["mean"] > 0.8


def build(workspace, *, made_from=None, config=CONFIG, **more):
    return build_abstraction(made_from or sources(), config, workspace, NAME, ask, **more)


def test_the_artifact_says_the_same_as_what_was_trained(tmp_path, trained, report):
    workspace = Workspace(tmp_path)
    notes = []
    artifact = build(workspace, notify=notes.append)
    loaded = Abstraction.load(artifact.path)
    assert loaded.sha256 == trained.abstraction.sha256
    states = annotated(40, seed=4).observations
    assert loaded.texts(states) == trained.abstraction.texts(states)

    stored = read_json(artifact.path / REPORT)
    training = stored.pop("training")
    assert (training["annotations"], training["prior"]) == (192, "function")
    assert stored == judge(loaded, HeldOut.load(artifact.path), CONFIG.margin) == report
    assert (artifact.path / MAP).read_bytes().startswith(b"\x89PNG")
    assert artifact.manifest["inputs"] == [INPUTS[0]._asdict()]
    assert [note[:7] for note in notes if note.startswith("Stage")] == [
        "Stage 1", "Stage 2", "Stage 3",
    ]  # fmt: skip
    assert workspace.names("abstraction") == [NAME]
    assert artifact.name == artifact.reference.name == NAME


def test_what_was_made_so_is_known(tmp_path):
    workspace, config = Workspace(tmp_path), replace(CONFIG, steps=5)
    assert not is_made_so(workspace, NAME, config, INPUTS)
    build(workspace, config=config)
    assert is_made_so(workspace, NAME, config, INPUTS)
    assert not is_made_so(workspace, NAME, AbstractionConfig(seed=1), INPUTS)
    assert not is_made_so(workspace, NAME, config, [INPUTS[0]._replace(sha256="d" * 64)])
    with pytest.raises(ArtifactError, match="exists already"):
        build(workspace, config=config)
    build(workspace, config=config, overwrite=True)


def test_too_little_or_foreign_is_refused(tmp_path):
    workspace = Workspace(tmp_path)
    with pytest.raises(
        ArtifactError, match="5 annotated states of toy are too few, expected at least 10"
    ):
        build(workspace, made_from=sources(annotated=annotated(5)))
    with pytest.raises(ArtifactError, match="primitive `lean back`, which toy does not have"):
        build(workspace, made_from=sources(spec=replace(SPEC, primitives=SPEC.primitives[1:])))
    with pytest.raises(ArtifactError, match="have 6 features, toy has 2"):
        build(workspace, made_from=sources(spec=replace(SPEC, features=SPEC.features[:2])))
    assert not workspace.names("abstraction")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"margin": 0.0}, "margin is 0.0"), ({"heldout": 1.0}, "heldout is 1"),
     ({"dim": 1}, "dim is 1"), ({"temperature": 0.0}, "temperature is 0"),
     ({"discount": 1.5}, "discount is 1.5")],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        AbstractionConfig(**settings)


def test_wrong_labels_are_learned_from_but_do_not_judge(trained, report):
    config = replace(CONFIG, wrong_labels=0.5)
    spoilt = train_abstraction(sources(), config, HashEncoder(), ask)
    assert spoilt.heldout.annotated.texts == trained.heldout.annotated.texts
    worse = judge(spoilt.abstraction, spoilt.heldout, CONFIG.margin)
    assert worse["prior_kl"]["mean"] > 2 * report["prior_kl"]["mean"]


def test_an_abstraction_of_an_earlier_version_is_taken_as_it_is(workspace_root):
    space = Workspace(workspace_root)
    made = build_abstraction(sources(), replace(CONFIG, steps=5), space, NAME, ask)
    file = made.path / "config.toml"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if "wrong_labels" not in line) + "\n")
    manifest = read_json(made.path / "manifest.json")
    for output in manifest["outputs"]:
        if output["file"] == "config.toml":
            output.update(bytes=file.stat().st_size, sha256=sha256(file))
    write_json(made.path / "manifest.json", manifest)
    assert is_made_so(space, NAME, replace(CONFIG, steps=5), INPUTS)
    assert not is_made_so(space, NAME, replace(CONFIG, steps=5, wrong_labels=0.1), INPUTS)
