import errno
import os

import pytest

from cepcli.annotate.records import to_line
from cepcli.annotate.store import AnnotationFile
from cepcli.errors import ArtifactError
from tests.annotate.worlds import annotation, row

ONE, TWO, THREE = (annotation(text=name, state=n) for n, name in enumerate(("one", "two", "three")))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "annotations.jsonl"


@pytest.fixture
def file(path):
    return AnnotationFile(path, "walker2d")


def read(path):
    return AnnotationFile(path, "walker2d").annotations


def test_what_is_appended_is_on_disk(file, path):
    file.append([ONE])
    file.append([TWO, THREE])
    assert file.annotations == read(path) == [ONE, TWO, THREE]


def test_replacing_and_removing_keep_every_other_byte(file, path):
    odd = "  " + row(text="mine ") + "\t"
    path.write_text(f"{odd}\nno annotation at all\n\n{to_line(ONE)}\n")
    file.replace(ONE, TWO)
    assert path.read_text() == f"{odd}\nno annotation at all\n\n{to_line(TWO)}\n"
    assert file.remove(TWO)
    assert path.read_text() == f"{odd}\nno annotation at all\n\n"
    assert not file.remove(TWO)
    assert [defect.line for defect in file.defects] == [2]


def test_replacing_what_somebody_took_out_appends(file, path):
    file.append([ONE, TWO])
    path.write_text(to_line(TWO) + "\n")
    file.replace(ONE, THREE)
    assert read(path) == [TWO, THREE]


def test_a_line_that_was_cut_off_does_not_swallow_the_next_answer(file, path):
    path.write_text(to_line(ONE) + "\n" + to_line(TWO)[:50])
    file.append([THREE])
    assert file.annotations == [ONE, THREE]
    assert [defect.line for defect in file.defects] == [2]
    assert to_line(TWO)[:50] + "\n" in path.read_text()


def test_a_full_disk_leaves_no_half_of_an_answer(file, path, monkeypatch):
    file.append([ONE])

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ArtifactError, match="the disk is full"):
            file.append([TWO])
        with pytest.raises(ArtifactError, match="the disk is full"):
            file.replace(ONE, TWO)
    assert path.read_text() == to_line(ONE) + "\n"


def test_an_edit_by_hand_is_read_and_survives_a_rewrite(file, path):
    file.append([ONE, TWO])
    assert not file.refresh()
    path.write_text(path.read_text().replace("two", "two by hand"))
    file.replace(ONE, THREE)
    assert [found.text for found in read(path)] == ["three", "two by hand"]


def test_a_save_while_a_rewrite_is_written_is_not_overwritten(file, path, monkeypatch):
    file.append([ONE, TWO])
    real, saved = os.fsync, []

    def saved_meanwhile(descriptor):
        real(descriptor)
        if not saved:
            saved.append(True)
            path.write_text(path.read_text().replace("two", "two by hand"))

    monkeypatch.setattr(os, "fsync", saved_meanwhile)
    file.remove(ONE)
    assert [found.text for found in read(path)] == ["two by hand"]


def test_keep_takes_out_only_annotations(file, path):
    path.write_text("no annotation\n")
    file.append([ONE, TWO])
    file.keep(lambda found: found == TWO)
    assert path.read_text() == f"no annotation\n{to_line(TWO)}\n"
