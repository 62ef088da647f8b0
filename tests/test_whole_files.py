import errno
import os
from pathlib import Path

import numpy as np
import pytest

from cepcli import whole_files
from cepcli.whole_files import clean, discard, replace, settle, whole_file, write_whole
from cepcli.workspace.artifacts import Workspace
from cepcli.workspace.checkpoint_files import (
    checkpoints,
    load_arrays,
    read_state,
    writing_checkpoint,
)
from tests.killed import killed_at_every_step

OLD, NEW = "the old content", "the new content"


def made(path, content):
    (path / "inner").mkdir(parents=True)
    for name in ("a", "inner/b"):
        (path / name).write_text(content)
    return path


def content_of(path):
    files = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
    assert files == ["a", "inner/b"]
    return {(path / name).read_text() for name in files}


def test_a_directory_that_is_replaced_is_the_old_or_the_new_whatever_the_moment_of_the_kill(
    tmp_path,
):
    def prepare(folder):
        made(folder / "x", OLD)
        made(folder / "new", NEW)

    def check(folder):
        settle(folder / "x")
        found.append(content_of(folder / "x"))
        clean(folder / "x")
        discard(folder / "new")
        assert [p.name for p in folder.iterdir()] == ["x"]

    found = []
    killed_at_every_step(
        tmp_path, prepare, lambda folder: replace(folder / "new", folder / "x"), check
    )
    assert {OLD} in found
    assert {NEW} in found
    assert all(one in ({OLD}, {NEW}) for one in found)


def test_a_file_that_is_written_is_the_old_or_the_new_whatever_the_moment_of_the_kill(tmp_path):
    def check(folder):
        assert (folder / "x").read_text() in (OLD, NEW)
        write_whole(folder / "x", NEW)
        assert [p.name for p in folder.iterdir()] == ["x"], "what a kill left is removed"

    killed_at_every_step(
        tmp_path,
        lambda folder: write_whole(folder / "x", OLD),
        lambda folder: write_whole(folder / "x", NEW),
        check,
    )


def test_a_file_that_cannot_be_written_is_named_as_it_was_given(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "x")
    with pytest.raises(PermissionError) as told, whole_file(link) as new:
        raise PermissionError(errno.EACCES, "Permission denied", str(new))
    assert told.value.filename == str(link)


def save(run, step, value):
    with writing_checkpoint(run, step, 1) as (folder, state):
        np.savez(folder / "arrays.npz", allow_pickle=False, values=np.full(1000, value))
        (folder / "cache").mkdir()
        write_whole(folder / "cache" / "head.json", str(value))
        state["value"] = value


def check_last(run, expected):
    """The last checkpoint is a whole one of those expected, and the next save leaves it alone."""
    last = checkpoints(run)[-1]
    value = read_state(last)["value"]
    assert (last.name, value) in expected
    assert set(load_arrays(last / "arrays.npz")["values"]) == {value}
    assert (last / "cache" / "head.json").read_text() == str(value)
    save(run, 30, 30.0)
    assert sorted(p.name for p in run.iterdir()) == ["checkpoint-00000030", "config.toml"]


def begun(run):
    (run / "config.toml").write_text("a = 1\n")
    save(run, 10, 10.0)


@pytest.mark.slow
def test_a_run_has_a_whole_checkpoint_whatever_the_moment_of_the_kill(tmp_path):
    expected = {("checkpoint-00000010", 10.0), ("checkpoint-00000020", 20.0)}
    killed_at_every_step(
        tmp_path, begun, lambda run: save(run, 20, 20.0), lambda run: check_last(run, expected)
    )


@pytest.mark.slow
def test_the_last_checkpoint_written_again_is_never_missing(tmp_path):
    expected = {("checkpoint-00000010", 10.0), ("checkpoint-00000010", 11.0)}
    killed_at_every_step(
        tmp_path, begun, lambda run: save(run, 10, 11.0), lambda run: check_last(run, expected)
    )


def store(root, content, *, overwrite=False):
    space = Workspace(root)
    with space.lock("dataset", "x"):
        folder = space.begin("dataset", "x", overwrite=overwrite)
        write_whole(folder / "data", content)
        space.finish("dataset", "x", seed=0)


