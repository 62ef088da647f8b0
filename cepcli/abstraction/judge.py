"""How good an abstraction is, on annotations that it was not trained on.

What is judged, and the priors that are needed for it, is stored beside the abstraction, so that
`cep abstract eval` asks no LLM.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from numpy import ndarray

from cepcli.abstraction.annotated import Annotated
from cepcli.abstraction.states import Abstraction, Bank
from cepcli.errors import ArtifactError
from cepcli.keys.quality import hits_at_equal_kl, lipschitz

STATES, ARRAYS = "heldout.jsonl", "heldout.npz"
_MOST_RETRIEVED = 5
_COLOURS = 10  # of matplotlib's default cycle
#: What a certified cache promises by default: so many nats, for such a share of the hits.
_BUDGET, _WITHIN_BUDGET = 0.5, 0.9


class HeldOut(NamedTuple):
    """Annotations that only judge, and what is known of them and of those in the bank.

    Attributes:
        described: unit vectors of the held-out descriptions, in the space of the keys.
        log_priors: of the true descriptions, nats; of the bank's annotations first, in its order.
        log_priors_described: of what the abstraction says of the held-out states instead.
        keys_before: keys before the joint stage, in the order of `log_priors`.
        goals: a number per task text, in the same order.
    """

    annotated: Annotated
    described: Float32[ndarray, "states dim"]
    log_priors: Float[ndarray, "known actions"]
    log_priors_described: Float[ndarray, "states actions"]
    keys_before: Float32[ndarray, "known dim"]
    goals: Int[ndarray, " known"]

    def save(self, folder: Path) -> None:
        """Write it into a directory."""
        columns = self.annotated[1:]
        with (folder / STATES).open("w", encoding="utf-8") as file:
            for goal, text, primitive, slots in zip(*columns, strict=True):
                row = {"goal": goal, "text": text, "primitive": primitive, "slots": dict(slots)}
                file.write(json.dumps(row) + "\n")
        arrays = {**self._asdict(), "observations": self.annotated.observations}
        arrays.pop("annotated")
        np.savez(folder / ARRAYS, **arrays)

    @classmethod
    def load(cls, folder: Path) -> "HeldOut":
        """What `save` wrote.

        Raises:
            ArtifactError: if it is damaged.
        """
        try:
            lines = (folder / STATES).read_text(encoding="utf-8").splitlines()
            rows = [json.loads(line) for line in lines]
            with np.load(folder / ARRAYS, allow_pickle=False) as file:
                arrays = dict(file)
            columns = (tuple(r[k] for r in rows) for k in ("goal", "text", "primitive", "slots"))
            return cls(Annotated(arrays.pop("observations"), *columns), **arrays)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"The held-out annotations in `{folder}` are damaged: {error}.",
                "Make the abstraction again: cep abstract train --overwrite",
            ) from error


def judge(abstraction: Abstraction, heldout: HeldOut, margin: float) -> dict[str, Any]:
    """Every figure of `cep abstract eval`, by name.

    `margin` is the one from which labels were propagated.
    """
    annotated = heldout.annotated
    bank, keys = abstraction.bank, abstraction.keys(annotated.observations)
    return {
        "states": len(keys),
        "retrieval": _retrieval(keys, heldout.described, annotated.texts),
        "propagation": _propagation(abstraction, keys, annotated, margin),
        "slots": _slots(abstraction, annotated),
        "keys": {
            "before": _reuse(heldout.keys_before, heldout),
            "after": _reuse(np.concatenate([bank.keys[bank.annotated], keys]), heldout),
        },
        "prior_kl": prior_kl(heldout.log_priors_described, heldout.log_priors[-len(keys) :]),
    }


def prior_kl(
    described: Float[ndarray, "states actions"], true: Float[ndarray, "states actions"]
) -> dict[str, float]:
    """KL(p̂‖p) over states, nats: p̂ from the abstraction's description, p from the true one."""
    kl = (np.exp(described) * (described - true)).sum(1)
    return {
        "mean": float(kl.mean()),
        "median": float(np.median(kl)),
        "p95": float(np.quantile(kl, 0.95)),
    }


def _retrieval(
    keys: Float32[ndarray, "states dim"],
    described: Float32[ndarray, "states dim"],
    texts: Sequence[str],
) -> dict[str, float]:
    """How often a state's own description is the nearest, or among the five nearest.

    Of all that the held-out states have, each distinct one counted once.
    """
    first = list({text: row for row, text in reversed(list(enumerate(texts)))}.values())
    own = np.array([[texts[row] == texts[other] for other in first] for row in range(len(texts))])
    ranked = np.argsort(-(keys @ described[first].T), axis=1, kind="stable")
    hits = np.take_along_axis(own, ranked, 1)
    return {
        "texts": len(first),
        "top1": float(hits[:, 0].mean()),
        "top5": float(hits[:, :_MOST_RETRIEVED].any(1).mean()),
        "chance": 1.0 / len(first),
    }


