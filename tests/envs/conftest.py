"""Games take seconds to make: one workspace holds them for all tests; real games, if there."""

import importlib
import io
import json
import os
import sys
import tarfile
import tempfile
import warnings

import pytest

from tests.envs.real_data import ALFWORLD

#: What makes games, and what it needs, which takes longer to import than most games to make.
MAKERS = {
    "cepcli.envs.textworld.make": ["textworld.generator", "textworld.challenges"],
    "cepcli.envs.alfworld.compile": ["fast_downward", "textworld.envs.pddl.logic"],
}


@pytest.fixture(scope="session")
def games(tmp_path_factory):
    """A workspace for games that no test spoils; one for all processes that run tests."""
    root = tmp_path_factory.getbasetemp()
    shared = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "games"
    shared.mkdir(exist_ok=True)
    return shared


@pytest.fixture
def quick_makers(monkeypatch):
    """Games are made by copies of this process, which import nothing."""
    for maker in MAKERS:
        monkeypatch.setattr(f"{maker}.make_apart", make_by_a_copy)


def make_by_a_copy(maker, folder, request, what, smaller):
    """As `make_apart` does it, but without a limit of time."""
    from cepcli.envs import game_making
    from cepcli.errors import EnvError

    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch:
        warnings.simplefilter("ignore")
        for name in MAKERS[game_making._MAKERS[maker]]:
            importlib.import_module(name)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.dup2(write, 1)
                os.environ["TMPDIR"], tempfile.tempdir = scratch, None
                sys.stdin = io.StringIO(json.dumps(request))
                game_making._make(maker, folder)
                code = 0
            finally:
                os._exit(code)
        os.close(write)
        with os.fdopen(read) as answer:
            told = answer.read()
        _, status = os.waitpid(pid, 0)
    if status:
        raise EnvError(*(json.loads(told) if told else (f"{what} cannot be made", smaller)))


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
