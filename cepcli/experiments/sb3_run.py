"""Stable-Baselines3's soft actor-critic as a run of the workspace, to compare with ours.

It learns with its own defaults, in our environments (whose observations and rewards are the
simulators'), and is evaluated when and where ours is: the same held-out instances, the mean
control. What it leaves is read by `cep runs list|show|compare` like any other run.

Its checkpoints hold model and replay memory, not the simulator: a resumed run begins an episode, so
it goes on, but not exactly.

Example: cep bench sb3 --env halfcheetah --steps 100000 --name halfcheetah-sb3
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cepcli.agents.config import TrainConfig
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.envs.catalog import make_control_env
from cepcli.envs.control import ControlEnv
from cepcli.errors import ArtifactError, ConfigError
from cepcli.report.plots import plot_run
from cepcli.seeding import stream_seed
from cepcli.whole_files import discard, replace
from cepcli.workspace.artifacts import Workspace, read_json, versions, write_json, writing
from cepcli.workspace.checkpoint_files import checkpoints
from cepcli.workspace.metrics import MetricWriter
from cepcli.workspace.run_directory import check_new_run

AGENT = "sac of stable-baselines3"
_SETTINGS = "settings.json"
#: The settings of `cep train` that count here; of all others it has its own.
COUNTING = (
    "env", "env_options", "seed", "steps", "eval_interval", "eval_episodes", "final_eval_episodes",
    "threads",
)  # fmt: skip

Notify = Callable[[str], None]


def train_sb3(
    config: TrainConfig, workspace: Workspace, name: str, *, resume: bool, overwrite: bool,
    notify: Notify,
) -> dict[str, Any]:  # fmt: skip
    """Train to the end and return the summary, as of any run.

    Args:
        config: of the same run under our `sac`; its environment, seed, steps and evaluations count.
        workspace: where the run is kept.
        name: the run's.
        resume: go on from the last checkpoint.
        overwrite: replace a run of that name.
        notify: told of every evaluation.

    Raises:
        ArtifactError: if the name is taken, or was begun with other settings.
        ConfigError: if Stable-Baselines3 is not installed.
    """
    settings = {key: getattr(config, key) for key in COUNTING}
    with workspace.lock("run", name):
        if resume and workspace.exists("run", name):
            _check_same(workspace.open("run", name).path, settings)
            notify(f"The run `{name}` has already finished")
            return read_json(workspace.open("run", name).path / "summary.json")
        run = workspace.partial("run", name)
        begun = resume and (run / _SETTINGS).is_file()
        if not begun:
            check_new_run(workspace, name, overwrite=overwrite)
        reference = _Reference(config, run, name, notify)
        if not begun:
            workspace.begin(
                "run", name, overwrite=overwrite,
                fill=lambda path: write_json(path / _SETTINGS, settings),
            )  # fmt: skip
        _check_same(run, settings)
        summary = reference.train()
        with writing(run):
            write_json(run / "summary.json", summary)
            plot_run(run)
        workspace.finish("run", name, seed=config.seed)
    return summary


def _check_same(run: Path, settings: dict[str, Any]) -> None:
    """Refuse to go on with a run, or to take it for this one, that was begun with others."""
    begun = read_json(run / _SETTINGS) if (run / _SETTINGS).is_file() else "another agent"
    if begun != settings:
        raise ArtifactError(
            f"The run in `{run}` was begun with {begun}, not {settings}.",
            "Choose another --name, or --overwrite it.",
        )


class _Reference:
    """A run in progress."""

    def __init__(self, config: TrainConfig, run: Path, name: str, notify: Notify) -> None:
        try:
            from stable_baselines3 import SAC
        except ImportError as error:
            raise ConfigError(
                "Stable-Baselines3 is not installed.", "Install it: pip install 'cepcli[bench]'"
            ) from error
        self._sac = SAC
        self._config, self._run, self._name, self._notify = config, run, name, notify
        self._heldout = make_control_env(config.env, split="heldout", options=config.env_options)
        self._evaluations: list[dict[str, Any]] = []
        self._seconds = 0.0

    def train(self) -> dict[str, Any]:
        """Learn, evaluate and keep checkpoints; returns the summary."""
        import torch

        torch.set_num_threads(self._config.threads)
        model, offset = self._begun()
        self._began = time.perf_counter() - self._seconds
        self._writer = MetricWriter(self._run, offset=offset, step=model.num_timesteps)
        try:
            if not self._evaluations:
                self._evaluate(model)
            left = self._config.steps - model.num_timesteps
            if left > 0:
                model.learn(left, callback=self._after_step, reset_num_timesteps=False)
        finally:
            self._writer.close()
        return self._summary()

    def _begun(self) -> tuple[Any, int]:
        """The model, new or from the last checkpoint, and how far its metrics go."""
        config = self._config
        env = make_control_env(config.env, options=config.env_options)
        found = checkpoints(self._run)
        if not found:
            size = min(1_000_000, config.steps)  # its default, as far as it will be filled
            return self._sac("MlpPolicy", env, seed=config.seed, device="cpu", buffer_size=size), 0
        model = self._sac.load(found[-1] / "model.zip", env=env, device="cpu")
        model.load_replay_buffer(found[-1] / "replay.pkl")
        progress = read_json(found[-1] / "progress.json")
        self._evaluations, self._seconds = progress["evaluations"], progress["seconds"]
        return model, progress["metrics_offset"]

    def _after_step(self, given: dict[str, Any], _: dict[str, Any]) -> bool:
        model = given["self"]
        step = model.num_timesteps
        if step % self._config.eval_interval == 0 or step == self._config.steps:
            self._evaluate(model)
            self._save(model)
        return True

    def _evaluate(self, model: Any) -> None:
        config, step = self._config, model.num_timesteps
        episodes = config.final_eval_episodes if step == config.steps else config.eval_episodes
        played = [_play(model, self._heldout, config.seed, i) for i in range(episodes)]
        returns, successes, lengths = zip(*played, strict=True)
        solvable = self._heldout.control_spec.solvable
        found: dict[str, Any] = {
            "episodes": episodes,
            "success_rate": sum(successes) / episodes if solvable else None,
            "return_mean": sum(returns) / episodes,
            "length_mean": sum(lengths) / episodes,
            "queries": 0,
        }
        self._evaluations.append({"step": step, **found})
        told = {f"eval/{key}": value for key, value in found.items() if value is not None}
        self._writer.write(step, told)
        self._notify(f"step {step}: return {found['return_mean']:.2f} over {episodes} episodes")

    def _save(self, model: Any) -> None:
        final = self._run / f"checkpoint-{model.num_timesteps:08d}"
        partial = final.with_name(final.name + ".partial")
        with writing(self._run):
            discard(partial)
            partial.mkdir()
            model.save(partial / "model.zip")
            model.save_replay_buffer(partial / "replay.pkl")
            progress = {
                "evaluations": self._evaluations,
                "seconds": time.perf_counter() - self._began,
                "metrics_offset": self._writer.sync(),
            }
            write_json(partial / "progress.json", progress)
            replace(partial, final)
            for old in checkpoints(self._run):
                if old != final:
                    discard(old)

    def _summary(self) -> dict[str, Any]:
        config, evaluations = self._config, self._evaluations
        last = {key: value for key, value in evaluations[-1].items() if key != "step"}
        return {
            "run": self._name, "env": config.env, "agent": AGENT, "prior": "uniform",
            "cache": "off", "seed": config.seed, "steps": config.steps, "decisions": 0,
            "warm_entries": 0, **CacheTelemetry(config.cache.hit_rate_decay).summary(),
            "certificate": None, "control_seconds": 0.0,
            "wall_seconds": time.perf_counter() - self._began,
            "eval": {
                **last,
                "curve": [[e["step"], e["success_rate"]] for e in evaluations],
                "return_curve": [[e["step"], e["return_mean"]] for e in evaluations],
            },
            "device": "cpu", "versions": versions(),
        }  # fmt: skip


def _play(model: Any, env: ControlEnv, seed: int, episode: int) -> tuple[float, bool, int]:
    """Return, success and length of one of the episodes that `cep eval` plays."""
    observation, info = env.reset(seed=stream_seed(seed, f"eval/{episode}") % 2**31)
    total, steps, solved, ended = 0.0, 0, bool(info["success"]), False
    while not ended:
        control, _ = model.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, info = env.step(control)
        total, steps, solved = total + float(reward), steps + 1, solved or bool(info["success"])
        ended = terminated or truncated
    return total, solved, steps
