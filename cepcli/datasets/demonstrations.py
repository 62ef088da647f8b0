"""Expert demonstrations: episodes of an environment's own expert, kept as labelled decisions.

Now and then a random action is played instead of the expert's, so that states off the expert's
path are labelled too; the label is always what the expert would do. Only solved episodes are kept.

Episodes are written down as they end, with where the random streams then stand: a recording that
was interrupted, or killed, goes on and comes to what one that never stopped would.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cepcli.config import read_toml, require, to_dict, write_toml
from cepcli.envs.base import Split, SymbolicEnv, text_state
from cepcli.envs.catalog import full_options, make_env, spec
from cepcli.errors import ArtifactError, EnvError
from cepcli.prior.tuning.decisions import (
    ExpertDecision,
    from_line,
    read_decisions,
    to_line,
    write_decisions,
)
from cepcli.seeding import generator, stream_seed
from cepcli.whole_files import discard
from cepcli.workspace.artifacts import Artifact, Workspace, read_json, write_json, writing

TRAIN_FILE = "train.jsonl"
HELDOUT_FILE = "heldout.jsonl"
#: Seconds after which episodes that have ended are written down.
_KEEP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class DemosConfig:
    """Which demonstrations to record."""

    env: str = field(metadata={"help": "environment id"})
    episodes: int = field(default=50, metadata={"help": "solved training episodes, >= 1"})
    heldout_episodes: int = field(default=40, metadata={"help": "solved held-out episodes, >= 1"})
    noise: float = field(
        default=0.2, metadata={"help": "probability of playing a random action, 0 to 1"}
    )
    max_failures: int = field(
        default=50, metadata={"help": "unsolved episodes per solved one after which to give up"}
    )
    env_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "options of the environment family"}
    )
    seed: int = field(default=0, metadata={"help": "of instances and random actions"})

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("episodes", "heldout_episodes", "max_failures"):
            value = getattr(self, name)
            require(value >= 1, f"`{name}` is {value}, expected at least 1.")
        require(0 <= self.noise <= 1, f"`noise` is {self.noise}, expected a number from 0 to 1.")


@dataclass(slots=True)
class Recording:
    """Labelled decisions of so many solved episodes, and how many episodes were not solved."""

    decisions: list[ExpertDecision]
    solved: int = 0
    failures: int = 0


def default_demos_name(env_id: str) -> str:
    """The artifact that holds an environment's demonstrations unless it is named otherwise."""
    return env_id.replace("/", "-")


