"""The ablations, as tables: `ABLATIONS` has them all by name, each file those of one subject.

Defaults are small enough for two cores: some hundred decisions in a world of text, some thousand
steps of control.
"""

from cepcli.errors import ConfigError
from cepcli.experiments.ablation import Ablation
from cepcli.experiments.ablations import abstraction, caching, measured, posterior, prior, transfer
from cepcli.registry import suggest

ABLATIONS: dict[str, Ablation] = {
    ablation.name: ablation
    for ablation in (
        caching.CACHE,
        caching.CONTROLLER,
        caching.DELTA,
        caching.CAPACITY,
        caching.REFRESH,
        measured.KL_BOUND,
        measured.STALENESS,
        abstraction.ANNOTATIONS,
        abstraction.LABEL_NOISE,
        prior.SHOTS,
        prior.PRIORS,
        prior.PROMPTS,
        prior.SCORING,
        posterior.TEMPERATURE,
        posterior.CANDIDATES,
        transfer.TRANSFER,
    )
}


def ablation_named(name: str) -> Ablation:
    """The ablation `name`.

    Raises:
        ConfigError: if there is none.
    """
    if name not in ABLATIONS:
        raise ConfigError(f"There is no ablation `{name}`.", suggest(name, ABLATIONS))
    return ABLATIONS[name]
