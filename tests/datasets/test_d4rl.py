import contextlib
import subprocess

import h5py
import numpy as np
import pytest

from cepcli.datasets import columns as columns_module
from cepcli.datasets.d4rl import write_d4rl
from cepcli.errors import DataError, EnvError
from tests.datasets.data import d4rl_file, read, same, walker


def test_what_is_written_is_read_back(tmp_path):
    data = walker()
    write_d4rl(tmp_path / "a.hdf5", data)
    found, said = read(tmp_path / "a.hdf5", tmp_path)
    assert same(found, data)
    assert found.env == "walker2d"
    assert said == []


def test_double_precision_becomes_single(tmp_path):
    data = walker()
    path = d4rl_file(
        tmp_path / "a.hdf5",
        observations=data.observations.astype(np.float64),
        rewards=data.rewards.astype(np.float64),
    )
    found, _ = read(path, tmp_path)
    assert same(found, data)
    assert found.observations.dtype == found.rewards.dtype == np.float32


def test_columns_of_one_number_may_be_columns(tmp_path):
    data = walker()
    path = d4rl_file(tmp_path / "a.hdf5", rewards=data.rewards[:, None])
    assert same(read(path, tmp_path)[0], data)


def test_without_next_observations_the_next_row_stands_in(tmp_path):
    data = walker()
    path = d4rl_file(tmp_path / "a.hdf5", without=["next_observations"])
    found, _ = read(path, tmp_path)
    kept = np.delete(np.arange(50), [39, 49])  # the rows that were cut have no next row
    assert np.array_equal(found.observations, data.observations[kept])
    ends = found.terminated
    assert np.array_equal(found.next_observations[~ends], data.next_observations[kept][~ends])
    assert np.flatnonzero(found.terminated).tolist() == [19]
    assert np.flatnonzero(found.truncated).tolist() == [38, 47]


def test_the_next_row_is_found_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("cepcli.datasets.d4rl._BLOCK", 7)
    path = d4rl_file(tmp_path / "a.hdf5", without=["next_observations"])
    found, _ = read(path, tmp_path)
    monkeypatch.setattr("cepcli.datasets.d4rl._BLOCK", 1000)
    assert same(found, read(path, tmp_path)[0])


def test_without_timeouts_episodes_end_where_states_do_not_follow(tmp_path):
    path = d4rl_file(tmp_path / "a.hdf5", without=["timeouts"])
    found, said = read(path, tmp_path)
    assert same(found, walker())
    assert "no timeouts" in said[0]


def test_without_both_the_time_limit_ends_episodes(tmp_path):
    data = walker(ends=(("terminated", 4), ("truncated", 1004), ("truncated", 1010)))
    path = d4rl_file(tmp_path / "a.hdf5", data, without=["timeouts", "next_observations"])
    found, said = read(path, tmp_path, env="walker2d")
    assert np.flatnonzero(found.truncated).tolist() == [1003, 1008]
    assert "end after 1000 steps" in said[0]


def test_without_both_and_an_environment_the_ends_are_not_guessed(tmp_path):
    path = d4rl_file(tmp_path / "a.hdf5", without=["timeouts", "next_observations"])
    with pytest.raises(DataError, match="cannot be told") as error:
        read(path, tmp_path)
    assert "--env" in error.value.hint


def test_a_step_both_terminal_and_timeout_is_an_end(tmp_path):
    timeouts = walker().truncated.copy()
    timeouts[19] = True
    found, said = read(d4rl_file(tmp_path / "a.hdf5", timeouts=timeouts), tmp_path)
    assert same(found, walker())
    assert said == [
        f"1 steps in `{tmp_path / 'a.hdf5'}` are terminal and timeout; taken as terminal"
    ]


def test_one_episode_is_enough(tmp_path):
    data = walker(ends=(("truncated", 4),))
    found, _ = read(d4rl_file(tmp_path / "a.hdf5", data), tmp_path)
    assert found.episodes() == [slice(0, 5)]


@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "terminals"])
def test_a_missing_key_is_named(tmp_path, name):
    path = d4rl_file(tmp_path / "a.hdf5", without=[name])
    with pytest.raises(DataError, match=f"has no `{name}`"):
        read(path, tmp_path)


def test_unequal_lengths_are_told(tmp_path):
    path = d4rl_file(tmp_path / "a.hdf5", rewards=np.zeros(49, np.float32))
    with pytest.raises(DataError, match=r"observations 50.*rewards 49"):
        read(path, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("observations", np.nan), ("rewards", np.inf), ("actions", np.nan)]
)
def test_what_is_not_finite_is_refused_by_its_row(tmp_path, name, value):
    data = walker()
    column = {"observations": data.observations, "rewards": data.rewards, "actions": data.controls}
    values = column[name].copy()
    values[7] = value
    with pytest.raises(DataError, match=f"`{name}`.*NaN or infinity, first in row 7"):
        read(d4rl_file(tmp_path / "a.hdf5", **{name: values}), tmp_path)


