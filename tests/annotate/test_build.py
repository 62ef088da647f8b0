import json

import pytest

from cepcli.annotate import build
from cepcli.annotate.build import (
    AnnotateConfig,
    annotate_by_rules,
    import_annotations,
    opened_for_people,
)
from cepcli.annotate.records import State, read_annotations
from cepcli.annotate.store import append_states, read_states
from cepcli.errors import ArtifactError, ConfigError, EnvError
from cepcli.workspace.artifacts import Workspace
from tests.annotate.worlds import annotation, observation, states


@pytest.fixture
def space(tmp_path):
    return Workspace(tmp_path / "w")


@pytest.fixture
def sampled(monkeypatch):
    """Sampling gives walkers at `count` speeds from `seed` on, and takes no time."""

    def fake(env, count, *, pool, seed):
        speeds = range(seed, seed + count)
        return [State(env, observation(forward_speed=float(n)), n, (1.0,)) for n in speeds]

    monkeypatch.setattr(build, "sample_states", fake)


def annotations(space, name="walker2d"):
    return read_annotations(space.directory("annotations", name) / "annotations.jsonl", "walker2d")


@pytest.mark.usefixtures("sampled")
def test_rules_annotate_and_add_only_what_is_new(space):
    made = annotate_by_rules(AnnotateConfig(count=4), space, "mine")
    assert (made["added"], made["kept"]) == (4, 0)
    again = annotate_by_rules(AnnotateConfig(count=4), space, "mine")
    assert (again["added"], again["kept"]) == (0, 4)
    more = annotate_by_rules(AnnotateConfig(count=4, seed=2), space, "mine")
    assert (more["added"], more["kept"]) == (2, 4)
    assert len({a.state for a in annotations(space, "mine")}) == 6
    folder = space.directory("annotations", "mine")
    assert [state.instance for state in read_states(folder / "states.jsonl")] == list(range(6))
    assert space.open("annotations", "mine").manifest["seed"] == 2
    assert "seed = 2" in (folder / "config.toml").read_text()


@pytest.mark.usefixtures("sampled")
def test_overwrite_takes_out_rules_and_no_person(space):
    annotate_by_rules(AnnotateConfig(count=3), space, "mine")
    import_annotations([annotation(text="a person's")], AnnotateConfig(), space, "mine")
    made = annotate_by_rules(AnnotateConfig(count=2, seed=9), space, "mine", overwrite=True)
    assert (made["added"], made["removed"], made["kept"]) == (2, 3, 1)
    assert [a.source for a in annotations(space, "mine")] == ["person", "auto", "auto"]
    left = read_states(space.directory("annotations", "mine") / "states.jsonl")
    assert [state.instance for state in left] == [0, 9, 10]  # the person's, and the new ones


@pytest.mark.usefixtures("sampled")
def test_overwrite_leaves_states_that_wait_for_a_person(space):
    with opened_for_people(AnnotateConfig(count=3), space, "mine"):
        pass
    annotate_by_rules(AnnotateConfig(count=2, seed=9), space, "mine", overwrite=True)
    left = read_states(space.directory("annotations", "mine") / "states.jsonl")
    assert [state.instance for state in left] == [0, 1, 2, 9, 10]


@pytest.mark.usefixtures("sampled")
@pytest.mark.parametrize("source", ["rules", "file"])
def test_what_is_added_comes_beside_what_ships(space, source):
    if source == "rules":
        made = annotate_by_rules(AnnotateConfig(count=4), space, "walker2d")
    else:
        found = [annotation(text="other words", state=n) for n in range(4)]
        made = import_annotations(found, AnnotateConfig(), space, "walker2d")
    assert (made["added"], made["kept"]) == (4, 250)
    assert space.open("annotations", "walker2d").manifest["inputs"][0]["name"] == "walker2d"


def test_a_person_begins_with_what_ships(space):
    with opened_for_people(AnnotateConfig(), space, "walker2d") as (file, known):
        assert len(known) == len(file.annotations) == 250
        file.append([annotation()])
    assert len(annotations(space)) == 251
    artifact = space.open("annotations", "walker2d")
    assert artifact.manifest["inputs"][0]["name"] == "walker2d"
    with opened_for_people(AnnotateConfig(), space, "walker2d") as (file, _):
        assert len(file.annotations) == 251


@pytest.mark.usefixtures("sampled")
def test_a_name_of_ones_own_begins_with_fresh_states(space):
    with opened_for_people(AnnotateConfig(count=3), space, "mine") as (file, known):
        assert (len(known), file.annotations) == (3, [])


def test_an_interruption_before_the_first_states_leaves_nothing(space, monkeypatch):
    def interrupted(env, count, *, pool, seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "sample_states", interrupted)
    with pytest.raises(KeyboardInterrupt), opened_for_people(AnnotateConfig(), space, "mine"):
        pass
    with pytest.raises(KeyboardInterrupt):
        annotate_by_rules(AnnotateConfig(), space, "mine")
    assert "mine" not in space.names("annotations")


