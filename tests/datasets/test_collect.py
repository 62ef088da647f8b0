import numpy as np
import pytest

from cepcli.datasets import collect as collect_module
from cepcli.datasets.behaviour import Behaviour, ExpertBehaviour, RandomBehaviour
from cepcli.datasets.collect import CollectConfig, CollectPlan, Stage, collect, default_dataset_name
from cepcli.datasets.load import load_dataset
from cepcli.datasets.stored import card_of
from cepcli.envs import catalog
from cepcli.errors import ArtifactError, ConfigError, DataError
from cepcli.workspace.artifacts import Workspace
from tests.agents import control_worlds, worlds
from tests.datasets.data import same


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """The corridor and the point are environments."""
    specs = {
        "test/corridor": catalog.EnvSpec(
            "test/corridor", "babyai", "a corridor", worlds.make_corridor, dict
        ),
        "test/point": catalog.EnvSpec(
            "test/point", "babyai", "a point", control_worlds.make_point, dict,
            control=control_worlds.SPEC,
        ),
    }  # fmt: skip
    monkeypatch.setattr(collect_module, "spec", specs.__getitem__)
    monkeypatch.setattr("cepcli.datasets.columns.spec", specs.__getitem__)
    monkeypatch.setattr(collect_module, "make_env", worlds.make_corridor)
    monkeypatch.setattr(collect_module, "make_control_env", control_worlds.make_point)
    monkeypatch.setattr(collect_module, "_SECONDS", 0.0)


class Interrupting(Behaviour):
    """Acts at random, and is interrupted at a step."""

    about = "somebody"

    def __init__(self, at):
        self._at = at
        self._random = RandomBehaviour()

    def begin(self, seed):
        self._random.begin(seed)

    def act(self, tracker):
        self._at -= 1
        if self._at == 0:
            raise KeyboardInterrupt
        return self._random.act(tracker)


def collected(root, env, *stages, name="made", overwrite=False, **settings):
    """A dataset of random actions, or of those stages, and what was said."""
    config = CollectConfig(env=env, **settings)
    stages = stages or (Stage(RandomBehaviour(), config.transitions or 50),)
    said = []
    space = Workspace(root)
    artifact = collect(
        CollectPlan(config, stages, "somebody"),
        space,
        name,
        overwrite=overwrite,
        notify=said.append,
    )
    return load_dataset(name, workspace=space, notify=lambda text: None), artifact, said


@pytest.mark.parametrize("env", ["test/corridor", "test/point"])
def test_exactly_as_many_steps_as_asked_for_and_the_last_episode_is_cut(tmp_path, env):
    data, artifact, _ = collected(tmp_path, env, transitions=50)
    assert len(data) == card_of(artifact)["transitions"] == 50
    assert data.env == env
    assert data.terminated[-1] or data.truncated[-1]
    assert not (data.terminated & data.truncated).any()
    assert not (artifact.path / "kept").exists()


def test_steps_follow_each_other_within_an_episode(tmp_path):
    data, _, _ = collected(tmp_path, "test/point", transitions=60)
    for rows in data.episodes():
        inside = slice(rows.start, rows.stop - 1)
        assert np.array_equal(
            data.next_observations[inside], data.observations[rows.start + 1 : rows.stop]
        )


def test_both_layouts_hold_the_same(tmp_path):
    both, artifact, _ = collected(
        tmp_path, "test/point", transitions=40, layouts=("d4rl", "minari")
    )
    assert (artifact.path / "d4rl.hdf5").is_file()
    one, other, _ = collected(
        tmp_path, "test/point", transitions=40, name="other", layouts=("minari",)
    )
    assert not (other.path / "d4rl.hdf5").exists()
    assert card_of(other)["minari_id"] == "cep/test-point/random-v0"
    assert same(one, both)


