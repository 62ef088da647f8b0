"""Collecting a dataset: a behaviour plays episodes, which are written as they end.

Every episode has a seed of its own. So a collection that was interrupted, or killed, goes on with
the episode after the last one on disk, and comes to the data of one that never stopped.

    cep offline collect --env walker2d --recipe random --transitions 20000
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cepcli.config import (
    AT_LEAST_ONE,
    SHARE,
    Settings,
    check_bounds,
    read_toml,
    require,
    setting,
    to_dict,
    write_toml,
)
from cepcli.datasets.behaviour import Behaviour, Episodes, play
from cepcli.datasets.columns import COLUMNS
from cepcli.datasets.d4rl import write_d4rl
from cepcli.datasets.dataset import REFERENCE_RETURNS, ControlData, Notify, quality_of
from cepcli.datasets.minari_data import write_minari
from cepcli.datasets.stored import (
    CARD,
    D4RL_FILE,
    MINARI_FOLDER,
    TEXT_FILE,
    read_rows,
    read_text,
    write_rows,
)
from cepcli.envs.catalog import make_control_env, make_env, spec
from cepcli.errors import ArtifactError, DataError
from cepcli.extras import require_minari
from cepcli.registry import suggest
from cepcli.seeding import stream_seed
from cepcli.whole_files import discard, whole_file
from cepcli.workspace.artifacts import Artifact, Input, Workspace, write_json, writing

RECIPES = ("random", "medium", "medium-replay", "expert", "medium-expert", "noisy-expert")
LAYOUTS = ("d4rl", "minari")
#: Steps of a collection for which no number was given.
DEFAULT_TRANSITIONS = 10_000
#: Where the episodes of an unfinished dataset are.
_EPISODES = "kept"
#: Seconds after which episodes that have ended are written.
_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class CollectConfig(Settings):
    """What to collect."""

    env: str = field(metadata={"help": "environment id"})
    recipe: str = setting("random", "whose behaviour: " + ", ".join(RECIPES))
    transitions: int | None = setting(
        None, "steps; by default 10,000, of a replay all that it holds", AT_LEAST_ONE
    )
    run: str | None = setting(None, "the trained run that acts, or whose replay it is")
    expert_run: str | None = setting(None, "the run that is the expert of medium-expert")
    noise: float = setting(0.2, "share of random actions of noisy-expert", SHARE)
    layouts: tuple[str, ...] = setting(("d4rl",), "of control: d4rl, minari or both")
    env_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "options of the environment family"}
    )
    seed: int = setting(0, "of instances and random actions")

    def __post_init__(self) -> None:
        """Check values and what goes together."""
        check_bounds(self)
        if self.recipe not in RECIPES:
            raise DataError(f"There is no recipe `{self.recipe}`.", suggest(self.recipe, RECIPES))
        require(
            bool(self.layouts) and set(self.layouts) <= set(LAYOUTS),
            f"`layouts` is {', '.join(self.layouts)!r}, expected d4rl, minari or both.",
        )
        require(
            self.run is None or self.recipe not in ("random", "noisy-expert"),
            f"`run` is {self.run!r}, but the recipe {self.recipe} uses no run.",
        )
        require(
            self.expert_run is None or self.recipe == "medium-expert",
            f"`expert_run` is {self.expert_run!r}, but only the recipe medium-expert uses it.",
        )


class Stage(NamedTuple):
    """A behaviour and the number of steps for which it plays."""

    behaviour: Behaviour
    steps: int


class CollectPlan(NamedTuple):
    """How a dataset is collected.

    Attributes:
        stages: who plays, one after the other; none where all is there already.
        about: who acted, in words.
        replay: what is there already.
        inputs: the runs that it is made of.
    """

    config: CollectConfig
    stages: Sequence[Stage]
    about: str
    replay: ControlData | None = None
    inputs: Sequence[Input] = ()


#: Told how many steps there are by now, and what their mean return is.
Advance = Callable[[int, str], None]


def default_dataset_name(config: CollectConfig) -> str:
    """The artifact that holds a dataset unless it is named otherwise: ENV-RECIPE."""
    return f"{config.env.replace('/', '-')}-{config.recipe}"


def collect(
    plan: CollectPlan,
    workspace: Workspace,
    name: str,
    *,
    overwrite: bool = False,
    advance: Advance = lambda done, remark: None,
    notify: Notify = lambda text: None,
) -> Artifact:
    """Collect a dataset as an artifact, going on with an unfinished one of the same settings.

    Raises:
        ArtifactError: if the name is taken, or by an unfinished dataset of other settings.
    """
    config, text = plan.config, spec(plan.config.env).kind == "text"
    if not text and "minari" in config.layouts:
        require_minari("The layout minari")
    with workspace.lock("dataset", name):
        folder = _begun(config, workspace, name, overwrite=overwrite, notify=notify)
        with writing(workspace.root):
            columns = _played(plan, folder / _EPISODES, workspace, text, advance, notify)
            notify("Writing the dataset")
            for left_by_a_kill in (D4RL_FILE, MINARI_FOLDER, TEXT_FILE):
                discard(folder / left_by_a_kill)
            write_json(folder / CARD, _write(plan, columns, folder, text))
            discard(folder / _EPISODES)
        return workspace.finish("dataset", name, seed=config.seed, inputs=plan.inputs)


def _begun(
    config: CollectConfig, workspace: Workspace, name: str, *, overwrite: bool, notify: Notify
) -> Path:
    """The directory of an unfinished dataset: the one that was begun, or a new one."""
    partial = workspace.partial("dataset", name)
    if overwrite or not partial.is_dir():
        return workspace.begin(
            "dataset", name, overwrite=overwrite,
            fill=lambda new: write_toml(new / "config.toml", config),
        )  # fmt: skip
    before, now = read_toml(partial / "config.toml"), to_dict(config)
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if changed:
        old, new = before.get(changed[0]), now.get(changed[0])
        raise ArtifactError(
            f"The unfinished dataset `{name}` was begun with {changed[0]} = {old!r}, not {new!r}.",
            "Continue it with the same settings, add --overwrite, or choose another --name.",
        )
    workspace.check_new("dataset", name, overwrite=False)
    notify(f"Going on with the unfinished dataset {name}")
    return partial


def _played(
    plan: CollectPlan,
    folder: Path,
    workspace: Workspace,
    text: bool,
    advance: Advance,
    notify: Notify,
) -> Episodes:
    """All episodes of all stages, or what is there already."""
    config = plan.config
    if plan.replay is not None:
        return {name: getattr(plan.replay, name) for name in COLUMNS}
    if text:
        env = make_env(
            config.env, split="train", workspace=workspace.root, options=config.env_options,
            progress=notify,
        )  # fmt: skip
    else:
        env = make_control_env(config.env, options=config.env_options)
    found: list[Episodes] = []
    before = 0
    for number, stage in enumerate(plan.stages):
        files = _EpisodeFiles(folder, number, text=text)
        try:
            while files.steps < stage.steps:
                seed = stream_seed(config.seed, f"collect/{number}/{files.episodes}")
                files.add(play(env, stage.behaviour, seed, stage.steps - files.steps))
                mean = files.total_return / files.episodes
                advance(before + files.steps, f"{files.episodes} episodes, mean return {mean:.4g}")
        finally:
            files.flush()
        found += files.read_all()
        before += stage.steps
    env.close()
    return _joined(found)


class _EpisodeFiles:
    """The episodes of one stage of a collection so far.

    They are in files that are complete or absent: whatever kills a collection, all but its last
    seconds is there.
    """

    def __init__(self, folder: Path, stage: int, *, text: bool) -> None:
        self._folder, self._stage, self._text = folder, stage, text
        self._suffix = ".parquet" if text else ".npz"
        self._pending: list[Episodes] = []
        self._written = time.monotonic()
        self.steps = self.episodes = 0
        self.total_return = 0.0
        folder.mkdir(exist_ok=True)
        self._files = sorted(folder.glob(f"{stage}-*{self._suffix}"))
        for episodes in self.read_all():
            self._count(episodes)

    def add(self, episode: Episodes) -> None:
        """Take an episode that has ended."""
        self._pending.append(episode)
        self._count(episode)
        if time.monotonic() - self._written >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet."""
        if self._pending:
            path = self._folder / f"{self._stage}-{len(self._files):06d}{self._suffix}"
            episodes = _joined(self._pending)
            with whole_file(path) as new:
                if self._text:
                    write_rows(new, episodes)
                else:
                    with new.open("wb") as file:
                        np.savez(file, allow_pickle=False, **episodes)
            self._files.append(path)
            self._pending = []
        self._written = time.monotonic()

    def read_all(self) -> list[Episodes]:
        """What is on disk, file by file."""
        return [read_rows(file) if self._text else _read_arrays(file) for file in self._files]

    def _count(self, found: Episodes) -> None:
        rewards = found["reward" if self._text else "rewards"]
        self.steps += len(rewards)
        self.episodes += int(np.sum(np.logical_or(found["terminated"], found["truncated"])))
        self.total_return += float(np.sum(rewards, dtype=np.float64))


