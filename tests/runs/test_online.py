import json
import shutil

import numpy as np
import pytest

from cepcli.cache.disk.storage import key_head_of
from cepcli.errors import ArtifactError, ConfigError, EnvError, Interrupted, PriorError
from cepcli.prior.base import Prior, PriorAnswer, PriorShape
from cepcli.runs import assembly as parts
from cepcli.workspace.checkpoint_files import checkpoints
from tests.fakes import FakeScorer
from tests.killed import killed

#: Figures that depend on the clock.
TIMES = ("seconds", "latency", "_ms")


def timeless(summary):
    if isinstance(summary, dict):
        kept = {k: v for k, v in summary.items() if not any(t in k for t in TIMES)}
        return {k: timeless(v) for k, v in kept.items() if k != "run"}
    return summary


def metrics(root, name):
    rows = (root / "run" / name / "metrics.jsonl").read_text().splitlines()
    return [timeless(json.loads(row)) for row in rows]


def test_same_seed_twice_gives_the_same_metrics_and_another_seed_does_not(corridor, tmp_path):
    one, two, other = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    first, second = corridor.run(one, "a"), corridor.run(two, "a")
    assert first["decisions_sha256"] == second["decisions_sha256"]
    assert metrics(one, "a") == metrics(two, "a")
    assert corridor.run(other, "a", seed=1)["decisions_sha256"] != first["decisions_sha256"]


@pytest.mark.parametrize(
    ("agent", "cache"),
    [
        ("posterior-q", "certified"),
        ("yan", "exact"),
        pytest.param("posterior-q", "lru", marks=pytest.mark.slow),
        pytest.param("dqn", "off", marks=pytest.mark.slow),
        pytest.param("expert", "off", marks=pytest.mark.slow),
    ],
)
def test_run_killed_at_any_moment_ends_as_if_never_killed(corridor, tmp_path, agent, cache):
    whole = corridor.run(tmp_path / "whole", "a", agent=agent, **{"cache.mode": cache})
    root = tmp_path / "killed"
    for die_at in (7, 47, 93):
        killed(corridor.main, root, "a", agent, cache, die_at)
    resumed = corridor.run(root, "a", resume=True, agent=agent, **{"cache.mode": cache})
    assert timeless(resumed) == timeless(whole)
    assert metrics(root, "a") == metrics(tmp_path / "whole", "a")
    if cache in ("lru", "certified"):
        heads = [key_head_of(r / "run/a/cache") for r in (root, tmp_path / "whole")]
        assert heads[0].keys() == heads[1].keys() == {"hidden", "bias", "output"}
        assert all(np.array_equal(heads[0][name], heads[1][name]) for name in heads[0])


def test_interrupt_writes_a_checkpoint_and_resuming_ends_the_same(corridor, tmp_path):
    whole = corridor.run(tmp_path / "whole", "a")
    taken = []
    with pytest.raises(Interrupted):
        corridor.run(
            tmp_path / "w", "a",
            on_step=lambda parts, progress: taken.append(progress.step),
            stop=lambda: len(taken) >= 33,
        )  # fmt: skip
    assert (tmp_path / "w/run/a.partial/checkpoint-00000033/state.json").is_file()
    resumed = corridor.run(tmp_path / "w", "a", resume=True)
    assert timeless(resumed) == timeless(whole)


def test_no_state_is_saved_twice(corridor, tmp_path, monkeypatch):
    from cepcli.workspace import checkpoint_files

    saved, real = [], checkpoint_files.replace
    monkeypatch.setattr(
        checkpoint_files,
        "replace",
        lambda new, path: (saved.append(path.name[-2:]), real(new, path)),
    )
    flags = {"steps": 40, "prior": "uniform", "cache.mode": "off", "eval_interval": 30}
    taken = []
    with pytest.raises(Interrupted):
        corridor.run(
            tmp_path, "a", on_step=lambda parts, progress: taken.append(progress.step),
            stop=lambda: len(taken) == 20, **flags,
        )  # fmt: skip
    assert saved == ["20"], "the interval's and the interruption's are one"
    corridor.run(tmp_path, "a", resume=True, **flags)
    assert saved == ["20", "40", "40"], "before and after the last evaluation"


