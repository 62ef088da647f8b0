"""Labelling a dataset: the prior of each of its states, once, through the cache.

States are taken in their order, in batches. What is done is written down now and then, with the
cache as it then was, so that a labelling that was killed goes on as if it never had been; and what
the LLM has answered since is in the journal.

    cep offline label --dataset d4rl --prior walker2d
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.cache.cache_keys import CacheKeys, no_key
from cepcli.cache.cached_prior import CachedPrior
from cepcli.cache.config import CacheConfig
from cepcli.cache.controllers import Controller, make_controller
from cepcli.cache.disk.storage import key_head_of
from cepcli.cache.store import PriorCache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.config import AT_LEAST_ONE, Settings, setting, write_toml
from cepcli.datasets.dataset import ControlData, Notify, TextData
from cepcli.datasets.labels import (
    LABELS_CARD,
    LABELS_FILE,
    appended_rows,
    labels_name,
    states_sha256,
)
from cepcli.envs.catalog import spec
from cepcli.keys.key_encoder import make_key_encoder
from cepcli.prior.base import Prior
from cepcli.prior.config import PriorConfig
from cepcli.prior.llm import LLMPrior
from cepcli.prior.load import load_prior, prior_inputs
from cepcli.seeding import generator
from cepcli.types import TextState
from cepcli.whole_files import discard, replace, settle_all
from cepcli.workspace.artifacts import Artifact, Workspace, read_json, write_json, writing

#: Seconds after which what is done is written down.
_SAVE_SECONDS = 20.0
_PROGRESS = "progress"


@dataclass(frozen=True, slots=True)
class LabelConfig(Settings):
    """How the states of a dataset are labelled."""

    prior: str = field(metadata={"help": "who is asked"})
    abstraction: str | None = setting(None, "what describes states of control")
    batch: int = setting(64, "states in a call of the prior", AT_LEAST_ONE)
    states: int | None = setting(
        None, "only the first so many, to see what it costs; nothing is stored", AT_LEAST_ONE
    )
    journal: bool = setting(True, "whether answers are kept and reused")
    device: str = setting("cpu", "cpu, cuda or cuda:N")
    seed: int = setting(0, "of audits and of learning keys")
    cache: CacheConfig = field(default_factory=lambda: CacheConfig(mode="certified"))
    llm: PriorConfig = field(default_factory=PriorConfig)


class StateDescriber(Protocol):
    """Turns states of control into the texts that a prior reads."""

    @property
    def sha256(self) -> str:
        """Says which text for which state."""
        ...

    def texts(self, observations: Float[ndarray, "states features"]) -> list[str]:
        """The descriptions of states."""
        ...


#: Told how many states are done, of how many, and at the price of how many queries.
Advance = Callable[[int, str], None]


def label(
    data: ControlData | TextData,
    config: LabelConfig,
    workspace: Workspace,
    *,
    words: tuple[StateDescriber, Artifact | None] | None = None,
    overwrite: bool = False,
    advance: Advance = lambda done, remark: None,
    notify: Notify = lambda text: None,
) -> dict[str, Any]:
    """Label the states of a dataset; returns the figures that are stored with the labels.

    Args:
        data: the dataset.
        config: how.
        workspace: where labels, priors and the journal are.
        words: what describes states of control, and the artifact that it is from; not needed where
            the prior reads no text.
        overwrite: whether labels that are there may be replaced.
        advance: told how far it is.
        notify: told in one line about anything that takes seconds.

    Raises:
        ArtifactError: if there are such labels already.
        PriorError: if the prior cannot be had.
    """
    states_id = states_sha256(data)
    name = labels_name(data, states_id, config.prior)
    if config.states is not None:
        made = _Labelling(data, words, config, workspace, states_id, notify)
        made.run(None, advance)
        return made.card()
    with workspace.lock("labels", name):
        workspace.check_new("labels", name, overwrite=overwrite)
        folder = workspace.partial("labels", name)
        if folder.is_dir():
            with writing(workspace.root):
                write_toml(folder / "config.toml", config)
        else:
            workspace.begin(
                "labels", name, overwrite=overwrite,
                fill=lambda new: write_toml(new / "config.toml", config),
            )  # fmt: skip
        made = _Labelling(data, words, config, workspace, states_id, notify)
        with writing(workspace.root):
            made.run(folder, advance)
            np.savez_compressed(folder / LABELS_FILE, log_prior=made.log_prior)
            write_json(folder / LABELS_CARD, made.card())
            for progress in folder.glob(f"{_PROGRESS}-*"):
                discard(progress)
        inputs = [made_of.reference for made_of in made.inputs]
        artifact = workspace.finish("labels", name, seed=config.seed, inputs=inputs)
    return {**read_json(artifact.path / LABELS_CARD), "path": str(artifact.path)}


class _Labelling:
    """One labelling under way: the states, the prior behind its cache, and the labels so far."""

    def __init__(
        self,
        data: ControlData | TextData,
        words: tuple[StateDescriber, Artifact | None] | None,
        config: LabelConfig,
        workspace: Workspace,
        states_id: str,
        notify: Notify,
    ) -> None:
        assert data.env is not None, "labels are for states of a known environment"
        self._data, self._config, self._states_id = data, config, states_id
        self._env = spec(data.env)
        self._describer = None if words is None else words[0]
        if isinstance(data, ControlData):
            assert self._env.control is not None
            self._symbols, self._appended = self._env.control.actions, appended_rows(data)
            width = len(self._symbols)
        else:
            self._symbols, self._appended = (), np.zeros(0, np.int32)
            width = data.actions.shape[1]
        count = len(data) + len(self._appended)
        notify(f"Loading the prior `{config.prior}`")
        bare = load_prior(
            config.prior, family=self._env.family, workspace=workspace, config=config.llm,
            device=config.device,
            journal_path=workspace.root / "journal.sqlite" if config.journal else None,
        )  # fmt: skip
        self._telemetry = CacheTelemetry(config.cache.hit_rate_decay)
        self._auditing = generator(config.seed, "audit")
        self._cache: PriorCache | None = None
        self._control: Controller | None = None
        self._prior: Prior = bare
        if isinstance(bare, LLMPrior):
            self._prior = self._cached(bare, notify)
        self._fingerprint = self._identity(bare)
        self.inputs = prior_inputs(config.prior, workspace)
        if words is not None and words[1] is not None:
            self.inputs.append(words[1])
        count = count if config.states is None else min(config.states, count)
        self.log_prior = np.full((count, width), -np.inf, np.float32)
        self._done = 0
        self._seconds = 0.0

    def run(self, folder: Path | None, advance: Advance) -> None:
        """Label what is not labelled yet, writing down how far it is where there is a folder."""
        if folder is not None:
            self._resume(folder)
        began = saved = time.perf_counter()
        before = self._seconds
        while self._done < len(self.log_prior):
            stop = min(self._done + self._config.batch, len(self.log_prior))
            answers = self._prior.log_probs(self._states(self._done, stop))
            for row, answer in enumerate(answers, self._done):
                self.log_prior[row, : len(answer.log_prior)] = answer.log_prior
                if self._cache is None:
                    self._telemetry.record(answer)
            self._done = stop
            now = time.perf_counter()
            self._seconds = before + now - began
            advance(stop, f"{self._telemetry.queries} queries")
            if folder is not None and now - saved >= _SAVE_SECONDS:
                self._save(folder)
                saved = time.perf_counter()

    def card(self) -> dict[str, Any]:
        """What these labels are, and what they cost."""
        states, found = len(self.log_prior), self._telemetry.summary()
        return {
            "env": self._env.id,
            "prior": self._config.prior,
            "fingerprint": self._fingerprint,
            "states_sha256": self._states_id,
            "symbols": list(self._symbols),
            "states": states,
            "cache": "off" if self._cache is None else self._config.cache.mode,
            "queries_per_state": found["queries"]["total"] / states,
            "states_per_second": states / self._seconds if self._seconds else None,
            "wall_seconds": self._seconds,
            **found,
            "certificate": None if self._control is None else self._control.promise,
        }

    def _states(self, start: int, stop: int) -> list[TextState]:
        """States by number; of control, those with which an episode was cut come last."""
        data = self._data
        if isinstance(data, TextData):
            return [data.state(row) for row in range(start, stop)]
        assert self._env.control is not None
        steps = len(data)
        later = self._appended[max(start - steps, 0) : max(stop - steps, 0)]
        observations = np.concatenate([
            data.observations[start : min(stop, steps)], data.next_observations[later]
        ])  # fmt: skip
        if self._describer is None:  # enough for a prior that reads none
            texts = [""] * len(observations)
        else:
            texts = self._describer.texts(observations.astype(np.float64))
        return [TextState(self._env.control.goal, text, self._symbols) for text in texts]

    def _cached(self, bare: LLMPrior, notify: Notify) -> CachedPrior:
        config, cache, family = self._config, self._config.cache, self._env.family
        keys, key, namespace, dim = None, no_key, bare.namespace("", family), 1
        if cache.keyed:
            encoder = make_key_encoder(
                cache.encoder, focus=cache.focus, head=cache.head, device=config.device,
                notify=notify,
            )  # fmt: skip
            namespace = bare.namespace(encoder.sha256, family)
            keys = CacheKeys(encoder, namespace, bare.shape, cache, seed=config.seed)
            key, namespace, dim = keys.key, keys.namespace, keys.dim
        self._cache = PriorCache(cache, dim, namespace)
        self._cache.key_head = keys.head if keys is not None else {}
        self._control = make_controller(cache, keys)
        return CachedPrior(bare, self._cache, key, self._auditing, self._telemetry, self._control)

    def _identity(self, bare: Prior) -> str:
        """All that a state's label depends on, but for which similar text answered for which."""
        if not isinstance(bare, LLMPrior):
            return type(bare).__name__
        shape = f"temperature={bare.shape.temperature:g} smoothing={bare.shape.smoothing:g}"
        described = "-" if self._describer is None else self._describer.sha256
        return f"{bare.namespace('', self._env.family)} {shape} words={described}"

    def _settings(self) -> dict[str, Any]:
        """What a labelling must have in common with one that it goes on with."""
        cache = None if self._cache is None else str(self._cache.config)
        return {
            "fingerprint": self._fingerprint, "states_sha256": self._states_id, "cache": cache,
            "seed": self._config.seed, "batch": self._config.batch,
        }  # fmt: skip

    def _save(self, folder: Path) -> None:
        """Write down how far it is; there is a whole record of that at every moment."""
        final = folder / f"{_PROGRESS}-{self._done:010d}"
        partial = folder / f".{final.name}"
        for left_by_a_kill in folder.glob(f".{_PROGRESS}-*"):
            discard(left_by_a_kill)
        partial.mkdir()
        np.save(partial / "log_prior.npy", self.log_prior[: self._done], allow_pickle=False)
        counters, arrays = self._telemetry.state()
        np.savez(partial / "telemetry.npz", allow_pickle=False, **arrays)
        if self._cache is not None:
            self._cache.save(partial / "cache")
        write_json(partial / "state.json", {
            "settings": self._settings(),
            "settled": self._done,
            "seconds": self._seconds,
            "telemetry": counters,
            "auditing": self._auditing.bit_generator.state,
            "control": None if self._control is None else self._control.state(),
        })  # fmt: skip
        replace(partial, final)
        for older in _records(folder)[:-1]:
            discard(older)

    def _resume(self, folder: Path) -> None:
        """Go on from the last record, if there is one of the same settings."""
        records = _records(folder)
        if not records:
            return
        path = records[-1]
        state = read_json(path / "state.json")
        if state["settings"] != self._settings():
            for record in records:
                discard(record)
            return
        if self._cache is not None and self._control is not None:
            namespace = self._cache.namespace
            if self._control.keys is not None:
                self._control.keys.adopt(key_head_of(path / "cache"))
                namespace = self._control.keys.namespace
            loaded = PriorCache.load(path / "cache", namespace, self._config.cache)
            self._cache.namespace = namespace
            self._cache.restore(loaded)
            self._control.restore(state["control"])
        with np.load(path / "telemetry.npz", allow_pickle=False) as arrays:
            self._telemetry.restore(state["telemetry"], dict(arrays))
        self._auditing.bit_generator.state = state["auditing"]
        self._done, self._seconds = state["settled"], state["seconds"]
        self.log_prior[: self._done] = np.load(path / "log_prior.npy", allow_pickle=False)


def _records(folder: Path) -> list[Path]:
    """Whole records of how far a labelling is, oldest first."""
    settle_all(folder)
    return sorted(folder.glob(f"{_PROGRESS}-*"))
