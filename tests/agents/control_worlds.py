"""A point to be pushed to the middle, as a control environment; and runs in it.

Run as a script it trains in a directory and dies at a given step, for the tests of resuming.
"""

import contextlib
import os
import signal
from pathlib import Path

import gymnasium as gym
import numpy as np

from cepcli.agents.config import training_config
from cepcli.envs.control import ControlEnv, ControlSpec, Feature, Primitive
from cepcli.errors import Interrupted
from cepcli.runs import assembly, online
from cepcli.runs.engine import Hooks, resume_run, start_run
from cepcli.workspace.artifacts import Workspace
from tests.agents import worlds

SPEC = ControlSpec(
    id="test/point",
    family="babyai",
    goal="come to rest in the middle",
    summary="a point on a line",
    features=(Feature("place", "m", "right of the middle"), Feature("speed", "m/s", "rightwards")),
    primitives=(
        Primitive("push left", "force to the left"),
        Primitive("push right", "force to the right"),
        Primitive("brake", "force against the speed"),
    ),
    controls=1,
    max_episode_steps=17,
    solvable=True,
)


class Point(ControlEnv):
    """Reward −|place|; ends by falling off at |place| > 3, else by its time limit."""

    control_spec = SPEC
    observation_space = gym.spaces.Box(-10, 10, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    #: Makes the simulator break at this step of an instance's episode.
    breaks_at = None
    #: Makes the next episode begin with a number that is none.
    begins_broken = False

    def __init__(self, first=0, nominal=False):
        self.first = first
        self.offers = nominal

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if options and "instance" in options:
            self.instance = options["instance"]
        else:
            self.instance = self.first + int(self.np_random.integers(100))
        self.place = (self.instance % 100 - 50) / 25
        self.speed = 0.0
        self.steps = 0
        if self.begins_broken:
            self.place, self.begins_broken = np.nan, False
        return self._observation(), self._info()

    def step(self, control):
        self.steps += 1
        self.speed = 0.8 * self.speed + 0.4 * float(control[0])
        self.place += self.speed
        reward = -abs(self.place)
        if self.breaks_at == self.steps:
            self.place = np.nan
        fallen = bool(abs(self.place) > 3)
        ended = not fallen and self.steps >= SPEC.max_episode_steps
        return self._observation(), reward, fallen, ended, self._info()

    def nominal(self, primitive, observation):
        if not self.offers or primitive == 2:
            return None
        return np.array([-1.0 if primitive == 0 else 1.0])

    def _observation(self):
        return np.array([self.place, self.speed])

    def _info(self):
        solved = abs(self.place) < 0.2
        return {"goal": SPEC.goal, "instance": self.instance, "success": solved}


class Describer:
    """Where the point is, in words."""

    sha256 = "point"

    def text(self, observation):
        side = "left" if observation[0] < 0 else "right"
        return f"The point is {abs(observation[0]):.1f} m to the {side}."


def make_point(env_id, *, split="train", options=None):
    options = dict(options or {})
    return Point(first=0 if split == "train" else 1000, nominal=options.get("nominal", False))


def install(patch):
    """Put the point, its words and a scripted prior where a run looks for them."""
    worlds.install(patch)
    patch(assembly, "make_control_env", make_point)
    patch(online, "make_control_env", make_point)
    patch(online, "_describer", lambda config, workspace: (Describer(), []))


def config(**flags):
    small = {
        "env": "test/point", "agent": "hybrid-sac", "steps": 120, "eval_interval": 50,
        "eval_episodes": 3, "final_eval_episodes": 4, "eval_lanes": 2, "checkpoint_interval": 20,
        "log_interval": 10, "sac.learning_starts": 20, "sac.batch_size": 16, "sac.hidden": 16,
        "sac.symbol_steps": 3, "sac.replay_capacity": 80, "cache.encoder": "hash",
    }  # fmt: skip
    return training_config(flags={**small, **flags})


def run(root, name, *, resume=False, on_step=None, stop=lambda: False, **flags):
    hooks = Hooks(on_step=on_step or (lambda parts, progress: None), stop_requested=stop)
    return start_run(
        config(**flags), Workspace(Path(root)), name, resume=resume, overwrite=False,
        hooks=hooks, notify=lambda message: None,
    )  # fmt: skip


def resume(root, name, notify, *, stop=lambda: False):
    """Go on with an unfinished run under its own settings; it may be stopped again."""
    with contextlib.suppress(Interrupted):
        resume_run(Workspace(Path(root)), name, Hooks(stop_requested=stop), notify)


def several(agent, cache, envs):
    """Flags of a run in that many environments."""
    return {"sac.envs": envs, **({} if agent == "sac" else {"cache.mode": cache})}


def main(root, name, agent, cache, envs, die_at):
    """Train; be killed by SIGKILL once `die_at` steps are taken."""

    def die(parts, progress):
        if progress.step >= die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    run(root, name, resume=True, on_step=die, agent=agent, **several(agent, cache, envs))
