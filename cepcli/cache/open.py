"""Opens a cache around a prior: keys, entries, controller, audits and telemetry of one run."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cepcli.cache.cache_keys import CacheKeys, Keys, no_key
from cepcli.cache.cached_prior import CachedPrior
from cepcli.cache.config import CacheConfig
from cepcli.cache.controllers import Controller, make_controller
from cepcli.cache.store import PriorCache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.keys.encoder import TextEncoder
from cepcli.keys.head import Head
from cepcli.keys.key_encoder import KeyEncoder, make_encoder
from cepcli.prior.base import Namespace, Prior
from cepcli.seeding import generator


class OpenCache(NamedTuple):
    """A prior behind a cache, and what it is made of.

    Attributes:
        inner: the prior that is asked where the cache cannot answer.
        cache: the entries.
        controller: moves the cache's parameters, and learns its keys if it has any.
        auditing: decides which hits are audited.
        telemetry: counts every decision.
    """

    inner: Prior
    cache: PriorCache
    controller: Controller
    auditing: np.random.Generator
    telemetry: CacheTelemetry

    @property
    def key(self) -> Callable[[str, str], np.ndarray]:
        """Goal and text to unit key."""
        return no_key if self.controller.keys is None else self.controller.keys.key

    def prior(self, telemetry: CacheTelemetry | None = None) -> CachedPrior:
        """The cached prior, counting into `telemetry` if it is given."""
        counting = self.telemetry if telemetry is None else telemetry
        return CachedPrior(
            self.inner, self.cache, self.key, self.auditing, counting, self.controller
        )

    def frozen(self, telemetry: CacheTelemetry) -> CachedPrior:
        """The same behind a read-only view of the cache, counting into `telemetry`."""
        unused = np.random.default_rng(0)
        return CachedPrior(self.inner, self.cache.frozen(), self.key, unused, telemetry)


def open_cache(
    inner: Prior,
    config: CacheConfig,
    namespace: Namespace,
    *,
    seed: int,
    made: Keys | None = None,
    encoder: TextEncoder | None = None,
    device: str = "cpu",
    notify: Callable[[str], None] = lambda text: None,
) -> OpenCache:
    """An empty cache around `inner`.

    Args:
        inner: the prior whose answers are stored.
        config: the cache.
        namespace: what the scores belong to; the key encoder is filled in here.
        seed: decides which hits are audited, and how keys are learned.
        made: keys that were made beforehand, in place of an encoder.
        encoder: embeds texts; by default the one that `config` names.
        device: of that one.
        notify: told what takes long.

    Raises:
        CacheError: if the head that `config` names cannot be read, or fits another encoder.
        ConfigError, PriorError: as `make_encoder`.
    """
    keys = None
    if config.keyed:
        if made is None:
            vectors = encoder or make_encoder(config.encoder, device, notify)
            made = KeyEncoder(vectors, config.focus)
            if config.head is not None:
                made = made.with_head(Head.load(Path(config.head).expanduser()))
        keys = CacheKeys(made, namespace, inner.shape, config, seed=seed)
        namespace = keys.namespace
    cache = PriorCache(config, 1 if keys is None else keys.dim, namespace)
    cache.key_head = {} if keys is None else keys.head
    return OpenCache(
        inner,
        cache,
        make_controller(config, keys),
        generator(seed, "audit"),
        CacheTelemetry(config.hit_rate_decay),
    )
