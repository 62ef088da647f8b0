"""Recording experts: labels, noise, failures, artifacts."""

import pytest

from cepcli.config import read_toml
from cepcli.datasets.demonstrations import (
    DemosConfig,
    default_demos_name,
    demos_decisions,
    open_demos,
    record_demos,
    record_episodes,
)
from cepcli.envs.catalog import full_options
from cepcli.errors import ArtifactError, ConfigError, EnvError
from cepcli.prior.tuning.decisions import episodes
from cepcli.workspace.artifacts import Workspace, read_json

ENV = "babyai/goto-redball"


@pytest.fixture
def workspace(workspace_root):
    return Workspace(workspace_root)


def config(**values):
    return DemosConfig(**({"env": ENV, "episodes": 3, "heldout_episodes": 2} | values))


def test_demonstrations_are_an_artifact_and_repeatable(workspace):
    told = []
    first = record_demos(config(), workspace, "a", progress=lambda *args: told.append(args))
    second = record_demos(config(), workspace, "b")
    assert demos_decisions(first, "train") == demos_decisions(second, "train")
    assert told == [("train", 1, 3), ("train", 2, 3), ("train", 3, 3), ("heldout", 1, 2),
                    ("heldout", 2, 2)]  # fmt: skip
    summary = read_json(first.path / "summary.json")
    assert summary["train"]["episodes"] == len(episodes(demos_decisions(first, "train"))) == 3
    assert summary["heldout"]["decisions"] == len(demos_decisions(first, "heldout"))
    train = {d.instance for d in demos_decisions(first, "train")}
    heldout = {d.instance for d in demos_decisions(first, "heldout")}
    assert not train & heldout


def test_every_label_is_admissible_and_every_episode_solved(workspace):
    decisions = demos_decisions(record_demos(config(), workspace, "a"), "train")
    assert all(d.action in d.state.actions for d in decisions)
    assert all(d.episode_return > 0 for d in decisions)
    assert next(d.step for d in decisions if d.episode == 0) == 0


def test_a_shop_is_demonstrated_to_the_full_reward(workspace, monkeypatch):
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    shop = config(env="webshop", env_options={"products": 60})
    decisions = demos_decisions(record_demos(shop, workspace, "a"), "train")
    assert {d.episode_return for d in decisions} == {1.0}
    assert all(d.action in d.state.actions for d in decisions)
    assert {d.action.split("[")[0] for d in decisions} == {"search", "click"}


def test_the_record_holds_the_environments_defaults_too(workspace):
    assert full_options("textworld/coin", {"games": 3})["heldout_games"] == 20
    recorded = read_toml(record_demos(config(), workspace, "a").path / "config.toml")
    assert recorded["env_options"] == full_options(recorded["env"], {})


def test_seed_changes_the_instances(workspace):
    one = demos_decisions(record_demos(config(), workspace, "a"), "train")
    two = demos_decisions(record_demos(config(seed=1), workspace, "b"), "train")
    assert {d.instance for d in one} != {d.instance for d in two}


def test_demonstrations_of_another_environment_are_refused(workspace):
    record_demos(config(), workspace, "a")
    assert open_demos(workspace, "a", ENV).name == "a"
    assert open_demos(workspace, "a", "babyai/go-to-red-ball").name == "a"
    with pytest.raises(ArtifactError, match="are of `babyai/goto-redball`") as error:
        open_demos(workspace, "a", "babyai/goto-local")
    assert error.value.hint.endswith("--env babyai/goto-local")
    assert "babyai/goto-local" in error.value.message


class HopelessEnv:
    """One state, never solved."""

    env_id = "test/hopeless"

    def reset(self, *, seed=None, options=None):
        info = {"text": "x", "goal": "g", "actions": ("a",), "instance": 0, "success": False}
        return "x", info

    def step(self, action):
        return "x", 0.0, True, False, self.reset()[1]

    def expert_action(self):
        return "a"


def test_hopeless_expert_is_given_up():
    with pytest.raises(EnvError, match="solved 0 of 6 episodes"):
        record_episodes(HopelessEnv(), 1, config(max_failures=5), "train")


@pytest.mark.parametrize("values", [{"noise": 1.5}, {"episodes": 0}, {"max_failures": 0}])
def test_values_out_of_range_are_refused(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        config(**values)


def test_default_name_is_the_environment():
    assert default_demos_name(ENV) == "babyai-goto-redball"


@pytest.mark.parametrize("at", [1, 2, 4])
def test_an_interrupted_recording_goes_on_to_the_same_demonstrations(workspace, at):
    def stop(split, solved, wanted):
        told.append(split)
        if len(told) == at:
            raise KeyboardInterrupt

    whole = record_demos(config(noise=0.5), workspace, "whole")
    told = []
    with pytest.raises(KeyboardInterrupt):
        record_demos(config(noise=0.5), workspace, "cut", progress=stop)
    notes, told = [], []
    record_demos(
        config(noise=0.5), workspace, "cut",
        progress=lambda *args: told.append(args), notify=notes.append,
    )  # fmt: skip
    assert "Going on with the unfinished demonstrations cut" in notes
    assert len(told) == 5 - at, "episodes that were recorded are not played again"
    cut = workspace.open("demos", "cut")
    for file in ("train.jsonl", "heldout.jsonl", "summary.json", "config.toml"):
        assert (cut.path / file).read_bytes() == (whole.path / file).read_bytes()
    assert not list(cut.path.glob("kept-*"))


def test_an_interrupted_recording_of_other_settings_is_begun_anew(workspace):
    def stop(*args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_demos(config(), workspace, "a", progress=stop)
    again = record_demos(config(seed=1), workspace, "a")
    whole = record_demos(config(seed=1), workspace, "b")
    assert demos_decisions(again, "train") == demos_decisions(whole, "train")
