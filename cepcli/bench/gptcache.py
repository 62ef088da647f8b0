"""GPTCache's look-up, to compare ours with; an extra, `[bench]`, that need not be installed.

GPTCache installs what it lacks by calling pip, and unpickles a `data_map.txt` that lies in the
current folder when it is imported. Neither happens here.
"""

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from jaxtyping import Float32
from numpy import ndarray

from cepcli.errors import CacheError

#: What the extra brings, as it is imported; with all of it GPTCache has nothing to install.
_NEEDED = ("gptcache", "faiss", "sqlalchemy", "cachetools", "requests")

#: A key to the row that GPTCache finds nearest.
Lookup = Callable[[Float32[ndarray, " dim"]], int]


def gptcache_is_installed() -> bool:
    """Whether all that GPTCache needs for SQLite and faiss is there."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDED)


@contextmanager
def gptcache_lookup(keys: Float32[ndarray, "rows dim"]) -> Iterator[Lookup | None]:
    """GPTCache with an entry for each key, SQLite and faiss in a temporary folder, one thread.

    Its look-up is a hit as its data manager answers it: the nearest vector, the entry's question
    and answer from the database, a note that it was used, which is a commit, so that its time
    depends on the disk. What its adapter does on top (a log of hits, another commit) is left out.
    None if it isn't installed.
    """
    if not gptcache_is_installed():
        yield None
        return
    with TemporaryDirectory(prefix="cep-bench-") as folder:
        manager = _manager(folder, keys)

        def look_up(key: Float32[ndarray, " dim"]) -> int:
            nearest = manager.search(key)[0]
            answer = manager.get_scalar_data(nearest).answers[0].answer
            manager.hit_cache_callback(nearest)
            return int(answer)

        try:
            yield look_up
        finally:
            manager.s._engine.dispose()


def _manager(folder: str, keys: Float32[ndarray, "rows dim"]) -> Any:
    """GPTCache's data manager, filled; the answer to a key is its row."""
    with chdir(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls deprecated functions of SQLAlchemy
        utils: Any = importlib.import_module("gptcache.utils")
        utils.prompt_install = _refuse
        manager = importlib.import_module("gptcache.manager").manager_factory(
            "sqlite,faiss",
            data_dir=folder,
            vector_params={"dimension": keys.shape[1]},
            eviction_params={"max_size": len(keys)},
        )
    importlib.import_module("faiss").omp_set_num_threads(1)
    rows = [str(row) for row in range(len(keys))]
    manager.import_data([f"seen {row}" for row in rows], rows, list(keys), [None] * len(keys))
    return manager


def _refuse(package: str, warn: bool = False) -> None:
    """Stands in for GPTCache's call of pip."""
    raise CacheError(
        f"GPTCache lacks `{package}` and would install it by itself.",
        f'pip install "{package}", or uninstall gptcache to do without the comparison',
    )
