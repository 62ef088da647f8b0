"""Collecting a dataset: a behaviour plays episodes, which are kept as they end.

Every episode has a seed of its own. So a collection that was interrupted, or killed, goes on with
the episode after the last one that was kept, and comes to the data of one that never stopped.

    cep offline collect --env walker2d --recipe random --transitions 20000
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cepcli.config import read_toml, require, to_dict, write_toml
from cepcli.datasets.behaviour import Behaviour
from cepcli.datasets.d4rl import write_d4rl
from cepcli.datasets.dataset import REFERENCE_RETURNS, ControlData, Notify
from cepcli.datasets.minari_data import write_minari
from cepcli.datasets.partial_collection import Episodes, Kept, joined
from cepcli.datasets.playing import play
from cepcli.datasets.quality import quality_of
from cepcli.datasets.stored import CARD, D4RL_FILE, MINARI_FOLDER, TEXT_FILE, read_text, write_rows
from cepcli.envs.base import SymbolicEnv
from cepcli.envs.catalog import make_control_env, make_env, spec
from cepcli.envs.control import ControlEnv
from cepcli.errors import ArtifactError, DataError
from cepcli.extras import require_minari
from cepcli.registry import suggest
from cepcli.seeding import stream_seed
from cepcli.whole_files import discard
from cepcli.workspace.artifacts import Artifact, Input, Workspace, write_json, writing

RECIPES = ("random", "medium", "medium-replay", "expert", "medium-expert", "noisy-expert")
LAYOUTS = ("d4rl", "minari")
#: Steps of a collection for which no number was given.
DEFAULT_TRANSITIONS = 10_000
_KEPT = "kept"


@dataclass(frozen=True, slots=True)
class CollectConfig:
    """What to collect."""

    env: str = field(metadata={"help": "environment id"})
    recipe: str = field(
        default="random", metadata={"help": "whose behaviour: " + ", ".join(RECIPES)}
    )
    transitions: int | None = field(
        default=None,
        metadata={"help": "steps, ≥ 1; by default 10,000, of a replay all that it holds"},
    )
    run: str | None = field(
        default=None, metadata={"help": "the trained run that acts, or whose replay it is"}
    )
    expert_run: str | None = field(
        default=None, metadata={"help": "the run that is the expert of medium-expert"}
    )
    noise: float = field(
        default=0.2, metadata={"help": "share of random actions of noisy-expert, 0 to 1"}
    )
    layouts: tuple[str, ...] = field(
        default=("d4rl",), metadata={"help": "of control: d4rl, minari or both"}
    )
    env_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "options of the environment family"}
    )
    seed: int = field(default=0, metadata={"help": "of instances and random actions"})

    def __post_init__(self) -> None:
        """Check values and what goes together."""
        if self.recipe not in RECIPES:
            raise DataError(f"There is no recipe `{self.recipe}`.", suggest(self.recipe, RECIPES))
        require(
            self.transitions is None or self.transitions >= 1,
            f"`transitions` is {self.transitions}, expected at least 1.",
        )
        require(0 <= self.noise <= 1, f"`noise` is {self.noise}, expected a number from 0 to 1.")
        require(
            bool(self.layouts) and set(self.layouts) <= set(LAYOUTS),
            f"`layouts` is {', '.join(self.layouts)!r}, expected d4rl, minari or both.",
        )
        require(
            self.run is None or self.recipe not in ("random", "noisy-expert"),
            f"`run` is {self.run!r}, but no run takes part in the recipe {self.recipe}.",
        )
        require(
            self.expert_run is None or self.recipe == "medium-expert",
            f"`expert_run` is {self.expert_run!r}, but only medium-expert has an expert beside "
            "its run.",
        )


class Stage(NamedTuple):
    """A behaviour and the number of steps for which it plays."""

    behaviour: Behaviour
    steps: int


class Plan(NamedTuple):
    """How a dataset is collected.

    Attributes:
        config: as the user set it.
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


def environment(
    config: CollectConfig, workspace: Workspace, notify: Notify
) -> SymbolicEnv | ControlEnv:
    """The environment to collect in, its training instances."""
    if spec(config.env).kind == "control":
        return make_control_env(config.env, options=config.env_options)
    return make_env(
        config.env,
        split="train",
        workspace=workspace.root,
        options=config.env_options,
        progress=notify,
    )


