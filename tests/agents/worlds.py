"""A corridor world, an encoder of hashes and a scripted scorer: a run's parts without their weight.

Run as a script it trains in a directory and dies at a given decision, for the tests of resuming.
"""

import hashlib
import os
import signal
from pathlib import Path

import gymnasium as gym
import numpy as np

from cepcli.agents.config import training_config
from cepcli.datasets import demonstrations
from cepcli.envs import catalog
from cepcli.envs.base import SymbolicEnv
from cepcli.errors import EnvError
from cepcli.keys.encoder import TextEncoder
from cepcli.prior import load
from cepcli.prior.base import PriorShape
from cepcli.prior.journal import Journal, JournaledScorer
from cepcli.prior.llm import LLMPrior
from cepcli.prior.prompts import PromptTemplate
from cepcli.runs import assembly
from cepcli.runs.engine import Hooks, start_run
from cepcli.workspace.artifacts import Workspace
from tests.fakes import FakeScorer

LENGTH = 5


class Corridor(SymbolicEnv):
    """Walk right to the end; the start is the instance. Reward 1 at the end, which terminates."""

    family = "babyai"
    env_id = "test/corridor"
    max_episode_steps = 12
    observation_space = gym.spaces.Text(100)
    action_space = gym.spaces.Text(100)

    def __init__(self, first=0):
        self.first = first

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if options and "instance" in options:
            self.instance = options["instance"]
        else:
            self.instance = self.first + int(self.np_random.integers(LENGTH - 1))
        self.position = self.instance % (LENGTH - 1)
        self.steps = 0
        return self._text(), self._info()

    def step(self, action):
        if action not in ("go left", "go right"):
            raise EnvError(f"`{action}` is not admissible.")
        self.steps += 1
        self.position = max(self.position + (1 if action == "go right" else -1), 0)
        won = self.position == LENGTH - 1
        truncated = not won and self.steps >= self.max_episode_steps
        return self._text(), float(won), won, truncated, self._info()

    def expert_action(self):
        return "go right"

    def _text(self):
        return f"You stand on tile {self.position}."

    def _info(self):
        return {
            "text": self._text(),
            "goal": "walk to the end",
            "actions": ("go left", "go right"),
            "instance": self.instance,
            "success": self.position == LENGTH - 1,
        }


class HashEncoder(TextEncoder):
    """A fixed random direction for each text."""

    dim = 16
    sha256 = "hash-16"

    def encode(self, text):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        vector = np.random.default_rng(seed).normal(size=self.dim).astype(np.float32)
        return vector / np.linalg.norm(vector)


def make_corridor(env_id, *, split, workspace, options=None, progress=None):
    return Corridor(first=0 if split == "train" else 1000)


def load_fake_prior(name, *, family, workspace, config, device, journal_path=None, thinks=False):
    if name == "uniform":
        from cepcli.prior.base import UniformPrior

        return UniformPrior()
    scorer = FakeScorer()
    if journal_path is not None:
        journal_path.parent.mkdir(parents=True, exist_ok=True)
        scorer = JournaledScorer(scorer, Journal(journal_path))
    made = (scorer, PromptTemplate("babyai"), "sum", PriorShape(temperature=5.0))
    return LLMPrior(*made, thought_tokens=config.thought_tokens if thinks else None)


def install(patch):
    """Put the corridor and its prior where a run looks for them; `patch` is a `setattr`."""
    patch(assembly, "make_env", make_corridor)
    patch(assembly, "load_prior", load_fake_prior)
    patch(catalog, "full_options", lambda env, options: options)
    patch(assembly, "MiniLM", lambda device: HashEncoder())
    corridor = catalog.EnvSpec("test/corridor", "babyai", "a corridor", make_corridor, dict)
    patch(catalog, "spec", lambda env: corridor)
    patch(load, "load_prior", load_fake_prior)
    patch(demonstrations, "make_env", make_corridor)
    patch(demonstrations, "full_options", lambda env, options: options)


def config(**flags):
    small = {
        "env": "test/corridor", "steps": 120, "eval_interval": 50, "eval_episodes": 3,
        "final_eval_episodes": 5, "checkpoint_interval": 20, "log_interval": 10,
        "learner.learning_starts": 20, "learner.batch_size": 16, "learner.hidden": 32,
        "learner.target_interval": 20, "cache.threshold": 0.2, "cache.refresh_rate": 0.3,
        "cache.encoder": "minilm", "cache.head_from": 3, "cache.control_interval": 10,
        "cache.learned.steps": 20,
    }  # fmt: skip
    return training_config(flags={**small, **flags})


def run(
    root, name, *, resume=False, overwrite=False, on_step=None, on_round=None,
    stop=lambda: False, **flags,
):  # fmt: skip
    heard = {key: hook for key, hook in (("on_step", on_step), ("on_round", on_round)) if hook}
    hooks = Hooks(**heard, stop_requested=stop)
    return start_run(
        config(**flags),
        Workspace(Path(root)),
        name,
        resume=resume,
        overwrite=overwrite,
        hooks=hooks,
        notify=lambda message: None,
    )


def main(root, name, agent, cache, die_at, start=None):
    """Train; be killed by SIGKILL once `die_at` decisions are taken."""

    def die(parts, progress):
        if progress.step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    flags = {"cache.mode": cache, "cache.start": start}
    run(root, name, resume=True, on_step=die, agent=agent, **flags)
