import json

import pytest

from cepcli.agents.offline_config import OfflineConfig
from cepcli.errors import ArtifactError, ConfigError, DataError, Interrupted
from cepcli.report.comparison import FIGURES, comparison, load_groups
from cepcli.report.plots import plot_comparison, plot_run
from cepcli.runs.engine import default_name, evaluate_offline_run
from cepcli.workspace.artifacts import Workspace
from cepcli.workspace.checkpoint_files import checkpoints
from cepcli.workspace.metrics import read_metrics
from tests.datasets import worlds
from tests.killed import killed

KINDS = [
    ("cql", "point"), ("cql-prior", "point"), ("bc", "point"), ("iql", "point"),
    ("td3-bc", "point"), ("cql", "corridor"), ("cql-prior", "corridor"), ("iql", "corridor"),
    ("bc", "corridor"),
]  # fmt: skip
LATER = [pytest.param(*KINDS[number], marks=pytest.mark.slow) for number in (0, 3)]
TIMES = ("wall_seconds", "learning_seconds", "gradient_steps_per_s")


@pytest.fixture(autouse=True)
def _worlds(monkeypatch):
    worlds.install(monkeypatch.setattr)


def artifacts(root, name):
    """Everything a run left that does not depend on the clock."""
    run = Workspace(root).open("run", name).path
    [checkpoint] = checkpoints(run)
    state = json.loads((checkpoint / "state.json").read_text())
    for clock in ("wall_seconds", "learning_seconds"):
        state["progress"].pop(clock)
    summary = json.loads((run / "summary.json").read_text())
    return (
        (checkpoint / "learner.safetensors").read_bytes(),
        state["progress"],
        state["sampling"],
        (run / "metrics.jsonl").read_bytes(),
        {
            k: v
            for k, v in summary.items()
            if k not in (*TIMES, "llm_seconds", "llm_ms", "cache_ms", "latency_ms")
        },
    )


@pytest.mark.parametrize(("algorithm", "dataset"), [KINDS[1], KINDS[6], *LATER])
def test_killed_and_resumed_run_ends_as_if_never_stopped(algorithm, dataset, tmp_path):
    worlds.run(tmp_path / "whole", "a", algorithm=algorithm, dataset=dataset)
    killed(worlds.run_and_die, tmp_path / "parts", "a", algorithm, dataset, 37)
    assert len(checkpoints(Workspace(tmp_path / "parts").partial("run", "a"))) == 1
    worlds.run(tmp_path / "parts", "a", resume=True, algorithm=algorithm, dataset=dataset)
    assert artifacts(tmp_path / "parts", "a") == artifacts(tmp_path / "whole", "a")


@pytest.mark.parametrize(("algorithm", "dataset"), KINDS)
def test_every_algorithm_leaves_a_run_that_is_listed_and_evaluated(algorithm, dataset, tmp_path):
    summary = worlds.run(tmp_path, "a_s0", algorithm=algorithm, dataset=dataset)
    space = Workspace(tmp_path)
    run = space.open("run", "a_s0").path
    assert summary["agent"] == algorithm
    assert summary["steps"] == 60
    assert summary["eval"]["episodes"] == 3
    assert [step for step, _ in summary["eval"]["return_curve"]] == [0, 25, 50, 60]
    for key in FIGURES:
        FIGURES[key][1](summary)
    rows = [row for row in read_metrics(run / "metrics.jsonl") if "eval/episodes" not in row]
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60]
    assert plot_run(run).exists()
    again = evaluate_offline_run(space, "a_s0", 3, lambda text: None)
    for key in ("return_mean", "success_rate", "length_mean", "episodes"):
        assert again["eval"][key] == summary["eval"][key]


def test_learning_helps_in_the_world(tmp_path):
    summary = worlds.run(
        tmp_path, "a_s0", algorithm="cql", dataset="corridor", steps=120, final_eval_episodes=8,
        eval_interval=120, **{"text.weight": 0.1, "text.learning_rate": 5e-3},
    )  # fmt: skip
    assert summary["eval"]["success_rate"] == 1.0


