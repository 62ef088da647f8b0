"""cep: a large language model as an affordable action prior for reinforcement learning.

The names in `__all__` are the public API, documented in docs/api.md; every other module may change
in any version. Each name is loaded when it is first used, so that `import cepcli` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cepcli.version import __version__

if TYPE_CHECKING:
    from cepcli.api import evaluate, load_prior, make_env, train
    from cepcli.cache.cached_prior import CachedPrior
    from cepcli.cache.config import CacheConfig
    from cepcli.cache.wrap import cached
    from cepcli.errors import CepError
    from cepcli.report.frames import load_metrics, load_run, load_runs
    from cepcli.report.saved_runs import SavedRun
    from cepcli.types import TextState

__all__ = [
    "CacheConfig", "CachedPrior", "CepError", "SavedRun", "TextState", "__version__", "cached",
    "evaluate", "load_metrics", "load_prior", "load_run", "load_runs", "make_env", "train",
]  # fmt: skip

#: The module of each public name.
_MODULES = {
    "CacheConfig": "cepcli.cache.config",
    "CachedPrior": "cepcli.cache.cached_prior",
    "CepError": "cepcli.errors",
    "SavedRun": "cepcli.report.saved_runs",
    "TextState": "cepcli.types",
    "cached": "cepcli.cache.wrap",
    "evaluate": "cepcli.api",
    "load_metrics": "cepcli.report.frames",
    "load_prior": "cepcli.api",
    "load_run": "cepcli.report.frames",
    "load_runs": "cepcli.report.frames",
    "make_env": "cepcli.api",
    "train": "cepcli.api",
}


def __getattr__(name: str) -> Any:
    """A public name, from its module when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module `cepcli` has no attribute `{name}`")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted({*globals(), *__all__})
