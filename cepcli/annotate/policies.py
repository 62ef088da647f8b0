"""What plays while states are visited: experts, held primitives, noise, and gaits.

A gait is sines at the joints and a pull against leaning. Under noise a walker falls on its back
within a second, and a person would only ever be shown that. A search of seconds finds gaits that
walk: badly, but through the states that matter.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.envs.control import ControlEnv, ControlSpec

Observation = Float[ndarray, " features"]
Policy = Callable[[Observation], Float[ndarray, " controls"]]
Maker = Callable[[ControlEnv, np.random.Generator], Policy]

#: Gaits that are tried at a time, and how many of them lead on.
_TRIED, _BEST = 20, 5
#: Control steps of a trial at most, and of the whole search: who falls at once costs little.
_TRIAL, _BUDGET = 100, 12_000
#: What is pulled against, where a body has it.
_LEANING = ("torso_pitch", "pitch_speed")
_SHORTEST, _USUAL = 4.0, 20.0  # control steps
#: Share of the noise that stays from step to step where noise is smooth.
_SMOOTH = 0.9
_NOMINAL_STEPS = 20
#: Strengths of the noise on what an expert or a gait does.
_NOISES = (0.0, 0.3, 0.8)


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

    def control(self, step: int, observation: Observation) -> Float[ndarray, " controls"]:
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
        best = tried[np.argsort([total for total, _ in trials])[-_BEST:]]
        mean, spread = best.mean(axis=0), best.std(axis=0) + 0.05
    return [_gait(spec, flat) for flat in best]


def _everywhere(spec: ControlSpec) -> tuple[Float[ndarray, " numbers"], Float[ndarray, " numbers"]]:
    """Mean and deviation of where the search begins."""
    n = spec.controls
    counts = (1, n, n, n, n * len(_leaning(spec)))
    means, spreads = (1.0, 0.0, 0.5, np.pi, 0.0), (0.5, 0.3, 0.4, 2.0, 0.5)
    return np.repeat(means, counts), np.repeat(spreads, counts)


def _leaning(spec: ControlSpec) -> list[int]:
    return [n for n, feature in enumerate(spec.features) if feature.name in _LEANING]


def _gait(spec: ControlSpec, flat: Float[ndarray, " numbers"]) -> Gait:
    n = spec.controls
    against = np.zeros((n, len(spec.features)))
    against[:, _leaning(spec)] = flat[1 + 3 * n :].reshape(n, -1)
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


def policies(env: ControlEnv, random: np.random.Generator) -> list[Maker]:
    """What plays the rollouts in turn: expert and primitives where there are such, else gaits."""
    start = np.zeros(len(env.control_spec.features))
    if env.expert_control(start) is not None:
        held = [_nominal] if env.nominal(0, start) is not None else []
        return [_expert, *held, _expert, _smooth]
    gaits = walking_gaits(env, random)

    def walk(env: ControlEnv, random: np.random.Generator) -> Policy:
        noise = random.choice(_NOISES)
        return _walk(env, random, gaits[random.integers(len(gaits))], noise)

    def stumble(env: ControlEnv, random: np.random.Generator) -> Policy:
        return _walk(env, random, random_gait(env.control_spec, random), 0.0)

    return [walk, stumble, walk, _smooth, walk, _uniform]


def _uniform(env: ControlEnv, random: np.random.Generator) -> Policy:
    """Independent noise at every step."""
    size = env.control_spec.controls
    return lambda observation: random.uniform(-1, 1, size)


def _smooth(env: ControlEnv, random: np.random.Generator) -> Policy:
    """Noise that changes slowly, so that limbs travel."""
    control = np.zeros(env.control_spec.controls)

    def act(observation: Observation) -> Float[ndarray, " controls"]:
        fresh = random.normal(size=control.shape) * np.sqrt(1 - _SMOOTH**2)
        control[:] = _SMOOTH * control + fresh
        return np.clip(control, -1, 1)

    return act


def _walk(env: ControlEnv, random: np.random.Generator, gait: Gait, noise: float) -> Policy:
    """A gait, and smooth noise of a strength."""
    steps = itertools.count()
    shake = _smooth(env, random)
    return lambda observation: np.clip(
        gait.control(next(steps), observation) + noise * shake(observation), -1, 1
    )


def _expert(env: ControlEnv, random: np.random.Generator) -> Policy:
    """The scripted expert, with noise of a strength drawn for the rollout."""
    strength = random.choice(_NOISES)

    def act(observation: Observation) -> Float[ndarray, " controls"]:
        control = env.expert_control(observation)
        assert control is not None
        return np.clip(control + random.normal(0, strength, control.shape), -1, 1)

    return act


def _nominal(env: ControlEnv, random: np.random.Generator) -> Policy:
    """One primitive after another, each held for a while."""
    held, steps = 0, itertools.count()

    def act(observation: Observation) -> Float[ndarray, " controls"]:
        nonlocal held
        if next(steps) % _NOMINAL_STEPS == 0:
            held = int(random.integers(len(env.control_spec.primitives)))
        control = env.nominal(held, observation)
        assert control is not None
        return control

    return act
