"""A run whose replay begins with demonstrations."""

import json

import pytest

from cepcli.artifacts import Workspace
from cepcli.errors import ArtifactError, ConfigError, Interrupted
from cepcli.rl.demonstrations import DemosConfig, record_demos


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
    assert updates >= len(rows) - 20
    assert (told["episodes"], told["decisions"]) == (12, len(rows))
    assert summary["demos"] == told
    texts = {row["text"] for row in rows}
    assert told["queries"] == len(texts), "each text is asked about once"
    assert summary["decisions"] == 120
    inputs = Workspace(tmp_path).open("run", "a").manifest["inputs"]
    assert "d" in {found["name"] for found in inputs}


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


def test_interrupted_it_does_not_begin_with_them_again(corridor, demos, tmp_path):
    whole = corridor.run(tmp_path, "a", demos="d")
    taken = []
    with pytest.raises(Interrupted):
        corridor.run(
            tmp_path, "b", demos="d", on_step=lambda parts, progress: taken.append(progress.step),
            stop=lambda: len(taken) >= 47,
        )  # fmt: skip
    resumed = corridor.run(tmp_path, "b", demos="d", resume=True)
    assert resumed["decisions_sha256"] == whole["decisions_sha256"]
    assert resumed["demos"]["episodes"] == 12


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
    rows[3] |= {"reward": 0.0, "played": "fly"}
    mine.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ArtifactError, match=r"mine\.jsonl:4: the played action `fly` is not among"):
        corridor.run(tmp_path, "b", demos=str(mine))


def test_agents_that_learn_nothing_take_none(corridor, demos, tmp_path):
    with pytest.raises(ConfigError, match="agent `direct-llm` learns from none"):
        corridor.run(tmp_path, "a", agent="direct-llm", demos="d")
