import json
from dataclasses import replace

import gymnasium as gym
import h5py
import httpx
import numpy as np
import pytest

from cepcli.datasets import minari_data
from cepcli.datasets.minari_data import installed, read_minari, read_minari_folder, write_minari
from cepcli.errors import DataError
from cepcli.workspace.artifacts import Workspace
from tests.datasets.data import same, walker

ID = "cep/walker2d/medium-v0"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Minari's folder, with one dataset in it."""
    path = tmp_path / "minari"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(path))
    write_minari(path, walker(), recipe="medium", about="made up")
    return path


def read(id_, root, env=None):
    return read_minari(id_, env=env, workspace=Workspace(root), notify=lambda text: None)


def test_what_is_written_is_read_back(folder, tmp_path):
    found = read(ID, tmp_path)
    assert same(found, walker())
    assert (found.env, found.source) == ("walker2d", f"the Minari dataset {ID}")


def test_minari_reads_it_with_the_reference_scores(folder):
    import minari

    assert list(minari.list_local_datasets()) == [ID]
    dataset = minari.load_dataset(ID)
    assert (dataset.total_episodes, dataset.total_steps) == (3, 50)
    scores = minari.get_normalized_score(dataset, np.array([1.629008, 4592.3]))
    np.testing.assert_allclose(scores, [0, 1])
    assert dataset.spec.env_spec is not None
    assert dataset.spec.env_spec.id == "Walker2d-v5"


def test_a_dataset_in_any_folder_is_read(folder, tmp_path):
    found = read_minari_folder(
        folder, env="walker2d", workspace=Workspace(tmp_path), notify=print, source="ours"
    )
    assert same(found, walker())
    assert found.source == "ours"


def test_looking_for_datasets_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "none"))
    assert installed() == []
    assert not (tmp_path / "none").exists()


def test_another_environment_is_refused(folder, tmp_path):
    with pytest.raises(DataError, match="of the environment `walker2d`, expected `ant`"):
        read(ID, tmp_path, env="ant")


def test_a_server_out_of_reach_is_told_soon_and_the_nearest_id(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(minari_data, "_server", lambda: "http://127.0.0.1:9")
    asked, head = [], httpx.head
    monkeypatch.setattr(
        httpx, "head", lambda *given, **more: asked.append(more["timeout"]) or head(*given, **more)
    )
    with pytest.raises(DataError, match="cannot be reached") as error:
        read("cep/walker2d/medum-v0", tmp_path)
    assert 0 < asked[0] <= 20
    assert error.value.hint == f"Did you mean `{ID}`?"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("mujoco/waker2d/medium-v0", "Did you mean `mujoco/walker2d/medium-v0`?"),
        ("mujoco/walker2d/medium-v0", "Put it there by hand"),
    ],
)
def test_published_ids_are_known_where_no_server_is(tmp_path, monkeypatch, typed, hint):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(minari_data, "_server", lambda: "http://127.0.0.1:9")
    with pytest.raises(DataError, match="cannot be reached") as error:
        read(typed, tmp_path)
    assert error.value.hint.startswith(hint)


def test_switched_off_downloads_are_told(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(minari_data, "_server", lambda: None)
    with pytest.raises(DataError, match="switched off"):
        read("mujoco/ant/expert-v0", tmp_path)


@pytest.mark.parametrize("typed", ["cep/walker2d/medium-vx!", "cep/walker2d/medium"])
def test_what_cannot_be_an_id_is_told(folder, tmp_path, typed):
    with pytest.raises(DataError, match="neither a file nor the id of a Minari dataset") as error:
        read(typed, tmp_path)
    assert ID in error.value.hint


def about(folder, **changes):
    """The description of the dataset, with some of it changed, or left out where it is None."""
    path = folder / ID / "data" / "metadata.json"
    written = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in written.items() if v is not None}))


def changed(folder, change):
    """Let `change` alter the file of the episodes."""
    with h5py.File(folder / ID / "data" / "main_data.hdf5", "a") as file:
        change(file)


def replaced(name, values):
    """A change that puts other values in the place of a column of the second episode."""

    def change(file):
        del file[f"episode_1/{name}"]
        if values is not None:
            file[f"episode_1/{name}"] = values

    return change


def refused(folder, tmp_path, words, env=None):
    with pytest.raises(DataError, match=words) as error:
        read(ID, tmp_path, env)
    assert "minari" not in error.value.message.replace("/minari", "")
    assert error.value.hint
    return error.value


@pytest.mark.parametrize("keep", [0, 50, 4000, -3000])
def test_truncated_episodes_are_told(folder, tmp_path, keep):
    path = folder / ID / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:keep])
    refused(folder, tmp_path, f"The Minari dataset `{ID}` in .* cannot be read")


def test_absent_files_are_told_and_not_downloaded(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(minari_data, "_download", None)
    (folder / ID / "data" / "main_data.hdf5").unlink()
    refused(folder, tmp_path, "cannot be read")
    (folder / ID / "data" / "metadata.json").unlink()
    refused(folder, tmp_path, r"it has no metadata\.json")


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null", "\x00\x01"])
def test_description_that_is_none_is_told(folder, tmp_path, content):
    (folder / ID / "data" / "metadata.json").write_text(content)
    refused(folder, tmp_path, r"cannot be read|metadata\.json .* expected an object")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"total_steps": None}, "`total_steps` is None"),
        ({"total_steps": "50"}, "`total_steps` is '50'"),
        ({"total_episodes": -1}, "`total_episodes` is -1"),
        ({"total_episodes": 9}, "episode_3"),
        ({"data_format": "paper"}, "there is no 'paper'"),
        ({"data_format": None}, "there is no 'data_format'"),
        ({"observation_space": "{}"}, "there is no 'type'"),
        ({"observation_space": None, "env_spec": None}, "cannot be read"),
        ({"env_spec": "{"}, "`env_spec` .* names no environment"),
        ({"env_spec": "[]"}, "`env_spec` .* names no environment"),
        ({"env_spec": 7}, "`env_spec` .* names no environment"),
    ],
)
def test_description_of_another_form_is_told(folder, tmp_path, changes, words):
    about(folder, **changes)
    refused(folder, tmp_path, words)


