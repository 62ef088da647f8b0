"""TextWorld games take seconds to make: one workspace per test session holds them."""

import pytest


@pytest.fixture(scope="session")
def games(tmp_path_factory):
    return tmp_path_factory.mktemp("games")
