"""From a state of continuous control to its key and its description: φ(s).

Made by `cep abstract train`. Needs no torch: an agent asks several thousand times a second.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray

from cepcli.abstraction.annotated import SentenceForm
from cepcli.abstraction.bank import Bank
from cepcli.abstraction.state_encoder import StateEncoder
from cepcli.errors import ArtifactError
from cepcli.workspace.artifacts import Artifact, Workspace, read_json, write_json

CARD, ENCODER, BANK = "abstraction.json", "state_encoder.safetensors", "bank.npz"
_FORMAT = "cep-state-encoder-1"
_BANK_ARRAYS = ("keys", "codes", "annotated")


@dataclass(frozen=True, slots=True, eq=False)
class Abstraction:
    """Keys and descriptions of the states of an environment family.

    Attributes:
        family: of environments.
        features: names of the observation's numbers, in order.
        feature_sha256: identity of that list, units included.
        encoder: features to key.
        bank: keys with labels.
        form: how phrases make a description.
        phrases: per slot of `form`, what the bank's codes stand for.
        primitives: what the codes of the last question, the primitive, stand for.
    """

    family: str
    features: tuple[str, ...]
    feature_sha256: str
    encoder: StateEncoder
    bank: Bank
    form: SentenceForm
    phrases: tuple[tuple[str, ...], ...]
    primitives: tuple[str, ...]
    _composed: dict[tuple[int, ...], str] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Dimension of the keys."""
        return self.encoder.dim

    @property
    def sha256(self) -> str:
        """Says which keys and descriptions there are for which states."""
        digest = hashlib.sha256(f"{self.encoder.sha256} {self._card()}".encode())
        for array in (self.bank.keys, self.bank.codes):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def key(self, observation: Float[ndarray, " features"]) -> Float32[ndarray, " dim"]:
        """The unit key of a state."""
        return self.encoder.keys(observation)

    def keys(
        self, observations: Float[ndarray, "states features"]
    ) -> Float32[ndarray, "states dim"]:
        """The unit keys of states."""
        return self.encoder.keys(observations)

    def text(self, observation: Float[ndarray, " features"]) -> str:
        """The description of a state."""
        return self._compose(self.bank.nearest(self.encoder.keys(observation))[:-1])

    def texts(self, observations: Float[ndarray, "states features"]) -> list[str]:
        """The descriptions of states."""
        codes = self.bank.vote(self.encoder.keys(observations)).codes[:, :-1]
        return [self._compose(tuple(row)) for row in codes.tolist()]

    def primitive(self, observation: Float[ndarray, " features"]) -> str:
        """The primitive that the annotations of similar states name."""
        return self.primitives[self.bank.nearest(self.encoder.keys(observation))[-1]]

    def phrases_of(self, text_codes: Sequence[int]) -> tuple[str, ...]:
        """The phrase of every slot, from the bank's codes for them."""
        pairs = zip(self.phrases, text_codes, strict=True)
        return tuple(phrases[code] for phrases, code in pairs)

    def _compose(self, codes: tuple[int, ...]) -> str:
        found = self._composed.get(codes)
        if found is None:
            found = self._composed[codes] = self.form.compose(self.phrases_of(codes))
        return found

    def _card(self) -> dict[str, Any]:
        return {
            "family": self.family,
            "features": list(self.features),
            "feature_sha256": self.feature_sha256,
            "slots": list(self.form.slots),
            "literals": list(self.form.literals),
            "capitalised": self.form.capitalised,
            "phrases": [list(phrases) for phrases in self.phrases],
            "primitives": list(self.primitives),
            "neighbours": self.bank.neighbours,
        }

    def save(self, folder: Path) -> None:
        """Write it into a directory."""
        from safetensors.numpy import save_file

        arrays = {k: np.ascontiguousarray(v) for k, v in self.encoder.arrays().items()}
        save_file(arrays, folder / ENCODER, metadata={"format": _FORMAT})
        (folder / ENCODER).chmod(0o644)  # safetensors lets only its owner read it
        np.savez(folder / BANK, **{name: getattr(self.bank, name) for name in _BANK_ARRAYS})
        write_json(folder / CARD, self._card())

    @classmethod
    def load(cls, folder: Path) -> "Abstraction":
        """The abstraction in a directory.

        Raises:
            ArtifactError: if it is damaged.
        """
        card = read_json(folder / CARD)
        try:
            return cls._of(card, _read_encoder(folder / ENCODER), _read_bank(folder / BANK))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"The abstraction in `{folder}` is damaged: {error}.",
                "Make it again: cep abstract train --overwrite",
            ) from error

    @classmethod
    def _of(
        cls, card: Mapping[str, Any], encoder: StateEncoder, arrays: Mapping[str, ndarray]
    ) -> "Abstraction":
        phrases = tuple(map(tuple, card["phrases"]))
        counts = [*map(len, phrases), len(card["primitives"])]
        bank = Bank.of(**arrays, counts=counts, neighbours=card["neighbours"])
        form = SentenceForm(tuple(card["slots"]), tuple(card["literals"]), card["capitalised"])
        return cls(
            card["family"], tuple(card["features"]), card["feature_sha256"], encoder, bank, form,
            phrases, tuple(card["primitives"]),
        )  # fmt: skip

    def check(
        self, name: str, env_id: str, family: str, feature_sha256: str, features: int
    ) -> None:
        """Refuse to describe states of another family or with other features.

        Raises:
            ArtifactError: naming both.
        """
        hint = f"Train one: cep abstract train --env {env_id} --name {family}/NAME"
        if self.family != family:
            raise ArtifactError(
                f"The abstraction `{name}` was trained on {self.family}, not on {family}, the "
                f"family of `{env_id}`.",
                hint,
            )
        if self.feature_sha256 != feature_sha256:
            raise ArtifactError(
                f"The abstraction `{name}` was trained on other features than `{env_id}` has: "
                f"{len(self.features)} of list {self.feature_sha256[:12]}, not {features} of "
                f"{feature_sha256[:12]}.",
                hint,
            )


def open_abstraction(
    workspace: Workspace, name: str, *, env_id: str, family: str, feature_sha256: str, features: int
) -> tuple[Abstraction, Artifact]:
    """The abstraction `name` for an environment, and the artifact it is in.

    Raises:
        ArtifactError: if there is none, it is damaged, or it was trained for another family or
            another list of features.
    """
    artifact = workspace.open("abstraction", name)
    abstraction = Abstraction.load(artifact.path)
    abstraction.check(name, env_id, family, feature_sha256, features)
    return abstraction, artifact


def _read_encoder(path: Path) -> StateEncoder:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("format") != _FORMAT:
                raise ValueError(f"{path.name} is not of format {_FORMAT}")
            return StateEncoder.of({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path.name} cannot be read ({error})") from error


def _read_bank(path: Path) -> dict[str, ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in _BANK_ARRAYS}
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error})") from error
