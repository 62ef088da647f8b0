"""Small datasets of the point and of the corridor, and offline runs on them."""

import os
import signal
from pathlib import Path

import numpy as np

from cepcli.agents.offline_config import PRESETS, OfflineConfig
from cepcli.config import resolve
from cepcli.datasets.dataset import ControlData, PriorLabels, TextData
from cepcli.envs import catalog
from cepcli.prior.load import PriorSource
from cepcli.runs import assembly, offline
from cepcli.runs.engine import Hooks, start_run
from cepcli.workspace.artifacts import Workspace
from tests.agents import control_worlds, worlds

POINT, CORRIDOR = "test/point", "test/corridor"


def point_data(episodes=30, seed=0):
    """The point pushed at random, mostly towards the middle; with labels."""
    rng = np.random.default_rng(seed)
    env, rows = control_worlds.Point(), []
    for _ in range(episodes):
        observation, _ = env.reset(seed=int(rng.integers(1000)))
        ended = False
        while not ended:
            control = np.clip(-observation[:1] + rng.normal(0.0, 0.5, 1), -1.0, 1.0)
            following, reward, terminated, truncated, _ = env.step(control)
            rows.append((observation, control, reward, following, terminated, truncated))
            observation, ended = following, terminated or truncated
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    observations, controls, rewards, following, terminated, truncated = columns
    symbols = control_worlds.SPEC.actions
    log_prior = np.log(rng.dirichlet(np.ones(len(symbols)), 2 * len(rows))).astype(np.float32)
    state = np.arange(len(rows), dtype=np.int32)
    labels = PriorLabels(
        prior="fake",
        fingerprint="1",
        symbols=symbols,
        log_prior=log_prior,
        state=state,
        next_state=(state + len(rows)).astype(np.int32),
    )
    return ControlData(
        env=POINT,
        source="a point, pushed at random",
        observations=observations.astype(np.float32),
        controls=controls.astype(np.float32),
        rewards=rewards.astype(np.float32),
        next_observations=following.astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        labels=labels,
    )


def corridor_data(episodes=30, seed=0):
    """The corridor walked at random, with uniform labels."""
    rng = np.random.default_rng(seed)
    env, strings, rows = worlds.Corridor(), ["walk to the end", "go left", "go right"], []
    strings += [f"You stand on tile {place}." for place in range(worlds.LENGTH)]
    for _ in range(episodes):
        text, info = env.reset(seed=int(rng.integers(1000)))
        ended = False
        while not ended:
            column = int(rng.integers(2))
            following, reward, terminated, truncated, info = env.step(info["actions"][column])
            rows.append((strings.index(text), column, reward, terminated, truncated))
            text, ended = following, terminated or truncated
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    text, column, rewards, terminated, truncated = columns
    return TextData(
        env=CORRIDOR,
        source="a corridor, walked at random",
        strings=strings,
        goal=np.zeros(len(rows), np.int32),
        text=text.astype(np.int32),
        actions=np.tile(np.array([1, 2], np.int32), (len(rows), 1)),
        chosen=column.astype(np.int64),
        rewards=rewards.astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        success=terminated.copy(),
        log_prior=np.full((len(rows), 2), -np.log(2.0), np.float32),
        prior="fake",
        fingerprint="1",
    )


def load(name, *, env=None, split=None, workspace=None, notify=None, labels=None):
    """As `load_dataset`, for the names "point" and "corridor"."""
    return {"point": point_data, "corridor": corridor_data}[name]()


def _spec(env):
    if env == POINT:
        return catalog.EnvSpec(
            POINT, "babyai", "a point", control_worlds.make_point, dict, control=control_worlds.SPEC
        )
    return catalog.EnvSpec(CORRIDOR, "babyai", "a corridor", worlds.make_corridor, dict)


def install(patch):
    """Put datasets, worlds, encoder and prior where a run looks; `patch` is a `setattr`."""
    patch(offline, "load_dataset", load)
    patch(offline, "spec", _spec)
    patch(assembly, "make_control_env", control_worlds.make_point)
    patch(assembly, "make_env", worlds.make_corridor)
    patch(assembly, "load_prior", worlds.load_fake_prior)
    patch(assembly, "find_prior", lambda name, workspace: PriorSource(None, None, {}))
    patch(offline, "prior_inputs", lambda name, workspace: [])
    patch(assembly, "MiniLM", lambda device: worlds.HashEncoder())


def config(**flags):
    small = {
        "dataset": "point", "steps": 60, "eval_interval": 25, "eval_episodes": 2,
        "final_eval_episodes": 3, "checkpoint_interval": 10, "log_interval": 10,
        "control.hidden": 16, "control.batch_size": 16, "cql.samples": 3, "text.hidden": 16,
        "text.batch_size": 16, "text.members": 2, "text.target_interval": 10,
    }  # fmt: skip
    if flags.get("algorithm") == "cql-prior":
        flags.setdefault("prior", "fake")
    return resolve(OfflineConfig, flags={**small, **flags}, presets=PRESETS, preset_key="algorithm")


def run(root, name, *, resume=False, on_step=None, stop=lambda: False, **flags):
    hooks = Hooks(on_step=on_step or (lambda parts, progress: None), stop_requested=stop)
    return start_run(
        config(**flags), Workspace(Path(root)), name, resume=resume, overwrite=False,
        hooks=hooks, notify=lambda message: None,
    )  # fmt: skip


def run_and_die(root, name, algorithm, dataset, die_at):
    """Train; be killed by SIGKILL once `die_at` steps are taken."""

    def die(parts, progress):
        if progress.step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    run(root, name, resume=True, on_step=die, algorithm=algorithm, dataset=dataset)