@pytest.mark.parametrize(
    ("agent", "cache", "more"),
    [
        pytest.param("posterior-q", "off", {}, marks=pytest.mark.slow),
        pytest.param("posterior-q", "exact", {"cache.capacity": 2}, marks=pytest.mark.slow),
        ("posterior-q", "lru", {"cache.capacity": 2, "cache.refresh_rate": 0.5}),
        pytest.param("direct-llm", "certified", {"cache.capacity": 3}, marks=pytest.mark.slow),
        ("react", "lru", {}),
    ],
)
def test_run_whose_llm_fails_keeps_its_state_and_ends_as_if_it_never_had(
    corridor, tmp_path, monkeypatch, agent, cache, more
):
    flags = {"agent": agent, "cache.mode": cache, "journal": False, **more}
    whole = corridor.run(tmp_path / "whole", "a", **flags)
    real, asked, failed = FakeScorer.score, [], []

    def score(self, prompts, action_sets):
        asked.append(prompts)
        if len(asked) in (6, 14, 15, 31):
            raise PriorError("The server is gone.")
        return real(self, prompts, action_sets)

    monkeypatch.setattr(FakeScorer, "score", score)
    while True:
        steps = []
        try:
            found = corridor.run(
                tmp_path / "w", "a", resume=True, **flags,
                on_step=lambda parts, progress, steps=steps: steps.append(progress.step),
            )  # fmt: skip
            break
        except PriorError:
            [kept] = checkpoints(tmp_path / "w/run/a.partial")
            failed.append(int(kept.name.rpartition("-")[2]))
            assert not steps or failed[-1] == steps[-1]
    assert len(failed) == 4
    assert failed == sorted(failed)
    assert timeless(found) == timeless(whole)
    assert metrics(tmp_path / "w", "a") == metrics(tmp_path / "whole", "a")


def test_evaluating_more_often_does_not_change_training(corridor, tmp_path):
    seldom = corridor.run(tmp_path / "1", "a", eval_interval=120, **{"cache.mode": "lru"})
    often = corridor.run(tmp_path / "2", "a", eval_interval=10, **{"cache.mode": "lru"})
    assert seldom["decisions_sha256"] == often["decisions_sha256"]
    assert seldom["hits"] == often["hits"]
    assert seldom["eval"]["success_rate"] == often["eval"]["success_rate"]


def test_every_decision_is_counted_once(corridor, tmp_path):
    for mode in ("off", "exact", "lru"):
        summary = corridor.run(tmp_path / mode, "a", **{"cache.mode": mode})
        queries, hits = summary["queries"], summary["hits"]
        assert queries["total"] == queries["misses"] + queries["partial"] + queries["audits"]
        assert queries["total"] + hits["exact"] + hits["semantic"] == summary["decisions"] == 120
        assert (mode == "off") == (queries["total"] == 120)


def test_journal_answers_a_second_run_at_the_recorded_cost(corridor, tmp_path):
    first = corridor.run(tmp_path, "a", **{"cache.mode": "off"})
    again = corridor.run(tmp_path, "b", **{"cache.mode": "off"})
    assert again["decisions_sha256"] == first["decisions_sha256"]
    assert again["queries"] == first["queries"]
    assert again["llm_seconds"] == 0
    assert again["llm_seconds_recorded"] == pytest.approx(first["llm_seconds_recorded"])


def test_truncated_checkpoint_is_named_and_left_untouched(corridor, tmp_path):
    with pytest.raises(Interrupted):
        corridor.run(tmp_path, "a", stop=iter([False] * 40 + [True] * 9).__next__)
    [checkpoint] = (tmp_path / "run/a.partial").glob("checkpoint-*")
    broken = checkpoint / "replay.npz"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"replay\.npz.*left untouched"):
        corridor.run(tmp_path, "a", resume=True)
    assert broken.stat().st_size == 100


