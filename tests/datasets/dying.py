"""Collects, or labels, and is killed by SIGKILL at a given step, for the tests of going on."""

import os
import signal
from pathlib import Path

from cepcli.datasets import collect as collect_module
from cepcli.datasets import labelling
from cepcli.datasets.behaviour import RandomBehaviour
from cepcli.datasets.collect import CollectConfig, CollectPlan, Stage, collect
from cepcli.datasets.labelling import label
from cepcli.datasets.stored import read_text
from cepcli.workspace.artifacts import Workspace
from tests.datasets import test_labelling

ENV = "babyai/goto-redball"
STEPS = 200


class Dying(RandomBehaviour):
    """Acts at random; the process dies at a step."""

    def __init__(self, at):
        self._left = at

    def act(self, tracker):
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().act(tracker)


def collected(root, at):
    """A dataset of random actions; `at` is beyond its end where it is to be finished."""
    plan = CollectPlan(
        CollectConfig(env=ENV, transitions=STEPS), [Stage(Dying(at), STEPS)], "somebody"
    )
    return collect(plan, Workspace(Path(root)), "made")


class DyingModel(test_labelling.Asked):
    """The process dies when this model is asked for more than so many states."""

    def __init__(self, at):
        super().__init__()
        self._at = at

    def load(self, name, **given):
        prior = super().load(name, **given)
        inner = self.scorer.score

        def score(prompts, action_sets):
            if self.states >= self._at:
                os.kill(os.getpid(), signal.SIGKILL)
            return inner(prompts, action_sets)

        self.scorer.score = score
        return prior


def collect_and_die(root, at):
    """Collect until the step of that number; every episode is written at once."""
    collect_module._SECONDS = 0.0
    collected(root, at)


def label_and_die(root, at):
    """Label until the model was asked for so many states; everything is written at once."""
    labelling.load_prior = DyingModel(at).load
    labelling.prior_inputs = lambda name, workspace: []
    labelling._SAVE_SECONDS = 0.0
    data = read_text(root / "t.parquet", env="babyai/goto-local", source="made up")
    label(data, test_labelling.config("certified"), Workspace(root))
