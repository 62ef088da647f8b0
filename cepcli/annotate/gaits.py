"""Gaits: sines at the joints and a pull against leaning, searched for until the body gets ahead.

Under noise a walker falls on its back within a second, and a person would only ever be shown that.
A search of seconds finds gaits that walk: badly, but through the states that matter.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.envs.control import ControlEnv, ControlSpec

_TRIED, _KEPT = 20, 5
#: Control steps of a trial at most, and of the whole search: who falls at once costs little.
_TRIAL, _BUDGET = 100, 12_000
#: What is pulled against, where a body has it.
_LEANING = ("torso_pitch", "pitch_speed")
_SHORTEST, _USUAL = 4.0, 20.0  # control steps

Flat = Float[ndarray, " numbers"]


class Gait(NamedTuple):
    """One frequency for all joints; the rest by joint.

    Attributes:
        period: control steps.
        middle: control about which a joint swings.
        strength: of the swing.
        phase: of the swing, rad.
        against: control for each feature, against which the joint pulls.
    """

    period: float
    middle: Float[ndarray, " controls"]
    strength: Float[ndarray, " controls"]
    phase: Float[ndarray, " controls"]
    against: Float[ndarray, "controls features"]

    def control(
        self, step: int, observation: Float[ndarray, " features"]
    ) -> Float[ndarray, " controls"]:
        """The control at a step."""
        swing = self.strength * np.sin(2 * np.pi * step / self.period + self.phase)
        return np.clip(self.middle + swing - self.against @ observation, -1, 1)


def random_gait(spec: ControlSpec, random: np.random.Generator) -> Gait:
    """Any gait; few get anywhere."""
    mean, spread = _everywhere(spec)
    return _gait(spec, mean + spread * random.normal(size=mean.shape))


def walking_gaits(env: ControlEnv, random: np.random.Generator) -> list[Gait]:
    """The best gaits of a search by cross-entropy for a high return."""
    spec = env.control_spec
    mean, spread = _everywhere(spec)
    best, used = mean[None], 0
    while used < _BUDGET:
        tried = mean + spread * random.normal(size=(_TRIED, len(mean)))
        trials = [_trial(env, _gait(spec, flat)) for flat in tried]
        used += sum(steps for _, steps in trials)
        best = tried[np.argsort([total for total, _ in trials])[-_KEPT:]]
        mean, spread = best.mean(axis=0), best.std(axis=0) + 0.05
    return [_gait(spec, flat) for flat in best]


def _everywhere(spec: ControlSpec) -> tuple[Flat, Flat]:
    """Mean and deviation of where the search begins."""
    n, pulls = spec.controls, spec.controls * len(_columns(spec))
    means = ((1.0, 1), (0.0, n), (0.5, n), (np.pi, n), (0.0, pulls))
    spreads = ((0.5, 1), (0.3, n), (0.4, n), (2.0, n), (0.5, pulls))
    return _spread_out(means), _spread_out(spreads)


def _spread_out(parts: tuple[tuple[float, int], ...]) -> Flat:
    return np.concatenate([np.full(count, value) for value, count in parts])


def _columns(spec: ControlSpec) -> list[int]:
    return [n for n, feature in enumerate(spec.features) if feature.name in _LEANING]


def _gait(spec: ControlSpec, flat: Flat) -> Gait:
    n = spec.controls
    against = np.zeros((n, len(spec.features)))
    against[:, _columns(spec)] = flat[1 + 3 * n :].reshape(n, -1)
    middle, strength, phase = flat[1 : 1 + 3 * n].reshape(3, n)
    return Gait(max(_SHORTEST, _USUAL * float(flat[0])), middle, strength, phase, against)


def _trial(env: ControlEnv, gait: Gait) -> tuple[float, int]:
    """Return and length."""
    observation, _ = env.reset()
    total = 0.0
    for step in range(_TRIAL):
        observation, reward, terminated, truncated, _ = env.step(gait.control(step, observation))
        total += float(reward)
        if terminated or truncated:
            return total, step + 1
    return total, _TRIAL