def _propagation(
    abstraction: Abstraction,
    keys: Float32[ndarray, "states dim"],
    annotated: Annotated,
    margin: float,
) -> dict[str, float]:
    """What the annotated entries alone say of states whose labels are known.

    `coverage` is the share whose vote is clear enough; accuracies are over those, 0 without any.
    """
    bank = abstraction.bank
    mask = bank.annotated
    alone = Bank(bank.keys[mask], bank.codes[mask], mask[mask], bank.counts, bank.neighbours)
    vote = alone.vote(keys)
    clear = vote.lead >= margin
    right = _right(abstraction, vote.codes[:, :-1].tolist(), annotated)
    primitives = np.array([abstraction.primitives[code] for code in vote.codes[:, -1]])
    named = primitives == np.array(annotated.primitives)
    if not clear.any():
        return {"coverage": 0.0, "slots": 0.0, "whole": 0.0, "primitive": 0.0}
    return {
        "coverage": float(clear.mean()),
        "slots": float(right[clear].mean()),
        "whole": float(right[clear].all(1).mean()),
        "primitive": float(named[clear].mean()),
    }


def _slots(abstraction: Abstraction, annotated: Annotated) -> dict[str, Any]:
    """Share of right phrases in the descriptions, by slot; and of wholly right descriptions.

    `majority` is what always naming a slot's commonest phrase would reach on these states.
    """
    keys = abstraction.keys(annotated.observations)
    codes = abstraction.bank.vote(keys).codes[:, :-1].tolist()
    right = _right(abstraction, codes, annotated)
    slots = abstraction.form.slots
    columns = [[row.get(slot, "") for row in annotated.slots] for slot in slots]
    majority = [max(map(column.count, set(column))) / len(column) for column in columns]
    return {
        "mean": float(right.mean()),
        "whole": float(right.all(1).mean()),
        "majority": float(np.mean(majority)),
        "by_slot": dict(zip(slots, right.mean(0).tolist(), strict=True)),
    }


def _right(
    abstraction: Abstraction, codes: Sequence[Sequence[int]], annotated: Annotated
) -> Bool[ndarray, "states slots"]:
    """Which phrases are the annotated ones."""
    slots = abstraction.form.slots
    told = [abstraction.phrases_of(row) for row in codes]
    true = [tuple(row.get(slot) for slot in slots) for row in annotated.slots]
    pairs = zip(told, true, strict=True)
    return np.array([[a == b for a, b in zip(*pair, strict=True)] for pair in pairs])


def _reuse(keys: Float32[ndarray, "known dim"], heldout: HeldOut) -> dict[str, float]:
    """What the keys are worth to a cache that holds the bank's annotations, on held-out states.

    `lipschitz` is L of 99 % of the pairs (held-out state, annotation), `largest` that of all;
    `hit_rate` what a cache reaches at which 90 % of the hits keep to span²/8 ≤ 0.5 nats.
    """
    priors = [{str(a): p for a, p in enumerate(row)} for row in heldout.log_priors.tolist()]
    start = len(keys) - len(heldout.annotated.texts)
    bound = lipschitz(keys, heldout.goals, priors, start=start)
    hits = hits_at_equal_kl(
        keys, heldout.goals, priors,
        target=_BUDGET, start=start, cost="bound", quantile=_WITHIN_BUDGET,
    )  # fmt: skip
    return {"lipschitz": bound.quantile, "largest": bound.largest, "hit_rate": hits.hit_rate}


def plot_map(abstraction: Abstraction, heldout: Float32[ndarray, "states dim"], path: Path) -> None:
    """Write a map of the bank's keys as PNG: two principal components, coloured by primitive.

    Annotations are large points, propagated labels small ones, and keys of held-out states rings.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bank = abstraction.bank
    centre = bank.keys.mean(0)
    _, variances, directions = np.linalg.svd(bank.keys - centre, full_matrices=False)
    plane = directions[:2].T
    share = variances[:2] ** 2 / max(float((variances**2).sum()), np.finfo(float).tiny)

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = (bank.keys - centre) @ plane
    primitives = bank.codes[:, -1]
    for code in np.unique(primitives):
        name = abstraction.primitives[code] if code >= 0 else "none"
        here = primitives == code
        for shown, size in ((here & ~bank.annotated, 4), (here & bank.annotated, 28)):
            label = name if size > 4 else None
            axes.scatter(*points[shown].T, s=size, color=f"C{code % _COLOURS}", label=label)
    rings = (heldout - centre) @ plane
    axes.scatter(*rings.T, s=40, facecolors="none", edgecolors="0.3", label="held out")
    axes.set(
        title=f"Keys of {abstraction.family}, by primitive",
        xlabel=f"first principal component, {share[0]:.0%} of the variance",
        ylabel=f"second, {share[1]:.0%}",
    )
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)
