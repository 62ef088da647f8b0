"""`cep bench prior`: both ways agree, and the command fails where they do not."""

import json
import sys

import pytest

from cepcli.bench import prior as module


@pytest.fixture(scope="module")
def model():
    return module.load_language_model("embedded", dtype="float32")


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch, model):
    monkeypatch.setattr(module, "load_language_model", lambda name, dtype: model)


def command(monkeypatch):
    """The exit code of `cep bench prior`."""
    from cepcli.cli.main import main

    args = ["cep", "bench", "prior", "--candidates", "2", "--repeats", "1", "--json"]
    monkeypatch.setattr(sys, "argv", args)
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code


@pytest.mark.slow
def test_both_ways_agree_and_are_timed(monkeypatch, capsys):
    assert command(monkeypatch) == 0
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["max_abs_difference"] < 1e-4
    assert set(result["ms"]["2"]) == {"naive", "tree"}
    assert result["speedup"]["2"] > 0
    assert (result["repeats"], result["dtype"]) == (1, "float32")


@pytest.mark.slow
@pytest.mark.parametrize(("error", "named"), [(1e-3, "1.0e-03"), (float("nan"), "nan")])
def test_a_difference_fails_the_command(monkeypatch, capsys, error, named):
    naive = module.naive_log_likelihoods
    monkeypatch.setattr(module, "naive_log_likelihoods", lambda *args: naive(*args) + error)
    assert command(monkeypatch) == 2
    shown = capsys.readouterr()
    assert f"by {named} nats, expected at most 1e-04" in shown.err
    assert shown.out == ""
