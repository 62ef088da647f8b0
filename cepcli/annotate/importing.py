"""Annotations out of somebody's own file: JSON lines, or CSV (.tsv: with tabs) with a header.

CSV has the columns `text` and `primitive`, and the observation either as a JSON list in the column
`observation` or one column per feature; `env` and `source` may be there. JSON lines may name the
features instead of `observation`, too.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cepcli.annotate.records import Annotation, Defect, annotation_of, raise_for, reading
from cepcli.envs.catalog import control_spec
from cepcli.envs.control import ControlSpec
from cepcli.errors import ArtifactError


def read_foreign(path: Path, env: str | None = None) -> list[Annotation]:
    """The annotations in a file, from `import` where it does not say otherwise.

    Lines that name no environment are of `env`, by default that of the first line.

    Raises:
        ArtifactError: if the file cannot be read, or naming the first wrong line.
        EnvError: if the environment doesn't exist.
    """
    delimiter = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
    with reading(path):
        rows = list(_json_lines(path) if delimiter is None else _csv(path, delimiter))
    if not rows:
        raise ArtifactError(f"There is no annotation in `{path}`.")
    first = rows[0][1]
    if env is None:
        env = first.get("env") if isinstance(first, dict) else None
        if not isinstance(env, str):
            raise ArtifactError(
                f"The first line of `{path}` does not say of which environment it is.",
                "Add --env ID, or a field `env` to each line.",
            )
    spec = control_spec(env)
    read_rows = [_annotation(row, spec, number) for number, row in rows]
    raise_for(path, [row for row in read_rows if isinstance(row, Defect)])
    return [row for row in read_rows if isinstance(row, Annotation)]


def _annotation(row: Any, spec: ControlSpec, number: int) -> Annotation | Defect:
    """Line `number`, with what it does not say, or what is wrong with it."""
    if isinstance(row, dict):
        row = {"env": spec.id, "source": "import", **row}
        if "observation" not in row:
            cells = {feature.name: _numbers([row.get(feature.name)]) for feature in spec.features}
            missing = next((name for name, found in cells.items() if found is None), None)
            if missing:
                told = f"there is neither `observation` nor a number `{missing}`."
                return Defect(number, told, f"Their names: cep envs show {spec.id}")
            row["observation"] = [value for (value,) in cells.values()]
    return annotation_of(row, spec.family, number)


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line numbers and JSON values; the text of a line that is none."""
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, line


def _csv(path: Path, delimiter: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and cells; without those that are empty, but for the text."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        try:
            _check_header(path, reader.fieldnames or ())
            for cells in reader:
                if None in cells:
                    raise ArtifactError(
                        f"{path}:{reader.line_num}: the line has more cells than the header.",
                        "Put a text that holds the delimiter in quotes.",
                    )
                row: dict[str, Any] = {k: v for k, v in cells.items() if v or k == "text"}
                if "observation" in row:
                    row["observation"] = _numbers(row["observation"])
                yield reader.line_num, row
        except csv.Error as error:
            raise ArtifactError(
                f"{path}:{reader.line_num + 1}: the line is not CSV ({error}).",
                "Fix it, or delete it.",
            ) from error


def _check_header(path: Path, columns: Sequence[str]) -> None:
    twice = next((name for n, name in enumerate(columns) if name in columns[:n]), None)
    if twice is not None:
        raise ArtifactError(
            f"{path}:1: the header has the column `{twice}` twice.", "Rename or delete one of them."
        )
    for column in ("text", "primitive"):
        if column not in columns:
            raise ArtifactError(
                f"{path}:1: the header has no column `{column}`.",
                "Needed are text, primitive, and observation or one column per feature.",
            )


def _numbers(cells: Any) -> Any:
    """A list of numbers; None if it is none."""
    try:
        if isinstance(cells, str):
            return json.loads(cells)
        return [float(cell) for cell in cells]
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
