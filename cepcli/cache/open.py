"""Opens a cache around a prior: keys, entries, controller, audits and telemetry of one run."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cepcli.cache.cache_keys import CacheKeys, no_key
from cepcli.cache.cached_prior import CachedPrior
from cepcli.cache.config import CacheConfig
from cepcli.cache.controllers.controllers import make_controller
from cepcli.cache.controllers.runner import Control
from cepcli.cache.store import PriorCache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.keys.catalog import make_encoder
from cepcli.keys.encoder import TextEncoder
from cepcli.keys.head import Head
from cepcli.keys.key_encoder import KeyEncoder
from cepcli.prior.base import Namespace, Prior
from cepcli.seeding import generator


class OpenCache(NamedTuple):
    """A prior behind a cache, and what it is made of.

    Attributes:
        inner: the prior that is asked where the cache cannot answer.
        cache: the entries.
        control: moves the cache's parameters, and learns its keys if it has any.
        auditing: decides which hits are audited.
        telemetry: counts every decision.
    """

    inner: Prior
    cache: PriorCache
    control: Control
    auditing: np.random.Generator
    telemetry: CacheTelemetry

    @property
    def key(self) -> Callable[[str, str], np.ndarray]:
        """Goal and text to unit key."""
        return no_key if self.control.keys is None else self.control.keys.key

    def prior(self, telemetry: CacheTelemetry | None = None) -> CachedPrior:
        """The cached prior, counting into `telemetry` if it is given."""
        counting = self.telemetry if telemetry is None else telemetry
        return CachedPrior(self.inner, self.cache, self.key, self.auditing, counting, self.control)

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
        encoder: embeds texts; by default the one that `config` names.
        device: of that one.
        notify: told what takes long.

    Raises:
        CacheError: if the head that `config` names cannot be read, or fits another encoder.
        ConfigError, PriorError: as `make_encoder`.
    """
    keys = None
    if config.keyed:
        vectors = encoder or make_encoder(config.encoder, device, notify)
        own = KeyEncoder(vectors, config.focus)
        if config.head is not None:
            own = own.with_head(Head.load(Path(config.head).expanduser()))
        keys = CacheKeys(own, namespace, inner.shape, config, seed=seed)
        namespace = keys.namespace
    cache = PriorCache(config, 1 if keys is None else keys.dim, namespace)
    cache.key_head = {} if keys is None else keys.head
    return OpenCache(
        inner,
        cache,
        Control(make_controller(config), config.control_interval, keys),
        generator(seed, "audit"),
        CacheTelemetry(config.hit_rate_decay),
    )