def collect(
    plan: Plan,
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
            columns = _played(plan, folder / _KEPT, workspace, text, advance, notify)
            notify("Writing the dataset")
            for left_by_a_kill in (D4RL_FILE, MINARI_FOLDER, TEXT_FILE):
                discard(folder / left_by_a_kill)
            card = (
                _write_text(plan, columns, folder)
                if text
                else _write_control(plan, columns, folder)
            )
            write_json(folder / CARD, card)
            discard(folder / _KEPT)
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
            "Go on with it as it was, or add --overwrite, or choose another --name.",
        )
    workspace.check_new("dataset", name, overwrite=False)
    notify(f"Going on with the unfinished dataset {name}")
    return partial


def _played(
    plan: Plan, folder: Path, workspace: Workspace, text: bool, advance: Advance, notify: Notify
) -> Episodes:
    """All episodes of all stages, or what is there already."""
    if plan.replay is not None:
        data = plan.replay
        names = (
            "observations",
            "controls",
            "rewards",
            "next_observations",
            "terminated",
            "truncated",
        )
        return {name: getattr(data, name) for name in names}
    env = environment(plan.config, workspace, notify)
    found: list[Episodes] = []
    before = 0
    for number, stage in enumerate(plan.stages):
        kept = Kept(folder, number, text=text)
        try:
            _play_stage(plan.config.seed, number, stage, kept, env, before, advance)
        finally:
            kept.flush()
        found += kept.all()
        before += stage.steps
    env.close()
    return joined(found)


def _play_stage(
    seed: int,
    number: int,
    stage: Stage,
    kept: Kept,
    env: SymbolicEnv | ControlEnv,
    before: int,
    advance: Advance,
) -> None:
    while kept.steps < stage.steps:
        own = stream_seed(seed, f"collect/{number}/{kept.episodes}")
        kept.add(play(env, stage.behaviour, own, stage.steps - kept.steps))
        mean = kept.total_return / kept.episodes
        advance(before + kept.steps, f"{kept.episodes} episodes, mean return {mean:.4g}")


def _write_control(plan: Plan, columns: Episodes, folder: Path) -> dict[str, Any]:
    config = plan.config
    known = spec(config.env)
    success = columns.pop("success", None)
    data = ControlData(known.id, "", **columns)
    measured = quality_of(data)
    if success is not None and known.control is not None and known.control.solvable:
        measured["success_rate"] = float(np.mean([success[e].any() for e in data.episodes()]))
    card = _card(plan, "control", measured)
    low_high = REFERENCE_RETURNS.get(known.id)
    card["reference_returns"] = None if low_high is None else list(low_high)
    if "d4rl" in config.layouts:
        write_d4rl(folder / D4RL_FILE, data)
    if "minari" in config.layouts:
        card["minari_id"] = write_minari(
            folder / MINARI_FOLDER, data, recipe=config.recipe, about=card["source"]
        )
    return card


def _write_text(plan: Plan, columns: Episodes, folder: Path) -> dict[str, Any]:
    ends = np.logical_or(columns["terminated"], columns["truncated"])
    columns["episode"] = np.concatenate([[0], np.cumsum(ends)[:-1]]).tolist()
    write_rows(folder / TEXT_FILE, columns)
    data = read_text(folder / TEXT_FILE, env=plan.config.env, source="")
    return _card(plan, "text", quality_of(data))


def _card(plan: Plan, kind: str, measured: dict[str, Any]) -> dict[str, Any]:
    config, success = plan.config, measured["success_rate"]
    good = f"mean return {measured['return_mean']:.4g}"
    if measured["normalised_score"] is not None:
        good += f", normalised {measured['normalised_score']:.1f}"
    if success is not None:
        good = f"{success:.0%} success"
    source = (
        f"{config.env} {config.recipe}, collected by cep: {measured['transitions']} transitions "
        f"of {plan.about} ({good})"
    )
    return {
        "env": spec(config.env).id,
        "kind": kind,
        "source": source,
        "recipe": config.recipe,
        "behaviour": plan.about,
        "layouts": list(config.layouts) if kind == "control" else [],
        **measured,
    }
