import json
from dataclasses import replace

import numpy as np
import pytest

from cepcli.cli.summaries import outcome
from cepcli.envs.episodes import ControlTracker
from cepcli.errors import ArtifactError, ConfigError, EnvError, Interrupted
from cepcli.experiments.retention import retention
from cepcli.report.comparison import area_under_curve
from cepcli.report.plots import plot_run
from cepcli.runs.engine import Hooks, start_run
from cepcli.workspace.artifacts import Workspace, sha256
from tests.agents import control_worlds
from tests.killed import killed
from tests.runs.test_online import metrics, timeless


@pytest.fixture
def point(monkeypatch):
    """Runs push a point under a scripted prior."""
    control_worlds.install(monkeypatch.setattr)
    return control_worlds


@pytest.mark.parametrize(
    ("agent", "cache", "envs"),
    [
        pytest.param("hybrid-sac", "lru", 1, marks=pytest.mark.slow),
        ("sac", "off", 1),
        ("hybrid-sac", "lru", 4),
    ],
)
def test_run_killed_at_any_moment_ends_as_if_never_killed(point, tmp_path, agent, cache, envs):
    flags = point.several(agent, cache, envs)
    whole = point.run(tmp_path / "whole", "a", agent=agent, **flags)
    root = tmp_path / "killed"
    for die_at in (47, 93):
        killed(point.main, root, "a", agent, cache, envs, die_at)
    resumed = point.run(root, "a", resume=True, agent=agent, **flags)
    assert timeless(resumed) == timeless(whole)
    assert metrics(root, "a") == metrics(tmp_path / "whole", "a")


@pytest.mark.parametrize("stop_at", [31, pytest.param(33, marks=pytest.mark.slow)])
def test_interrupted_inside_a_hold_or_between_two_it_ends_the_same(point, tmp_path, stop_at):
    flags = {"cache.mode": "exact", "env_options": {"nominal": True}}
    whole = point.run(tmp_path / "whole", "a", **flags)
    taken = []
    with pytest.raises(Interrupted):
        point.run(
            tmp_path / "w", "a",
            on_step=lambda parts, progress: taken.append(progress.step),
            stop=lambda: len(taken) >= stop_at, **flags,
        )  # fmt: skip
    resumed = point.run(tmp_path / "w", "a", resume=True, **flags)
    assert timeless(resumed) == timeless(whole)


def test_the_prior_is_asked_only_where_a_symbol_is_chosen(point, tmp_path):
    chosen = []

    def watch(parts, progress):
        chosen.append((parts.tracker.episodes, len(parts.tracker.actions)))

    summary = point.run(tmp_path, "a", on_step=watch, **{"cache.mode": "off"})
    assert summary["steps"] == 120
    firsts = sum(1 for _, taken in chosen if taken == 0)  # steps that ended an episode
    assert 40 <= summary["decisions"] <= 40 + firsts + 1
    assert summary["queries"]["total"] == summary["decisions"]
    plain = point.run(tmp_path, "b", agent="sac")
    assert plain["decisions"] == plain["queries"]["total"] == 0


def test_where_nothing_can_be_solved_return_is_the_score(point, tmp_path, monkeypatch):
    monkeypatch.setattr(point.Point, "control_spec", replace(point.SPEC, solvable=False))
    summary = point.run(tmp_path, "a", agent="sac")
    assert summary["eval"]["success_rate"] is None
    assert area_under_curve(summary) == pytest.approx(
        np.trapezoid(*np.array(summary["eval"]["return_curve"]).T[::-1]) / 120
    )
    rows = metrics(tmp_path, "a")
    assert not any("success" in name for row in rows for name in row)
    assert plot_run(tmp_path / "run/a").is_file()
    assert outcome(summary["eval"]) == f"return {summary['eval']['return_mean']:.2f}"


def test_several_environments_learn_as_much_and_share_calls_to_the_prior(point, tmp_path):
    calls, seen = [], set()

    def watch(parts, progress):
        if not calls:
            ask = parts.bare_prior.log_probs
            parts.prior.log_probs = lambda states: calls.append(len(states)) or ask(states)
        seen.update((number, tracker.instance) for number, tracker in enumerate(parts.trackers))
        assert parts.learner.updates == (progress.step - 16 if progress.step >= 20 else 0)
        assert progress.step % 4 == 0

    summary = point.run(tmp_path, "a", on_step=watch, prior="uniform", **{"sac.envs": 4})
    assert summary["steps"] == 120
    assert {number for number, _ in seen} == {0, 1, 2, 3}
    assert len({instance for _, instance in seen}) > 4
    assert 4 in calls, "symbols that are due together are asked for together"
    rows = metrics(tmp_path, "a")
    told = [row["step"] for row in rows if "train/episodes" in row]
    assert told == [12, 20, 32, 40, 52, 60, 72, 80, 92, 100, 112, 120], "the first at or after"


def test_evaluations_count_choices_as_decisions(point, tmp_path):
    point.run(tmp_path, "a", **{"cache.mode": "off"})
    found = retention(Workspace(tmp_path), "a", "off", 4, lambda line: None)
    assert found["off"]["queries"]["total"] == found["off"]["decisions"]
    assert found["of"] == "success"


