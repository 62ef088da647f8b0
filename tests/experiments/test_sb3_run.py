"""Stable-Baselines3's SAC leaves a run like ours, and a killed one goes on."""

import json

import pytest

from cepcli.agents.config import training_config
from cepcli.envs.catalog import make_control_env
from cepcli.errors import ArtifactError, EnvError
from cepcli.experiments import sb3_run
from cepcli.experiments.sb3_run import train_sb3
from cepcli.report.comparison import comparison, load_groups
from cepcli.workspace.artifacts import Workspace


class Killed(Exception):
    """Stands for a kill."""


def config(**flags):
    small = {"env": "walker2d", "agent": "sac", "steps": 120, "eval_interval": 60,
             "eval_episodes": 2, "final_eval_episodes": 3}  # fmt: skip
    return training_config(flags={**small, **flags})


def train(root, notify=lambda line: None, *, resume=False, **flags):
    return train_sb3(
        config(**flags), Workspace(root), "a_s0", resume=resume, overwrite=False, notify=notify
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint_and_is_compared_like_ours(tmp_path):
    def die(line):
        if line.startswith("step 120"):
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, die)
    assert [p.name for p in (tmp_path / "run/a_s0.partial").glob("checkpoint-*")] == [
        "checkpoint-00000060"
    ]
    with pytest.raises(ArtifactError, match="An unfinished run"):
        train(tmp_path)
    told = []
    summary = train(tmp_path, told.append, resume=True)
    assert [line.split(":")[0] for line in told] == ["step 120"]
    assert [step for step, _ in summary["eval"]["return_curve"]] == [0, 60, 120]
    assert summary["eval"]["success_rate"] is None
    rows = (tmp_path / "run/a_s0/metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [0, 60, 120]
    [row] = comparison(load_groups(Workspace(tmp_path), ["a_s0"]))
    assert row["return"]["mean"] == summary["eval"]["return_mean"]
    assert train(tmp_path, resume=True) == summary
    with pytest.raises(ArtifactError, match="begun with"):
        train(tmp_path, resume=True, env="halfcheetah")
    with pytest.raises(ArtifactError, match="exists already"):
        train(tmp_path)


def test_it_plays_the_episodes_that_ours_plays(tmp_path, monkeypatch):
    from cepcli.envs.mujoco import MujocoControl
    from cepcli.runs.engine import Hooks, start_run

    started = []
    reset = MujocoControl.reset

    def watched(self, *, seed=None, options=None):
        observation, info = reset(self, seed=seed, options=options)
        if info["instance"] >= 2**30:  # held out
            started.append(info["instance"])
        return observation, info

    monkeypatch.setattr(MujocoControl, "reset", watched)
    few = {"steps": 1, "eval_interval": 1, "eval_lanes": 1}
    train(tmp_path, **few)
    theirs, started[:] = list(started), []
    start_run(config(**few), Workspace(tmp_path), "b", resume=False, overwrite=False,
              hooks=Hooks(), notify=lambda line: None)  # fmt: skip
    assert theirs == started
    assert len(theirs) == 5


def test_other_settings_and_other_worlds_are_refused(tmp_path):
    def die(line):
        raise Killed

    with pytest.raises(Killed):
        train(tmp_path, die)
    with pytest.raises(ArtifactError, match="begun with"):
        train(tmp_path, resume=True, seed=1)
    with pytest.raises(EnvError, match="expected an environment of continuous control"):
        train(tmp_path / "other", env="babyai/goto-obj")
    assert not list((tmp_path / "other/run").glob("*.partial"))


def test_scores_are_of_whole_episodes_under_the_mean_control():
    class Model:
        def predict(self, observation, deterministic):
            assert deterministic
            return env.action_space.low * 0, None

    env = make_control_env("walker2d", split="heldout")
    total, solved, steps = sb3_run._play(Model(), env, seed=0, episode=1)
    again = sb3_run._play(Model(), env, seed=0, episode=1)
    assert (total, solved, steps) == again
    assert not solved
    assert 5 < steps < 1000