def test_a_reward_beyond_single_precision_is_refused(tmp_path):
    rewards = np.zeros(50)
    rewards[3] = 1e300
    with pytest.raises(DataError, match="first in row 3"):
        read(d4rl_file(tmp_path / "a.hdf5", rewards=rewards), tmp_path)


def test_actions_of_another_range_are_refused(tmp_path):
    actions = walker().controls.copy()
    actions[11, 2] = 2.5
    with pytest.raises(DataError, match=r"reach 2\.5, first in row 11"):
        read(d4rl_file(tmp_path / "a.hdf5", actions=actions), tmp_path)


def test_rounding_beyond_the_range_is_clipped(tmp_path):
    actions = walker().controls.copy()
    actions[11, 2] = 1.00001
    found, _ = read(d4rl_file(tmp_path / "a.hdf5", actions=actions), tmp_path)
    assert found.controls.max() == 1


def test_an_empty_file_is_refused(tmp_path):
    none = {
        "observations": np.zeros((0, 17)), "actions": np.zeros((0, 6)), "rewards": np.zeros(0),
        "terminals": np.zeros(0, bool), "timeouts": np.zeros(0, bool),
    }  # fmt: skip
    path = d4rl_file(tmp_path / "a.hdf5", without=["next_observations"], **none)
    with pytest.raises(DataError, match="has no transitions"):
        read(path, tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, bool])
def test_whole_numbers_are_no_states_of_a_body(tmp_path, dtype):
    states = np.ones((50, 17), dtype)
    path = d4rl_file(tmp_path / "a.hdf5", observations=states, next_observations=states)
    assert read(path, tmp_path)[0].env is None
    with pytest.raises(DataError, match=r"of type \w+, expected floating-point numbers"):
        read(path, tmp_path, env="walker2d")


@pytest.mark.parametrize("values", [np.zeros(50, complex), ["x"] * 50, np.zeros(50, [("a", "f4")])])
def test_values_that_are_no_numbers_are_refused(tmp_path, values):
    path = d4rl_file(tmp_path / "a.hdf5", rewards=values)
    with pytest.raises(DataError, match=r"`rewards`.*expected numbers"):
        read(path, tmp_path)


def test_next_states_that_are_not_finite_are_refused(tmp_path):
    following = walker().next_observations.copy()
    following[9, 2] = np.nan
    with pytest.raises(DataError, match=r"`next_observations`.*NaN or infinity, first in row 9"):
        read(d4rl_file(tmp_path / "a.hdf5", next_observations=following), tmp_path)


@pytest.mark.parametrize("env", [7, np.zeros(3)])
def test_a_file_that_names_no_environment_where_it_should_is_refused(tmp_path, env):
    path = d4rl_file(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs["env"] = env
    with pytest.raises(DataError, match="expected the name of an environment"):
        read(path, tmp_path)


def test_no_damage_is_a_traceback(tmp_path):
    """Truncated anywhere, or with other bytes anywhere: it is read, or refused in a sentence."""
    path, random = d4rl_file(tmp_path / "a.hdf5"), np.random.default_rng(0)
    whole = path.read_bytes()
    for number in range(60):
        content = bytearray(whole)
        if number % 3 == 0:
            content = content[: random.integers(len(whole))]
        else:
            reach = [600, 4000, len(whole)][random.integers(3)]
            for place in random.integers(reach, size=8):
                content[place] = random.integers(256)
        path.write_bytes(content)
        with contextlib.suppress(DataError):
            read(path, tmp_path)


def test_text_instead_of_numbers_is_refused(tmp_path):
    path = d4rl_file(tmp_path / "a.hdf5", rewards=np.array([b"x"] * 50))
    with pytest.raises(DataError, match=r"`rewards`.*expected numbers"):
        read(path, tmp_path)


def test_pictures_are_refused(tmp_path):
    path = d4rl_file(tmp_path / "a.hdf5", observations=np.zeros((50, 4, 4)))
    with pytest.raises(DataError, match=r"shape \(50, 4, 4\)"):
        read(path, tmp_path)


def test_what_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "a.hdf5").write_text("no")
    with pytest.raises(DataError, match="not an HDF5 file"):
        read(tmp_path / "a.hdf5", tmp_path)