def test_a_checkpoint_of_an_older_version_is_refused(corridor, tmp_path):
    with pytest.raises(Interrupted):
        corridor.run(tmp_path, "a", stop=iter([False] * 40 + [True] * 9).__next__)
    [state] = (tmp_path / "run/a.partial").glob("checkpoint-*/state.json")
    state.write_text(json.dumps(json.loads(state.read_text()) | {"schema_version": 2}))
    with pytest.raises(ArtifactError, match="not a checkpoint of this version of cep"):
        corridor.run(tmp_path, "a", resume=True)


def test_resuming_under_another_configuration_names_the_difference(corridor, tmp_path):
    with pytest.raises(Interrupted):
        corridor.run(tmp_path, "a", stop=iter([False] * 40 + [True] * 9).__next__)
    with pytest.raises(ArtifactError, match=r"learner\.discount = 0\.97, not 0\.5"):
        corridor.run(tmp_path, "a", resume=True, **{"learner.discount": 0.5})
    with pytest.raises(ArtifactError, match="unfinished run"):
        corridor.run(tmp_path, "a")


def test_finished_run_is_neither_repeated_nor_overwritten(corridor, tmp_path):
    first = corridor.run(tmp_path, "a")
    assert corridor.run(tmp_path, "a", resume=True) == first
    with pytest.raises(ArtifactError, match="exists already"):
        corridor.run(tmp_path, "a")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "flags"),
    [
        ("posterior-q", {"posterior.schedule": "linear", "posterior.q_range": 4.0}),
        ("posterior-q", {"prior": "uniform", "posterior.q_range": 4.0}),
        ("dqn", {}),
        ("yan", {"posterior.temperature": 0.01, "learner.discount": 0.9}),  # gaps of a tenth
    ],
)
def test_learning_agents_solve_the_corridor_that_chance_does_not(corridor, tmp_path, agent, flags):
    learned = corridor.run(
        tmp_path, "a", agent=agent, steps=1200, eval_interval=1200, final_eval_episodes=20, **flags
    )
    chance = corridor.run(tmp_path, "b", agent="random", steps=10, final_eval_episodes=20)
    assert learned["eval"]["success_rate"] >= 0.95
    assert learned["eval"]["length_mean"] < 0.6 * chance["eval"]["length_mean"]


def test_expert_needs_no_llm_and_always_succeeds(corridor, tmp_path):
    summary = corridor.run(tmp_path, "a", agent="expert")
    assert summary["eval"]["success_rate"] == 1.0
    assert summary["queries"]["total"] == 0


@pytest.mark.slow
def test_evaluation_does_not_depend_on_how_many_episodes_run_side_by_side(corridor, tmp_path):
    one = corridor.run(tmp_path / "1", "a", eval_lanes=1)
    many = corridor.run(tmp_path / "2", "a", eval_lanes=4)
    assert timeless(one) == timeless(many)


@pytest.mark.parametrize("moment", ["rmtree", pytest.param("replace", marks=pytest.mark.slow)])
def test_kill_while_a_checkpoint_replaces_the_last_one(corridor, tmp_path, monkeypatch, moment):
    """Whatever the save had got to, a complete checkpoint is there to go on from."""
    from cepcli.workspace import checkpoint_files

    whole = corridor.run(tmp_path / "whole", "a")
    real = checkpoint_files.discard

    def killed(path):
        if path.exists() and path.name.startswith("checkpoint-") and len(calls) >= 2:
            if moment == "rmtree":
                path.replace(path.with_name(f".{path.name}.discarded"))
            raise SystemError("killed")
        calls.append(path)
        real(path)

    calls = []
    monkeypatch.setattr(checkpoint_files, "discard", killed)
    with pytest.raises(SystemError):
        corridor.run(tmp_path / "w", "a")
    monkeypatch.setattr(checkpoint_files, "discard", real)
    assert checkpoints(tmp_path / "w/run/a.partial")
    assert timeless(corridor.run(tmp_path / "w", "a", resume=True)) == timeless(whole)


def test_interrupted_overwrite_is_resumed_and_not_taken_for_finished(corridor, tmp_path):
    first = corridor.run(tmp_path, "a", seed=1)
    with pytest.raises(Interrupted):
        corridor.run(tmp_path, "a", overwrite=True, stop=iter([False] * 40 + [True] * 9).__next__)
    resumed = corridor.run(tmp_path, "a", resume=True)
    assert resumed["seed"] == 0
    assert resumed["decisions_sha256"] != first["decisions_sha256"]
    assert not list((tmp_path / "run").glob("a.partial"))


