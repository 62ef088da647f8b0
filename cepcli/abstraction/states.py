"""From a state of continuous control to its key and its description: φ(s).

Made by `cep abstract train`. Needs no torch: an agent asks several thousand times a second.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from numpy import ndarray

from cepcli.abstraction.annotated import SentenceForm
from cepcli.abstraction.state_encoder import StateEncoder
from cepcli.envs.control import ControlSpec
from cepcli.errors import ArtifactError
from cepcli.workspace.artifacts import Artifact, Workspace, read_json, write_json

CARD, ENCODER, BANK = "abstraction.json", "state_encoder.safetensors", "bank.npz"
_FORMAT = "cep-state-encoder-1"
_BANK_ARRAYS = ("keys", "codes", "annotated")
#: A vote weighs exp((cosine − best cosine) / this).
_SHARPNESS = 0.1
#: Of an entry that does not say.
UNKNOWN = -1


class Vote(NamedTuple):
    """The winning label of every question, and its lead over the second, the least of them."""

    codes: Int[ndarray, "states questions"]
    lead: Float[ndarray, " states"]


class Bank:
    """Entries whose labels are known, which vote on the labels of others.

    Every slot is a question of its own ("how does the torso stand?"), answered by the phrase to
    which the nearest entries give most weight; the primitive is one more such question.

    Args:
        keys: unit keys of the entries.
        codes: number of the label that answers each question, `UNKNOWN` where there is none.
        annotated: which entries are annotations; the others were labelled by their neighbours.
        counts: how many labels each question has.
        neighbours: how many entries vote; at most all.
    """

    def __init__(
        self,
        keys: Float32[ndarray, "entries dim"],
        codes: Int[ndarray, "entries questions"],
        annotated: Bool[ndarray, " entries"],
        counts: Sequence[int],
        neighbours: int,
    ) -> None:
        self.keys = np.ascontiguousarray(keys, np.float32)
        self.codes, self.annotated = codes, annotated
        self.counts, self.neighbours = tuple(counts), min(neighbours, len(keys))
        starts = np.concatenate([[0], np.cumsum(counts)])
        self._bounds = [(int(a), int(b)) for a, b in pairwise(starts)]
        self._ballots = np.zeros((len(keys), starts[-1]), np.float32)
        rows, questions = np.nonzero(codes != UNKNOWN)
        self._ballots[rows, starts[questions] + codes[rows, questions]] = 1.0

    def nearest(self, key: Float32[ndarray, " dim"]) -> tuple[int, ...]:
        """The winning label of every question for one key."""
        similar = self.keys @ key
        voters = similar.argpartition(-self.neighbours)[-self.neighbours :]
        near = similar[voters]
        totals = np.exp((near - near.max()) / _SHARPNESS) @ self._ballots[voters]
        return tuple(int(totals[a:b].argmax()) for a, b in self._bounds)

    def vote(self, keys: Float32[ndarray, "states dim"]) -> Vote:
        """The winning labels of many keys, and how clearly they win."""
        similar = keys @ self.keys.T
        voters = np.argpartition(similar, -self.neighbours, axis=1)[:, -self.neighbours :]
        near = np.take_along_axis(similar, voters, 1)
        weights = np.exp((near - near.max(1, keepdims=True)) / _SHARPNESS)
        totals = np.einsum("sn,snl->sl", weights, self._ballots[voters])
        codes = np.empty((len(keys), len(self.counts)), np.int64)
        lead = np.ones(len(keys))
        for question, (a, b) in enumerate(self._bounds):
            votes = totals[:, a:b]
            codes[:, question] = votes.argmax(1)
            lead = np.minimum(lead, _lead(votes))
        return Vote(codes, lead)


def _lead(votes: Float[ndarray, "states labels"]) -> Float[ndarray, " states"]:
    """Share of the first less that of the second; 0 where nobody votes, 1 for an only label."""
    total = votes.sum(1)
    ordered = np.sort(votes, axis=1)
    second = ordered[:, -2] if votes.shape[1] > 1 else 0.0
    return np.where(total > 0, (ordered[:, -1] - second) / np.where(total > 0, total, 1.0), 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Abstraction:
    """Keys and descriptions of the states of an environment family.

    Attributes:
        features: names of the observation's numbers, in order.
        feature_sha256: identity of that list, units included.
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
            phrases = tuple(map(tuple, card["phrases"]))
            counts = [*map(len, phrases), len(card["primitives"])]
            encoder, arrays = _read_encoder(folder / ENCODER), _read_bank(folder / BANK)
            bank = Bank(**arrays, counts=counts, neighbours=card["neighbours"])
            form = SentenceForm(tuple(card["slots"]), tuple(card["literals"]), card["capitalised"])
            return cls(
                card["family"], tuple(card["features"]), card["feature_sha256"], encoder, bank,
                form, phrases, tuple(card["primitives"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"The abstraction in `{folder}` is damaged: {error}.",
                "Make it again: cep abstract train --overwrite",
            ) from error


def open_abstraction(
    workspace: Workspace, name: str, spec: ControlSpec
) -> tuple[Abstraction, Artifact]:
    """The abstraction `name` for an environment, and the artifact it is in.

    Raises:
        ArtifactError: if there is none, it is damaged, or it was trained for another family or
            another list of features.
    """
    artifact = workspace.open("abstraction", name)
    found = Abstraction.load(artifact.path)
    hint = f"Train one: cep abstract train --env {spec.id} --name {spec.family}/NAME"
    if found.family != spec.family:
        raise ArtifactError(
            f"The abstraction `{name}` was trained on {found.family}, not on {spec.family}, the "
            f"family of `{spec.id}`.",
            hint,
        )
    if found.feature_sha256 != spec.feature_sha256:
        raise ArtifactError(
            f"The abstraction `{name}` was trained on other features than `{spec.id}` has: "
            f"{len(found.features)} of list {found.feature_sha256[:12]}, not {len(spec.features)} "
            f"of {spec.feature_sha256[:12]}.",
            hint,
        )
    return found, artifact


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
