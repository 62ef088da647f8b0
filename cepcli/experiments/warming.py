"""Caches that are filled ahead of a run: from a trace, or by asking a prior about demonstrations.

Example: cep cache warm --env babyai/goto-redball --prior goto-redball --demos 50 -o warm
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cepcli.cache.config import CacheConfig
from cepcli.cache.disk import storage
from cepcli.cache.store import PriorCache
from cepcli.cache.trace import read_trace
from cepcli.cache.warm import KnownScores, ask, distinct, filled, traced_scores
from cepcli.config import build, merge, read_toml
from cepcli.datasets.demonstrations import demos_decisions
from cepcli.datasets.lessons import demos_for
from cepcli.envs import catalog
from cepcli.errors import ConfigError
from cepcli.experiments.replaying import find_trace
from cepcli.keys.encoder import EmbeddingTable, Remembering
from cepcli.keys.key_encoder import KeyEncoder, make_key_encoder
from cepcli.listener import Listener, Notify
from cepcli.prior import load
from cepcli.prior.base import Namespace, PriorShape
from cepcli.prior.config import PriorConfig, ServerConfig
from cepcli.prior.llm import LLMPrior
from cepcli.prior.load import UNIFORM, find_prior
from cepcli.workspace.artifacts import Workspace


class Source(NamedTuple):
    """Scores for a cache, and where they are from.

    Attributes:
        env: the environment's id.
        prior: the prior's name; None if it is not known.
        namespace: what the scores belong to.
        shape: how scores become a prior.
        scores: of each text.
        queries: states that the prior was asked about.
        paid: those of them for which the LLM was asked now.
    """

    env: str
    prior: str | None
    namespace: Namespace
    shape: PriorShape
    scores: KnownScores
    queries: int = 0
    paid: int = 0


def warm_config(values: Mapping[str, Any]) -> CacheConfig:
    """The cache to fill, from what a user has set; certified unless another mode is named."""
    config = build(CacheConfig, merge({"mode": "certified"}, values))
    if config.mode == "off":
        raise ConfigError("A cache of mode `off` holds nothing.", "Try --set mode=exact")
    if config.start is not None:
        raise ConfigError(
            "`start` is for runs; `cep cache warm` fills a new cache.",
            "To join caches of one namespace: cep cache merge",
        )
    return config


def fill(source: Source, config: CacheConfig, keys: KeyEncoder | None, output: Path) -> PriorCache:
    """The cache of a source's scores, written to the new directory `output`."""
    cache = filled(config, keys, source.namespace, source.shape, source.scores)
    storage.write_new(output, cache.saved())
    return cache


def warm_keys(config: CacheConfig, device: str, notify: Notify) -> KeyEncoder | None:
    """The key encoder, if texts are compared; its vectors are remembered for a learned head."""
    if not config.keyed:
        return None
    keys = make_key_encoder(
        config.encoder, focus=config.focus, head=config.head, device=device, notify=notify
    )
    if config.encoder == "hash":
        return keys
    return keys._replace(encoder=Remembering(EmbeddingTable(keys.encoder)))


def from_trace(name: str, prior: str | None, workspace: Workspace) -> Source:
    """The fresh scores of a trace; the configuration of its run says of which prior they are."""
    path = find_trace(name, workspace)
    trace = read_trace(path)
    record = (path if path.is_dir() else path.parent) / "config.toml"
    recorded = read_toml(record).get("prior") if record.is_file() else None
    if None not in (prior, recorded) and prior != recorded:
        raise ConfigError(
            f"The trace `{name}` is of the prior `{recorded}`, not of `{prior}`.",
            "Leave --prior out.",
        )
    return Source(trace.env, recorded or prior, trace.namespace, trace.shape, traced_scores(trace))


def from_demos(
    env: str,
    episodes: int,
    prior: str | None,
    config: CacheConfig,
    workspace: Workspace,
    *,
    device: str = "cpu",
    insecure: bool = False,
    listener: Listener,
) -> Source:
    """What a prior says of the states of an expert's first episodes, through the journal."""
    if prior is None or prior == UNIFORM:  # refused before demonstrations are recorded
        said = "No prior is named." if prior is None else f"The prior `{prior}` asks no LLM."
        raise ConfigError(said, "Name one with --prior; see cep prior list")
    family = catalog.spec(env).family
    listener.before_model(find_prior(prior, workspace).model)
    loaded = load.load_prior(
        prior, family=family, workspace=workspace,
        config=PriorConfig(server=ServerConfig(insecure=insecure)), device=device,
        journal_path=workspace.root / "journal.sqlite",
    )  # fmt: skip
    assert isinstance(loaded, LLMPrior), prior
    demos = demos_decisions(demos_for(env, None, episodes, workspace, listener), "train")
    states = distinct(d.state for d in demos if d.episode < episodes)[-config.capacity :]
    with listener.progress(f"Asking {prior}", len(states)) as advance:
        asked = ask(loaded, states, advance)
    namespace = loaded.namespace("", family)
    return Source(env, prior, namespace, loaded.shape, asked.scores, asked.queries, asked.paid)