def _read_arrays(path: Path) -> Episodes:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def _joined(episodes: list[Episodes]) -> Episodes:
    """Several episodes as one table."""
    columns: Episodes = {}
    for name, first in episodes[0].items():
        each = [episode[name] for episode in episodes]
        if isinstance(first, np.ndarray):
            columns[name] = np.concatenate(each)
        else:
            columns[name] = [value for values in each for value in values]
    return columns


def _write(plan: CollectPlan, columns: Episodes, folder: Path, text: bool) -> dict[str, Any]:
    """Write the dataset in its layouts; what there is to say about it."""
    config, known = plan.config, spec(plan.config.env)
    success = columns.pop("success", None) if not text else None
    if text:
        ends = np.logical_or(columns["terminated"], columns["truncated"])
        columns["episode"] = np.concatenate([[0], np.cumsum(ends)[:-1]]).tolist()
        write_rows(folder / TEXT_FILE, columns)
        data = read_text(folder / TEXT_FILE, env=config.env, source="")
    else:
        data = ControlData(known.id, "", **columns)
    measured = quality_of(data)
    if success is not None and known.control is not None and known.control.solvable:
        measured["success_rate"] = float(np.mean([success[e].any() for e in data.episodes()]))
    source = (
        f"{config.env} {config.recipe}, collected by cep: {measured['transitions']} transitions "
        f"of {plan.about} ({_how_good(measured)})"
    )
    card = {
        "env": known.id,
        "kind": "text" if text else "control",
        "source": source,
        "recipe": config.recipe,
        "behaviour": plan.about,
        "layouts": [] if text else list(config.layouts),
        **measured,
    }
    if isinstance(data, ControlData):
        low_high = REFERENCE_RETURNS.get(known.id)
        card["reference_returns"] = None if low_high is None else list(low_high)
        if "d4rl" in config.layouts:
            write_d4rl(folder / D4RL_FILE, data)
        if "minari" in config.layouts:
            path = folder / MINARI_FOLDER
            card["minari_id"] = write_minari(path, data, recipe=config.recipe, about=source)
    return card


def _how_good(measured: dict[str, Any]) -> str:
    if measured["success_rate"] is not None:
        return f"{measured['success_rate']:.0%} success"
    good = f"mean return {measured['return_mean']:.4g}"
    if measured["normalised_score"] is not None:
        good += f", normalised {measured['normalised_score']:.1f}"
    return good
