"""Every test gets a workspace of its own and one torch thread; nothing here imports cepcli."""

import os
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(autouse=True)
def workspace_root(tmp_path, monkeypatch):
    """`$CEP_HOME` inside the test's own directory; no games of ALFWorld but a test's own."""
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    root = tmp_path / "artifacts"
    monkeypatch.setenv("CEP_HOME", str(root))
    return root


@pytest.fixture(autouse=True)
def subnormal_numbers():
    """As Python has them, after a run of continuous control, too."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture
def corridor(monkeypatch):
    """Runs play the corridor world under a fake scorer."""
    from tests.agents import worlds

    worlds.install(monkeypatch.setattr)
    return worlds
