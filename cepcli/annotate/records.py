"""Annotations: a state, what it looks like in words, and the motion primitive that it calls for.

One JSON object a line, in `annotations.jsonl` of an artifact of kind "annotations":

    {"observation": [1.2, …], "text": "…", "primitive": "…", "slots": {"pace": "…", …},
     "source": "auto" | "person" | "import", "env": "walker2d"}

A state may have several: what a rule said of it, what a person did. People edit the file by hand.
"""

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cepcli.annotate.rules import compose, describe_slots, has_rules, rules_for, slots_of
from cepcli.envs.catalog import control_spec
from cepcli.envs.control import ControlSpec
from cepcli.errors import ArtifactError, EnvError
from cepcli.registry import suggest
from cepcli.workspace.artifacts import Artifact, Workspace

FILE = "annotations.jsonl"
#: Who is believed where several annotate one state, first who is believed most.
SOURCES = ("person", "import", "auto")
#: Decimals that are kept of an observation; two states that agree in them are one.
DECIMALS = 5
_FIELDS = ("observation", "text", "primitive", "source", "env")


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one source says of one state.

    Attributes:
        observation: its numbers, rounded to `DECIMALS`, in the order of the spec's features.
        primitive: the best symbolic action in it.
        slots: phrase by slot, empty where the text is in somebody's own words.
        source: one of `SOURCES`.
    """

    observation: tuple[float, ...]
    text: str
    primitive: str
    slots: Mapping[str, str]
    source: str
    env: str

    @property
    def state(self) -> str:
        """Identity of the state."""
        return state_id(self.env, self.observation)


@dataclass(frozen=True, slots=True)
class State:
    """A sampled state; the observation is rounded as annotations are.

    The `snapshot` is the simulator's own state in that instance of the environment; empty where it
    is not known, as for imported annotations, so that no frame can be drawn.
    """

    env: str
    observation: tuple[float, ...]
    instance: int = 0
    snapshot: tuple[float, ...] = ()

    @property
    def id(self) -> str:
        """Identity of the state, the same as of its annotations."""
        return state_id(self.env, self.observation)


class Defect(NamedTuple):
    """What is wrong with a line, and what to do about it."""

    line: int
    message: str
    hint: str


class _BadLineError(Exception):
    """A line that is no annotation: message, hint."""


def rounded(observation: Iterable[float]) -> tuple[float, ...]:
    """An observation as annotations hold it; no negative zeros."""
    return tuple(round(float(value), DECIMALS) + 0.0 for value in observation)


def state_id(env: str, observation: Sequence[float]) -> str:
    """Twelve hex digits that name a state by what it is."""
    text = " ".join([env, *(f"{value:.{DECIMALS}f}" for value in observation)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def to_line(annotation: Annotation) -> str:
    """One line of the file, without its end."""
    return json.dumps(
        {
            "observation": plain_numbers(annotation.observation),
            "text": annotation.text,
            "primitive": annotation.primitive,
            "slots": dict(annotation.slots),
            "source": annotation.source,
            "env": annotation.env,
        },
        ensure_ascii=False,
    )


def suggestion(spec: ControlSpec, observation: Sequence[float]) -> Annotation:
    """What the rules say of a state; no words and the first primitive where there are no rules."""
    if not has_rules(spec):
        return Annotation(rounded(observation), "", spec.actions[0], {}, "auto", spec.id)
    slots = describe_slots(spec, observation)
    primitive = rules_for(spec).primitive(slots)
    return Annotation(rounded(observation), compose(spec, slots), primitive, slots, "auto", spec.id)


def plain_numbers(values: Iterable[float]) -> list[float]:
    """Numbers as JSON writes them shortest: 0, not 0.0."""
    return [int(value) if value == int(value) else value for value in values]


def parse(lines: Iterable[str], family: str) -> tuple[list[Annotation | None], list[Defect]]:
    """Every line as an annotation, None where it is blank or wrong, and what is wrong with it."""
    found: list[Annotation | None] = []
    defects = []
    for number, line in enumerate(lines, 1):
        read = annotation_of(line, family, number) if line.strip() else None
        if isinstance(read, Defect):
            defects.append(read)
            read = None
        found.append(read)
    return found, defects


def annotation_of(line: Any, family: str, number: int) -> Annotation | Defect:
    """Line `number` of a file, as text or as its JSON value, or what is wrong with it."""
    try:
        return _from_row(_json(line) if isinstance(line, str) else line, family)
    except _BadLineError as bad:
        return Defect(number, *bad.args)


def read_annotations(path: Path, family: str) -> list[Annotation]:
    """The annotations in a file.

    Raises:
        ArtifactError: if the file cannot be read or a line is none; it names the first such line.
    """
    with reading(path):
        lines = path.read_text(encoding="utf-8").split("\n")
    found, defects = parse(lines, family)
    raise_for(path, defects)
    return [annotation for annotation in found if annotation is not None]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say in one sentence that a file cannot be read, or is not text."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"Cannot read `{path}`: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"`{path}` is not UTF-8 text: {error}.") from error


def raise_for(path: Path, defects: Sequence[Defect]) -> None:
    """An `ArtifactError` that names the first defect and counts the others; nothing if none."""
    if defects:
        first = defects[0]
        others = len(defects) - 1
        more = f" {others} more {'line is' if others == 1 else 'lines are'} wrong." * bool(others)
        raise ArtifactError(f"{path}:{first.line}: {first.message}{more}", first.hint)


def open_annotations(
    workspace: Workspace, family: str, name: str | None = None
) -> tuple[Artifact, list[Annotation]]:
    """The annotations of a family, one for each state: see `believed`.

    Raises:
        ArtifactError: if there are none, or a line of the file is wrong.
    """
    artifact = workspace.open("annotations", name or family)
    found = believed(read_annotations(artifact.path / FILE, family))
    if not found:
        raise none_of(family, artifact.path / FILE, name)
    return artifact, found


def none_of(env: str, path: Path, name: str | None) -> ArtifactError:
    """What there is to say where a file has no annotation of an environment or family.

    `name` is that of the annotations, where the user named them.
    """
    return ArtifactError(
        f"There is no annotation of {env} in `{path}`.",
        f"Make some: cep annotate auto --env {env}" + (f" --name {name}" if name else ""),
    )


def believed(annotations: Iterable[Annotation]) -> list[Annotation]:
    """One for each state: a person's before an imported one before a rule's, the later ones first.

    In the order in which the states first appear.
    """
    best: dict[str, Annotation] = {}
    for annotation in annotations:
        other = best.setdefault(annotation.state, annotation)
        if SOURCES.index(annotation.source) <= SOURCES.index(other.source):
            best[annotation.state] = annotation
    return list(best.values())


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except RecursionError as error:
        raise _BadLineError(
            "the line is not JSON that an annotation can be (too deep).", "Delete it."
        ) from error
    except ValueError as error:
        if not line.rstrip().endswith("}"):
            raise _BadLineError(
                "the line is truncated: it does not end with `}`.",
                "Complete it, or delete the line; nothing else in the file is affected.",
            ) from error
        raise _BadLineError(
            f"the line is not JSON ({error}).", "Fix it, or delete the line."
        ) from error


def _from_row(row: Any, family: str) -> Annotation:
    if not isinstance(row, dict):
        raise _BadLineError("the line is not a JSON object.", "Fix it, or delete the line.")
    missing = [field for field in _FIELDS if field not in row]
    if missing:
        raise _BadLineError(f"`{missing[0]}` is missing.", f"Needed are {', '.join(_FIELDS)}.")
    spec = _spec(row["env"], family)
    text, slots = row["text"], row.get("slots") or {}
    if not isinstance(text, str) or not text.strip():
        raise _BadLineError("the text is empty.", "Say in words what the state looks like.")
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise _BadLineError("the text has half a character (a lone surrogate).", "Write it again.")
    if row["primitive"] not in spec.actions:
        raise _BadLineError(
            f"the primitive `{row['primitive']}` is none of {spec.id}.",
            suggest(str(row["primitive"]), spec.actions),
        )
    if row["source"] not in SOURCES:
        raise _BadLineError(f"the source `{row['source']}` is unknown.", suggest("", SOURCES))
    if not isinstance(slots, dict) or not all(isinstance(v, str) for v in slots.values()):
        raise _BadLineError(
            "`slots` is not an object of phrases.", 'For example {"pace": "walking"}.'
        )
    observation = _observation(row["observation"], spec)
    # one line of the file is one annotation, and of the prompt one state
    text = " ".join(text.split())
    control = next((sign for sign in text if unicodedata.category(sign) == "Cc"), None)
    if control is not None:
        raise _BadLineError(
            f"the text has the control character U+{ord(control):04X}.", "Write it without."
        )
    slots = _slots(spec, text, slots)
    return Annotation(observation, text, row["primitive"], slots, row["source"], spec.id)


def _slots(spec: ControlSpec, text: str, given: Mapping[str, str]) -> Mapping[str, str]:
    """The text's own phrases; of a text in other words the given ones, if it has them all."""
    said = slots_of(spec, text)
    if said:
        return said
    named = {slot.name for slot in rules_for(spec).slots} if has_rules(spec) else given.keys()
    folded = text.lower()
    if given and given.keys() <= named and all(p.lower() in folded for p in given.values()):
        return given
    return {}


def _spec(env: Any, family: str) -> ControlSpec:
    try:
        spec = control_spec(str(env))
    except EnvError as error:
        raise _BadLineError(error.message, error.hint) from error
    if spec.family != family:
        raise _BadLineError(
            f"the environment `{env}` is of the family {spec.family}, expected {family}.",
            f"Annotations of {spec.family} go into another file: cep annotate import --env {env}",
        )
    return spec


def _observation(values: Any, spec: ControlSpec) -> tuple[float, ...]:
    count = len(spec.features)
    if not isinstance(values, list) or not all(_is_number(value) for value in values):
        raise _BadLineError("the observation is not a list of numbers.", f"{spec.id} has {count}.")
    if len(values) != count:
        raise _BadLineError(
            f"the observation has {len(values)} numbers, expected the {count} of {spec.id}.",
            f"Their names: cep envs show {spec.id}",
        )
    for feature, value in zip(spec.features, values, strict=True):
        if not _is_finite(value):
            raise _BadLineError(
                f"the feature `{feature.name}` is {str(value)[:20]}, expected a finite number.",
                "Delete the line, or annotate the state again.",
            )
    return rounded(values)


def _is_finite(value: float) -> bool:
    """Whether a number, of any size, is a finite one as floats are."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
