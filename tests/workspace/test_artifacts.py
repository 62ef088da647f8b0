import json
import os
import shlex
import sys

import pytest

from cepcli.errors import ArtifactError
from cepcli.workspace.artifacts import Workspace, check_writable, read_json, writing


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "w")


def make(workspace, name="a", kind="run"):
    path = workspace.begin(kind, name)
    (path / "data.txt").write_text("hello")
    return workspace.finish(kind, name, seed=3)


def test_finished_artifact_opens_with_its_manifest(workspace):
    artifact = make(workspace)
    found = workspace.open("run", "a")
    assert found.manifest == artifact.manifest
    assert found.manifest["seed"] == 3
    assert [o["file"] for o in found.manifest["outputs"]] == ["data.txt"]
    assert not workspace.partial("run", "a").exists()


def test_missing_artifact_suggests_the_nearest_name(workspace):
    make(workspace, "redball")
    with pytest.raises(ArtifactError) as error:
        workspace.open("run", "redbal")
    assert "redball" in error.value.hint


def test_unfinished_artifact_names_the_command_that_goes_on(workspace):
    workspace.begin("run", "half")
    with pytest.raises(ArtifactError) as error:
        workspace.open("run", "half")
    assert "cep runs resume half" in error.value.hint


def test_truncated_file_is_named_and_left_untouched(workspace):
    artifact = make(workspace)
    (artifact.path / "data.txt").write_text("he")
    with pytest.raises(ArtifactError, match=r"data\.txt"):
        workspace.open("run", "a")
    assert (artifact.path / "data.txt").read_text() == "he"


def test_truncated_manifest_is_named(workspace):
    artifact = make(workspace)
    file = artifact.path / "manifest.json"
    file.write_text(file.read_text()[:40])
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        workspace.open("run", "a")


@pytest.mark.parametrize("change", [{"kind": "cache"}, {"schema_version": 99}])
def test_foreign_manifest_is_refused(workspace, change):
    artifact = make(workspace)
    file = artifact.path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ArtifactError):
        workspace.open("run", "a")


def test_existing_artifact_is_never_replaced_unasked(workspace):
    make(workspace)
    with pytest.raises(ArtifactError, match="exists already"):
        workspace.begin("run", "a")
    workspace.begin("run", "a", overwrite=True)
    assert workspace.exists("run", "a"), "the old one stays until the new one is finished"


def test_words_for_several_are_said_of_several(workspace):
    for kind, said in (("labels", "exist already"), ("dataset", "exists already")):
        workspace.begin(kind, "a/b" if kind == "labels" else "a")
        workspace.finish(kind, "a/b" if kind == "labels" else "a", seed=0)
        with pytest.raises(ArtifactError, match=said) as error:
            workspace.begin(kind, "a/b" if kind == "labels" else "a")
        assert ("--name" in error.value.hint) == (kind == "dataset"), "labels have no name"


def test_a_pattern_that_matches_nothing_names_the_command_that_lists(workspace):
    with pytest.raises(ArtifactError, match="No finished run") as error:
        workspace.matching("run", ["x*"])
    assert "cep runs list --workspace" in error.value.hint


def test_second_process_is_told_that_the_name_is_taken(workspace):
    with (
        workspace.lock("run", "a"),
        pytest.raises(ArtifactError, match="Another process"),
        workspace.lock("run", "a"),
    ):
        pass
    with workspace.lock("run", "a"):
        pass


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden", "x.partial"])
def test_names_that_could_escape_or_collide_are_refused(workspace, name):
    with pytest.raises(ArtifactError, match="cannot name"):
        workspace.directory("run", name)


def test_read_only_workspace_is_one_sentence(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(ArtifactError, match="Cannot write"):
        Workspace(blocker / "w").begin("run", "a")


def test_a_place_that_can_be_written_is_left_as_it_is(tmp_path):
    check_writable(tmp_path / "a" / "b" / "c")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"Cannot write to `.*file/a/b`: a part of the path"):
        check_writable(tmp_path / "file" / "a" / "b")


def test_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(ArtifactError, match="disk is full"), writing(tmp_path):
        raise OSError(28, os.strerror(28), str(tmp_path / "x"))


def test_unexpected_os_errors_are_not_hidden(tmp_path):
    with pytest.raises(FileNotFoundError), writing(tmp_path):
        (tmp_path / "no" / "x").write_text("")


def test_missing_json_is_one_sentence(tmp_path):
    with pytest.raises(ArtifactError, match="Cannot read"):
        read_json(tmp_path / "none.json")


def test_changed_content_of_the_same_size_is_noticed(workspace):
    artifact = make(workspace)
    (artifact.path / "data.txt").write_text("jello")
    with pytest.raises(ArtifactError, match="changed"):
        workspace.open("run", "a")


@pytest.mark.parametrize("change", [{"outputs": [{}]}, {"command": None}, {"outputs": None}])
def test_manifest_of_another_shape_is_refused(workspace, change):
    file = make(workspace).path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ArtifactError):
        workspace.open("run", "a")


def test_leftovers_of_a_kill_are_no_artifacts(workspace):
    artifact = make(workspace)
    artifact.path.rename(artifact.path.with_name(".a.discarded"))
    assert workspace.names("run") == []


def test_names_longer_than_a_file_system_takes_are_refused(workspace):
    with pytest.raises(ArtifactError, match="cannot name"):
        workspace.lock("run", "x" * 300).__enter__()


def test_an_abstraction_is_named_by_family_and_name(workspace):
    with workspace.lock("abstraction", "walker2d/a.b"):
        artifact = make(workspace, "walker2d/a.b", "abstraction")
    make(workspace, "ant/a", "abstraction")
    assert artifact.path == workspace.root / "abstraction" / "walker2d" / "a.b"
    assert workspace.names("abstraction") == ["ant/a", "walker2d/a.b"]
    assert workspace.open("abstraction", "walker2d/a.b").name == "walker2d/a.b"
    assert artifact.reference.name == "walker2d/a.b"
    with pytest.raises(ArtifactError, match=r"no abstraction `walker2d/a\.c`") as error:
        workspace.open("abstraction", "walker2d/a.c")
    assert "walker2d/a.b" in error.value.hint


def test_an_unfinished_abstraction_is_none(workspace):
    workspace.begin("abstraction", "walker2d/a")
    assert workspace.names("abstraction") == []
    with pytest.raises(ArtifactError, match="is unfinished"):
        workspace.open("abstraction", "walker2d/a")


@pytest.mark.parametrize("name", ["walker2d", "a/b/c", "/b", "a/", "../b", "a/.."])
def test_what_is_not_family_and_name_names_no_abstraction(workspace, name):
    with pytest.raises(ArtifactError, match="cannot name"):
        workspace.directory("abstraction", name)
    with pytest.raises(ArtifactError, match="cannot name"):
        workspace.directory("run", "a/b")


def test_the_command_of_a_manifest_is_what_a_shell_reads(workspace, monkeypatch):
    words = ["offline", "collect", "--set", 'layouts=["d4rl"]', "--name", "two words"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/cep", *words])
    workspace.begin("dataset", "x")
    command = workspace.finish("dataset", "x", seed=0).manifest["command"]
    assert shlex.split(command) == ["cep", *words]