def test_of_the_environment_only_its_name_is_read(folder, tmp_path):
    """What other versions of Gymnasium write of it besides does not matter."""
    spec = {"id": "Walker2d-v5", "from_tomorrow": {"a": 1}}
    about(folder, env_spec=json.dumps(spec))
    assert read(ID, tmp_path).env == "walker2d"
    assert read(ID, tmp_path, env="walker2d").env == "walker2d"
    refused(folder, tmp_path, "of the environment `walker2d`, expected `ant`", env="ant")
    for written in (json.dumps({"from_tomorrow": 1}), "{"):
        about(folder, env_spec=written)
        assert read(ID, tmp_path, env="walker2d").env == "walker2d"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.__delitem__("episode_1"), "episode_1"),
        (replaced("rewards", None), "rewards"),
        (replaced("rewards", np.zeros(19, np.float32)), r"observations. of episode 1 .*\(21, 17\)"),
        (replaced("rewards", np.array([b"x"] * 20)), "`rewards` of episode 1 .* of type |S1"),
        (replaced("rewards", np.full(20, np.nan)), "`rewards` .* NaN or infinity, first in row 20"),
        (replaced("rewards", np.zeros((20, 1))), r"`rewards` of episode 1 .* shape \(20, 1\)"),
        (replaced("observations", np.zeros((21, 3))), r"have shape \(21, 3\), expected \(21, 17\)"),
        (replaced("observations", np.zeros((20, 17))), r"shape \(20, 17\), expected \(21, 17\)"),
        (replaced("actions", np.zeros((19, 6))), r"shape \(19, 6\), expected \(20, 6\)"),
        (replaced("actions", np.full((20, 6), np.inf)), "`actions` .* NaN or infinity"),
        (replaced("terminations", np.zeros(3, bool)), r"`terminations` .* shape \(3,\)"),
        (replaced("truncations", np.full(20, 7.0)), "`truncations` .* holds 7 in row 0"),
    ],
)
def test_episodes_of_another_form_are_told(folder, tmp_path, change, words):
    changed(folder, change)
    refused(folder, tmp_path, words)


def test_whole_numbers_are_no_states_of_a_body(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    space = gym.spaces.Box(0, 255, (17,), np.uint8)
    _of_spaces(tmp_path, space, gym.spaces.Box(-1, 1, (6,)))
    assert read("some/thing-v0", tmp_path).observations.dtype == np.float32
    with pytest.raises(DataError, match="of type uint8, expected floating-point numbers"):
        read("some/thing-v0", tmp_path, env="walker2d")


def test_values_that_are_not_finite_are_refused(tmp_path, monkeypatch):
    data = walker()
    data.observations[25, 3] = np.nan
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    write_minari(tmp_path, data, recipe="medium", about="made up")
    with pytest.raises(DataError, match="NaN or infinity"):
        read(ID, tmp_path)


def _of_spaces(path, observation, action):
    """A dataset of one step with these spaces."""
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    data = path / "some" / "thing-v0" / "data"
    data.mkdir(parents=True)
    storage = MinariStorage.new(data, observation_space=observation, action_space=action)
    storage.update_metadata({"dataset_id": "some/thing-v0", "minari_version": "0.5.4"})
    states = [observation.sample(), observation.sample()]
    if isinstance(observation, gym.spaces.Dict):
        states = {name: np.array([one[name] for one in states]) for name in states[0]}
    buffer = EpisodeBuffer(
        observations=states, actions=[action.sample()], rewards=[0.0], terminations=[True],
        truncations=[False],
    )  # fmt: skip
    storage.update_episodes([buffer])


def test_actions_of_another_range_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    _of_spaces(tmp_path, gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-2, 2, (1,)))
    with pytest.raises(DataError, match="go from -2 to 2"):
        read("some/thing-v0", tmp_path)


def test_observations_of_several_parts_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    parts = gym.spaces.Dict({"goal": gym.spaces.Box(-1, 1, (3,))})
    _of_spaces(tmp_path, parts, gym.spaces.Box(-1, 1, (1,)))
    with pytest.raises(DataError, match="expected a row of numbers"):
        read("some/thing-v0", tmp_path)


def test_data_of_no_known_environment_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    write_minari(tmp_path, replace(walker(), env=None), recipe="medium", about="made up")
    found = read("cep/unknown/medium-v0", tmp_path)
    assert found.env is None
    assert found.normalised(found.returns()) is None


@pytest.mark.parametrize("total", [49, 51])
def test_steps_that_do_not_add_up_are_told(folder, tmp_path, total):
    about = folder / ID / "data" / "metadata.json"
    written = json.loads(about.read_text())
    about.write_text(json.dumps({**written, "total_steps": total}))
    with pytest.raises(DataError, match=f"do not have the {total} steps"):
        read(ID, tmp_path)


def test_an_empty_dataset_is_refused(folder, tmp_path):
    about = folder / ID / "data" / "metadata.json"
    written = json.loads(about.read_text())
    about.write_text(json.dumps({**written, "total_steps": 0, "total_episodes": 0}))
    with pytest.raises(DataError, match="has no transitions"):
        read(ID, tmp_path)
