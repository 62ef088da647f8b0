"""Puts the parts of a run together: environments, prior behind its cache, encoder, learner."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cepcli.abstraction.catalog import make_encoder
from cepcli.abstraction.encoder import MINILM, EmbeddingTable, MiniLM, Remembering, TextEncoder
from cepcli.abstraction.head import Head
from cepcli.abstraction.keys import KeyEncoder
from cepcli.agents.config import LEARNING, TrainConfig
from cepcli.agents.policy import Policy
from cepcli.agents.q_learner import QLearner
from cepcli.artifacts import Artifact, Workspace
from cepcli.cache.cache_keys import CacheKeys, no_key
from cepcli.cache.cached_prior import CachedPrior
from cepcli.cache.control import Control
from cepcli.cache.controllers import make_controller
from cepcli.cache.store import PriorCache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.device import resolve_device
from cepcli.envs.base import SymbolicEnv
from cepcli.envs.catalog import make_env
from cepcli.prior.base import Prior
from cepcli.prior.embedded import SMOLLM2
from cepcli.prior.llm import LLMPrior
from cepcli.prior.load import find_prior, load_prior, prior_inputs
from cepcli.rl.episodes import EpisodeTracker
from cepcli.seeding import generator, stream_seed, torch_generator

Notify = Callable[[str], None]


@dataclass(slots=True)
class Parts:
    """Everything a run is made of; what changes while training is in here, too."""

    config: TrainConfig
    tracker: EpisodeTracker
    eval_envs: list[SymbolicEnv]
    prior: Prior
    bare_prior: Prior
    cache: PriorCache | None
    control: Control | None
    key: Callable[[str, str], np.ndarray]
    telemetry: CacheTelemetry
    table: EmbeddingTable | None
    learner: QLearner | None
    policy: Policy
    acting: torch.Generator
    auditing: np.random.Generator
    inputs: list[Artifact]

    def eval_policy(self, telemetry: CacheTelemetry) -> Policy:
        """The same policy behind a read-only view of the cache, counting into `telemetry`."""
        prior = self.bare_prior
        if self.cache is not None:
            unused = np.random.default_rng(0)
            prior = CachedPrior(prior, self.cache.frozen(), self.key, unused, telemetry)
        return Policy(self.config.posterior, prior, self.table, self.learner)


def build_parts(
    config: TrainConfig, workspace: Workspace, notify: Notify, encoder: TextEncoder | None = None
) -> Parts:
    """Build a run's parts from its configuration; says through `notify` what takes long."""
    torch.set_num_threads(config.threads)
    device = str(resolve_device(config.device))
    env = _env(config, workspace, "train", notify)
    bare = _prior(config, workspace, env.family, notify)
    learns = config.agent in LEARNING
    needs_keys = isinstance(bare, LLMPrior) and config.cache.keyed
    table = None
    if learns or (needs_keys and config.cache.encoder == "minilm"):
        once = "" if MINILM.is_ready() else ", fetching it first, once"
        notify(f"Loading the text encoder{once}")
        table = EmbeddingTable(encoder or MiniLM(device))
    telemetry = CacheTelemetry(config.cache.hit_rate_decay)
    auditing = generator(config.seed, "audit")
    cache, control, prior, key = None, None, bare, no_key
    if isinstance(bare, LLMPrior):
        keys = _cache_keys(config, bare, env.family, table, notify) if needs_keys else None
        namespace = keys.namespace if keys is not None else bare.namespace("", env.family)
        cache = PriorCache(config.cache, keys.dim if keys is not None else 1, namespace)
        cache.key_head = keys.head if keys is not None else {}
        control = Control(make_controller(config.cache), config.cache.control_interval, keys)
        key = keys.key if keys is not None else no_key
        prior = CachedPrior(bare, cache, key, auditing, telemetry, control)
    learner = None
    if learns and table is not None:
        learner = QLearner(config.learner, config.posterior, table, seed=config.seed, device=device)
    return Parts(
        config=config,
        tracker=EpisodeTracker(env, stream_seed(config.seed, "env") % 2**31),
        eval_envs=[_env(config, workspace, "heldout", notify) for _ in range(config.eval_lanes)],
        prior=prior,
        bare_prior=bare,
        cache=cache,
        control=control,
        key=key,
        telemetry=telemetry,
        table=table,
        learner=learner,
        policy=Policy(config.posterior, prior, table, learner),
        acting=torch_generator(config.seed, "acting"),
        auditing=auditing,
        inputs=prior_inputs(config.prior, workspace),
    )


def _env(config: TrainConfig, workspace: Workspace, split: str, notify: Notify) -> SymbolicEnv:
    return make_env(
        config.env,
        split="train" if split == "train" else "heldout",
        workspace=workspace.root,
        options=config.env_options,
        progress=notify,
    )


def _prior(config: TrainConfig, workspace: Workspace, family: str, notify: Notify) -> Prior:
    if config.prior != "uniform":
        first = find_prior(config.prior, workspace).model == "embedded" and not SMOLLM2.is_ready()
        once = ", fetching and converting its language model first, once" if first else ""
        notify(f"Loading the prior `{config.prior}`{once}")
    return load_prior(
        config.prior,
        family=family,
        workspace=workspace,
        config=config.llm,
        device=config.device,
        journal_path=workspace.root / "journal.sqlite" if config.journal else None,
    )


def _cache_keys(
    config: TrainConfig, prior: LLMPrior, family: str, table: EmbeddingTable | None, notify: Notify
) -> CacheKeys:
    """The cache's keys; MiniLM is shared with the learner, each text encoded once."""
    cache = config.cache
    if cache.encoder == "minilm" and table is not None:
        encoder: TextEncoder = Remembering(table)
    else:
        encoder = make_encoder(cache.encoder, config.device, notify)
    keys = KeyEncoder(encoder, cache.focus)
    if cache.head is not None:
        keys = keys.with_head(Head.load(Path(cache.head).expanduser()))
    namespace = prior.namespace(keys.sha256, family)
    return CacheKeys(keys, namespace, prior.shape, cache, seed=config.seed)


def with_prior_defaults(config: TrainConfig) -> TrainConfig:
    """`config` with the cache switched off where no LLM is asked."""
    if config.prior == "uniform" and config.cache.mode != "off":
        return replace(config, cache=replace(config.cache, mode="off"))
    return config