def test_runs_without_a_world_are_evaluated_nowhere_and_still_compared(tmp_path):
    space = Workspace(tmp_path)
    summary = worlds.run(tmp_path, "a_s0", algorithm="cql", eval_env=False)
    assert summary["eval"]["episodes"] == 0
    assert summary["eval"]["return_mean"] is None
    groups = load_groups(space, ["a_s0"])
    [row] = comparison(groups)
    assert row["return"] is None
    assert row["wall_seconds"]["mean"] > 0
    assert plot_comparison(groups, tmp_path / "c.png").exists()
    with pytest.raises(ConfigError, match="evaluated in no environment"):
        comparison(groups, "a")


def test_interrupted_run_goes_on(tmp_path):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 100

    with pytest.raises(Interrupted):
        worlds.run(tmp_path, "a", algorithm="bc", stop=stop)
    worlds.run(tmp_path, "a", resume=True, algorithm="bc")
    worlds.run(tmp_path / "whole", "a", algorithm="bc")
    assert artifacts(tmp_path, "a") == artifacts(tmp_path / "whole", "a")


def test_no_state_is_saved_twice(tmp_path, monkeypatch):
    from cepcli.workspace import checkpoint_files

    saved, real = [], checkpoint_files.replace
    monkeypatch.setattr(
        checkpoint_files,
        "replace",
        lambda new, path: (saved.append(path.name[-2:]), real(new, path)),
    )
    worlds.run(tmp_path, "a", algorithm="bc", steps=20, eval_env=False)
    assert saved == ["10", "20"]


def test_resuming_under_other_settings_is_refused(tmp_path):
    worlds.run(tmp_path, "a", algorithm="bc")
    with pytest.raises(ArtifactError, match="steps = 60, not 70"):
        worlds.run(tmp_path, "a", resume=True, algorithm="bc", steps=70)
    with pytest.raises(ArtifactError, match="exists already"):
        worlds.run(tmp_path, "a", algorithm="bc")


def test_labels_of_another_prior_are_refused(tmp_path):
    with pytest.raises(DataError, match="labels are of the prior `fake`, not of `other`"):
        worlds.run(tmp_path, "a", algorithm="cql-prior", prior="other")
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").glob("a*"))


def test_uniform_prior_needs_no_labels(tmp_path, monkeypatch):
    from dataclasses import replace

    from cepcli.runs import offline as parts

    bare = lambda *given, **more: replace(worlds.point_data(), labels=None)  # noqa: E731
    monkeypatch.setattr(parts, "load_dataset", bare)
    summary = worlds.run(tmp_path, "a", algorithm="cql-prior", prior="uniform")
    assert summary["prior"] == "uniform"
    with pytest.raises(DataError, match="no priors of its states"):
        worlds.run(tmp_path, "b", algorithm="cql-prior", prior="fake")


def test_text_is_not_learned_by_td3_bc(tmp_path):
    with pytest.raises(DataError, match="td3-bc learns controls"):
        worlds.run(tmp_path, "a", algorithm="td3-bc", dataset="corridor")


def test_diverged_learner_says_so(tmp_path):
    with pytest.raises(ConfigError, match="diverged"):
        worlds.run(tmp_path, "a", algorithm="cql", **{"control.critic_rate": 1e30})


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({"algorithm": "cql"}, "walker2d_medium-replay_cql_s0"),
        ({"algorithm": "bc", "env": "halfcheetah", "seed": 3}, "halfcheetah_medium-replay_bc_s3"),
        ({"algorithm": "cql", "dataset": "/tmp/hopper-v2.hdf5"}, "hopper-v2_cql_s0"),
    ],
)
def test_default_name(flags, name):
    assert default_name(OfflineConfig(**flags)) == name
