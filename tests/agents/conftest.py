import pytest


@pytest.fixture
def corridor(monkeypatch):
    """Runs play the corridor world under a fake scorer."""
    from tests.agents import worlds

    worlds.install(monkeypatch.setattr)
    return worlds
