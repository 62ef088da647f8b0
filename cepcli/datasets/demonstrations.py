"""Expert demonstrations: episodes of an environment's own expert, stored as labelled decisions.

Now and then a random action is played instead of the expert's, so that states off the expert's
path are labelled too; the label is always what the expert would do. Only solved episodes are kept.

Episodes are written down as they end, with where the random streams then stand: a recording that
was interrupted, or killed, goes on and comes to what one that never stopped would.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cepcli.config import AT_LEAST_ONE, SHARE, Settings, read_toml, setting, to_dict, write_toml
from cepcli.datasets.columns import canonical
from cepcli.envs.base import Split, SymbolicEnv, text_state
from cepcli.envs.catalog import full_options, make_env
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

_FILES: dict[Split, str] = {"train": "train.jsonl", "heldout": "heldout.jsonl"}
#: Seconds after which episodes that have ended are written down.
_SAVE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class DemosConfig(Settings):
    """Which demonstrations to record."""

    env: str = field(metadata={"help": "environment id"})
    episodes: int = setting(50, "solved training episodes", AT_LEAST_ONE)
    heldout_episodes: int = setting(40, "solved held-out episodes", AT_LEAST_ONE)
    noise: float = setting(0.2, "probability of playing a random action", SHARE)
    max_failures: int = setting(
        50, "unsolved episodes per solved one after which to give up", AT_LEAST_ONE
    )
    env_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "options of the environment family"}
    )
    seed: int = setting(0, "of instances and random actions")


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

    It goes on where a recording of the same settings stopped. `progress` is told (split, solved
    episodes, episodes wanted), `notify` in one line about anything else that takes seconds.

    Raises:
        ArtifactError: if the name is taken and `overwrite` is off.
        EnvError: if the expert hardly ever solves the task.
    """
    config = replace(config, env_options=full_options(config.env, config.env_options))
    with workspace.lock("demos", name):
        folder = _begun(config, workspace, name, overwrite=overwrite, notify=notify)
        counts = {}
        splits: dict[Split, int] = {"train": config.episodes, "heldout": config.heldout_episodes}
        for split, episodes in splits.items():
            env = make_env(
                config.env, split=split, workspace=workspace.root, options=config.env_options,
                progress=notify,
            )  # fmt: skip
            notes = folder / f"kept-{split}.json"
            made = record_episodes(env, episodes, config, split, progress, notes)
            env.close()
            with writing(workspace.root):
                write_decisions(folder / _FILES[split], made.decisions)
            counts[split] = {
                "episodes": episodes,
                "decisions": len(made.decisions),
                "unsolved_episodes_dropped": made.failures,
            }
        with writing(workspace.root):
            write_json(folder / "summary.json", counts)
            for notes in folder.glob("kept-*.json"):
                discard(notes)
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
    notes: Path | None = None,
) -> Recording:
    """Play the expert, with noise, until `episodes` episodes of a split are solved.

    What the file `notes` holds was recorded before; episodes are written to it, with the random
    streams as they are after the last.

    Raises:
        EnvError: if the expert hardly ever solves the task.
    """
    random = generator(config.seed, f"demos/{split}")
    env.reset(seed=stream_seed(config.seed, f"demos/{split}/env") % 2**31)
    made, ended = _read_notes(notes, env, random), None
    written = time.monotonic()
    try:
        while made.solved < episodes:
            episode = _play(env, made.solved, config.noise, random)
            made.decisions += episode
            made.solved += bool(episode)
            made.failures += not episode
            ended = None if notes is None else _stands(made, env, random)
            if time.monotonic() - written >= _SAVE_SECONDS:
                _write_notes(notes, ended, made.decisions)
                written = time.monotonic()
            if made.failures > config.max_failures * max(1, made.solved):
                played = made.solved + made.failures
                raise EnvError(
                    f"The expert of `{env.env_id}` solved {made.solved} of {played} episodes.",
                    f"Less noise may help: --set noise={config.noise / 2:g}",
                )
            if progress:
                progress(split, made.solved, episodes)
    finally:
        _write_notes(notes, ended, made.decisions)
    return made


def _read_notes(notes: Path | None, env: SymbolicEnv, random: np.random.Generator) -> Recording:
    """The recording so far; the random streams are put where it ended."""
    if notes is None or not notes.is_file():
        return Recording([])
    found = read_json(notes)
    env.np_random.bit_generator.state = found["instances"]
    random.bit_generator.state = found["actions"]
    decisions = [from_line(line, str(notes)) for line in found["decisions"]]
    return Recording(decisions, found["solved"], found["failures"])


def _stands(made: Recording, env: SymbolicEnv, random: np.random.Generator) -> dict[str, Any]:
    """Where a recording stands at the end of an episode, its decisions counted."""
    return {
        "solved": made.solved,
        "failures": made.failures,
        "instances": env.np_random.bit_generator.state,
        "actions": random.bit_generator.state,
        "decisions": len(made.decisions),
    }


def _write_notes(
    notes: Path | None, ended: dict[str, Any] | None, decisions: Sequence[ExpertDecision]
) -> None:
    if notes is not None and ended is not None:
        lines = [to_line(decision) for decision in decisions[: ended["decisions"]]]
        with writing(notes.parent):
            write_json(notes, {**ended, "decisions": lines})


def are_of_env(demos: Artifact, env_id: str) -> bool:
    """Whether demonstrations are of the environment `env_id`, by whichever of its names."""
    return canonical(_recorded_env(demos)) == canonical(env_id)


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
    return read_decisions(artifact.path / _FILES[split])


def _recorded_env(demos: Artifact) -> str:
    return str(read_toml(demos.path / "config.toml").get("env", ""))


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