def test_evaluating_more_often_does_not_change_training(point, tmp_path):
    seldom = point.run(tmp_path / "1", "a", eval_interval=120)
    often = point.run(tmp_path / "2", "a", eval_interval=10)
    assert seldom["decisions_sha256"] == often["decisions_sha256"]
    assert seldom["eval"]["return_mean"] == often["eval"]["return_mean"]


def test_a_number_that_is_not_finite_stops_training_with_a_checkpoint(point, tmp_path, monkeypatch):
    def break_later(parts, progress):
        if progress.step == 57:
            parts.tracker.env.unwrapped.breaks_at = parts.tracker.env.unwrapped.steps + 1

    with pytest.raises(EnvError, match=r"stopped at step 58: .*gave nan for `place`") as told:
        point.run(tmp_path, "a", on_step=break_later)
    assert "resume" in told.value.hint
    assert (tmp_path / "run/a.partial/checkpoint-00000057/state.json").is_file()
    assert point.run(tmp_path, "a", resume=True)["steps"] == 120


def test_an_episode_that_begins_broken_stops_training_and_the_next_one_is_gone_on_with(
    point, tmp_path
):
    def break_later(parts, progress):
        if progress.step == 40:
            parts.tracker.env.unwrapped.begins_broken = True

    with pytest.raises(EnvError, match=r"Training stopped at step \d+: .*nan for `place`") as told:
        point.run(tmp_path, "a", on_step=break_later)
    assert "resume" in told.value.hint
    assert point.run(tmp_path, "a", resume=True)["steps"] == 120
    with np.load(next((tmp_path / "run/a").glob("checkpoint-*")) / "replay.npz") as replay:
        assert np.isfinite(replay["rows"]).all()


def test_what_one_of_several_simulators_breaks_none_has_taken(point, tmp_path):
    def break_later(parts, progress):
        if progress.step == 40:
            env = parts.trackers[1].env.unwrapped
            env.breaks_at = env.steps + 1

    with pytest.raises(EnvError, match=r"stopped at step 42: .*gave nan for `place`"):
        point.run(tmp_path, "a", on_step=break_later, **{"sac.envs": 2})
    assert (tmp_path / "run/a.partial/checkpoint-00000040/state.json").is_file()
    seen = []
    resumed = point.run(
        tmp_path, "a", resume=True, on_step=lambda parts, progress: seen.append(progress.step),
        **{"sac.envs": 2},
    )  # fmt: skip
    assert seen == list(range(42, 121, 2))
    assert resumed["steps"] == 120


def test_a_broken_evaluation_names_its_step_and_leaves_a_checkpoint(point, tmp_path):
    def break_later(parts, progress):
        if progress.step == 49:
            parts.eval_envs[0].begins_broken = True

    with pytest.raises(EnvError, match=r"stopped in the evaluation at step 50: .*nan for `place`"):
        point.run(tmp_path, "a", on_step=break_later)
    assert (tmp_path / "run/a.partial/checkpoint-00000050/state.json").is_file()
    assert point.run(tmp_path, "a", resume=True)["steps"] == 120


@pytest.mark.parametrize("agent", ["sac", "hybrid-sac"])
@pytest.mark.parametrize("step", [50, 59], ids=["before an evaluation", "in training"])
def test_a_learner_that_diverges_is_not_blamed_on_the_simulator(point, tmp_path, agent, step):
    def break_later(parts, progress):
        if progress.step == step:
            parts.learner.actor.parameters.fill_(np.nan)

    with pytest.raises(ConfigError, match="The learner diverged") as told:
        point.run(tmp_path, "a", agent=agent, on_step=break_later)
    assert "lower sac.learning_rate" in told.value.hint
    assert (tmp_path / "run/a.partial/checkpoint-00000040/state.json").is_file()
    assert not list((tmp_path / "run/a.partial").glob("checkpoint-0000005*"))


def test_a_run_of_an_earlier_version_is_told_what_is_new(point, tmp_path):
    with pytest.raises(Interrupted):
        point.run(tmp_path, "a", stop=lambda: True)
    told = []
    point.resume(tmp_path, "a", told.append, stop=lambda: True)
    assert not any("earlier version" in line for line in told)
    settings = tmp_path / "run/a.partial/config.toml"
    lines = settings.read_text().splitlines()
    was = sha256(settings)
    settings.write_text("\n".join(line for line in lines if "entropy_weight" not in line))
    (state,) = settings.parent.glob("checkpoint-*/state.json")
    state.write_text(state.read_text().replace(was, sha256(settings)))
    point.resume(tmp_path, "a", told.append, stop=lambda: True)
    [line] = [line for line in told if "earlier version" in line]
    assert "without sac.entropy_weight: going on with the defaults" in line


