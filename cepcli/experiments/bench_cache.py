"""How long a decision takes when the cache answers: look-up, prior, posterior, one sampled action.

Example: cep bench cache
"""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch

from cepcli.cache.cached_prior import CachedPrior
from cepcli.cache.config import CacheConfig
from cepcli.cache.store import PriorCache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.posterior.maths import log_posterior, sample_action
from cepcli.prior.base import Namespace, Prior, Prompt, ScorerFingerprint, UniformPrior
from cepcli.prior.hf import HFScorer
from cepcli.prior.language_model import EMBEDDED, load_language_model
from cepcli.seeding import generator, stream_seed
from cepcli.types import TextState

_TEMPERATURE = 0.5
_THINGS = ("red ball", "blue key", "door", "box")
_WARM_UP = 50


def bench_cache(
    capacities: Sequence[int] = (100, 1000, 10_000),
    *,
    dim: int = 384,
    actions: int = 8,
    repeats: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Median microseconds on one thread, by capacity K of a full cache with one goal.

    `lookup_posterior_us` is a semantic hit with its key given (embedding the text is the encoder's
    time), the prior, the posterior and a sampled action; `exact_posterior_us` the same for a text
    seen before; `lookup_us` the nearest-neighbour search alone; `llm_ms` what the embedded model
    takes for a decision with as many actions.
    """
    names = ("lookup_posterior_us", "exact_posterior_us", "lookup_us")
    result: dict[str, Any] = {name: {} for name in names}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for capacity in capacities:
            times = _bench_one(capacity, dim, actions, repeats, seed)
            for name, micros in zip(names, times, strict=True):
                result[name][str(capacity)] = micros
        result["llm_ms"] = _llm_ms(actions)
    finally:
        torch.set_num_threads(threads)
    return result | {"dim": dim, "actions": actions, "repeats": repeats}


def _llm_ms(actions: int, repeats: int = 5) -> float:
    """Median milliseconds of the embedded model for one decision with as many actions."""
    scorer = HFScorer(load_language_model(EMBEDDED), template="bench", row_tokens=512)
    names = [f"{verb} the {thing}" for verb in ("take", "open", "drop") for thing in _THINGS]
    prefix = "An agent walks through a house and does one thing at a time."
    times = []
    for number in range(repeats + 1):
        prompt = Prompt(prefix, f"You see a {_THINGS[number % 4]} {number} steps ahead." * 4)
        start = perf_counter()
        scorer.score([prompt], [names[:actions]])
        times.append(1e3 * (perf_counter() - start))
    return float(np.median(times[1:]))


def _bench_one(
    capacity: int, dim: int, actions: int, repeats: int, seed: int
) -> tuple[float, float, float]:
    random = generator(seed, "bench-cache")
    keys = random.standard_normal((capacity, dim), dtype=np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    names = tuple(f"action {number}" for number in range(actions))
    config = CacheConfig(mode="lru", capacity=capacity, threshold=0.99, refresh_rate=0.0)
    cache = PriorCache(config, dim, _NAMESPACE)
    for number, key in enumerate(keys):
        scores = dict(zip(names, map(float, random.standard_normal(actions)), strict=True))
        cache.insert("goal", f"seen {number}", key, scores)
    q_values = torch.from_numpy(random.standard_normal(actions))
    sampler = torch.Generator().manual_seed(stream_seed(seed, "bench-actions"))
    given = iter(keys[random.integers(capacity, size=repeats + _WARM_UP)])
    telemetry = CacheTelemetry(config.hit_rate_decay)
    prior: Prior = CachedPrior(UniformPrior(), cache, lambda *_: next(given), random, telemetry)

    def decide(text: str) -> None:
        (answer,) = prior.log_probs([TextState("goal", text, names)])
        log_prior = torch.from_numpy(answer.log_prior)
        sample_action(log_posterior(log_prior, q_values, _TEMPERATURE), sampler).item()

    semantic = _median_micros(lambda i: decide(f"new {i}"), repeats)
    exact = _median_micros(lambda i: decide(f"seen {i % capacity}"), repeats)
    lookup = _median_micros(lambda i: cache.nearest("goal", keys[i % capacity]), repeats)
    assert telemetry.counts["semantic"] == telemetry.counts["exact"] == repeats + _WARM_UP
    return semantic, exact, lookup


_NAMESPACE = Namespace(ScorerFingerprint("bench", "", "", "", "", ""), "", "", "bench")


def _median_micros(call: Callable[[int], object], repeats: int) -> float:
    times = np.empty(repeats + _WARM_UP)
    for number in range(len(times)):
        start = perf_counter()
        call(number)
        times[number] = perf_counter() - start
    return round(float(np.median(times[_WARM_UP:])) * 1e6, 2)
