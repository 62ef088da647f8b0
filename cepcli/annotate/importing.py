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
from cepcli.envs.catalog import control_spec
from cepcli.envs.control import ControlSpec
from cepcli.errors import ArtifactError


def read_foreign(path: Path, env: str | None = None) -> list[Annotation]:
    """The annotations in a file, from `import` where it does not say otherwise.

    Args:
        path: of the file.
        env: the environment of lines that name none; default: that of the first line.

    Raises:
        ArtifactError: if the file cannot be read, or naming the first wrong line.
        EnvError: if the environment doesn't exist.
    """
    try:
        rows = list(_csv(path) if path.suffix.lower() == ".csv" else _json_lines(path))
    except OSError as error:
        raise ArtifactError(f"Cannot read `{path}`: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"`{path}` is not UTF-8 text: {error}.") from error
    if not rows:
        raise ArtifactError(f"There is no annotation in `{path}`.")
    spec = control_spec(env or _env_of(path, rows[0][1]))
    found, defects = [], []
    for number, row in rows:
        annotation = annotation_of(_completed(row, spec), spec.family, number)
        if isinstance(annotation, Defect):
            defects.append(annotation)
        else:
            found.append(_with_slots(annotation))
    raise_for(path, defects)
    return found


def _env_of(path: Path, row: Any) -> str:
    if isinstance(row, dict) and isinstance(row.get("env"), str):
        return row["env"]
    raise ArtifactError(
        f"The first line of `{path}` does not say of which environment it is.",
        "Add --env ID, or a field `env` to each line.",
    )


def _completed(row: Any, spec: ControlSpec) -> Any:
    """A row with what it does not say; what is no row as it is."""
    if not isinstance(row, dict):
        return row
    row = {"env": spec.id, "source": "import", **row}
    if "observation" not in row:
        row["observation"] = _numbers([row.get(feature.name) for feature in spec.features])
    return row


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line numbers and JSON values; the text of a line that is none."""
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError:
                yield number, line


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and cells; without those that are empty, but for the text."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for column in ("text", "primitive"):
            if column not in (reader.fieldnames or ()):
                raise ArtifactError(
                    f"{path}:1: the header has no column `{column}`.",
                    "Needed are text, primitive, and observation or one column per feature.",
                )
        for cells in reader:
            row: dict[str, Any] = {k: v for k, v in cells.items() if v or k == "text"}
            if "observation" in row:
                row["observation"] = _numbers(row["observation"])
            yield reader.line_num, row


def _numbers(cells: Any) -> Any:
    """A list of numbers; None if it is none."""
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