@pytest.mark.parametrize("env", ["test/corridor", "test/point"])
def test_an_interrupted_collection_goes_on_to_the_same_data(tmp_path, env):
    whole, _, _ = collected(tmp_path / "whole", env, transitions=80)
    with pytest.raises(KeyboardInterrupt):
        collected(tmp_path / "cut", env, Stage(Interrupting(55), 80), transitions=80)
    there = list((tmp_path / "cut" / "dataset" / "made.partial" / "kept").glob("0-*"))
    assert len(there) >= 2
    data, _, said = collected(tmp_path / "cut", env, transitions=80)
    assert said[0] == "Going on with the unfinished dataset made"
    if env == "test/point":
        assert same(data, whole)
    else:
        assert [data.state(n) for n in range(80)] == [whole.state(n) for n in range(80)]
        assert np.array_equal(data.chosen, whole.chosen)


def test_going_on_plays_only_what_is_missing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        collected(tmp_path, "test/point", Stage(Interrupting(60), 80), transitions=80)
    # of the 80 steps the first 59 were played, whole episodes of them kept: at most 17 are lost
    collected(tmp_path, "test/point", Stage(Interrupting(39), 80), transitions=80)


def test_an_unfinished_dataset_of_other_settings_is_not_taken(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        collected(tmp_path, "test/point", Stage(Interrupting(60), 80), transitions=80)
    with pytest.raises(ArtifactError, match="was begun with seed = 0, not 1") as error:
        collected(tmp_path, "test/point", transitions=80, seed=1)
    assert "--overwrite" in error.value.hint
    data, _, _ = collected(tmp_path, "test/point", transitions=80, seed=1, overwrite=True)
    assert len(data) == 80


def test_a_finished_dataset_is_not_replaced_unasked(tmp_path):
    collected(tmp_path, "test/point", transitions=20)
    with pytest.raises(ArtifactError, match="exists already"):
        collected(tmp_path, "test/point", transitions=20)


def test_the_expert_solves_and_says_so(tmp_path):
    data, artifact, _ = collected(
        tmp_path, "test/corridor", Stage(ExpertBehaviour(0.0), 40), recipe="expert"
    )
    assert data.success_rate() > 0.9
    assert {data.strings[data.actions[n, data.chosen[n]]] for n in range(40)} == {"go right"}
    assert card_of(artifact)["success_rate"] == data.success_rate()


def test_an_expert_that_slips_does_so_as_often_as_told(tmp_path):
    data, _, _ = collected(
        tmp_path, "test/corridor", Stage(ExpertBehaviour(0.5), 400), recipe="noisy-expert"
    )
    wrong = [data.strings[data.actions[n, data.chosen[n]]] == "go left" for n in range(400)]
    assert 0.17 < np.mean(wrong) < 0.33  # half of the random actions are right by chance


def test_stages_follow_each_other(tmp_path):
    stages = (Stage(RandomBehaviour(), 30), Stage(ExpertBehaviour(0.0), 20))
    data, _, _ = collected(tmp_path, "test/corridor", *stages, transitions=50)
    assert len(data) == 50
    assert data.truncated[29] or data.terminated[29]
    later = {data.strings[data.actions[n, data.chosen[n]]] for n in range(30, 50)}
    assert later == {"go right"}


def test_seeds_play_different_episodes(tmp_path):
    one, _, _ = collected(tmp_path, "test/point", transitions=30)
    two, _, _ = collected(tmp_path, "test/point", transitions=30, seed=1, name="two")
    assert not np.array_equal(one.observations, two.observations)


def test_the_default_name_says_environment_and_recipe():
    config = CollectConfig(env="metaworld/reach", recipe="expert")
    assert default_dataset_name(config) == "metaworld-reach-expert"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "meduim"}, "no recipe `meduim`"),
        ({"transitions": 0}, "transitions is 0"),
        ({"noise": 1.5}, "noise is 1.5"),
        ({"layouts": ("hdf",)}, "expected d4rl, minari or both"),
        ({"layouts": ()}, "expected d4rl, minari or both"),
        ({"run": "x"}, "the recipe random uses no run"),
        ({"recipe": "medium", "expert_run": "x"}, "only the recipe medium-expert"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises((ConfigError, DataError), match=message):
        CollectConfig(env="walker2d", **settings)
