import json

import pytest
from typer.testing import CliRunner

from cepcli.cli.main import app
from cepcli.datasets import labelling
from cepcli.datasets import load as load_module
from cepcli.errors import CepError, DataError
from tests.agents import worlds

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """No datasets but a test's own, and those that ship with cep."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.delenv("D4RL_DATASET_DIR", raising=False)
    monkeypatch.setattr(load_module, "_D4RL_DEFAULT", str(tmp_path / "none"))


def typed(*words):
    done = RUNNER.invoke(app, ["offline", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def answer(*words):
    return json.loads(typed(*words, "--json").stdout.splitlines()[-1])


def test_a_real_simulator_is_collected_from_listed_and_shown(tmp_path):
    made = answer("collect", "--env", "walker2d", "--recipe", "random", "--transitions", "150")
    assert (made["dataset"], made["transitions"]) == ("walker2d-random", 150)
    assert made["reference_returns"] == [1.629008, 4592.3]
    assert abs(made["normalised_score"]) < 1
    row = next(r for r in answer("list")["datasets"] if r["name"] == "walker2d-random")
    assert not row["shipped"]
    assert row["episodes"] == made["episodes"]
    shown = answer("show", "walker2d-random")
    assert shown["return_mean"] == pytest.approx(made["return_mean"])
    assert sum(one["episodes"] for one in shown["histogram"]) == made["episodes"]
    plain = typed("show", "walker2d-random").stdout
    assert "normalised score" in plain
    assert "█" in plain


def test_what_is_solved_in_control_is_listed_and_shown():
    made = answer(
        "collect", "--env", "metaworld/reach", "--recipe", "expert", "--transitions", "150"
    )
    assert made["success_rate"] == 1
    assert made["normalised_score"] is None
    assert answer("show", "metaworld-reach-expert")["success_rate"] == 1
    assert "100%" in typed("list").stdout
    assert "success 100.0%" in typed("show", "metaworld-reach-expert").stdout


def test_text_is_collected_and_labelled(monkeypatch, tmp_path):
    made = answer(
        "collect", "--env", "babyai/goto-redball", "--recipe", "noisy-expert",
        "--transitions", "60", "--name", "ball",
    )  # fmt: skip
    assert made["kind"] == "text"
    assert made["success_rate"] > 0.5
    monkeypatch.setattr(labelling, "load_prior", worlds.load_fake_prior)
    given = ("label", "--dataset", "ball", "--prior", "embedded", "--set", "cache.encoder=hash")
    found = answer(*given)
    assert found["states"] == 60
    assert found["cache"] == "certified"
    assert 0 < found["queries_per_state"] <= 1
    assert answer("show", "ball")["labels"] == ["embedded"]
    assert "embedded" in typed("show", "ball").stdout
    cost = answer(*given, "--cache", "off", "--states", "10")
    assert cost["queries_per_state"] == 1


def test_shipped_datasets_are_listed_and_are_d4rls_stand_in():
    names = {row["name"]: row for row in answer("list")["datasets"]}
    assert names["walker2d-medium-replay"]["shipped"]
    assert names["halfcheetah-medium-replay"]["transitions"] == 20_000
    done = typed("show", "d4rl", "--env", "halfcheetah")
    assert "not the published D4RL set" in done.stderr.splitlines()[0]
    assert "20000 transitions, 20 episodes" in done.stdout


def test_control_is_labelled_by_a_prior_that_reads_no_text():
    found = answer("label", "--prior", "uniform")
    assert (found["env"], found["queries_per_state"]) == ("walker2d", 0)
    assert found["states"] >= 20_000


def test_an_unknown_recipe_is_suggested_for():
    with pytest.raises(DataError, match="no recipe") as error:
        RUNNER.invoke(
            app,
            ["offline", "collect", "--env", "walker2d", "--recipe", "randm"],
            catch_exceptions=False,
        )
    assert error.value.hint == "Did you mean `random`?"


def test_a_file_of_an_unknown_environment_cannot_be_labelled(tmp_path):
    from tests.datasets.data import d4rl_file

    path = d4rl_file(tmp_path / "mine.hdf5")
    with pytest.raises(DataError, match="does not name its environment") as error:
        RUNNER.invoke(app, ["offline", "label", "--dataset", str(path)], catch_exceptions=False)
    assert error.value.hint == "Name it: --env ID"


def refused(*words):
    """What a user is told who types something that cannot work."""
    with pytest.raises(CepError) as told:
        RUNNER.invoke(app, ["offline", *words, "--quiet"], catch_exceptions=False)
    return f"{told.value.message} {told.value.hint}"


SHORT = (
    "--steps", "4", "--set", "eval_episodes=1", "--set", "final_eval_episodes=1",
    "--set", "control.hidden=16", "--set", "control.batch_size=16", "--no-eval-env",
)  # fmt: skip


@pytest.mark.parametrize("algorithm", ["cql", "bc", "iql", "td3-bc"])
def test_every_algorithm_learns_from_what_ships_and_is_listed(algorithm):
    summary = answer(algorithm, "--env", "halfcheetah", *SHORT, "--quiet")
    assert summary["agent"] == algorithm
    assert summary["steps"] == 4
    assert (
        "not the published" in summary["dataset"]["source"]
        or "collected by cep" in (summary["dataset"]["source"])
    )
    done = RUNNER.invoke(app, ["runs", "list", "--json"], catch_exceptions=False)
    [listed] = json.loads(done.stdout)["finished"]
    assert listed["run"] == summary["run"] == f"halfcheetah_medium-replay_{algorithm}_s0"
    shown = RUNNER.invoke(app, ["runs", "show", listed["run"]], catch_exceptions=False)
    assert f"4 gradient steps of {algorithm}" in shown.stdout


def test_learning_commands_take_the_same_options_and_a_prior_where_one_is_used():
    from typer.main import get_command

    commands = get_command(app).commands["offline"].commands
    taken = {
        name: [option.opts[0] for option in commands[name].params]
        for name in ("cql", "cql-prior", "bc", "iql", "td3-bc")
    }
    assert {"--dataset", "--steps", "--seeds", "--eval-env", "--json"} <= set(taken["cql"])
    assert set(taken["cql-prior"]) - set(taken["cql"]) == {"--prior", "--insecure"}
    assert [option for option in taken["cql-prior"] if option in taken["cql"]] == taken["cql"]
    assert taken["cql"] == taken["bc"] == taken["iql"] == taken["td3-bc"]
    helps = {commands[name].help for name in taken}
    assert len(helps) == len(taken)


def test_cql_prior_under_the_uniform_prior_needs_no_labels():
    summary = answer("cql-prior", "--prior", "uniform", *SHORT, "--quiet", "--seeds", "2")
    assert [run["seed"] for run in summary["runs"]] == [0, 1]
    assert {run["env"] for run in summary["runs"]} == {"walker2d"}


def test_a_finished_run_is_evaluated_and_only_by_its_own_command():
    from cepcli.envs import catalog

    summary = answer("bc", "--env", "halfcheetah", *SHORT, "--quiet")
    found = answer("eval", summary["run"], "--episodes", "1", "--quiet")
    assert found["eval"]["episodes"] == 1
    assert found["eval"]["length_mean"] == catalog.control_spec("halfcheetah").max_episode_steps
    assert found["eval"]["normalised_score"] is not None
    with pytest.raises(CepError) as told:
        RUNNER.invoke(app, ["eval", summary["run"]], catch_exceptions=False)
    assert "cep offline eval" in told.value.hint


def test_python_learns_from_a_dataset_as_the_command_does():
    import cepcli

    typed = answer("bc", "--env", "halfcheetah", *SHORT, "--quiet")
    settings = {
        "eval_env": False, "eval_episodes": 1, "final_eval_episodes": 1, "control.hidden": 16,
        "control.batch_size": 16,
    }  # fmt: skip
    run = cepcli.train("halfcheetah", agent="bc", steps=4, settings=settings, name="python")
    same = ("env", "agent", "seed", "steps", "dataset", "prior", "eval")
    assert {key: run.summary[key] for key in same} == {key: typed[key] for key in same}
    with pytest.raises(CepError, match="only for agents that learn from one"):
        cepcli.train("walker2d", dataset="d4rl")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("cql", "--steps", "0"), "steps is 0, expected ≥ 1"),
        (("cql", "--set", "cql.weight=-1"), "cql.weight is -1"),
        (("cql", "--set", "cql.share_floor=1"), "expected in [0, 1)"),
        (("cql", "--set", "cql.weigh=1"), "Did you mean"),
        (("bc", "--set", "iql.expectile=0.8"), "`iql.expectile` has no effect here"),
        (("iql", "--set", "cql.weight=1"), "`iql` does not use it"),
        (("bc", "--set", "control.polyak=0.1"), "`bc` does not use it"),
        (("cql", "--set", "cql.threshold=5"), "`cql.lagrange` is off"),
        (("cql", "--set", "llm.smoothing=0.1"), "`cql` does not use it"),
        (("cql", "--set", "prior=embedded"), "uses no prior"),
        (("cql", "--set", "algorithm=iql"), "the command is cql"),
        (("cql", "--device", "gpu"), "no device `gpu`"),
        (("cql", "--dataset", "/none/at-all.hdf5"), "at-all.hdf5"),
        (("cql", "--env", "waker2d"), "Did you mean `walker2d`?"),
        (("cql", "--dataset", "mujoco/walker2d/medium"), "neither a file nor the id"),
        (("cql", "--dataset", "walker2d-medium-replay", "--split", "medium"), "Leave out --split"),
        (("cql-prior", "--prior", "nobody"), "no prior `nobody`"),
        (("eval", "none"), "no run `none`"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(words, told):
    assert told in refused(*words)
