"""Whether KL(π̂‖π) keeps to its bounds where the abstraction is disturbed on purpose.

States that a run of `hybrid-sac` visits are described wrongly, in two ways: slots are flipped to
another phrase of theirs, or the key is moved before its neighbours in the bank are looked up. The
prior of the wrong text stands for the cached one, that of the right text for the fresh one. Their
posteriors, at the run's Q and τ, differ by KL(π̂‖π), which is compared with

- span²/8 (Proposition 1), which no pair may exceed;
- L²(1−δ) (its corollary), δ the cosine of the two keys: L, the largest ‖log p̂ − log p‖∞/‖z − z′‖
  of the even episodes, is judged by the odd ones, which it does not know.

Keys of flipped texts are those of the run's cache, moved keys are the abstraction's own.

Example: cep bench kl-bound my-walker_s0
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.abstraction.states import Abstraction
from cepcli.config import require
from cepcli.errors import ConfigError
from cepcli.experiments.visits import PriorErrors, Visit, Visits, heldout_visits
from cepcli.keys.encoder import unit
from cepcli.keys.key_encoder import make_key_encoder
from cepcli.listener import Notify
from cepcli.posterior import kl_bound
from cepcli.seeding import generator
from cepcli.types import TextState
from cepcli.workspace.artifacts import Workspace

_STATES_PER_CALL = 16
_ROUNDING = 1e-9


class Disturbed(NamedTuple):
    """A visited state under another description.

    Attributes:
        case: which disturbance.
        visit: the state.
        text: the wrong description.
        similarity: δ, the cosine of the right key and the wrong one.
    """

    case: str
    visit: Visit
    text: str
    similarity: float


class Pair(NamedTuple):
    """What a wrong description did.

    Attributes:
        case: which disturbance.
        calibrates: whether L may be estimated from it.
        similarity: δ.
        errors: of the prior of the wrong description, and of its posterior.
    """

    case: str
    calibrates: bool
    similarity: float
    errors: PriorErrors

    @property
    def lipschitz(self) -> float:
        """‖log p̂ − log p‖∞/‖z − z′‖ of unit keys; infinite for one key with two priors."""
        gap, squared = self.errors.gap, 2.0 - 2.0 * self.similarity
        if gap == 0.0:
            return 0.0
        return gap / squared**0.5 if squared > 0.0 else float("inf")


def measure_kl_bound(
    workspace: Workspace,
    run: str,
    *,
    flips: Sequence[float] = (0.1, 0.3, 1.0),
    jitters: Sequence[float] = (0.1, 0.3, 1.0),
    episodes: int = 6,
    states: int = 60,
    seed: int = 0,
    notify: Notify = lambda text: None,
) -> dict[str, Any]:
    """Disturb the descriptions of states that a finished run visits on held-out instances.

    Args:
        workspace: where the run is, and the journal with the LLM's answers.
        run: of `hybrid-sac`, with a prior that reads descriptions.
        flips: probabilities with which each slot gets another phrase.
        jitters: lengths of the random vector that is added to the unit key.
        episodes: held-out ones that are played for the states.
        states: most of them that are disturbed, drawn at random.
        seed: of the draws and the disturbances.
        notify: told what goes on.

    Returns:
        {"run", "states", "temperature", "rows"}; see `_row`. Only pairs count whose text changed.

    Raises:
        ConfigError: if the run describes no states, or a size of noise cannot be.
    """
    require(all(0 < p <= 1 for p in flips), "`flip` must be probabilities above 0, up to 1.")
    require(all(size > 0 for size in jitters), "`jitter` must be lengths above 0.")
    require(episodes >= 2, f"`episodes` is {episodes}, expected at least 2: half of them judge L.")
    visits = heldout_visits(workspace, run, episodes, notify)
    abstraction = visits.parts.describer
    if not isinstance(abstraction, Abstraction):
        raise ConfigError(
            f"The run `{run}` describes no states, so there is no abstraction to disturb.",
            "Name a run of continuous control with a prior: cep train --env walker2d",
        )
    random = generator(seed, "kl-bound")
    order = np.sort(random.permutation(len(visits.decisions))[:states])
    chosen = [visits.decisions[number] for number in order.tolist()]
    disturbed = [
        *_flipped(abstraction, visits, chosen, flips, random),
        *_jittered(abstraction, chosen, jitters, random),
    ]
    notify(f"Asking the prior about {len({d.text for d in disturbed})} wrong descriptions")
    pairs = list(_compared(disturbed, visits))
    rows = []
    for kind, sizes in (("flip", flips), ("jitter", jitters)):
        own = [pair for pair in pairs if pair.case.startswith(kind)]
        largest = max((pair.lipschitz for pair in own if pair.calibrates), default=0.0)
        rows += [_row(f"{kind} {size:g}", own, largest, len(chosen)) for size in sizes]
    return {
        "run": run, "states": len(chosen), "temperature": visits.temperature, "rows": rows
    }  # fmt: skip


def _flipped(
    abstraction: Abstraction,
    visits: Visits,
    chosen: Sequence[Visit],
    flips: Sequence[float],
    random: np.random.Generator,
) -> Iterator[Disturbed]:
    """Each slot gets another phrase with some probability."""
    opened = visits.parts.opened
    if opened is None or not visits.parts.config.cache.keyed:
        key = make_key_encoder("hash", focus=True).key
    else:
        key = opened.key
    for probability in flips:
        for visit in chosen:
            codes = list(abstraction.bank.nearest(_key(abstraction, visit))[:-1])
            for slot, phrases in enumerate(abstraction.phrases):
                if len(phrases) > 1 and random.random() < probability:
                    others = int(random.integers(1, len(phrases)))
                    codes[slot] = (codes[slot] + others) % len(phrases)
            goal, text = visit.state.goal, _text(abstraction, codes)
            similarity = float(key(goal, visit.state.text) @ key(goal, text))
            yield Disturbed(f"flip {probability:g}", visit, text, similarity)


def _jittered(
    abstraction: Abstraction,
    chosen: Sequence[Visit],
    jitters: Sequence[float],
    random: np.random.Generator,
) -> Iterator[Disturbed]:
    """The key moves by a vector of some length in a random direction, back onto the sphere."""
    for size in jitters:
        for visit in chosen:
            key = _key(abstraction, visit)
            moved = unit(key + size * unit(random.standard_normal(key.shape)))
            text = _text(abstraction, abstraction.bank.nearest(moved.astype(np.float32))[:-1])
            yield Disturbed(f"jitter {size:g}", visit, text, float(key @ moved))


def _key(abstraction: Abstraction, visit: Visit) -> Float[ndarray, " dim"]:
    assert visit.observation is not None
    return abstraction.key(visit.observation)


def _text(abstraction: Abstraction, codes: Sequence[int]) -> str:
    return abstraction.form.compose(abstraction.phrases_of(codes))


def _compared(disturbed: Sequence[Disturbed], visits: Visits) -> Iterator[Pair]:
    """The pairs whose text has changed, each wrong text asked once."""
    changed = [one for one in disturbed if one.text != one.visit.state.text]
    wrong = [replace(one.visit.state, text=one.text) for one in changed]
    distinct = list(dict.fromkeys(wrong))
    cached: dict[TextState, ndarray] = {}
    for start in range(0, len(distinct), _STATES_PER_CALL):
        part = distinct[start : start + _STATES_PER_CALL]
        answers = visits.parts.bare_prior.log_probs(part)
        cached.update(zip(part, (answer.log_prior for answer in answers), strict=True))
    for one, state in zip(changed, wrong, strict=True):
        errors = one.visit.errors(cached[state], visits.temperature)
        yield Pair(one.case, one.visit.episode % 2 == 0, one.similarity, errors)


def _row(case: str, pairs: Sequence[Pair], lipschitz: float, states: int) -> dict[str, Any]:
    """One disturbance.

    "changed" is the share of states whose text it changed, "pairs" how many those are. Violations
    of span²/8 are counted over all of them; L, violations of L²(1−δ) as a share and its tightness
    over those that did not calibrate L. A tightness is the mean of KL over the bound; None without
    pairs.
    """
    own = [pair for pair in pairs if pair.case == case]
    judged = [pair for pair in own if not pair.calibrates]
    kls = [pair.errors.posterior_kl for pair in own]
    by_span = [(pair.errors.posterior_kl, kl_bound(pair.errors.span)) for pair in own]
    by_key = [(pair.errors.posterior_kl, lipschitz**2 * (1.0 - pair.similarity)) for pair in judged]
    return {
        "case": case,
        "changed": len(own) / max(states, 1),
        "pairs": len(own),
        "kl_mean": float(np.mean(kls)) if own else None,
        "kl_max": max(kls, default=None),
        "span_violations": sum(map(_exceeds, by_span)),
        "span_tightness": _tightness(by_span),
        "judged": len(judged),
        "lipschitz": lipschitz if np.isfinite(lipschitz) else None,
        "key_violations": float(np.mean([_exceeds(one) for one in by_key])) if by_key else None,
        "key_tightness": _tightness(by_key),
    }


def _exceeds(kl_and_bound: tuple[float, float]) -> bool:
    kl, bound = kl_and_bound
    return kl > bound + _ROUNDING


def _tightness(pairs: Sequence[tuple[float, float]]) -> float | None:
    ratios = [kl / bound for kl, bound in pairs if bound > 0.0]
    return float(np.mean(ratios)) if ratios else None
