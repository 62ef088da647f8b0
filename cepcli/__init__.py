"""cep: a large language model as an affordable action prior for reinforcement learning.

In your own loop: `from cepcli import TextState, cached`; see `cepcli.cache.around`.
"""

from typing import TYPE_CHECKING, Any

from cepcli.types import TextState

if TYPE_CHECKING:
    from cepcli.cache.around import cached

__all__ = ["TextState", "__version__", "cached"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`cached` when it is first asked for: it loads torch, which the command line must not."""
    if name != "cached":
        raise AttributeError(f"module `cepcli` has no attribute `{name}`")
    from cepcli.cache.around import cached

    return cached