def test_a_truncated_file_is_refused(tmp_path):
    path = d4rl_file(tmp_path / "a.hdf5")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match="truncated"):
        read(path, tmp_path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        read(tmp_path / "none.hdf5", tmp_path)


def test_another_environment_is_refused_by_the_file_itself(tmp_path):
    write_d4rl(tmp_path / "a.hdf5", walker())
    with pytest.raises(DataError, match="of the environment `walker2d`, expected `ant`"):
        read(tmp_path / "a.hdf5", tmp_path, env="ant")


def test_another_environment_is_refused_by_the_name_of_the_file(tmp_path):
    path = d4rl_file(tmp_path / "walker2d_medium-v2.hdf5")
    with pytest.raises(DataError, match="of the environment `walker2d`"):
        read(path, tmp_path, env="halfcheetah")


def test_another_environment_is_refused_by_its_widths(tmp_path):
    path = d4rl_file(tmp_path / "a.hdf5")
    with pytest.raises(DataError, match="have 17 numbers, expected the 105 of `ant`"):
        read(path, tmp_path, env="ant")


def test_a_walker_is_no_cheetah_though_as_wide(tmp_path):
    path = d4rl_file(tmp_path / "a.hdf5")
    with pytest.raises(DataError, match="not of `halfcheetah`") as error:
        read(path, tmp_path, env="halfcheetah")
    assert error.value.hint == "Try --env walker2d"


def test_data_of_control_are_none_of_a_text_world(tmp_path):
    path = d4rl_file(tmp_path / "a.hdf5")
    with pytest.raises(EnvError, match="text world"):
        read(path, tmp_path, env="babyai/goto-local")


def test_an_unknown_environment_is_suggested_for(tmp_path):
    path = d4rl_file(tmp_path / "a.hdf5")
    with pytest.raises(EnvError, match="doesn't exist") as error:
        read(path, tmp_path, env="waker2d")
    assert "walker2d" in error.value.hint


def test_the_name_of_a_published_file_tells_the_environment(tmp_path):
    found, _ = read(d4rl_file(tmp_path / "walker2d_medium-v2.hdf5"), tmp_path)
    assert found.env == "walker2d"


def test_an_environment_that_is_only_scored_is_read_too(tmp_path):
    data = walker()
    path = d4rl_file(tmp_path / "hopper_medium-v2.hdf5")
    found, _ = read(path, tmp_path)
    assert found.env == "hopper"
    assert found.normalised(data.returns()) is not None


def test_states_of_an_older_ant_are_of_no_known_environment(tmp_path):
    found, said = read(d4rl_file(tmp_path / "ant_medium-v2.hdf5"), tmp_path)
    assert found.env is None
    assert "its states have 17 numbers, not 105" in said[0]


def test_large_columns_are_mapped_and_written_once(tmp_path, monkeypatch):
    monkeypatch.setattr(columns_module, "LARGE", 1000)
    path = d4rl_file(tmp_path / "a.hdf5")
    first, _ = read(path, tmp_path)
    assert isinstance(first.observations, np.memmap)
    assert not first.observations.flags.writeable
    assert same(first, walker())
    monkeypatch.setattr("cepcli.datasets.d4rl._D4RLFile.fill", None)
    assert same(read(path, tmp_path)[0], walker())


def test_a_changed_file_is_mapped_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(columns_module, "LARGE", 1000)
    path = tmp_path / "a.hdf5"
    read(d4rl_file(path), tmp_path)
    other = walker(ends=(("terminated", 9), ("truncated", 59)))
    assert same(read(d4rl_file(path, other), tmp_path)[0], other)


def test_a_failed_mapping_leaves_nothing_to_be_taken_for_data(tmp_path, monkeypatch):
    monkeypatch.setattr(columns_module, "LARGE", 1000)
    actions = walker().controls.copy()
    actions[11, 2] = 2.5
    path = d4rl_file(tmp_path / "a.hdf5", actions=actions)
    for _ in range(2):
        with pytest.raises(DataError, match="reach 2"):
            read(path, tmp_path)
    assert list((tmp_path / "dataset").iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(columns_module, "LARGE", 1000)
    path = d4rl_file(tmp_path / "a.hdf5")
    read(path, tmp_path)
    [mapped] = (tmp_path / "dataset").iterdir()
    gone = subprocess.Popen(["true"])
    gone.wait()
    mapped.rename(mapped.with_name(f"{mapped.name}.{gone.pid}.partial"))
    assert same(read(path, tmp_path)[0], walker())
    assert list((tmp_path / "dataset").iterdir()) == [mapped]


@pytest.mark.parametrize("value", [np.nan, 7.0, -1.0])
def test_a_flag_that_is_none_is_refused_by_its_row(tmp_path, value):
    terminals = walker().terminated.astype(np.float64)
    terminals[7] = value
    with pytest.raises(DataError, match=f"`terminals`.* holds {value:g} in row 7, expected 0 or 1"):
        read(d4rl_file(tmp_path / "a.hdf5", terminals=terminals), tmp_path)


def test_flags_may_be_numbers(tmp_path):
    data = walker()
    path = d4rl_file(tmp_path / "a.hdf5", terminals=data.terminated.astype(np.float32))
    assert same(read(path, tmp_path)[0], data)


def test_rows_of_no_numbers_are_refused(tmp_path):
    path = d4rl_file(tmp_path / "a.hdf5", actions=np.zeros((50, 0), np.float32))
    with pytest.raises(DataError, match=r"shape \(50, 0\), expected a row of numbers a step"):
        read(path, tmp_path)


def test_a_damaged_column_is_told(tmp_path):
    path = d4rl_file(tmp_path / "a.hdf5")
    with h5py.File(path) as file:
        chunk = file["rewards"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"`rewards`.*cannot be read"):
        read(path, tmp_path)
