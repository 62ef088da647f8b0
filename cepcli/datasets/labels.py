"""Labels of a dataset: the prior of each of its states, stored as an artifact of kind "labels".

Labels belong to the states themselves, whichever file these came from: the artifact is called
ENV-HASH/PRIOR after them. They are refused where the states, the prior or what describes states
to it have changed since.
"""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32
from numpy import ndarray

from cepcli.datasets.dataset import ControlData, PriorLabels, TextData
from cepcli.errors import ArtifactError, DataError
from cepcli.workspace.artifacts import Artifact, Workspace, read_json
from cepcli.workspace.variables import shipped_root

LABELS_CARD, LABELS_FILE = "labels.json", "labels.npz"
#: Rows of a column that are hashed at once: a mapped column is never in memory as a whole.
_BLOCK = 2**16
_HASH_DIGITS = 12


def states_sha256(data: ControlData | TextData) -> str:
    """Identity of the states of a dataset, and of what may be done there."""
    digest = hashlib.sha256(f"{data.env}".encode())
    if isinstance(data, TextData):
        for text in data.strings:
            digest.update(f"{len(text)} {text}".encode(errors="surrogatepass"))
        columns = [data.goal, data.text, data.actions]
    else:
        columns = [data.observations, data.next_observations, data.terminated, data.truncated]
    for column in columns:
        digest.update(str(column.shape).encode())
        for start in range(0, len(column), _BLOCK):
            digest.update(np.ascontiguousarray(column[start : start + _BLOCK]).tobytes())
    return digest.hexdigest()


def labels_name(data: ControlData | TextData, sha256: str, prior: str) -> str:
    """What the labels of a dataset by a prior are called."""
    env = (data.env or "data").replace("/", "-")
    label = re.sub(r"[^\w.-]", "-", Path(prior).name) if "/" in prior else prior
    return f"{env}-{sha256[:_HASH_DIGITS]}/{re.sub(r'[^A-Za-z0-9._-]', '-', label)}"


def state_rows(data: ControlData) -> tuple[Int32[ndarray, " steps"], Int32[ndarray, " steps"]]:
    """Where the labels of each transition's state and next state are.

    Every observation has a row; behind them, every next observation with which an episode was cut.
    """
    steps = len(data)
    following = np.arange(1, steps + 1, dtype=np.int32)
    own = following - 1
    ends = data.terminated | data.truncated
    following[data.terminated] = own[data.terminated]
    cut = np.flatnonzero(data.truncated & ~data.terminated)
    if not ends[-1]:
        cut = np.append(cut, steps - 1)
    following[cut] = steps + np.arange(len(cut), dtype=np.int32)
    return own, following


def appended_rows(data: ControlData) -> Int32[ndarray, " episodes"]:
    """The transitions whose next observation has a label of its own, in that order."""
    _, following = state_rows(data)
    return np.flatnonzero(following >= len(data)).astype(np.int32)


def with_labels(
    data: ControlData | TextData, name: str, prior: str, workspace: Workspace
) -> ControlData | TextData:
    """A dataset, which the user calls `name`, with its labels by a prior.

    Raises:
        ArtifactError: if there are none.
        DataError: if they are of other states, or of what the prior was once.
    """
    sha256 = states_sha256(data)
    artifact = _opened(data, name, sha256, prior, workspace)
    card = _card(artifact)
    with np.load(artifact.path / LABELS_FILE, allow_pickle=False) as archive:
        log_prior = archive["log_prior"]
    symbols = tuple(card["symbols"])
    if isinstance(data, TextData):
        shape = data.actions.shape
    else:
        shape = (len(data) + len(appended_rows(data)), len(symbols))
    made_of = _changed_input(artifact, workspace)
    wrong = {
        f"other states than `{name}` has": card["states_sha256"] != sha256,
        f"the prior `{card['prior']}`, not `{prior}`": card["prior"] != prior,
        f"{made_of} as it was before it was made anew": made_of is not None,
        "another number of states or actions": log_prior.shape != shape,
    }
    what = next((what for what, is_so in wrong.items() if is_so), None)
    if what is not None:
        raise DataError(
            f"The labels in `{artifact.path}` are of {what}; they are not used.",
            f"{_label_command(data, name, prior)} --overwrite",
        )
    origins = (*data.origins, artifact)
    if isinstance(data, TextData):
        return replace(
            data, log_prior=log_prior, prior=prior, fingerprint=card["fingerprint"],
            origins=origins,
        )  # fmt: skip
    labels = PriorLabels(prior, card["fingerprint"], symbols, log_prior, *state_rows(data))
    return replace(data, labels=labels, origins=origins)


def labels_of(data: ControlData | TextData, workspace: Workspace) -> list[str]:
    """The priors by which a dataset's states have been labelled."""
    group = labels_name(data, states_sha256(data), "any").partition("/")[0]
    names = [name for name in workspace.names("labels") if name.partition("/")[0] == group]
    return [_card(workspace.open("labels", name))["prior"] for name in names]


def _opened(
    data: ControlData | TextData, name: str, sha256: str, prior: str, workspace: Workspace
) -> Artifact:
    wanted = labels_name(data, sha256, prior)
    if wanted in workspace.names("labels") or workspace.partial("labels", wanted).is_dir():
        return workspace.open("labels", wanted)
    others = labels_of(data, workspace)
    has = f"; it has labels of {', '.join(others)}" if others else ""
    raise ArtifactError(
        f"The dataset `{name}` has no labels of the prior `{prior}`{has}.",
        _label_command(data, name, prior),
    )


def _label_command(data: ControlData | TextData, name: str, prior: str) -> str:
    env = f" --env {data.env}" if data.env and name == "d4rl" else ""
    return f"Label it: cep offline label --dataset {name}{env} --prior {prior}"


def _card(artifact: Artifact) -> dict[str, Any]:
    card = read_json(artifact.path / LABELS_CARD)
    needed = {"states_sha256", "prior", "fingerprint", "symbols"}
    if not isinstance(card, dict) or not needed <= card.keys():
        raise ArtifactError(f"`{artifact.path / LABELS_CARD}` does not describe labels.")
    return card


def _changed_input(artifact: Artifact, workspace: Workspace) -> str | None:
    """The prior or the abstraction that is no longer what it was when the labels were made.

    Labels that ship with cep are of an abstraction that does not: one made here has its name only.
    """
    shipped = artifact.path.is_relative_to(shipped_root())
    for made_of in artifact.manifest["inputs"]:
        kind, name = made_of["kind"], made_of["name"]
        checked = kind == "prior" or (kind == "abstraction" and not shipped)
        if not checked or name not in workspace.names(kind):
            continue
        if workspace.open(kind, name).reference.sha256 != made_of["sha256"]:
            return f"the {kind} `{name}`"
    return None
