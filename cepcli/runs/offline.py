"""A run that learns from a dataset alone; `OfflineRun.advance` is one gradient step.

The dataset is the run's input and is read again when the run goes on: a checkpoint holds networks,
optimisers, generators and counters.
"""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from safetensors.torch import save_file
from torch import Tensor
from typing_extensions import override

from cepcli.agents.bc import ControlBC, TextBC
from cepcli.agents.cql import ControlCQL, TextCQL
from cepcli.agents.iql import ControlIQL, TextIQL
from cepcli.agents.networks import diverged
from cepcli.agents.offline_config import OfflineConfig
from cepcli.agents.offline_learner import ControlLearner, TextLearner
from cepcli.agents.td3_bc import ControlTD3BC
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.datasets.batches import ControlBatches, KnownTexts, TextBatches, TextStates, symbols_for
from cepcli.datasets.dataset import ControlData, TextData, check_same_inputs, inputs_of
from cepcli.datasets.load import D4RL, DEFAULT_ENV, DEFAULT_SPLIT, load_dataset
from cepcli.device import flush_subnormals, resolve_device
from cepcli.envs.catalog import spec
from cepcli.envs.episodes import ControlTracker, EpisodeTracker, RunningEpisode
from cepcli.errors import ConfigError, DataError
from cepcli.keys.encoder import TextEncoder
from cepcli.listener import Notify
from cepcli.prior.base import Prior
from cepcli.prior.load import prior_inputs
from cepcli.runs.assembly import EvalEnvs, heldout_envs, run_prior, text_encoder
from cepcli.runs.run import Evaluation, Progress, TrainingRun
from cepcli.seeding import generator
from cepcli.types import TextState
from cepcli.workspace.artifacts import Input, Workspace, check_name
from cepcli.workspace.checkpoint_files import fitting, load_tensors

_CONTROL: dict[str, type[ControlLearner]] = {
    "cql": ControlCQL, "cql-prior": ControlCQL, "bc": ControlBC, "iql": ControlIQL,
    "td3-bc": ControlTD3BC,
}  # fmt: skip
_TEXT: dict[str, type[TextLearner]] = {
    "cql": TextCQL, "cql-prior": TextCQL, "bc": TextBC, "iql": TextIQL
}  # fmt: skip
#: What to lower where the learner diverges.
_RATES = "control.critic_rate and control.actor_rate, or text.learning_rate"


def default_name(config: OfflineConfig) -> str:
    """`<env or dataset>_<algorithm>_s<seed>`, with the split under d4rl."""
    dataset = config.dataset
    if dataset == D4RL:
        parts = [config.env or DEFAULT_ENV, config.split or DEFAULT_SPLIT]
    else:  # a path stands for its last part
        is_file = dataset.endswith((".hdf5", ".h5")) or Path(dataset).is_file()
        label = Path(dataset).stem if is_file else dataset
        parts = [re.sub(r"[^\w.-]", "-", label).lstrip("-.")]
    return check_name("_".join([*parts, config.algorithm, f"s{config.seed}"]).replace("/", "-"))