def test_checkpoint_of_another_run_is_refused(corridor, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        with pytest.raises(Interrupted):
            corridor.run(tmp_path, name, seed=seed, stop=iter([False] * 40 + [True] * 9).__next__)
    [foreign] = (tmp_path / "run/b.partial").glob("checkpoint-*")
    [own] = (tmp_path / "run/a.partial").glob("checkpoint-*")
    shutil.rmtree(own)
    shutil.copytree(foreign, own)
    with pytest.raises(ArtifactError, match="another configuration"):
        corridor.run(tmp_path, "a", resume=True)


def test_full_disk_while_training_is_one_sentence_and_the_run_goes_on(
    corridor, tmp_path, monkeypatch
):
    from cepcli.workspace.metrics import MetricWriter

    real = MetricWriter.write

    def full(self, step, metrics):
        if step >= 50:
            raise OSError(28, "No space left on device", "metrics.jsonl")
        real(self, step, metrics)

    monkeypatch.setattr(MetricWriter, "write", full)
    with pytest.raises(ArtifactError, match="disk is full"):
        corridor.run(tmp_path, "a")
    monkeypatch.setattr(MetricWriter, "write", real)
    whole = corridor.run(tmp_path / "whole", "a")
    assert timeless(corridor.run(tmp_path, "a", resume=True)) == timeless(whole)


@pytest.mark.slow
def test_default_posterior_corrects_a_prior_that_misleads(corridor, tmp_path, monkeypatch):
    from cepcli.runs import assembly as parts
    from tests.fakes import FakePrior

    class Misled(FakePrior):
        def log_probs(self, states):
            from dataclasses import replace

            import numpy as np

            answers = super().log_probs(states)
            return [replace(a, log_prior=np.log([0.7, 0.3])) for a in answers]

    monkeypatch.setattr(parts, "load_prior", lambda *a, **k: Misled())
    flags = {"steps": 1500, "eval_interval": 1500, "final_eval_episodes": 40}
    prior = corridor.run(tmp_path, "p", agent="direct-llm", **{**flags, "steps": 5})
    learned = corridor.run(
        tmp_path, "q", **flags, **{"posterior.schedule": "constant", "posterior.temperature": 0.16}
    )
    assert learned["eval"]["success_rate"] > prior["eval"]["success_rate"] + 0.2


def test_a_run_that_cannot_be_built_leaves_nothing_behind(corridor, tmp_path):
    from cepcli.errors import ConfigError

    with pytest.raises(ConfigError, match="no device"):
        corridor.run(tmp_path, "a", device="gpu")
    assert not list(tmp_path.glob("run/a*"))


def test_lost_metrics_are_noticed_and_nothing_is_altered(corridor, tmp_path):
    with pytest.raises(Interrupted):
        corridor.run(tmp_path, "a", stop=iter([False] * 40 + [True] * 9).__next__)
    rows = tmp_path / "run/a.partial/metrics.jsonl"
    rows.write_bytes(rows.read_bytes()[:20])
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl.*left untouched"):
        corridor.run(tmp_path, "a", resume=True)
    assert len(rows.read_bytes()) == 20


def test_a_shuffled_prior_misleads_in_training_and_in_evaluation(corridor, tmp_path, monkeypatch):
    def knows_the_way(name, **_):
        return KnowsTheWay()

    monkeypatch.setattr(parts, "load_prior", knows_the_way)
    flags = {"agent": "direct-llm", "prior": "embedded"}
    right = corridor.run(tmp_path, "right", **flags)
    wrong = corridor.run(tmp_path, "wrong", **flags, shuffled_prior=True)
    assert right["eval"]["success_rate"] == 1.0
    assert wrong["eval"]["success_rate"] == 0.0
    curve = metrics(tmp_path, "wrong")[-2]
    assert curve["train/success_rate"] < 0.2


@pytest.mark.parametrize(
    ("flags", "said"),
    [({"prior": "uniform"}, "the prior is uniform"), ({"trace": True}, "a trace would not tell")],
)
def test_what_cannot_be_shuffled_is_said(corridor, flags, said):
    with pytest.raises(ConfigError, match=said):
        corridor.config(**{"agent": "direct-llm", "shuffled_prior": True, **flags})


class KnowsTheWay(Prior):
    shape = PriorShape()

    def log_probs(self, states):
        scores = np.array([-5.0, 0.0])  # go left, go right
        return [PriorAnswer(self.shape.log_prior(scores), scores, "miss") for _ in states]


def breaking(when, change):
    """Does something to an environment of the run before the step after `when`."""

    def on_step(parts, progress):
        if progress.step == when:
            change(parts)

    return on_step


def nan_reward(env):
    step = env.step

    def broken(action):
        observation, _, *rest = step(action)
        return (observation, float("nan"), *rest)

    env.step = broken


def raises(name, error):
    def change(env):
        def fail(*given, **named):
            raise error

        setattr(env, name, fail)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nan_reward, "stopped at step 43: Environment `test/corridor` gave the reward nan"),
        (
            raises("step", ZeroDivisionError("by zero")),
            r"stopped at step 43: Environment `test/corridor` failed in `step` at step \d+ of "
            r"episode \d+: ZeroDivisionError: by zero\.",
        ),
        (
            raises("step", SystemExit(0)),
            "stopped at step 43: Environment `test/corridor` failed in `step` .*SystemExit: 0",
        ),
        (
            raises("reset", RuntimeError("no tiles")),
            r"stopped at step \d+: Environment `test/corridor` failed in `reset` at step 0 of "
            r"episode \d+: RuntimeError: no tiles\.",
        ),
    ],
)
def test_an_environment_that_fails_stops_training_with_a_checkpoint(
    corridor, tmp_path, change, said
):
    breaks = breaking(42, lambda parts: change(parts.tracker.env.unwrapped))
    with pytest.raises(EnvError, match=said) as told:
        corridor.run(tmp_path, "a", on_step=breaks)
    assert "`cep runs resume`" in told.value.hint
    [checkpoint] = (tmp_path / "run/a.partial").glob("checkpoint-*")
    assert int(checkpoint.name.rpartition("-")[2]) >= 42
    assert corridor.run(tmp_path, "a", resume=True)["steps"] == 120