@pytest.mark.usefixtures("sampled")
def test_settings_of_states_that_were_just_sampled_are_no_surprise(space):
    told = []
    with opened_for_people(AnnotateConfig(count=3), space, "mine", told.append):
        assert not any("there already" in line for line in told)


def test_a_task_that_is_new_to_the_family_gets_states(space, monkeypatch):
    config = AnnotateConfig(env="metaworld/sweep", count=2)
    new = [State(config.env, tuple([float(n)] * 39)) for n in range(2)]
    monkeypatch.setattr(build, "sample_states", lambda env, count, *, pool, seed: new)
    with opened_for_people(config, space, "metaworld") as (_, known):
        assert sum(state.env == "metaworld/sweep" for state in known) == 2
        assert len(known) == 252


@pytest.mark.usefixtures("sampled")
def test_states_are_sampled_of_the_tasks_that_have_none(space):
    with opened_for_people(AnnotateConfig(env="metaworld/push", count=2), space, "mine"):
        told = []
    both = AnnotateConfig(env="metaworld/push,metaworld/reach", count=3)
    with opened_for_people(both, space, "mine", told.append) as (_, known):
        found = [state.env for state in known]
    assert (found.count("metaworld/push"), found.count("metaworld/reach")) == (2, 3)
    with opened_for_people(both, space, "mine", told.append) as (_, known):
        assert len(known) == 5
    assert "states to annotate already" in told[-1]


@pytest.mark.usefixtures("sampled")
def test_a_line_that_is_no_annotation_is_named_and_left(space):
    annotate_by_rules(AnnotateConfig(count=2), space, "mine")
    path = space.directory("annotations", "mine") / "annotations.jsonl"
    path.write_text(path.read_text() + "oh\n")
    told = []
    annotate_by_rules(AnnotateConfig(count=3), space, "mine", notify=told.append)
    assert any("annotations.jsonl:3: the line is truncated" in line for line in told)
    assert "oh\n" in path.read_text()


def test_an_editors_backup_is_no_part_of_the_artifact(space):
    import_annotations([annotation()], AnnotateConfig(), space, "mine")
    before = space.open("annotations", "mine").reference
    folder = space.directory("annotations", "mine")
    for name in ("annotations.jsonl~", ".annotations.jsonl.tmp", "annotations.jsonl.bak"):
        (folder / name).write_text("older")
    assert space.open("annotations", "mine").reference == before


def test_a_second_process_is_told(space):
    with (
        opened_for_people(AnnotateConfig(), space, "walker2d"),
        pytest.raises(ArtifactError, match="Another process is working on the annotations"),
        opened_for_people(AnnotateConfig(), space, "walker2d"),
    ):
        pass


def test_the_same_is_imported_once(space):
    twice = [annotation(), annotation(), annotation(text="other")]
    assert import_annotations(twice, AnnotateConfig(), space, "mine")["added"] == 2
    made = import_annotations(twice, AnnotateConfig(), space, "mine")
    assert (made["added"], made["kept"]) == (0, 2)


@pytest.mark.usefixtures("sampled")
def test_a_file_edited_by_hand_is_still_the_artifact_and_another_input(space):
    annotate_by_rules(AnnotateConfig(count=2), space, "walker2d")
    before = space.open("annotations", "walker2d").reference
    path = space.directory("annotations", "walker2d") / "annotations.jsonl"
    path.write_text(path.read_text().replace("walker", "robot"))
    after = space.open("annotations", "walker2d").reference
    assert before.sha256 != after.sha256
    stamped = space.restamp("annotations", "walker2d")
    listed = {o["file"]: o["bytes"] for o in stamped.manifest["outputs"]}
    assert listed["annotations.jsonl"] == path.stat().st_size
    assert stamped.reference.sha256 == after.sha256


def test_states_are_divided_between_environments():
    config = AnnotateConfig(env="metaworld", count=250)
    assert {"metaworld/reach", "metaworld/push", "metaworld/drawer-open"} <= set(config.envs)
    assert config.family == "metaworld"
    assert AnnotateConfig(env="metaworld/push, metaworld/push-v3").envs == ("metaworld/push",)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"count": 0}, ConfigError, "count is 0"),
        ({"pool": 0}, ConfigError, "pool is 0"),
        ({"seed": -1}, ConfigError, "seed is -1"),
        ({"env": "walker2d,ant"}, ConfigError, "names several families"),
        ({"env": "walkr"}, EnvError, "`walkr` doesn't exist"),
        ({"env": "babyai/goto-local"}, EnvError, "continuous control"),
    ],
)
def test_what_cannot_be_annotated(changes, error, message):
    with pytest.raises(error, match=message):
        AnnotateConfig(**changes)


def test_a_broken_state_is_named(tmp_path):
    path = tmp_path / "states.jsonl"
    append_states(path, states(2))
    assert read_states(path) == states(2)
    with path.open("a") as file:
        file.write(json.dumps({"env": "walker2d"}) + "\n")
    with pytest.raises(ArtifactError, match=r"states\.jsonl:3: the line is not a state"):
        read_states(path)