@dataclass
class OfflineRun(TrainingRun[OfflineConfig]):
    """What `cep offline` trains: a learner on minibatches of a dataset.

    Attributes:
        world: what is learned from, and how it acts: text or controls.
        sampling: draws the minibatches.
    """

    kind = "algorithm"
    schema_version = 1
    state_keys = frozenset(("sampling", "learner"))

    config: OfflineConfig
    world: "ControlWorld | TextWorld"
    eval_envs: EvalEnvs
    inputs: list[Input]

    def __post_init__(self) -> None:
        self.opened, self.telemetry = None, CacheTelemetry(0.0)  # nothing is asked yet
        self.sampling = generator(self.config.seed, "replay")
        self._told: dict[str, Tensor] = {}

    @override
    @classmethod
    def build(
        cls, config: OfflineConfig, workspace: Workspace, notify: Notify, *, begins: bool = False
    ) -> "OfflineRun":
        torch.set_num_threads(config.threads)
        device = str(resolve_device(config.device))
        data = load_dataset(
            config.dataset, env=config.env, split=config.split, workspace=workspace,
            notify=notify, labels=None if config.prior == "uniform" else config.prior,
        )  # fmt: skip
        if config.eval_env and data.env is None:
            raise ConfigError(
                "The dataset does not say of which environment it is, so nothing can be evaluated.",
                "Name it: --env ID; or train without: --no-eval-env",
            )
        inputs = inputs_of(data)
        control = isinstance(data, ControlData)
        world: ControlWorld | TextWorld
        if isinstance(data, ControlData):
            flush_subnormals()
            world = ControlWorld(config, data, device)
        else:
            world = TextWorld(config, data, device, workspace, notify)
            if world.prior is not None:
                made_of = prior_inputs(str(config.prior), workspace)
                inputs += [artifact.reference for artifact in made_of]
        count = 1 if control else config.eval_lanes
        envs = heldout_envs(
            config, str(data.env), workspace, notify, control=control,
            count=count if config.eval_env else 0,
        )  # fmt: skip
        return cls(config, world, envs, inputs)

    @override
    def begin(self, notify: Notify, stop_requested: Callable[[], bool]) -> Progress:
        return Progress(inputs=[made_of._asdict() for made_of in self.inputs])

    @override
    def advance(self, progress: Progress) -> None:
        started = time.perf_counter()
        self._told = self.world.update(self.sampling)
        progress.step += 1
        progress.learning_seconds += time.perf_counter() - started

    @override
    def metrics(self, progress: Progress) -> dict[str, float | None]:
        row = {name: float(value) for name, value in self._told.items()}
        if not all(map(math.isfinite, row.values())):
            raise diverged("losses", _RATES)
        return dict(row)

    @override
    def evaluate(
        self,
        progress: Progress,
        episodes: int,
        before_round: Callable[[int, int], None] = lambda done, queries: None,
    ) -> Evaluation:
        """Play held-out episodes, each with the best action or the mean control.

        Raises:
            ConfigError: if the learner's numbers contain NaN or infinity.
        """
        telemetry = CacheTelemetry(0.0)
        played = self._play(
            episodes, lambda running: self.world.act(running, telemetry), telemetry, before_round
        )
        scores = self.world.data.normalised(np.array(played.returns))
        score = None if scores is None else float(np.mean(scores))
        return played._replace(more={"normalised_score": score})

    @override
    def save(self, folder: Path, progress: Progress) -> dict[str, Any]:
        tensors, scalars = self.world.learner.state()
        save_file(tensors, folder / "learner.safetensors")
        return {"sampling": self.sampling.bit_generator.state, "learner": scalars}

    @override
    def restore(self, folder: Path, state: dict[str, Any]) -> None:
        before = [Input(**made_of) for made_of in state["progress"]["inputs"]]
        check_same_inputs(before, self.inputs, folder.parent)
        tensors = load_tensors(folder / "learner.safetensors")
        with fitting(folder):
            self.world.learner.restore(tensors, state["learner"])
        self.sampling.bit_generator.state = state["sampling"]

    @override
    def facts(self, progress: Progress) -> dict[str, Any]:
        config, data = self.config, self.world.data
        return {
            "env": data.env or "unknown",
            "agent": config.algorithm,
            "prior": self._prior_name,
            "cache": "off",
            "dataset": {"name": config.dataset, "source": data.source, "steps": len(data)},
            "learning_seconds": progress.learning_seconds,
        }

    @override
    def training_facts(self, progress: Progress) -> dict[str, Any]:
        return {"gradient_steps_per_s": progress.step / max(progress.learning_seconds, 1e-9)}

    @property
    def _prior_name(self) -> str:
        if self.config.algorithm != "cql-prior":
            return "uniform"
        data = self.world.data
        labels = data.prior if isinstance(data, TextData) else data.labels and data.labels.prior
        return self.config.prior or labels or "uniform"


