"""Puts the parts of an offline run together: dataset, minibatches, learner, held-out episodes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cepcli.agents.cql import ControlCQL
from cepcli.agents.offline_baselines import ControlBC, ControlIQL, ControlTD3BC
from cepcli.agents.offline_config import OfflineConfig
from cepcli.agents.offline_networks import Networks
from cepcli.agents.text_offline import TextLearner
from cepcli.datasets.batches import ControlBatches, symbols_for
from cepcli.datasets.dataset import ControlData, TextData, load_dataset
from cepcli.datasets.origins import inputs_of
from cepcli.datasets.text_batches import KnownTexts, TextBatches
from cepcli.device import flush_subnormals, resolve_device
from cepcli.envs.base import SymbolicEnv
from cepcli.envs.catalog import make_control_env, make_env, spec
from cepcli.envs.control import ControlEnv
from cepcli.errors import ConfigError, DataError
from cepcli.keys.encoder import MINILM, MiniLM, TextEncoder
from cepcli.prior.base import Prior
from cepcli.prior.load import load_prior, prior_inputs
from cepcli.seeding import generator
from cepcli.workspace.artifacts import Input, Workspace

Notify = Callable[[str], None]


#: What every learner of continuous control can do: update, control, state, restore.
ControlLearner = ControlCQL | ControlBC | ControlIQL | ControlTD3BC


@dataclass(slots=True)
class ControlParts:
    """An offline run of continuous control; `inputs` are what its manifest names."""

    config: OfflineConfig
    data: ControlData
    batches: ControlBatches
    learner: ControlLearner
    sampling: np.random.Generator
    inputs: list[Input]


@dataclass(slots=True)
class TextParts:
    """An offline run of a text world; `encoder` embeds what evaluations read, `prior` acts."""

    config: OfflineConfig
    data: TextData
    batches: TextBatches
    learner: TextLearner
    sampling: np.random.Generator
    inputs: list[Input]
    encoder: TextEncoder
    prior: Prior | None


Parts = ControlParts | TextParts
EvalEnvs = list[SymbolicEnv] | list[ControlEnv]


def build_parts(
    config: OfflineConfig,
    workspace: Workspace,
    notify: Notify,
    encoder: TextEncoder | None = None,
) -> Parts:
    """Build an offline run's parts from its configuration.

    Raises:
        ArtifactError: if there is no such dataset, or it has no labels that are asked for.
        DataError: if it is malformed, or not what the algorithm can learn from.
        ConfigError: if it names no environment and one is to be evaluated in.
    """
    torch.set_num_threads(config.threads)
    device = str(resolve_device(config.device))
    data = load_dataset(
        config.dataset, env=config.env, split=config.split, workspace=workspace, notify=notify,
        labels=None if config.prior == "uniform" else config.prior,
    )  # fmt: skip
    if config.eval_env and data.env is None:
        raise ConfigError(
            "The dataset does not say of which environment it is, so nothing can be evaluated.",
            "Name it: --env ID; or train without: --no-eval-env",
        )
    if isinstance(data, TextData):
        return _text_parts(config, data, workspace, notify, encoder, device)
    flush_subnormals()
    return _control_parts(config, data, device)


def _control_parts(config: OfflineConfig, data: ControlData, device: str) -> ControlParts:
    symbols: tuple[str, ...] = ()
    if config.algorithm == "cql-prior":
        symbols = symbols_for(data, config.prior, _vocabulary(data))
    batches = ControlBatches(
        data, symbols=symbols, normalise=config.control.normalise, device=device
    )
    shapes = {"features": data.observations.shape[1], "controls": data.controls.shape[1]}
    common: dict[str, Any] = {**shapes, "seed": config.seed, "device": device}
    learner: ControlLearner
    if config.algorithm in ("cql", "cql-prior"):
        learner = ControlCQL(config, symbols=len(symbols), **common)
    else:
        kinds = {"bc": ControlBC, "iql": ControlIQL, "td3-bc": ControlTD3BC}
        learner = kinds[config.algorithm](Networks(config, **common))
    return ControlParts(
        config, data, batches, learner, generator(config.seed, "replay"), inputs_of(data)
    )


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


def _text_parts(
    config: OfflineConfig,
    data: TextData,
    workspace: Workspace,
    notify: Notify,
    encoder: TextEncoder | None,
    device: str,
) -> TextParts:
    if config.algorithm == "td3-bc":
        raise DataError(
            f"td3-bc learns controls, but this is a dataset of text: {data.source}",
            "Learn from it with: cep offline cql-prior, cql, iql or bc",
        )
    with_prior = config.algorithm == "cql-prior"
    if with_prior and config.prior is None:
        raise ConfigError(
            "cql-prior needs a prior, and none is named.", "Name it: --prior embedded, or uniform"
        )
    prior, inputs = None, inputs_of(data)
    if with_prior and config.eval_env:
        inputs += [made_of.reference for made_of in prior_inputs(str(config.prior), workspace)]
        notify(f"Loading the prior `{config.prior}`")
        prior = load_prior(
            str(config.prior), family=spec(str(data.env)).family, workspace=workspace,
            config=config.llm, device=config.device, journal_path=workspace.root / "journal.sqlite",
        )  # fmt: skip
    notify("Loading the text encoder" + ("" if MINILM.is_ready() else ", fetching it first, once"))
    encoder = encoder or MiniLM(device)
    notify(f"Embedding {len(data.strings)} texts")
    batches = TextBatches(
        data, encoder, with_prior=with_prior and config.prior != "uniform", device=device
    )
    learner = TextLearner(config, batches, seed=config.seed, device=device)
    return TextParts(
        config, data, batches, learner, generator(config.seed, "replay"), inputs,
        KnownTexts(data.strings, batches.vectors, encoder), prior,
    )  # fmt: skip


def make_eval_envs(parts: Parts, workspace: Workspace, notify: Notify) -> EvalEnvs:
    """The environments of held-out episodes: one of control, `eval_lanes` of text."""
    config, env = parts.config, str(parts.data.env)
    if isinstance(parts, ControlParts):
        return [make_control_env(env, split="heldout", options=config.env_options)]
    return [
        make_env(
            env, split="heldout", workspace=workspace.root, options=config.env_options,
            progress=notify,
        )
        for _ in range(config.eval_lanes)
    ]  # fmt: skip