def record_demos(
    config: DemosConfig,
    workspace: Workspace,
    name: str,
    *,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Artifact:
    """Record training and held-out demonstrations as an artifact of kind "demos".

    It goes on where a recording of the same settings stopped.

    Args:
        config: what to record.
        workspace: where the artifact goes.
        name: its name.
        overwrite: replace one that has the name.
        progress: told (split, solved episodes, episodes wanted).
        notify: told in one line about anything else that takes seconds.

    Raises:
        ArtifactError: if the name is taken.
        EnvError: if the expert hardly ever solves the task.
    """
    config = replace(config, env_options=full_options(config.env, config.env_options))
    with workspace.lock("demos", name):
        folder = _begun(config, workspace, name, overwrite=overwrite, notify=notify)
        counts = {}
        splits: list[tuple[Split, str, int]] = [
            ("train", TRAIN_FILE, config.episodes),
            ("heldout", HELDOUT_FILE, config.heldout_episodes),
        ]
        for split, file, episodes in splits:
            env = make_env(
                config.env,
                split=split,
                workspace=workspace.root,
                options=config.env_options,
                progress=notify,
            )
            recording = record_episodes(
                env, episodes, config, split, progress, kept=folder / f"kept-{split}.json"
            )
            env.close()
            with writing(workspace.root):
                write_decisions(folder / file, recording.decisions)
            counts[split] = _summary(recording, episodes)
        with writing(workspace.root):
            write_json(folder / "summary.json", counts)
            for kept in folder.glob("kept-*.json"):
                discard(kept)
        return workspace.finish("demos", name, seed=config.seed)


def _begun(
    config: DemosConfig,
    workspace: Workspace,
    name: str,
    *,
    overwrite: bool,
    notify: Callable[[str], None] | None,
) -> Path:
    """The directory of an unfinished recording: that of the same settings, or a new one."""
    workspace.check_new("demos", name, overwrite=overwrite)
    partial = workspace.partial("demos", name)
    file = partial / "config.toml"
    if file.is_file() and read_toml(file) == to_dict(config):
        if notify:
            notify(f"Going on with the unfinished demonstrations {name}")
        return partial
    return workspace.begin(
        "demos", name, overwrite=overwrite,
        fill=lambda new: write_toml(new / "config.toml", config),
    )  # fmt: skip


def record_episodes(
    env: SymbolicEnv,
    episodes: int,
    config: DemosConfig,
    split: Split,
    progress: Callable[[str, int, int], None] | None = None,
    kept: Path | None = None,
) -> Recording:
    """Play the expert, with noise, until `episodes` episodes are solved.

    Args:
        env: where.
        episodes: how many are wanted.
        config: with which noise and seed.
        split: which of the instances `env` has.
        progress: told (split, solved episodes, episodes wanted).
        kept: a file of what was recorded before, if there is one; episodes are written there.

    Raises:
        EnvError: if the expert hardly ever solves the task.
    """
    random = generator(config.seed, f"demos/{split}")
    env.reset(seed=stream_seed(config.seed, f"demos/{split}/env") % 2**31)
    notes = _Notes(kept, env, random)
    made = notes.read()
    try:
        while made.solved < episodes:
            episode = _play(env, made.solved, config.noise, random)
            made.decisions += episode
            made.solved += bool(episode)
            made.failures += not episode
            notes.take(made)
            if made.failures > config.max_failures * max(1, made.solved):
                played = made.solved + made.failures
                raise EnvError(
                    f"The expert of `{env.env_id}` solved {made.solved} of {played} episodes.",
                    f"Less noise may help: --set noise={config.noise / 2:g}",
                )
            if progress:
                progress(split, made.solved, episodes)
    finally:
        notes.write()
    return made


class _Notes:
    """What is on disk of a recording: whole episodes, and the random streams after the last.

    Args:
        file: where it is; None for nowhere.
        env: whose instances are drawn at random.
        random: of the actions.
    """

    def __init__(self, file: Path | None, env: SymbolicEnv, random: np.random.Generator) -> None:
        self._file, self._env, self._random = file, env, random
        self._taken: dict[str, Any] | None = None
        self._written = time.monotonic()

    def read(self) -> Recording:
        """The recording so far; the streams are put where it ended."""
        if self._file is None or not self._file.is_file():
            return Recording([])
        found = read_json(self._file)
        self._env.np_random.bit_generator.state = found["instances"]
        self._random.bit_generator.state = found["actions"]
        decisions = [from_line(line, str(self._file)) for line in found["decisions"]]
        return Recording(decisions, found["solved"], found["failures"])

    def take(self, made: Recording) -> None:
        """Take note of an episode that has ended."""
        if self._file is None:
            return
        self._taken = {
            "solved": made.solved,
            "failures": made.failures,
            "instances": self._env.np_random.bit_generator.state,
            "actions": self._random.bit_generator.state,
            "decisions": list(made.decisions),
        }
        if time.monotonic() - self._written >= _KEEP_SECONDS:
            self.write()

    def write(self) -> None:
        """Write down what is not yet."""
        if self._file is None or self._taken is None:
            return
        lines = [to_line(decision) for decision in self._taken["decisions"]]
        with writing(self._file.parent):
            write_json(self._file, {**self._taken, "decisions": lines})
        self._taken, self._written = None, time.monotonic()


def are_of_env(demos: Artifact, env_id: str) -> bool:
    """Whether demonstrations are of the environment `env_id`, by whichever of its names."""
    return _canonical(_recorded_env(demos)) == _canonical(env_id)


def open_demos(workspace: Workspace, name: str, env_id: str) -> Artifact:
    """The demonstrations `name`, which must be of `env_id`.

    Raises:
        ArtifactError: if there are none, or they are of another environment.
    """
    demos = workspace.open("demos", name)
    if not are_of_env(demos, env_id):
        raise ArtifactError(
            f"The demos `{name}` are of `{_recorded_env(demos)}`, expected `{env_id}`.",
            f"Record some: cep prior demos --env {env_id}",
        )
    return demos


def demos_decisions(artifact: Artifact, split: Split) -> list[ExpertDecision]:
    """The decisions of one split of a "demos" artifact."""
    return read_decisions(artifact.path / (TRAIN_FILE if split == "train" else HELDOUT_FILE))


def _recorded_env(demos: Artifact) -> str:
    return str(read_toml(demos.path / "config.toml").get("env", ""))


def _canonical(env_id: str) -> str:
    """The catalog's name of an environment; an unknown one keeps its own."""
    try:
        return spec(env_id).id
    except EnvError:
        return env_id


def _play(
    env: SymbolicEnv, number: int, noise: float, random: np.random.Generator
) -> list[ExpertDecision]:
    """One episode's decisions with the expert's labels; empty when it was not solved."""
    _, info = env.reset()
    steps = []
    total = 0.0
    terminated = truncated = False
    while not (terminated or truncated):
        label = env.expert_action()
        state = text_state(info)
        played = str(random.choice(state.actions)) if random.random() < noise else label
        _, reward, terminated, truncated, info = env.step(played)
        steps.append((state, label, played, float(reward)))
        total += float(reward)
    if not info["success"]:
        return []
    return [
        ExpertDecision(number, int(info["instance"]), step, state, label, total, played, reward)
        for step, (state, label, played, reward) in enumerate(steps)
    ]


def _summary(recording: Recording, episodes: int) -> dict[str, int]:
    return {
        "episodes": episodes,
        "decisions": len(recording.decisions),
        "unsolved_episodes_dropped": recording.failures,
    }
