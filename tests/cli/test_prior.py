"""`cep prior` as typed."""

import json

import pytest
from typer.testing import CliRunner

from cepcli.artifacts import Workspace
from cepcli.cli.prior import app
from cepcli.errors import ConfigError, EnvError, PriorError

ENV = "babyai/goto-redball"
WARNINGS = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning"
)


def run(*args):
    return CliRunner().invoke(app, list(args), catch_exceptions=False)


def last_json(result):
    return json.loads(result.stdout.strip().splitlines()[-1])


def record(*more):
    return run("demos", "--env", ENV, "--episodes", "3", "--heldout-episodes", "2", *more)


def test_demos_are_recorded_and_counted(workspace_root):
    result = record("--json", "--quiet", "--name", "d", "--seed", "4")
    assert result.exit_code == 0
    found = last_json(result)
    assert found["train"]["episodes"] == 3
    assert Workspace(workspace_root).open("demos", "d").manifest["seed"] == 4
    assert "unsolved" not in record("--name", "e").stdout


def test_score_shows_the_actions_of_a_state():
    result = run("score", "--env", ENV, "--prior", "uniform")
    assert result.exit_code == 0
    assert "go forward  " in result.stdout
    assert " 0.167  " in result.stdout
    found = last_json(
        run("score", "--env", ENV, "--prior", "uniform", "--text", "t", "--goal", "g", "--json")
    )
    assert (found["goal"], found["text"]) == ("g", "t")
    assert len(found["actions"]) == 6


def test_eval_of_the_uniform_prior_is_chance():
    record("--quiet", "--name", "d")
    result = run("eval", "uniform", "--env", ENV, "--demos", "d", "--json", "--quiet")
    found = last_json(result)
    assert found["top1"] == pytest.approx(1 / 6)
    assert "uniform" in run("eval", "uniform", "--env", ENV, "--demos", "d").stdout


def test_list_names_what_there_is():
    assert {row["name"] for row in last_json(run("list", "--json"))} >= {"uniform", "embedded"}
    assert "embedded" in run("list").stdout


def test_mistakes_are_named():
    with pytest.raises(EnvError, match="doesn't exist"):
        run("score", "--env", "babyai/goto-redbal", "--prior", "uniform")
    with pytest.raises(PriorError, match="no prior"):
        run("score", "--env", ENV, "--prior", "unifrom")
    with pytest.raises(ConfigError, match="not a list of numbers"):
        run("finetune", "--env", ENV, "--shots", "5,x")
    with pytest.raises(ConfigError, match="smothing"):
        run("score", "--env", ENV, "--prior", "uniform", "--set", "smothing=1")


def test_interrupt_says_how_to_go_on(monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("cepcli.rl.demonstrations.record_demos", interrupted)
    result = record()
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


@WARNINGS
@pytest.mark.slow
def test_finetune_makes_a_prior_that_loads(workspace_root):
    record("--quiet", "--name", "d")
    sets = [
        f"--set={item}"
        for item in ("max_steps=1", "rank=2", "batch_decisions=1", "validation_decisions=2")
    ]
    result = run("finetune", "--env", ENV, "--shots", "0,2", "--demos", "d", "--json", *sets)
    rows = last_json(result)["rows"]
    name = "babyai-goto-redball-2shot"
    assert [row["prior"] for row in rows] == ["uniform", "embedded (untuned)", name]
    manifest = Workspace(workspace_root).open("prior", name).manifest
    assert [i["name"] for i in manifest["inputs"]] == ["d"]
    files = {output["file"] for output in manifest["outputs"]}
    assert files == {
        "adapter_config.json", "adapter_model.safetensors", "config.toml", "prior.json",
        "report.json",
    }  # fmt: skip
    assert run("score", "--env", ENV, "--prior", name).exit_code == 0
