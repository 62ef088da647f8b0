"""A run that learns in its environments: by commands in text, by controls in continuous control.

`OnlineRun.advance` is one step: decide from prior and Q-values, step, store, learn.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from typing_extensions import override

from cepcli.abstraction.states import open_abstraction
from cepcli.agents.config import CONTROL, LEARNING, TrainConfig, reads_descriptions
from cepcli.agents.control_policy import ControlPolicy, Describer, Undescribed
from cepcli.agents.hybrid_sac import CriticErrors, HybridSAC
from cepcli.agents.networks import TDLoss
from cepcli.agents.posterior_q import Choice, Policy, QLearner, temperature
from cepcli.cache.controllers import Controller
from cepcli.cache.disk.storage import key_head_of
from cepcli.cache.open import OpenCache, open_cache
from cepcli.cache.store import PriorCache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.cache.trace import TraceWriter
from cepcli.cache.warm import Start, read_start, start_from
from cepcli.datasets.control_replay import ControlTransition
from cepcli.device import flush_subnormals, resolve_device
from cepcli.envs.catalog import control_spec, make_control_env
from cepcli.envs.episodes import ControlTracker, EpisodeTracker, RunningEpisode, Tracker
from cepcli.errors import ArtifactError, CepError, ConfigError, EnvError
from cepcli.keys.encoder import EmbeddingTable, Remembering
from cepcli.listener import Notify
from cepcli.prior.base import Prior
from cepcli.prior.llm import LLMPrior
from cepcli.prior.load import prior_inputs
from cepcli.prior.server.address import is_server, server_address
from cepcli.prior.shuffled import ShuffledPrior
from cepcli.runs.assembly import EvalEnvs, heldout_envs, run_prior, text_encoder, text_env
from cepcli.runs.demonstrated import Demonstrated, begin_with, demonstrated
from cepcli.runs.run import Evaluation, Progress, TrainingRun
from cepcli.seeding import generator, stream_seed, torch_generator
from cepcli.types import TextState
from cepcli.workspace.artifacts import Input, Workspace, check_name, read_json
from cepcli.workspace.checkpoint_files import PRIOR_FAILED, fitting, load_arrays, load_tensors

#: Told every decision: number of the episode, where it was taken, and what it was made from.
Watch = Callable[[int, TextState, Choice], None]


def unwatched(episode: int, state: TextState, decision: Choice) -> None:
    """Nobody looks on."""


def default_name(config: TrainConfig) -> str:
    """`<env>_<agent>[_<prior>_<cache>]_s<seed>`: the same settings give the same name."""
    parts = [config.env, config.agent]
    if config.prior != "uniform":
        prior = config.prior
        label = server_address(prior).label if is_server(prior) else Path(prior).name
        parts += [re.sub(r"[^\w.-]", "-", label), config.cache.mode]
    return check_name("_".join([*parts, f"s{config.seed}"]).replace("/", "-"))


@dataclass
class OnlineRun(TrainingRun[TrainConfig]):
    """What `cep train` trains.

    Attributes:
        trackers: follow the environments that are learned in: one, but for `sac.envs`.
        bare_prior: the prior without its cache.
        prior: as the agent asks it: cached, and shuffled if that is asked for.
        opened: the cache around it; None where no LLM is asked.
        telemetry: how it was answered in training.
        table: embeddings of texts; None where nobody needs them.
        learner: None for agents that do not learn.
        policy: decides.
        acting: the noise of decisions.
        describer: puts states of control into words; None where nobody reads them.
        start: the cache to begin with; None without one, and in a run that goes on.
        demos: the demonstrations to begin with; likewise.
    """

    kind = "agent"
    schema_version = 3
    state_keys = frozenset(("trackers", "acting", "auditing", "telemetry", "control", "learner"))

    config: TrainConfig
    trackers: list[Tracker]
    eval_envs: EvalEnvs
    bare_prior: Prior
    opened: OpenCache | None
    telemetry: CacheTelemetry
    table: EmbeddingTable | None
    learner: QLearner | HybridSAC | None
    inputs: list[Input]
    describer: Describer | None = None
    start: Start | None = None
    demos: Demonstrated | None = None

    def __post_init__(self) -> None:
        cached = self.bare_prior if self.opened is None else self.opened.prior()
        self.prior = self._as_configured(cached)
        self.policy = self._policy(self.prior)
        self.acting = torch_generator(self.config.seed, "acting")
        self._idle_audits = generator(self.config.seed, "audit")
        self._trace: TraceWriter | None = None
        self._losses: TDLoss | CriticErrors | None = None
        self._tau = 0.0

    # -- assembly ------------------------------------------------------------------------------

    @override
    @staticmethod
    def completed(config: TrainConfig) -> TrainConfig:
        if config.prior != "uniform":
            return config
        off = replace(config.cache, mode="off")
        return replace(config, cache=off, trace=False, abstraction=None)

    @override
    @classmethod
    def build(
        cls, config: TrainConfig, workspace: Workspace, notify: Notify, *, begins: bool = False
    ) -> "OnlineRun":
        start, demos = None, None
        if begins:  # what cannot be is said before anything is loaded
            config.check_new()
            start = _start(config, workspace)
            if config.demos is not None:
                demos = demonstrated(config.demos, workspace, config.env)
        torch.set_num_threads(config.threads)
        if config.agent in CONTROL:
            flush_subnormals()
        device = str(resolve_device(config.device))
        inputs = [artifact.reference for artifact in prior_inputs(config.prior, workspace)]
        describer = None
        if reads_descriptions(config):
            describer, described_by = _describer(config, workspace)
            inputs += described_by
        trackers = _trackers(config, workspace, notify)
        family = _family(trackers[0])
        bare = run_prior(
            config, family, workspace, notify, journal=config.journal,
            thinks=config.agent == "react",
        )  # fmt: skip
        learns, asks = config.agent in LEARNING, isinstance(bare, LLMPrior)
        table = None
        if learns or (asks and config.cache.keyed and config.cache.encoder == "minilm"):
            table = EmbeddingTable(text_encoder(device, notify))
        opened = None
        if isinstance(bare, LLMPrior):
            shared = table if config.cache.encoder == "minilm" else None
            opened = open_cache(
                bare, config.cache, bare.namespace("", family), seed=config.seed,
                encoder=None if shared is None else Remembering(shared), device=config.device,
                notify=notify,
            )  # fmt: skip
        learner: QLearner | HybridSAC | None = None
        if isinstance(trackers[0], ControlTracker):
            learner = _control_learner(config, trackers[0], device)
        elif learns and table is not None:
            learner = QLearner(
                config.learner, config.posterior, table, seed=config.seed, device=device
            )
        telemetry = CacheTelemetry(config.cache.hit_rate_decay)
        return cls(
            config, trackers, make_eval_envs(config, workspace, notify), bare, opened,
            telemetry if opened is None else opened.telemetry, table, learner, inputs, describer,
            start, demos,
        )  # fmt: skip

    def _as_configured(self, prior: Prior) -> Prior:
        """The prior as the agent sees it: as it is, or shuffled."""
        config = self.config
        return ShuffledPrior(prior, config.seed) if config.shuffled_prior else prior

    def _policy(self, prior: Prior) -> Policy | ControlPolicy:
        config, learner = self.config, self.learner
        if isinstance(learner, HybridSAC):
            words, symbolic = self.describer or Undescribed(), config.agent == "hybrid-sac"
            return ControlPolicy(config.posterior, prior, words, learner, symbolic=symbolic)
        return Policy(config.posterior, prior, self.table, learner)

    def eval_policy(self, telemetry: CacheTelemetry) -> Policy | ControlPolicy:
        """The same policy behind a read-only view of the cache, counting into `telemetry`."""
        opened = self.opened
        prior = self.bare_prior if opened is None else opened.frozen(telemetry)
        return self._policy(self._as_configured(prior))

    @property
    def tracker(self) -> Tracker:
        """The first of the trackers, or the only one."""
        return self.trackers[0]

    @property
    def cache(self) -> PriorCache | None:
        """The cache; None where no LLM is asked."""
        return None if self.opened is None else self.opened.cache

    @property
    def control(self) -> Controller | None:
        """Moves the cache's parameters."""
        return None if self.opened is None else self.opened.controller

    def switch_cache_off(self) -> None:
        """Let evaluations ask the LLM for every decision."""
        if self.opened is not None:
            cache = self.opened.cache
            off = PriorCache(replace(cache.config, mode="off"), cache.dim, cache.namespace)
            self.opened = self.opened._replace(cache=off)

    # -- training ------------------------------------------------------------------------------

    @override
    def begin(self, notify: Notify, stop_requested: Callable[[], bool]) -> Progress:
        config, learner, progress = self.config, self.learner, Progress()
        if isinstance(learner, HybridSAC) and learner.nominal:
            starts = config.sac.residual_starts
            if config.steps <= starts:
                notify(
                    f"The actor will not learn: it waits for {starts} steps (sac.residual_starts)"
                )
        if self.start is not None and self.opened is not None:
            name = str(config.cache.start)
            notify(f"Starting from the cache `{name}`")
            entries = start_from(self.start, self.opened.cache, self.opened.controller.keys)
            progress.start_cache = {
                "name": name, "sha256": self.start.sha256, "entries": entries
            }  # fmt: skip
        if self.demos is not None:
            notify(f"Beginning with the demonstrations `{config.demos}`")
            assert isinstance(learner, QLearner)
            assert isinstance(self.policy, Policy)
            progress.demos = begin_with(
                self.demos, learner, self.policy, self.opened or self.bare_prior,
                self.temperature(progress), stop_requested,
            )  # fmt: skip
        return progress

    @override
    def open(self, folder: Path, progress: Progress) -> None:
        if self.config.trace and self.cache is not None:
            self._trace = TraceWriter(
                folder, self.config.env, self.cache.namespace, self.prior.shape,
                offset=progress.trace_offset,
            )  # fmt: skip

    @override
    def close(self) -> None:
        if self._trace:
            self._trace.close()

    def temperature(self, progress: Progress) -> float:
        """τ at this moment of the run, or the ε of an ε-greedy policy."""
        telemetry, done = self.telemetry, progress.step / self.config.steps
        return temperature(
            self.config.posterior, telemetry.hit_rate, telemetry.reliable_hit_rate, done
        )

    @property
    @override
    def harmless(self) -> tuple[type[CepError], ...]:
        # Of several states that are asked about at once, the first are in the cache by then.
        return (EnvError, *(PRIOR_FAILED if len(self.trackers) == 1 else ()))

    @override
    def advance(self, progress: Progress) -> None:
        self._tau = tau = self.temperature(progress)
        if isinstance(self.tracker, ControlTracker):
            decisions = self._control_step(progress, tau)
        else:
            decisions = self._text_step(progress, tau)
        losses = None
        if self.learner is not None:
            for _ in self.trackers:
                losses = self.learner.learn(tau)
        self._losses = losses
        for decision in decisions:
            progress.kl_to_prior += 0.02 * (decision.kl_to_prior - progress.kl_to_prior)
            self._tell("variability", decision.variability)
            if losses is not None:
                self._tell("td_error", losses.td_error)

    def _text_step(self, progress: Progress, tau: float) -> list[Choice]:
        """One decision: π ∝ prior·exp(Q/τ), the environment's answer, and what is stored."""
        tracker, learner, policy = self.tracker, self.learner, self.policy
        assert isinstance(tracker, EpisodeTracker)
        assert isinstance(policy, Policy)
        assert learner is None or isinstance(learner, QLearner)
        state = tracker.state
        decision = policy.decide(state, tau, self.acting)
        if self._trace:
            self._trace.write(state, tracker.episodes, decision.answer, decision.q_values, tau)
        action = state.actions[decision.action]
        if learner and decision.rows:
            learner.arrive(decision.rows)

        with _stopped_at(progress.step + 1):
            if self.config.agent == "expert":
                action = tracker.env.expert_action()
            reward, terminated, truncated = tracker.step(action)
        _record(progress, f"\0{state.text}\0{action}".encode())
        progress.decisions += 1
        if learner and decision.rows:
            learner.step(
                decision.rows, decision.action, reward, terminated=terminated, truncated=truncated
            )
        if terminated or truncated:
            self._end_episode(progress, tracker)
            with _stopped_at(progress.step):
                tracker.next_episode()
        return [decision]

    def _control_step(self, progress: Progress, tau: float) -> list[Choice]:
        """One control in each environment; returns the choices of symbols that were due.

        Symbols that are due in several environments are asked for in one call to the prior.

        Raises:
            EnvError: if a simulator fails or its answer is not finite: nothing of this step is
                then stored in any environment, nor of an episode that begins so.
            ConfigError: if the learner's numbers are not finite any more.
        """
        learner, policy = self.learner, self.policy
        trackers = [tracker for tracker in self.trackers if isinstance(tracker, ControlTracker)]
        assert isinstance(learner, HybridSAC)
        assert isinstance(policy, ControlPolicy)
        chosen = policy.choose(trackers, tau, [self.acting] * len(trackers))
        decisions = []
        for number, (tracker, choice) in enumerate(zip(trackers, chosen, strict=True)):
            if choice is None:
                continue
            state, decision = choice
            progress.decisions += 1
            if self._trace:
                self._trace.write(state, tracker.episodes, decision.answer, decision.q_values, tau)
            learner.arrive(decision.answer.log_prior, number)
            decisions.append(decision)
        answers = []
        for number, tracker in enumerate(trackers, 1):
            control = policy.control(tracker, self.acting)
            with _stopped_at(progress.step + number):
                answers.append(tracker.apply(control))
        for number, (tracker, answer) in enumerate(zip(trackers, answers, strict=True)):
            symbol, before, nominals = tracker.symbol, tracker.observation, policy.nominals(tracker)
            assert symbol is not None
            _record(progress, before.tobytes() + answer.control.tobytes())
            tracker.take(answer)
            ended = answer.terminated or answer.truncated
            boundary = not ended and tracker.held >= self.config.sac.symbol_steps
            transition = ControlTransition(
                before, symbol, answer.control, answer.reward, answer.observation,
                answer.terminated, nominal=None if nominals is None else nominals[symbol],
                next_nominals=policy.nominals(tracker),
            )  # fmt: skip
            learner.step(transition, boundary=boundary, env=number)
            if boundary:
                tracker.release()
            if ended:
                self._end_episode(progress, tracker)
        for tracker, answer in zip(trackers, answers, strict=True):
            if answer.terminated or answer.truncated:
                with _stopped_at(progress.step):
                    tracker.next_episode()
        return decisions

    def _end_episode(self, progress: Progress, tracker: Tracker) -> None:
        progress.record_episode(tracker.success, tracker.episode_return)
        self._tell("episode_return", tracker.episode_return)

    def _tell(self, name: str, value: Any) -> None:
        """A signal for the controller of the cache, if there is one."""
        if self.control is not None:
            self.control.tell(name, float(value))

    @override
    def metrics(self, progress: Progress) -> dict[str, float | None]:
        greedy = self.config.posterior.mode == "epsilon-greedy"
        row: dict[str, float | None] = {
            "train/return_mean": progress.recent_return,
            "train/episodes": sum(tracker.episodes for tracker in self.trackers),
            f"posterior/{'epsilon' if greedy else 'temperature'}": self._tau,
            "posterior/kl_to_prior": progress.kl_to_prior,
            **self.prior_metrics(),
            "prior/queries_per_decision": self.telemetry.queries / max(progress.decisions, 1),
        }
        if self.tracker.solvable:
            row["train/success_rate"] = progress.recent_success
        certificate = None if self.control is None else self.control.certificate
        if certificate is not None:
            row["cache/certified_audits"] = certificate.audits
            row["cache/certified_failures"] = certificate.failures
        if self.learner is not None:
            row["train/q_scale"] = self.learner.scale
        if isinstance(self.learner, HybridSAC):
            row["train/entropy_weight"] = self.learner.alpha
        if self._losses is not None:
            row["train/td_loss"] = float(self._losses.loss)
            row["train/td_error"] = float(self._losses.td_error)
            row["train/q_mean"] = float(self._losses.q_mean)
        return row

    def prior_metrics(self) -> dict[str, float | None]:
        """How decisions got their prior so far, and the state of the cache, if there is one."""
        telemetry, cache = self.telemetry, self.cache
        row: dict[str, float | None] = {
            "prior/queries": telemetry.queries,
            "prior/llm_tokens": round(telemetry.totals["tokens"]),
            "prior/llm_seconds_recorded": telemetry.totals["llm_seconds_recorded"],
            "cache/hit_rate": telemetry.hit_rate,
            "cache/hits_exact": telemetry.counts["exact"],
            "cache/hits_semantic": telemetry.counts["semantic"],
        }
        if cache is not None:
            row |= {
                "cache/entries": len(cache),
                "cache/capacity": cache.knobs.capacity,
                "cache/threshold": cache.knobs.threshold,
                "cache/refresh_rate": cache.knobs.refresh_rate,
                "cache/reliable_hit_rate": telemetry.reliable_hit_rate,
                "cache/misses": telemetry.counts["miss"],
                "cache/partial_hits": telemetry.counts["partial"],
                "cache/audits": telemetry.counts["audit"],
                "cache/audits_over_kappa": telemetry.audits_over(self.config.cache.certified.kappa),
            }
        return row

    # -- evaluation ----------------------------------------------------------------------------

    @override
    def evaluate(
        self,
        progress: Progress,
        episodes: int,
        before_round: Callable[[int, int], None] = lambda done, queries: None,
        watch: Watch = unwatched,
    ) -> Evaluation:
        """Play held-out episodes; `watch` is told every decision.

        Episodes run side by side in `eval_envs`, so that one call to the LLM scores a state of
        each. An episode has its own seeds: neither the others nor their number matter to it. What
        the prior costs meanwhile is counted apart from what it costs in training.
        """
        tau = self.temperature(progress)
        if self.config.posterior.mode == "epsilon-greedy":
            tau = self.config.posterior.final_epsilon
        telemetry = CacheTelemetry(self.config.cache.hit_rate_decay)
        policy = self.eval_policy(telemetry)
        decisions = 0

        def act(running: list[RunningEpisode]) -> Sequence[Any]:
            nonlocal decisions
            if isinstance(policy, ControlPolicy):
                actions, chosen = self._controls(policy, tau, running, watch)
            else:
                actions, chosen = self._commands(policy, tau, running, watch), len(running)
            decisions += chosen
            return actions

        found = self._play(episodes, act, telemetry, before_round)
        return found._replace(more={"decisions": decisions})

    def _commands(
        self, policy: Policy, tau: float, running: list[RunningEpisode], watch: Watch
    ) -> list[str]:
        trackers = [lane.tracker for lane in running if isinstance(lane.tracker, EpisodeTracker)]
        if self.config.agent == "expert":
            return [tracker.env.expert_action() for tracker in trackers]
        states = [tracker.state for tracker in trackers]
        noise = [lane.noise for lane in running]
        decisions = policy.decide_many(states, tau, noise, greedy=self.config.eval_greedy)
        for lane, state, decision in zip(running, states, decisions, strict=True):
            watch(lane.episode, state, decision)
        return [s.actions[d.action] for s, d in zip(states, decisions, strict=True)]

    def _controls(
        self, policy: ControlPolicy, tau: float, running: list[RunningEpisode], watch: Watch
    ) -> tuple[list[Any], int]:
        """The mean controls, and how many symbols were chosen for them."""
        trackers = [lane.tracker for lane in running if isinstance(lane.tracker, ControlTracker)]
        for tracker in trackers:
            if tracker.held >= self.config.sac.symbol_steps:
                tracker.release()
        noise = [lane.noise for lane in running]
        chosen = policy.choose(trackers, tau, noise, greedy=self.config.eval_greedy)
        for lane, choice in zip(running, chosen, strict=True):
            if choice is not None:
                watch(lane.episode, *choice)
        controls = [policy.control(tracker, None) for tracker in trackers]
        return controls, sum(decision is not None for decision in chosen)

    # -- checkpoints and summaries -------------------------------------------------------------

    @property
    def _auditing(self) -> np.random.Generator:
        return self._idle_audits if self.opened is None else self.opened.auditing

    @override
    def save(self, folder: Path, progress: Progress) -> dict[str, Any]:
        if self._trace:
            progress.trace_offset = self._trace.sync()
        counters, latencies = self.telemetry.state()
        np.savez(folder / "telemetry.npz", allow_pickle=False, **latencies)
        if self.table is not None:
            texts, vectors = self.table.state()
            (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
            np.savez(folder / "embeddings.npz", vectors=vectors)
        scalars: dict[str, Any] = {}
        if self.learner is not None:
            tensors, arrays, scalars = self.learner.state()
            save_file(tensors, folder / "learner.safetensors")
            np.savez(folder / "replay.npz", allow_pickle=False, **arrays)
        if self.cache is not None:
            self.cache.save(folder / "cache")
        return {
            "describer_sha256": self._describer_sha256,
            "trackers": [tracker.snapshot() for tracker in self.trackers],
            "acting": bytes(self.acting.get_state().numpy()).hex(),
            "auditing": self._auditing.bit_generator.state,
            "telemetry": counters,
            "control": None if self.control is None else self.control.state(),
            "learner": scalars,
        }

    @override
    def restore(self, folder: Path, state: dict[str, Any]) -> None:
        if state.get("describer_sha256", self._describer_sha256) != self._describer_sha256:
            raise ArtifactError(
                f"The abstraction that `{folder.parent.name}` was trained with has changed.",
                "Put the older one back under its name, or start another run.",
            )
        self.telemetry.restore(state["telemetry"], load_arrays(folder / "telemetry.npz"))
        if self.table is not None:
            vectors = load_arrays(folder / "embeddings.npz")["vectors"]
            self.table.restore(read_json(folder / "texts.json"), vectors)
        if self.learner is not None:
            tensors = load_tensors(folder / "learner.safetensors")
            with fitting(folder):
                self.learner.restore(tensors, load_arrays(folder / "replay.npz"), state["learner"])
        if self.opened is not None:
            self.opened.controller.restore(state["control"])
            self._restore_cache(self.opened, folder / "cache")
        for tracker, snapshot in zip(self.trackers, state["trackers"], strict=True):
            tracker.restore(snapshot, ask_expert=self.config.agent == "expert")
        acting = np.frombuffer(bytes.fromhex(state["acting"]), np.uint8)
        self.acting.set_state(torch.from_numpy(acting.copy()))
        self._auditing.bit_generator.state = state["auditing"]

    def _restore_cache(self, opened: OpenCache, folder: Path) -> None:
        cache, keys = opened.cache, opened.controller.keys
        namespace = cache.namespace
        if keys is not None:
            keys.adopt(key_head_of(folder))
            namespace = keys.namespace
        loaded = PriorCache.load(folder, namespace, self.config.cache)
        cache.namespace = namespace
        cache.restore(loaded)

    @property
    def _describer_sha256(self) -> str | None:
        """Identity of what describes states to the prior; None where nothing need."""
        return None if self.describer is None else self.describer.sha256

    @override
    def facts(self, progress: Progress) -> dict[str, Any]:
        config = self.config
        return {
            "env": config.env,
            "agent": config.agent,
            "prior": config.prior,
            "cache": "off" if self.cache is None else self.cache.config.mode,
            "demos": progress.demos,
        }

    @override
    def training_facts(self, progress: Progress) -> dict[str, Any]:
        return {"decisions_sha256": progress.decisions_sha256}


def make_eval_envs(config: TrainConfig, workspace: Workspace, notify: Notify) -> EvalEnvs:
    """The environments of held-out episodes."""
    return heldout_envs(
        config, config.env, workspace, notify, control=config.agent in CONTROL,
        count=config.eval_lanes,
    )  # fmt: skip


def _trackers(config: TrainConfig, workspace: Workspace, notify: Notify) -> list[Tracker]:
    if config.agent not in CONTROL:
        seed = stream_seed(config.seed, "env") % 2**31
        env = text_env(config.env, config.env_options, workspace, notify, "train")
        return [EpisodeTracker(env, seed)]
    streams = ["env", *(f"env/{number}" for number in range(1, config.sac.envs))]
    return [
        ControlTracker(
            make_control_env(config.env, options=config.env_options),
            stream_seed(config.seed, stream) % 2**31,
        )
        for stream in streams
    ]


def _family(tracker: Tracker) -> str:
    if isinstance(tracker, ControlTracker):
        return tracker.env.control_spec.family
    return tracker.env.family


def _describer(config: TrainConfig, workspace: Workspace) -> tuple[Describer, list[Input]]:
    spec = control_spec(config.env)
    name = config.abstraction or f"{spec.family}/default"
    describer, artifact = open_abstraction(workspace, name, spec)
    return describer, [artifact.reference]


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


def _start(config: TrainConfig, workspace: Workspace) -> Start | None:
    """The cache that a run is to start from, if its settings name one."""
    name = config.cache.start
    if name is None:
        return None
    if config.cache.mode == "off":
        raise ConfigError(
            f"`cache.start` is `{name}`, but this run has no cache: its prior is "
            f"`{config.prior}`, its cache off.",
            "Leave it out, or use a prior that asks an LLM with --cache exact, lru or certified.",
        )
    return read_start(name, workspace)


def _record(progress: Progress, link: bytes) -> None:
    """Count a step, and extend the hash chain over what was seen and done."""
    chain = progress.decisions_sha256.encode() + link
    progress.decisions_sha256 = hashlib.sha256(chain).hexdigest()
    progress.step += 1


@contextmanager
def _stopped_at(step: int) -> Iterator[None]:
    """Say at which step of a run an environment gave up."""
    try:
        yield
    except EnvError as error:
        resume = "The checkpoint holds everything before it; `cep runs resume` goes on from there."
        raise EnvError(
            f"Training stopped at step {step}: {error.message}", f"{resume} {error.hint}".rstrip()
        ) from error
