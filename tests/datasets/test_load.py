import numpy as np
import pytest

from cepcli.datasets import load as load_module
from cepcli.datasets.labels import labels_of
from cepcli.datasets.load import load_dataset
from cepcli.datasets.minari_data import write_minari
from cepcli.envs.catalog import control_spec
from cepcli.errors import ArtifactError, DataError, EnvError
from cepcli.workspace.artifacts import Workspace
from tests.datasets.data import d4rl_file, same, walker


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """No datasets but a test's own, and those that ship with cep."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.delenv("D4RL_DATASET_DIR", raising=False)
    monkeypatch.setattr(load_module, "_D4RL_DEFAULT", str(tmp_path / "none"))


def load(name, root, **more):
    said = []
    return load_dataset(name, workspace=Workspace(root), notify=said.append, **more), said


@pytest.mark.parametrize("env", ["walker2d", "halfcheetah"])
def test_d4rl_is_there_on_a_fresh_checkout_and_said_to_be_ours(tmp_path, env):
    data, said = load("d4rl", tmp_path, env=env)
    assert said[0].startswith(f"Data: {env} medium-replay, collected by cep: 20000 transitions")
    assert said[0].endswith("not the published D4RL set, of which no file was found")
    assert data.env == env
    assert len(data) == 20_000


@pytest.mark.parametrize("env", ["walker2d", "halfcheetah"])
def test_what_ships_is_labelled_by_the_prior_that_ships(tmp_path, env):
    data, _ = load("d4rl", tmp_path, env=env, labels=env)
    assert data.labels is not None
    assert data.labels.prior == env
    assert data.labels.symbols == control_spec(env).actions
    assert len(data.labels.log_prior) == len(data) + int(data.truncated.sum())
    np.testing.assert_allclose(np.exp(data.labels.log_prior).sum(1), 1, rtol=1e-5)
    assert labels_of(data, Workspace(tmp_path)) == [env]


def test_d4rl_is_of_walker2d_unless_told_otherwise(tmp_path):
    assert load("d4rl", tmp_path)[0].env == "walker2d"


def test_a_published_file_comes_first(tmp_path):
    write_minari(tmp_path / "minari", walker(seed=1), recipe="medium-replay", about="")
    (tmp_path / "d4rl").mkdir()
    d4rl_file(tmp_path / "d4rl" / "walker2d_medium_replay-v0.hdf5", walker(seed=2))
    d4rl_file(tmp_path / "d4rl" / "walker2d_medium_replay-v2.hdf5")
    data, said = load("d4rl", tmp_path)
    assert same(data, walker())
    assert said == [
        f"Data: D4RL's published walker2d_medium_replay-v2.hdf5, from {tmp_path / 'd4rl'}"
    ]


def test_d4rls_own_folder_is_looked_into(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "downloads"))
    (tmp_path / "downloads").mkdir()
    d4rl_file(tmp_path / "downloads" / "walker2d_expert-v2.hdf5")
    assert same(load("d4rl", tmp_path, split="expert")[0], walker())


def test_an_installed_minari_dataset_comes_second(tmp_path):
    made = write_minari(tmp_path / "made", walker(), recipe="medium", about="")
    home = tmp_path / "minari" / "mujoco" / "walker2d"
    home.mkdir(parents=True)
    (tmp_path / "made" / made).rename(home / "medium-v0")
    data, said = load("d4rl", tmp_path, split="medium")
    assert same(data, walker())
    assert "mujoco/walker2d/medium-v0" in said[0]


def test_what_is_nowhere_is_told_with_what_makes_it(tmp_path):
    with pytest.raises(ArtifactError, match="no Minari dataset of it") as error:
        load("d4rl", tmp_path, env="ant", split="expert")
    assert error.value.hint == (
        "Put the file there, or collect one: cep offline collect --env ant --recipe expert"
    )


def test_a_split_that_is_not_collected_is_no_recipe(tmp_path):
    with pytest.raises(ArtifactError, match="no dataset `ant-full-replay`") as error:
        load("d4rl", tmp_path, env="ant", split="full-replay")
    assert "--recipe" not in error.value.hint


def test_an_unknown_split_is_suggested_for(tmp_path):
    with pytest.raises(DataError, match="no split `medium-repaly`") as error:
        load("d4rl", tmp_path, split="medium-repaly")
    assert error.value.hint == "Did you mean `medium-replay`?"


def test_a_split_is_for_d4rl_alone(tmp_path):
    with pytest.raises(DataError, match="is for D4RL only"):
        load("walker2d-medium-replay", tmp_path, split="medium")


def test_a_path_is_a_file(tmp_path):
    path = d4rl_file(tmp_path / "mine.hdf5")
    data, said = load(str(path), tmp_path, env="walker2d")
    assert same(data, walker())
    assert said == [f"Data: the file {path}"]


def test_a_published_file_has_its_name_alone(tmp_path):
    (tmp_path / "d4rl").mkdir()
    d4rl_file(tmp_path / "d4rl" / "walker2d_expert-v2.hdf5")
    assert same(load("walker2d_expert-v2.hdf5", tmp_path)[0], walker())


def test_a_misspelt_name_is_suggested_for(tmp_path):
    with pytest.raises(ArtifactError, match="There is no dataset") as error:
        load("walker2d-medium-repaly", tmp_path)
    assert "Did you mean `walker2d-medium-replay`?" in error.value.hint


def test_a_dataset_of_another_environment_is_refused(tmp_path):
    with pytest.raises(DataError, match="of the environment `walker2d`, expected `ant`"):
        load("walker2d-medium-replay", tmp_path, env="ant")


def test_an_unknown_environment_is_suggested_for(tmp_path):
    with pytest.raises(EnvError, match="`waker2d` doesn't exist") as error:
        load("d4rl", tmp_path, env="waker2d")
    assert error.value.hint == "Did you mean `walker2d`?"


def test_what_stands_in_is_looked_for_under_the_name_it_is_collected_by(tmp_path):
    with pytest.raises(ArtifactError, match="no dataset `metaworld-reach-expert`"):
        load("d4rl", tmp_path, env="metaworld/reach", split="expert")