@pytest.mark.slow
def test_an_artifact_that_is_overwritten_is_never_missing(tmp_path):
    def check(root):
        space = Workspace(root)
        assert "x" in space.names("dataset")
        assert (space.open("dataset", "x").path / "data").read_text() in (OLD, NEW)
        store(root, NEW, overwrite=True)
        left = sorted(p.name for p in (root / "dataset").iterdir())
        assert left == [".x.lock", "x"]

    killed_at_every_step(
        tmp_path,
        lambda root: store(root, OLD),
        lambda root: store(root, NEW, overwrite=True),
        check,
    )


@pytest.mark.parametrize("find", ["open", "exists", "names"])
def test_whoever_looks_for_an_artifact_finds_what_a_kill_left_aside(tmp_path, find):
    store(tmp_path, OLD)
    space = Workspace(tmp_path)
    (tmp_path / "dataset/x").rename(tmp_path / "dataset/.x.old")
    if find == "names":
        assert "x" in space.names("dataset")
    elif find == "exists":
        assert space.exists("dataset", "x")
    else:
        assert (space.open("dataset", "x").path / "data").read_text() == OLD


def test_an_unfinished_run_that_a_kill_left_aside_is_found(tmp_path):
    made(tmp_path / "run/.a.partial.old", OLD)
    assert Workspace(tmp_path).unfinished("run") == ["a"]


def test_a_reader_who_puts_the_old_one_back_in_between_does_not_stop_the_writer(
    tmp_path, monkeypatch
):
    path, new = made(tmp_path / "x", OLD), made(tmp_path / "new", NEW)
    move, times = whole_files._move, []

    def interrupted(source, target):
        if source == new and not times:
            times.append(1)
            settle(path)  # another process reads
        return move(source, target)

    monkeypatch.setattr(whole_files, "_move", interrupted)
    replace(new, path)
    assert content_of(path) == {NEW}
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_what_is_half_deleted_is_never_put_back(tmp_path):
    (tmp_path / "x").mkdir()
    made(tmp_path / ".x.old.discarded", OLD)
    (tmp_path / "x").rmdir()
    settle(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_file_stays_as_it_was_when_writing_fails(tmp_path):
    path = tmp_path / "x"
    write_whole(path, OLD)

    def fail():
        with whole_file(path) as new:
            new.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == OLD
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_link_to_a_file_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "x")
    write_whole(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "x").read_text() == NEW


def test_a_file_system_that_cannot_sync_directories_is_no_error(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    whole_files.sync(tmp_path)
    (tmp_path / "x").write_text(OLD)
    with pytest.raises(OSError, match="Invalid"):
        whole_files.sync(tmp_path / "x")


def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    made(tmp_path / "new", NEW)
    made(tmp_path / "x", OLD)
    done = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: done.append(Path(os.readlink(f"/proc/self/fd/{fd}")))
    )
    move = whole_files._move
    monkeypatch.setattr(whole_files, "_move", lambda s, t: (done.append(s.name), move(s, t))[1])
    replace(tmp_path / "new", tmp_path / "x")
    before = done[: done.index("x")]
    assert {p.name for p in before} == {"new", "a", "inner", "b"}
    assert done[-1] == tmp_path, "then the folder's names"


def test_only_one_module_renames_and_removes():
    """One way to replace: what is renamed or removed elsewhere would have its own moments."""
    import ast

    package = Path(whole_files.__file__).parent
    found = []
    for file in sorted(package.rglob("*.py")):
        if file.name == "whole_files.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                of_path = node.func.attr == "replace" and len(node.args) == 1 and not node.keywords
                if of_path or node.func.attr in ("rename", "rmtree", "unlink", "rmdir", "move"):
                    found.append(f"{file.relative_to(package)}:{node.lineno}")
    assert found == []


def test_what_a_kill_left_aside_is_in_nobodys_way(tmp_path):
    for name, content in (("x", "older"), (".x.old", "oldest"), ("new", NEW)):
        made(tmp_path / name, content)
    replace(tmp_path / "new", tmp_path / "x")
    assert content_of(tmp_path / "x") == {NEW}
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