class ControlWorld:
    """A dataset of continuous control, and what learns from it."""

    def __init__(self, config: OfflineConfig, data: ControlData, device: str) -> None:
        self.data, self._size = data, config.control.batch_size
        symbols: tuple[str, ...] = ()
        if config.algorithm == "cql-prior":
            symbols = symbols_for(data, config.prior, _vocabulary(data))
        self._batches = ControlBatches(
            data, symbols=symbols, normalise=config.control.normalise, device=device
        )
        features, controls = data.observations.shape[1], data.controls.shape[1]
        common: dict[str, Any] = {
            "features": features, "controls": controls, "seed": config.seed, "device": device
        }  # fmt: skip
        if symbols:
            common["symbols"] = len(symbols)
        self.learner = _CONTROL[config.algorithm](config, **common)

    def update(self, sampling: np.random.Generator) -> dict[str, Tensor]:
        """One gradient step."""
        return self.learner.update(self._batches.sample(self._size, sampling))

    def act(self, running: list[RunningEpisode], telemetry: CacheTelemetry) -> list[ndarray]:
        """The mean control of each episode."""
        controls = []
        for lane in running:
            assert isinstance(lane.tracker, ControlTracker)
            control = self.learner.control(self._batches.standardised(lane.tracker.observation))
            if not np.isfinite(control).all():
                raise diverged("controls", _RATES)
            controls.append(control)
        return controls


def _vocabulary(data: ControlData) -> tuple[str, ...]:
    found = spec(data.env).control if data.env is not None else None
    if found is not None:
        return found.actions
    if data.labels is None:
        raise DataError(
            "The dataset does not say of which environment it is, so its symbols are not known.",
            "Name it: --env ID",
        )
    return data.labels.symbols


class TextWorld:
    """A dataset of a text world, what learns from it, and the prior that acts with it."""

    def __init__(
        self,
        config: OfflineConfig,
        data: TextData,
        device: str,
        workspace: Workspace,
        notify: Notify,
    ) -> None:
        self.data, self._size, self._device = data, config.text.batch_size, device
        if config.algorithm == "td3-bc":
            raise DataError(
                f"td3-bc learns controls, but this is a dataset of text: {data.source}",
                "Learn from it with: cep offline cql-prior, cql, iql or bc",
            )
        with_prior = config.algorithm == "cql-prior"
        if with_prior and config.prior is None:
            raise ConfigError(
                "cql-prior needs a prior, and none is named.",
                "Name it: --prior embedded, or uniform",
            )
        self.prior: Prior | None = None
        if with_prior and config.eval_env:
            family = spec(str(data.env)).family
            self.prior = run_prior(config, family, workspace, notify, journal=True)
        encoder = text_encoder(device, notify)
        notify(f"Embedding {len(data.strings)} texts")
        with_labels = with_prior and config.prior != "uniform"
        self._batches = TextBatches(data, encoder, with_prior=with_labels, device=device)
        self._encoder: TextEncoder = KnownTexts(data.strings, self._batches.vectors, encoder)
        kind = _TEXT[config.algorithm]
        self.learner = kind(config, self._batches, seed=config.seed, device=device)

    def update(self, sampling: np.random.Generator) -> dict[str, Tensor]:
        """One gradient step."""
        return self.learner.update(self._batches.sample(self._size, sampling))

    def act(self, running: list[RunningEpisode], telemetry: CacheTelemetry) -> list[str]:
        """The best action of each episode; the prior is asked about all of them at once."""
        states = [
            lane.tracker.state for lane in running if isinstance(lane.tracker, EpisodeTracker)
        ]
        log_priors = [np.full(len(state.actions), -np.log(len(state.actions))) for state in states]
        if self.prior is not None:
            answers = self.prior.log_probs(states)
            for answer in answers:
                telemetry.record(answer)
            log_priors = [answer.log_prior for answer in answers]
        return [
            state.actions[self._best(state, log_prior)]
            for state, log_prior in zip(states, log_priors, strict=True)
        ]

    def _best(self, state: TextState, log_prior: Float[ndarray, " actions"]) -> int:
        """The action of the highest score; of one state at a time: no episode changes another."""
        scores = self.learner.scores(
            TextStates(
                self._embedded(state.goal),
                self._embedded(state.text),
                self._embedded(*state.actions)[None],
                torch.from_numpy(log_prior.astype(np.float32))[None].to(self._device),
            )
        )[0]
        if scores.isnan().any():
            raise diverged("values", _RATES)
        return int(scores.argmax())

    def _embedded(self, *texts: str) -> Tensor:
        return torch.from_numpy(self._encoder.encode_many(texts)).to(self._device)