def test_another_abstraction_under_the_name_is_refused(point, tmp_path, monkeypatch):
    from cepcli.runs.engine import evaluate_run

    point.run(tmp_path, "a")
    monkeypatch.setattr(point.Describer, "sha256", "another")
    with pytest.raises(ArtifactError, match="The abstraction that `a` was trained with"):
        evaluate_run(Workspace(tmp_path), "a", 1, frozen_cache=True, notify=lambda line: None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"trace": True, "sac.envs": 2}, "cannot be traced"),
        ({"posterior.mode": "k-candidates"}, "`posterior.mode` is k-candidates"),
        ({"steps": 3, "sac.envs": 8}, "cannot share evenly"),
        ({"sac.entropy_per_control": float("nan")}, "expected a finite number"),
        ({"sac.learning_rate": float("inf")}, "sac.learning_rate is inf"),
        ({"sac.entropy_weight": 0.0}, "entropy_weight is 0.0, expected > 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(point, tmp_path, flags, message):
    with pytest.raises(ConfigError, match=message):
        point.run(tmp_path, "a", **flags)
    assert not list(tmp_path.glob("run/a*"))


def test_where_no_llm_is_asked_what_is_for_one_is_left_out(point, tmp_path):
    from cepcli.runs.settings import read_config

    point.run(tmp_path, "a", agent="sac", trace=True, abstraction="walker2d/mine",
              **{"cache.mode": "lru"})  # fmt: skip
    kept = read_config(tmp_path / "run/a")
    assert (kept.cache.mode, kept.trace, kept.abstraction) == ("off", False, None)


@pytest.mark.parametrize("told", [True, False])
def test_a_run_that_ends_before_its_actor_learns_says_so(point, tmp_path, told):
    lines = []
    start_run(
        point.config(**{"env_options.nominal": True, "sac.residual_starts": 120 if told else 119}),
        Workspace(tmp_path), "a", resume=False, overwrite=False, hooks=Hooks(), notify=lines.append,
    )  # fmt: skip
    assert any("The actor will not learn" in line for line in lines) == told


def test_an_evaluation_does_not_speak_of_learning(point, tmp_path):
    from cepcli.runs.engine import evaluate_run

    waiting = {"env_options.nominal": True, "sac.residual_starts": 1000}
    point.run(tmp_path, "a", **waiting)
    lines = []
    evaluate_run(Workspace(tmp_path), "a", 2, frozen_cache=True, notify=lines.append)
    assert not any("will not learn" in line for line in lines)


def test_a_run_that_chose_no_symbol_is_held_against_off(point, tmp_path):
    point.run(tmp_path, "a", agent="sac")
    found = retention(Workspace(tmp_path), "a", "off", 2, lambda line: None)
    assert (found["query_reduction"], found["training_query_reduction"]) == (None, None)


def test_a_prior_that_reads_needs_words_for_states(tmp_path):
    from cepcli.agents.config import TrainConfig
    from cepcli.cache.config import CacheConfig
    from cepcli.runs.online import OnlineRun

    config = TrainConfig(env="walker2d", agent="hybrid-sac", abstraction="walker2d/mine")
    with pytest.raises(ArtifactError, match="walker2d/mine") as error:
        OnlineRun.build(config, Workspace(tmp_path), lambda line: None)
    assert "cep abstract train --env walker2d --name walker2d/mine" in error.value.hint
    run = OnlineRun.build(
        TrainConfig(env="walker2d", agent="hybrid-sac", prior="uniform", eval_lanes=1,
                    cache=CacheConfig(mode="off")),
        Workspace(tmp_path),
        lambda line: None,
    )  # fmt: skip
    assert run.describer is None


def test_a_run_can_be_evaluated_afterwards(point, tmp_path):
    from cepcli.runs.engine import evaluate_run

    trained = point.run(tmp_path, "a", eval_episodes=4)
    again = evaluate_run(
        Workspace(tmp_path), "a", 4, frozen_cache=True, notify=lambda message: None
    )
    assert again["eval"]["return_mean"] == trained["eval"]["return_mean"]


@pytest.mark.slow
def test_sac_learns_to_bring_the_point_to_rest(point, tmp_path):
    trained = point.run(
        tmp_path, "a", agent="sac", steps=1500, eval_interval=1500, final_eval_episodes=20,
        **{"sac.batch_size": 64, "sac.hidden": 32, "sac.learning_rate": 2e-3,
           "sac.learning_starts": 100, "sac.replay_capacity": 2000},
    )  # fmt: skip
    curve = trained["eval"]["return_curve"]
    assert trained["eval"]["success_rate"] >= 0.9
    assert curve[-1][1] > curve[0][1] + 5


def test_a_snapshot_leads_back_to_the_same_moment():
    tracker = ControlTracker(control_worlds.Point(), seed=3)
    for control in (0.5, -0.25, 1.0):
        tracker.choose(1)
        tracker.step(np.array([control], np.float32))
    snapshot = json.loads(json.dumps(tracker.snapshot()))
    other = ControlTracker(control_worlds.Point(), seed=4)
    other.restore(snapshot)
    assert np.array_equal(other.observation, tracker.observation)
    assert (other.symbol, other.held, other.episode_return) == (1, 1, tracker.episode_return)
    tracker.next_episode()
    other.next_episode()
    assert other.instance == tracker.instance
