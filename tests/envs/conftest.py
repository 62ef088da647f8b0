"""Games take seconds to make: one workspace per test session holds them; real games, if there."""

import os
import tarfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def games(tmp_path_factory):
    return tmp_path_factory.mktemp("games")


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """ALFWorld's own games, two of each kind of task and split, as `$ALFWORLD_DATA` holds them."""
    data = Path(os.environ.get("CEP_TEST_DATA", "/work/shared/data"))
    archive = data / "alfworld" / "json_2.1.1.tar.xz"
    if not archive.is_file():
        pytest.skip(f"needs ALFWorld's games in {archive}, or $CEP_TEST_DATA/alfworld")
    root = tmp_path_factory.mktemp("alfworld")
    found: dict[str, int] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith("game.tw-pddl"):
                kind = member.name.partition("-")[0]
                found[kind] = found.get(kind, 0) + 1
                if found[kind] <= 2:
                    tar.extract(member, root, filter="data")
    return root
