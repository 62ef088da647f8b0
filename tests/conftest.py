"""Every test gets a workspace of its own and one torch thread; nothing here imports cepcli."""

import os
import shutil
import signal
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# What starts the tests in the background, or by nohup, ignores these, and so would all they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(autouse=True)
def workspace_root(tmp_path, monkeypatch):
    """`$CEP_HOME` inside the test's own directory; no games of ALFWorld but a test's own."""
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    root = tmp_path / "artifacts"
    monkeypatch.setenv("CEP_HOME", str(root))
    return root


@pytest.fixture(autouse=True)
def nothing_synced(monkeypatch):
    """No test cuts the power, so nothing waits for the disk, which would double the time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def subnormal_numbers():
    """As Python has them, after a run of continuous control, too."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture
def made_once(tmp_path_factory):
    """Call `made_once(name, root, make)`: what `make()` leaves in `root`, later copies of it."""

    def made_once(name, root, make):
        stored = tmp_path_factory.getbasetemp() / f"made-once-{name}"
        if stored.exists():
            shutil.copytree(stored, root, dirs_exist_ok=True)
            return
        make()
        shutil.copytree(root, stored)

    return made_once


@pytest.fixture
def short_search(monkeypatch):
    """Gaits of walkers are searched for in one round: enough where nobody needs to get ahead."""
    monkeypatch.setattr("cepcli.annotate.policies._BUDGET", 1)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium of this machine."""
    from playwright.sync_api import expect, sync_playwright

    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    expect.set_options(timeout=10_000)
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=found, args=CHROMIUM_ARGUMENTS)
        yield made
        made.close()


@pytest.fixture
def context(browser):
    """What a person's browser is to pages: nothing kept, nothing shared."""
    made = browser.new_context()
    made.set_default_timeout(10_000)
    yield made
    made.close()


@pytest.fixture
def corridor(monkeypatch):
    """Runs play the corridor world under a fake scorer."""
    import cepcli.datasets.labelling  # noqa: F401  (imported below, it would keep the fakes)
    from tests.agents import worlds

    worlds.install(monkeypatch.setattr)
    return worlds
