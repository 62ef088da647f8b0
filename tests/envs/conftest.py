"""Games take seconds to make: one workspace per test session holds them; real games, if there."""

import tarfile

import pytest

from tests.envs.real_data import ALFWORLD


@pytest.fixture(scope="session")
def games(tmp_path_factory):
    return tmp_path_factory.mktemp("games")


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """ALFWorld's own games, two of each kind of task and split, as `$ALFWORLD_DATA` holds them."""
    if not ALFWORLD.is_file():
        pytest.skip(f"needs ALFWorld's games in {ALFWORLD}: set $CEP_TEST_DATA to its data folder")
    root = tmp_path_factory.mktemp("alfworld")
    found: dict[str, int] = {}
    with tarfile.open(ALFWORLD) as tar:
        for member in tar:
            if member.name.endswith("game.tw-pddl"):
                kind = member.name.partition("-")[0]
                found[kind] = found.get(kind, 0) + 1
                if found[kind] <= 2:
                    tar.extract(member, root, filter="data")
    return root
