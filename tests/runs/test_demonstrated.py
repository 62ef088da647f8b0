"""A run whose replay begins with demonstrations."""

import json

import pytest

from cepcli.datasets.demonstrations import DemosConfig, record_demos
from cepcli.errors import ArtifactError, ConfigError, Interrupted
from cepcli.workspace.artifacts import Workspace
from tests.runs.test_online import timeless


@pytest.fixture
def demos(corridor, tmp_path):
    """Twelve episodes by the corridor's expert, with random moves in between."""
    config = DemosConfig(env="test/corridor", episodes=12, heldout_episodes=2, noise=0.3)
    return record_demos(config, Workspace(tmp_path), "d")


def lines(demos):
    return [json.loads(line) for line in (demos.path / "train.jsonl").read_text().splitlines()]


def test_the_replay_begins_with_what_was_played(corridor, demos, tmp_path):
    seen = []

    def watch(parts, progress):
        if not seen:
            seen.append((len(parts.learner.replay), parts.learner.updates, progress.demos))

    summary = corridor.run(tmp_path, "a", demos="d", on_step=watch, **{"learner.n_step": 1})
    rows = lines(demos)
    assert any(row["played"] != row["action"] for row in rows), "else the test says nothing"
    [(stored, updates, told)] = seen
    # one transition may still wait for its next state
    assert len(rows) <= stored <= len(rows) + 1
    assert updates == len(rows) + 1, "one for each of their decisions, and one for the run's first"
    assert (told["episodes"], told["decisions"]) == (12, len(rows))
    assert told["llm_seconds_recorded"] == 0.25 * told["queries"]
    assert told["llm_tokens"] > 0
    assert summary["demos"] == told
    texts = {row["text"] for row in rows}
    assert told["queries"] == len(texts), "each text is asked about once"
    assert summary["decisions"] == 120
    inputs = Workspace(tmp_path).open("run", "a").manifest["inputs"]
    assert inputs == [{"kind": "demos", "name": "d", "sha256": demos.reference.sha256}]


def test_what_was_played_is_stored_not_what_the_expert_said(corridor, demos, tmp_path):
    stored = []

    def watch(parts, progress):
        if not stored:
            arrays = parts.learner.replay.state()
            stored.append((arrays["action"].tolist(), arrays["reward"].tolist()))

    corridor.run(tmp_path, "a", demos="d", on_step=watch, **{"learner.n_step": 1})
    rows = lines(demos)
    actions, rewards = stored[0]
    assert actions[: len(rows)] == [row["actions"].index(row["played"]) for row in rows]
    assert rewards[: len(rows)] == [row["reward"] for row in rows]
    assert sum(rewards[: len(rows)]) == 12


def test_an_agent_without_a_prior_knows_more_before_its_first_step(corridor, demos, tmp_path):
    flags = {"agent": "dqn", "eval_episodes": 30, "posterior.temperature": 0.05, "steps": 20}
    alone = corridor.run(tmp_path, "a", **flags)
    shown = corridor.run(tmp_path, "b", demos="d", **flags)
    assert shown["eval"]["curve"][0][1] > alone["eval"]["curve"][0][1]


@pytest.mark.parametrize(
    "cache",
    [
        pytest.param("exact", marks=pytest.mark.slow),
        pytest.param("surrogate", marks=pytest.mark.slow),
        "certified",
    ],
)
def test_interrupted_it_goes_on_though_they_are_gone(corridor, demos, tmp_path, cache):
    mine = tmp_path / "mine.jsonl"
    mine.write_bytes((demos.path / "train.jsonl").read_bytes())
    flags = {"demos": str(mine), "cache.mode": cache}
    whole = corridor.run(tmp_path / "whole", "a", **flags)
    taken = []
    with pytest.raises(Interrupted):
        corridor.run(
            tmp_path, "b", on_step=lambda parts, progress: taken.append(progress.step),
            stop=lambda: len(taken) >= 47, **flags,
        )  # fmt: skip
    mine.unlink()
    resumed = corridor.run(tmp_path, "b", resume=True, **flags)
    assert timeless(resumed) == timeless(whole)
    manifests = [Workspace(root).open("run", name).manifest["inputs"]
                 for root, name in ((tmp_path, "b"), (tmp_path / "whole", "a"))]  # fmt: skip
    assert manifests[0] == manifests[1] != []


def test_stopped_among_them_nothing_has_begun(corridor, demos, tmp_path):
    with pytest.raises(Interrupted):
        corridor.run(tmp_path, "a", demos="d", stop=lambda: True)
    assert not Workspace(tmp_path).partial("run", "a").exists()


@pytest.mark.parametrize("mode", ["surrogate", "certified"])
def test_the_controller_counts_the_decisions_of_the_run_alone(corridor, demos, tmp_path, mode):
    told = []

    def watch(parts, progress):
        if progress.step == 1:
            update = parts.control.update
            parts.control.update = lambda signals, knobs: (
                told.append(signals) or update(signals, knobs)
            )

    corridor.run(tmp_path, "a", demos="d", on_step=watch, steps=40, **{"cache.mode": mode})
    assert [signals.decisions for signals in told] == [10] * 4
    assert all(0 <= signals.hits <= 10 for signals in told)
    assert all(signals.hits + signals.queries == 10 for signals in told)


def test_a_file_of_ones_own_needs_rewards(corridor, demos, tmp_path):
    mine = tmp_path / "mine.jsonl"
    rows = lines(demos)
    mine.write_text("\n".join(map(json.dumps, rows)))
    assert corridor.run(tmp_path, "a", demos=str(mine))["demos"]["episodes"] == 12
    del rows[3]["reward"]
    mine.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ArtifactError, match="do not say what each action was rewarded") as told:
        corridor.run(tmp_path, "b", demos=str(mine))
    assert "cep prior demos" in told.value.hint
    assert "mine" not in told.value.hint, "no name for what cep records"
    rows[3] |= {"reward": 0.0, "played": "fly"}
    mine.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ArtifactError, match=r"mine\.jsonl:4: the played action `fly` is not among"):
        corridor.run(tmp_path, "b", demos=str(mine))


def test_a_file_out_of_order_is_refused(corridor, demos, tmp_path):
    mine = tmp_path / "mine.jsonl"
    rows = lines(demos)
    mine.write_text("\n".join(map(json.dumps, rows + rows)))
    with pytest.raises(ArtifactError, match=r"step 0 of episode 0 follows step \d") as told:
        corridor.run(tmp_path, "a", demos=str(mine))
    assert "Number every episode differently" in told.value.hint
    mine.write_text("\n")
    with pytest.raises(ArtifactError, match="There is no decision in"):
        corridor.run(tmp_path, "a", demos=str(mine))
    for row in rows:
        del row["step"]
    mine.write_text("\n".join(map(json.dumps, rows)))
    assert corridor.run(tmp_path, "a", demos=str(mine))["demos"]["decisions"] == len(rows)


def test_agents_that_learn_nothing_take_none(corridor, demos, tmp_path):
    with pytest.raises(ConfigError, match="agent `direct-llm` does not learn from demonstrations"):
        corridor.run(tmp_path, "a", agent="direct-llm", demos="d")
