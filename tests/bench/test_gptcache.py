"""The comparison with GPTCache; what needs it is skipped where the extra isn't installed."""

import importlib.util
import subprocess
import tempfile

import numpy as np
import pytest

from cepcli.bench import gptcache as module
from cepcli.errors import CacheError


def test_it_is_left_out_where_anything_it_would_install_is_missing(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sqlalchemy" else find("json")
    )
    assert not module.gptcache_is_installed()
    with module.gptcache_lookup(np.eye(3, dtype=np.float32)) as lookup:
        assert lookup is None


def test_a_call_of_pip_becomes_an_error():
    with pytest.raises(CacheError, match="GPTCache lacks `faiss-cpu`"):
        module._refuse("faiss-cpu")


def test_gptcache_finds_the_key_and_leaves_nothing_behind(monkeypatch, tmp_path):
    def forbidden(*args, **kwargs):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    keys = np.eye(4, dtype=np.float32)
    with module.gptcache_lookup(keys) as lookup:
        assert [lookup(key) for key in keys] == [0, 1, 2, 3]
        assert list(tmp_path.iterdir())
        import gptcache.utils

        with pytest.raises(CacheError, match="would install it by itself"):
            gptcache.utils._check_library("no_such_library")
    assert not list(tmp_path.iterdir())
