import numpy as np
import pytest

from cepcli.datasets import collect as collect_module
from cepcli.datasets.collect import CollectConfig, collect
from cepcli.datasets.load import load_dataset
from cepcli.datasets.stored import card_of
from cepcli.envs import catalog
from cepcli.errors import ArtifactError, DataError
from cepcli.experiments import collecting
from cepcli.experiments.collecting import plan
from cepcli.workspace.artifacts import Workspace
from tests.agents import control_worlds, worlds

ENV = "test/point"


@pytest.fixture
def point(monkeypatch, tmp_path):
    """A workspace with runs of the point; `spec` knows it and the corridor."""
    control_worlds.install(monkeypatch.setattr)
    specs = {
        ENV: catalog.EnvSpec(
            ENV, "babyai", "a point", control_worlds.make_point, dict, control=control_worlds.SPEC
        ),
        "test/corridor": catalog.EnvSpec(
            "test/corridor", "babyai", "a corridor", worlds.make_corridor, dict
        ),
    }
    for module in ("cepcli.experiments.collecting", "cepcli.datasets.columns"):
        monkeypatch.setattr(f"{module}.spec", specs.__getitem__)
    monkeypatch.setattr(collect_module, "spec", specs.__getitem__)
    monkeypatch.setattr(collecting, "make_control_env", control_worlds.make_point)
    monkeypatch.setattr(collect_module, "make_control_env", control_worlds.make_point)
    monkeypatch.setattr(collect_module, "make_env", worlds.make_corridor)
    return Workspace(tmp_path)


def collected(space, env=ENV, **settings):
    said = []
    made = plan(CollectConfig(env=env, **settings), space, said.append)
    artifact = collect(made, space, "made")
    return load_dataset("made", workspace=space, notify=lambda text: None), artifact, said


@pytest.mark.parametrize("envs", [1, 3])
def test_a_replay_becomes_the_episodes_that_were_played(point, envs):
    flags = {"agent": "sac", "sac.envs": envs, "sac.replay_capacity": 500}
    control_worlds.run(point.root, "trained", **flags)
    data, artifact, said = collected(point, recipe="medium-replay")
    assert len(data) == 120
    assert said == ["Taking the run trained"]
    for rows in data.episodes():
        inside = slice(rows.start, rows.stop - 1)
        assert np.array_equal(
            data.next_observations[inside], data.observations[rows.start + 1 : rows.stop]
        )
        assert rows.stop - rows.start <= 17
    assert len(data.episodes()) <= 120 // 5
    assert "the replay of the run trained (sac, 120 steps" in data.source
    assert [made["name"] for made in artifact.manifest["inputs"]] == ["trained"]


@pytest.mark.parametrize("agent", ["sac", "hybrid-sac"])
def test_a_trained_run_acts(point, agent):
    control_worlds.run(point.root, "trained", agent=agent)
    data, artifact, _ = collected(point, recipe="medium", transitions=40, run="trained")
    assert len(data) == 40
    assert card_of(artifact)["behaviour"] == f"the run trained ({agent}, 120 steps)"
    again = collect(
        plan(CollectConfig(env=ENV, recipe="medium", transitions=40), point, print), point, "two"
    )
    other = load_dataset(again.name, workspace=point, notify=lambda text: None)
    assert np.array_equal(other.controls, data.controls)


def test_an_expert_run_does_what_it_finds_best(point):
    control_worlds.run(point.root, "trained", agent="sac")
    data, _, _ = collected(point, recipe="expert", transitions=30, run="trained")
    greedy, _, _ = collected_again(point, "medium", "trained")
    assert not np.array_equal(greedy.controls, data.controls)


def collected_again(space, recipe, run):
    made = plan(CollectConfig(env=ENV, recipe=recipe, transitions=30, run=run), space, print)
    artifact = collect(made, space, recipe)
    return load_dataset(recipe, workspace=space, notify=lambda text: None), artifact, []


def test_medium_expert_is_half_of_each(point):
    control_worlds.run(point.root, "one", agent="sac")
    control_worlds.run(point.root, "two", agent="sac", seed=1)
    made = plan(
        CollectConfig(env=ENV, recipe="medium-expert", transitions=41, run="one", expert_run="two"),
        point, print,
    )  # fmt: skip
    assert [stage.steps for stage in made.stages] == [20, 21]
    assert [made_of.name for made_of in made.inputs] == ["one", "two"]


@pytest.mark.slow
def test_a_run_of_a_text_world_acts(point, monkeypatch):
    worlds.run(point.root, "talks", agent="dqn", prior="uniform", **{"cache.mode": "off"})
    data, artifact, _ = collected(
        point, "test/corridor", recipe="medium", transitions=30, run="talks"
    )
    assert len(data) == 30
    assert "the run talks (dqn" in card_of(artifact)["behaviour"]


def test_a_text_agent_has_no_replay_to_take(point):
    worlds.run(point.root, "talks", agent="dqn", prior="uniform", **{"cache.mode": "off"})
    with pytest.raises(DataError, match="medium-replay is of sac") as error:
        collected(point, "test/corridor", recipe="medium-replay", run="talks")
    assert error.value.hint == "Let it act instead: --recipe medium --run talks"


def test_without_a_run_there_is_what_trains_one(point):
    with pytest.raises(ArtifactError, match="needs a trained run of `test/point`") as error:
        collected(point, recipe="medium")
    assert error.value.hint == "Train one: cep train --env test/point --agent sac"


def test_among_several_runs_one_must_be_named(point):
    control_worlds.run(point.root, "one", agent="sac")
    control_worlds.run(point.root, "two", agent="sac", seed=1)
    with pytest.raises(ArtifactError, match="2 trained runs of `test/point`: one, two") as error:
        collected(point, recipe="medium")
    assert error.value.hint == "Name one: --run two"


def test_a_run_of_another_environment_is_refused(point):
    control_worlds.run(point.root, "one", agent="sac")
    with pytest.raises(DataError, match="of `test/point`, expected `test/corridor`"):
        collected(point, "test/corridor", recipe="medium", run="one")


def test_more_than_a_replay_holds_is_refused(point):
    control_worlds.run(point.root, "one", agent="sac")
    with pytest.raises(DataError, match="holds 80 transitions, expected 81"):
        collected(point, recipe="medium-replay", transitions=81)


@pytest.mark.parametrize("recipe", ["expert", "noisy-expert"])
def test_where_there_is_no_expert_a_run_is_asked_for(point, recipe):
    with pytest.raises(DataError, match="has no expert of its own"):
        collected(point, recipe=recipe)
