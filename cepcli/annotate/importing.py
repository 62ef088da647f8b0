"""Annotations out of somebody's own file: JSON lines, or CSV with a header.

CSV has the columns `text` and `primitive`, and the observation either as a JSON list in the column
`observation` or one column per feature; `env` and `source` may be there.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cepcli.annotate.records import Annotation, Defect, annotation_of, raise_for
from cepcli.annotate.rules import slots_of
from cepcli.envs.control import ControlSpec
from cepcli.envs.catalog import control_spec
from cepcli.errors import ArtifactError


def read_foreign(path: Path, env: str) -> list[Annotation]:
    """The annotations in a file, of `env` and from `import` where it does not say otherwise.

    Raises:
        ArtifactError: if the file cannot be read, or naming the first wrong line.
    """
    spec = control_spec(env)
    rows = _csv(path, spec) if path.suffix.lower() == ".csv" else _json_lines(path)
    found, defects = [], []
    try:
        for number, row in rows:
            annotation = annotation_of(_completed(row, env), spec.family, number)
            if isinstance(annotation, Defect):
                defects.append(annotation)
            else:
                found.append(_with_slots(annotation))
    except OSError as error:
        raise ArtifactError(f"Cannot read `{path}`: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"`{path}` is not UTF-8 text: {error}.") from error
    raise_for(path, defects)
    return found


def _completed(row: Any, env: str) -> Any:
    """A row with what it does not say."""
    if isinstance(row, str):
        try:
            row = json.loads(row)
        except ValueError:
            return row
    return {"env": env, "source": "import", **row} if isinstance(row, dict) else row


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            yield number, line


def _csv(path: Path, spec: ControlSpec) -> Iterator[tuple[int, dict[str, Any]]]:
    names = [feature.name for feature in spec.features]
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        by_feature = "observation" not in header
        missing = [n for n in ("text", "primitive", *(names if by_feature else ())) if n not in header]
        if missing:
            raise ArtifactError(
                f"{path}:1: the header has no column `{missing[0]}`.",
                "Needed are text, primitive, and observation or one column per feature.",
            )
        for row in reader:
            given = {key: row[key] for key in ("text", "primitive", "env", "source") if row.get(key)}
            given.setdefault("text", "")
            cells = [row[name] for name in names] if by_feature else row["observation"]
            yield reader.line_num, {**given, "observation": _numbers(cells)}


def _numbers(cells: Any) -> Any:
    """A list of numbers, or whatever it is that is none."""
    try:
        if isinstance(cells, str):
            return json.loads(cells)
        return [float(cell) for cell in cells]
    except (TypeError, ValueError):
        return None


def _with_slots(annotation: Annotation) -> Annotation:
    """With the phrases of its text, where it does not bring its own."""
    if annotation.slots:
        return annotation
    return replace(annotation, slots=slots_of(control_spec(annotation.env), annotation.text))
