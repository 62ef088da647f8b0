"""Made-up traces: texts with given keys and scores, so that the right answer is known."""

import numpy as np

from cepcli.cache.replay.play import KeyTable
from cepcli.cache.trace import Trace, TracedDecision
from cepcli.prior.base import PriorShape
from cepcli.types import TextState
from tests.fakes import NAMESPACE

ACTIONS = ("left", "right", "on")


def trace_of(texts, scores, order, *, goal="g", q_values=None, actions=ACTIONS):
    """A trace that visits `texts` in `order`; `scores[text]` has a score per action."""
    states = [TextState(goal, text, actions) for text in texts]
    known = {
        (goal, text): dict(zip(actions, row, strict=True))
        for text, row in zip(texts, scores, strict=True)
    }
    decisions = [
        TracedDecision(states[i], n // 20, "miss", q_values, 0.5) for n, i in enumerate(order)
    ]
    return Trace("made-up", NAMESPACE, PriorShape(), decisions, known)


def keys_of(texts, keys, *, goal="g"):
    """The keys as `replay` takes them."""
    return KeyTable({(goal, text): row for row, text in enumerate(texts)}, np.asarray(keys), "made")


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def smooth_world(random, clusters=40, members=60, dim=16, spread=0.1):
    """Clusters of texts whose scores are those of their centre, up to what distance allows."""
    centres = unit(random.standard_normal((clusters, dim)))
    weights = random.standard_normal((dim, len(ACTIONS)))
    keys, scores = [], []
    for _ in range(members):
        near = unit(centres + spread * random.standard_normal(centres.shape) / np.sqrt(dim))
        keys.append(near)
        scores.append(near @ weights)
    keys, scores = np.concatenate(keys), np.concatenate(scores)
    return keys, scores


def adversarial_world(random, pairs=1500, dim=16, share=0.3):
    """Pairs of nearly identical keys; in a `share` of them the priors are opposite."""
    first = unit(random.standard_normal((pairs, dim)))
    second = unit(first + 1e-3 * random.standard_normal(first.shape))
    likes = random.choice([-4.0, 4.0], pairs)
    turned = np.where(random.random(pairs) < share, -likes, likes)
    keys = np.stack([first, second], 1).reshape(-1, dim)
    likes = np.stack([likes, turned], 1).reshape(-1)
    scores = np.stack([likes, -likes, np.zeros_like(likes)], 1)
    return keys, scores
