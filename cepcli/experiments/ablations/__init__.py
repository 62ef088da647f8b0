"""The ablations, as tables: `ABLATIONS` has them all by name.

Defaults are small enough for two cores: some hundred decisions in a world of text, some thousand
steps of control.
"""

from cepcli.errors import ConfigError
from cepcli.experiments.ablation import Ablation
from cepcli.experiments.ablations import caching, priors
from cepcli.registry import suggest

ABLATIONS: dict[str, Ablation] = {
    ablation.name: ablation
    for ablation in (
        caching.CACHE, caching.CONTROLLER, caching.DELTA, caching.CAPACITY, caching.REFRESH,
        priors.KL_BOUND, caching.STALENESS, priors.ANNOTATIONS, priors.LABEL_NOISE, priors.SHOTS,
        priors.PRIORS, priors.PROMPTS, priors.SCORING, priors.TEMPERATURE, priors.CANDIDATES,
        priors.TRANSFER,
    )
}  # fmt: skip


def ablation_named(name: str) -> Ablation:
    """The ablation `name`.

    Raises:
        ConfigError: if there is none.
    """
    if name not in ABLATIONS:
        raise ConfigError(f"There is no ablation `{name}`.", suggest(name, ABLATIONS))
    return ABLATIONS[name]
