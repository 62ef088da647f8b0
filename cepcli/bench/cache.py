"""How long the cache takes: look-up, insertion, eviction, audit, a whole decision answered by it.

Beside that, in the same run, what there is to compare it with: a matrix-vector product alone, a
dictionary, GPTCache, the LLM.

Example: cep bench cache
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray

from cepcli.bench.gptcache import Lookup, gptcache_lookup
from cepcli.cache.cached_prior import CachedPrior
from cepcli.cache.config import CacheConfig
from cepcli.cache.entries import CacheEntry
from cepcli.cache.store import PriorCache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.keys.key_encoder import reading
from cepcli.keys.opposites import alike
from cepcli.posterior import log_posterior, sample_action
from cepcli.prior.base import (
    AnswerKind,
    Namespace,
    Prior,
    Prompt,
    ScorerFingerprint,
    UniformPrior,
)
from cepcli.prior.local.embedded import EMBEDDED
from cepcli.prior.local.hf import HFScorer
from cepcli.prior.local.language_model import load_language_model
from cepcli.seeding import generator, stream_seed
from cepcli.types import TextState

_GOAL = "goal"
_TEMPERATURE = 0.5
_THINGS = ("red ball", "blue key", "door", "box")
_SEEN = (
    "You see a wall 3 steps forward and a wall 2 steps left. You see a grey box 2 steps right and "
    "1 step forward. You see a purple key 1 step left and 3 steps forward. You see a closed green "
    "door 4 steps right. You carry nothing, and nobody is here."
)
_NAMESPACE = Namespace(ScorerFingerprint("bench", "", "", "", "", ""), "", "", "bench")

_OURS: tuple[str, ...] = (
    "lookup_posterior", "exact_posterior", "lookup", "gate", "insert", "evict", "audit",
)  # fmt: skip
_OTHERS: tuple[str, ...] = ("matvec", "dict", "gptcache")

_ROUNDS = 20
_KEY_FREEDOM = 12  # dimensions of the curved surface that the keys lie on, as sentences' keys do
_ORDER = 4096  # places looked up, one after another, before they come again

#: Beyond so many entries GPTCache is left out: it fills slowly.
MOST_IN_GPTCACHE = 1000

#: One call of what is timed, the so-manieth; returns its seconds, without what prepares it.
Contender = Callable[[int], float]


def bench_cache(
    capacities: Sequence[int] = (100, 1000, 10_000, 100_000),
    *,
    dim: int = 384,
    actions: int = 8,
    repeats: int = 1000,
    seconds: float = 1.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Median microseconds by capacity K of a full cache with one goal, its index as by default.

    All that is timed at one K takes turns, a block of calls each, so that a busy machine slows all
    alike; a median is of `repeats` calls, or of fewer where those take longer than `seconds`. Torch
    is held to one thread, numpy to as many as the environment says. Keys are given, since embedding
    a text is the encoder's time, and each is the key of an entry.

    - `lookup_us`: `PriorCache.nearest`, the nearest-neighbour search and its entry, no gate;
    - `gate_us`: what a gate adds to that: a text of 50 words is read and compared with another one;
    - `insert_us`: a new entry into the full cache, one being evicted for it;
    - `evict_us`: the part of that which chooses an entry and forgets it;
    - `audit_us`: a semantic hit that is audited, its new entry included, the LLM's time left out;
    - `lookup_posterior_us`: a semantic hit from key to sampled action;
    - `exact_posterior_us`: the same for a text seen before;
    - `matvec_us`: a matrix-vector product over the same keys, and the place of the largest number;
    - `dict_us`: a dictionary probe by the text;
    - `gptcache_us`: GPTCache's look-up at most at `MOST_IN_GPTCACHE` entries, where installed.

    `matvec_ratio` is our look-up over the product, `gptcache_ratio` GPTCache's over ours, `llm_ms`
    what the embedded model takes for a decision with as many actions.
    """
    result: dict[str, Any] = {f"{name}_us": {} for name in (*_OURS, *_OTHERS)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for capacity in capacities:
            cache = _FullCache(capacity, dim, actions, seed)
            with _gptcache(cache.keys) as other:
                micros = _median_micros(_contenders(cache, other), repeats, seconds)
            for name, median in micros.items():
                result[f"{name}_us"][str(capacity)] = median
        result["llm_ms"] = _llm_ms(actions)
    finally:
        torch.set_num_threads(threads)
    result["matvec_ratio"] = _ratio(result["lookup_us"], result["matvec_us"])
    result["gptcache_ratio"] = _ratio(result["gptcache_us"], result["lookup_us"])
    return result | {"dim": dim, "actions": actions, "repeats": repeats}


def _ratio(slower: Mapping[str, float], faster: Mapping[str, float]) -> dict[str, float]:
    return {k: round(micros / faster[k], 2) for k, micros in slower.items()}


def _gptcache(keys: Float32[ndarray, "rows dim"]) -> AbstractContextManager[Lookup | None]:
    return gptcache_lookup(keys) if len(keys) <= MOST_IN_GPTCACHE else nullcontext()


class _FullCache:
    """A full cache and what may be done to it; each method is a `Contender`.

    The oldest entry is the one that goes, and each new one is put under the key of the one that
    goes: whatever is inserted, the cache holds the same keys, and every look-up finds its own.
    """

    def __init__(self, capacity: int, dim: int, actions: int, seed: int) -> None:
        random = generator(seed, "bench-cache")
        self.keys = _keys(capacity, dim, random)
        self.texts = [""] * capacity
        self._order = random.integers(capacity, size=_ORDER).tolist()
        self._names = tuple(f"action {number}" for number in range(actions))
        config = CacheConfig(
            mode="fifo", gate="off", capacity=capacity, threshold=0.99, refresh_rate=0.0
        )
        self._cache = PriorCache(config, dim, _NAMESPACE)
        self._inserted = 0
        for scores in random.standard_normal((capacity, actions)):
            self._cache.insert(_GOAL, *self._renewed(), self._scores(scores))
        self._fresh_scores = self._scores(random.standard_normal(actions))
        self._q_values = torch.from_numpy(random.standard_normal(actions))
        self._sampler = torch.Generator().manual_seed(stream_seed(seed, "bench-actions"))
        self._key = self.keys[0]
        self._telemetry = CacheTelemetry(config.hit_rate_decay)
        self._prior: Prior = CachedPrior(
            UniformPrior(), self._cache, lambda *_: self._key, random, self._telemetry
        )

    def place(self, number: int) -> int:
        """Which of the keys the so-manieth look-up is for."""
        return self._order[number % _ORDER]

    def lookup(self, number: int) -> float:
        key, state = self.keys[self.place(number)], TextState(_GOAL, "", self._names)
        start = perf_counter()
        self._cache.nearest(state, key)
        return perf_counter() - start

    def gate(self, number: int) -> float:
        known = reading(_GOAL, _SEEN, focus=True)
        text = _SEEN.replace("box", _THINGS[number % len(_THINGS)])
        start = perf_counter()
        alike(reading(_GOAL, text, focus=True), known, self._names)
        return perf_counter() - start

    def insert(self, number: int) -> float:
        text, key = self._renewed()
        start = perf_counter()
        self._cache.insert(_GOAL, text, key, self._fresh_scores)
        return perf_counter() - start

    def evict(self, number: int) -> float:
        start = perf_counter()
        self._cache.evict()
        seconds = perf_counter() - start
        self.insert(number)
        return seconds

    def audit(self, number: int) -> float:
        text, self._key = self._renewed()
        knobs = self._cache.knobs
        self._cache.set_knobs(knobs._replace(refresh_rate=1.0))
        start = perf_counter()
        self._prior.log_probs([TextState(_GOAL, text, self._names)])
        seconds = perf_counter() - start
        self._cache.set_knobs(knobs)
        return seconds

    def semantic(self, number: int) -> float:
        self._key = self.keys[self.place(number)]
        return self._decide(f"never seen {number}")

    def exact(self, number: int) -> float:
        return self._decide(self.texts[self.place(number)])

    def counted(self, kind: AnswerKind) -> int:
        """Decisions answered in one way so far."""
        return self._telemetry.counts[kind]

    def entries(self) -> dict[str, CacheEntry]:
        """A plain dictionary of the entries by text."""
        return {entry.text: entry for entry in self._cache}

    def _decide(self, text: str) -> float:
        start = perf_counter()
        (answer,) = self._prior.log_probs([TextState(_GOAL, text, self._names)])
        log_prior = torch.from_numpy(answer.log_prior)
        sample_action(log_posterior(log_prior, self._q_values, _TEMPERATURE), self._sampler).item()
        return perf_counter() - start

    def _renewed(self) -> tuple[str, Float32[ndarray, " dim"]]:
        """The next new text, and the key of the oldest entry, which it replaces."""
        place = self._inserted % len(self.keys)
        text = self.texts[place] = f"seen {self._inserted}"
        self._inserted += 1
        return text, self.keys[place]

    def _scores(self, values: ndarray) -> dict[str, float]:
        return dict(zip(self._names, values.tolist(), strict=True))


def _keys(capacity: int, dim: int, random: np.random.Generator) -> Float32[ndarray, "rows dim"]:
    """Unit keys on a curved surface, spread like those of sentences: not all equally far apart."""
    inner = random.standard_normal((_KEY_FREEDOM, dim), dtype=np.float32)
    outer = random.standard_normal((dim, dim), dtype=np.float32)
    points = random.standard_normal((capacity, _KEY_FREEDOM), dtype=np.float32)
    keys = np.tanh(points @ inner / 3) @ outer
    return keys / np.linalg.norm(keys, axis=1, keepdims=True)


def _contenders(cache: _FullCache, gptcache: Lookup | None) -> dict[str, Contender]:
    """All that takes turns, under the names of the result."""
    keys, entries = cache.keys, cache.entries()
    texts = [f"seen {number}" for number in range(len(keys))]  # equal, not the same objects
    products = np.empty(len(keys), np.float32)

    def matvec(number: int) -> float:
        key = keys[cache.place(number)]
        start = perf_counter()
        np.dot(keys, key, out=products).argmax()
        return perf_counter() - start

    def probe(number: int) -> float:
        text = texts[cache.place(number)]
        start = perf_counter()
        entries.get(text)
        return perf_counter() - start

    def other(number: int) -> float:
        assert gptcache is not None
        place = cache.place(number)
        start = perf_counter()
        found = gptcache(keys[place])
        seconds = perf_counter() - start
        assert found == place, "GPTCache found another entry"
        return seconds

    calls = (
        cache.semantic, cache.exact, cache.lookup, cache.gate, cache.insert, cache.evict,
        cache.audit, matvec, probe, other,
    )  # fmt: skip
    contenders = dict(zip((*_OURS, *_OTHERS), calls, strict=True))
    if gptcache is None:
        del contenders["gptcache"]
    return contenders


def _median_micros(
    contenders: Mapping[str, Contender], repeats: int, seconds: float
) -> dict[str, float]:
    """The median of each, in blocks that take turns; the first round warms up."""
    rounds = min(_ROUNDS, repeats)
    block = -(-repeats // rounds)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, call in contenders.items():
            end = perf_counter() + seconds / rounds
            taken = [call(turn * block)]
            while len(taken) < block and perf_counter() < end:
                taken.append(call(turn * block + len(taken)))
            if turn > 0:
                times[name].extend(taken)
    return {name: round(float(np.median(taken)) * 1e6, 2) for name, taken in times.items()}


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
