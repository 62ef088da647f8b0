"""Seeds that were played by other versions, or twice, are not pooled; differences are named."""

import json
import shutil

import pytest

from cepcli.errors import ConfigError
from cepcli.report.build import build_report
from cepcli.report.comparison import load_groups
from cepcli.report.selection import select
from cepcli.report.versions import PLAYED_BY, check_seeds, differences
from cepcli.workspace.artifacts import Workspace, versions
from tests.report import stored


def made_with(space, name, **libraries):
    """Change what a run's manifest says of libraries."""
    path = space.directory("run", name) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["versions"] |= libraries
    path.write_text(json.dumps(manifest))


@pytest.fixture
def space(tmp_path):
    made = Workspace(tmp_path)
    for seed in range(3):
        stored.finished(made, "walk", seed, 0.5, env="walker2d")
        stored.finished(made, "plain", seed, 0.4, env="walker2d")
    return made


def pool(space):
    load_groups(space, ["walk_s?", "plain_s?"])


def report(space):
    return build_report(select(space, ["*"]), space, "cep report")


@pytest.mark.parametrize("use", [pool, report])
def test_seeds_played_by_different_versions_are_not_averaged(space, use):
    use(space)
    made_with(space, "walk_s2", mujoco="0.0.1")
    with pytest.raises(ConfigError) as told:
        use(space)
    now = versions()["mujoco"]
    assert told.value.message == (
        "The seeds of `walk` were played by different versions of mujoco, so they are not "
        f"averaged: `walk_s0` with {now}, `walk_s2` with 0.0.1."
    )
    assert told.value.hint == (
        "Compare them apart: cep runs compare walk_s0 walk_s1; cep runs compare walk_s2"
    )


@pytest.mark.parametrize("use", [pool, report])
def test_the_same_seed_twice_is_refused(space, use):
    shutil.copytree(space.directory("run", "walk_s1"), space.directory("run", "walk_s1-copy"))
    with pytest.raises(ConfigError, match="`walk_s1` and `walk_s1-copy` are both seed 1 of `walk`"):
        load_groups(space, ["walk*"]) if use is pool else use(space)


def test_what_does_not_play_the_environment_does_not_matter(space):
    made_with(space, "walk_s2", torch="0.0.1", minigrid="0.0.1", numpy="0.0.1")
    pool(space)


def test_what_an_earlier_cep_did_not_record_is_no_difference():
    known = {"env": "walker2d", "seed": 0, "versions": {"mujoco": "3.3.1"}}
    check_seeds("a", {"a_s0": known, "a_s1": {**known, "seed": 1, "versions": {}}})


def test_settings_that_were_not_made_alike_are_named_in_a_report(space):
    for seed in range(3):
        made_with(space, f"plain_s{seed}", mujoco="0.0.1", torch="0.0.2")
    now = versions()
    [section] = report(space).sections
    assert f"Not made with the same mujoco: 0.0.1: plain; {now['mujoco']}: walk." in section.notes
    assert f"Not made with the same torch: 0.0.2: plain; {now['torch']}: walk." in section.notes


def test_a_dataset_is_read_by_minari():
    one = {"env": "walker2d", "seed": 0, "dataset": "d", "versions": {"minari": "1"}}
    other = {**one, "seed": 1, "versions": {"minari": "2"}}
    assert differences({"a": [one], "b": [other]}) == ["Not made with the same minari: 1: a; 2: b."]
    with pytest.raises(ConfigError, match="different versions of minari"):
        check_seeds("a", {"a_s0": one, "a_s1": other})


def test_every_family_of_ours_says_what_plays_it():
    from cepcli.envs import catalog

    assert {env_id.partition("/")[0] for env_id in catalog.env_ids()} == set(PLAYED_BY)
    assert set(sum(PLAYED_BY.values(), ())) <= set(versions())