def test_an_environment_that_fails_in_an_evaluation_leaves_a_checkpoint(corridor, tmp_path):
    breaks = breaking(49, lambda parts: nan_reward(parts.eval_envs[-1]))
    with pytest.raises(EnvError, match=r"in the evaluation at step 50: .*`test/corridor`.*nan"):
        corridor.run(tmp_path, "a", on_step=breaks)
    assert (tmp_path / "run/a.partial/checkpoint-00000050/state.json").is_file()
    assert corridor.run(tmp_path, "a", resume=True)["steps"] == 120


def test_what_evaluations_cost_is_counted_apart(corridor, tmp_path):
    rounds = []
    summary = corridor.run(
        tmp_path, "a", on_round=lambda *told: rounds.append(told), **{"cache.mode": "off"}
    )
    rows = [json.loads(row) for row in (tmp_path / "run/a/metrics.jsonl").read_text().splitlines()]
    played = [row for row in rows if "eval/queries" in row]
    assert [row["step"] for row in played] == [0, 50, 100, 120]
    cost = summary["evaluations"]
    assert cost["count"] == 4
    for key in ("queries", "llm_tokens", "llm_seconds_recorded"):
        assert cost[key] == pytest.approx(sum(row[f"eval/{key}"] for row in played))
        assert cost[key] > 0
    assert cost["queries"] == sum(row["eval/length_mean"] * row["eval/episodes"] for row in played)
    assert summary["queries"]["total"] == 120, "training's are training's alone"
    assert rounds[0] == (0, 0, 3, 0)
    assert {(step, episodes) for step, _, episodes, _ in rounds} == {
        (0, 3), (50, 3), (100, 3), (120, 5),
    }  # fmt: skip
