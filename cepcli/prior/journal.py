"""The score journal: every answer of the LLM, kept for good, so that none is paid for twice.

An append-only SQLite file maps (scorer fingerprint, prompt, action) to the raw score and to what
it cost. A few answers at a time are committed, durably, before any is used; the first answer
recorded is authoritative, also between processes that share the file.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import override

from cepcli.errors import CacheError, PriorError
from cepcli.prior.base import (
    ActionScores,
    Completion,
    Prompt,
    ReadTokens,
    Scorer,
    ScorerFingerprint,
)
from cepcli.workspace.artifacts import writing

SCHEMA_VERSION = 1
_APPLICATION_ID = int.from_bytes(b"cepj", "big")
_BUSY_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE scorers (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE);
CREATE TABLE scores (
  scorer INTEGER NOT NULL REFERENCES scorers (id),
  prompt BLOB NOT NULL,
  action TEXT NOT NULL,
  log_likelihood REAL NOT NULL,
  length INTEGER NOT NULL,
  tokens REAL NOT NULL,
  seconds REAL NOT NULL,
  PRIMARY KEY (scorer, prompt, action)
) WITHOUT ROWID;
"""
#: Added to journals of the same schema version that lack it: what priors that think wrote.
_COMPLETIONS = """
CREATE TABLE IF NOT EXISTS completions (
  scorer INTEGER NOT NULL REFERENCES scorers (id),
  prompt BLOB NOT NULL,
  most_tokens INTEGER NOT NULL,
  text TEXT NOT NULL,
  tokens REAL NOT NULL,
  seconds REAL NOT NULL,
  PRIMARY KEY (scorer, prompt, most_tokens)
) WITHOUT ROWID
"""
_COLUMNS = {"scores": 7, "completions": 6}
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened or created there",
    sqlite3.SQLITE_PERM: "permission was denied",
    sqlite3.SQLITE_BUSY: f"another process has held it for {_BUSY_SECONDS:.0f} s",
    sqlite3.SQLITE_IOERR: "the disk reports an input/output error",
}


class Record(NamedTuple):
    """One action's score and its share of what the call that gave it took."""

    log_likelihood: float
    length: int
    tokens: float
    seconds: float


def prompt_hash(prompt: Prompt) -> bytes:
    """SHA-256 of the whole prompt, prefix and state kept apart by a zero byte."""
    text = f"{prompt.prefix}\0{prompt.state}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class Journal:
    """One journal file; safe to share between processes, not between threads.

    Args:
        path: the SQLite file; made, with its directory, if there is none.

    Raises:
        CacheError: if the file is damaged or not a journal (it is left untouched), or cannot be
            opened for writing.
        ArtifactError: if its directory cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.stat().st_size:  # before SQLite opens it
            with writing(path), path.open("rb") as file:
                if file.read(16) != b"SQLite format 3\0":
                    raise self._foreign("is not a score journal")
        with self._errors():
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            with self._errors():
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; what was recorded is already on disk."""
        self._db.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def read(self, fingerprint: ScorerFingerprint, prompt: bytes) -> dict[str, Record]:
        """Every recorded action of one prompt (given by its `prompt_hash`)."""
        with self._errors():
            rows = self._db.execute(
                "SELECT action, log_likelihood, length, tokens, seconds FROM scores JOIN scorers "
                "ON scorers.id = scores.scorer WHERE fingerprint = ? AND prompt = ?",
                (str(fingerprint), prompt),
            ).fetchall()
        return {action: Record(*values) for action, *values in rows}

    def write(
        self, fingerprint: ScorerFingerprint, answers: Mapping[bytes, Mapping[str, Record]]
    ) -> None:
        """Record the answers of one call, in one durable commit; what is known already stays."""
        rows = [
            (prompt, action, *record)
            for prompt, records in answers.items()
            for action, record in records.items()
        ]
        self._insert("scores", fingerprint, rows)

    def read_completions(
        self, fingerprint: ScorerFingerprint, most_tokens: int, prompts: Iterable[bytes]
    ) -> dict[bytes, Completion]:
        """What was recorded as written after prompts under that limit, where something was."""
        found = {}
        with self._errors():
            for prompt in prompts:
                row = self._db.execute(
                    "SELECT text, tokens, seconds FROM completions JOIN scorers "
                    "ON scorers.id = completions.scorer "
                    "WHERE fingerprint = ? AND prompt = ? AND most_tokens = ?",
                    (str(fingerprint), prompt, most_tokens),
                ).fetchone()
                if row is not None:
                    found[prompt] = Completion(*row, live_seconds=0.0)
        return found

    def write_completions(
        self, fingerprint: ScorerFingerprint, most_tokens: int, lines: Mapping[bytes, Completion]
    ) -> None:
        """Record what was written, in one durable commit; what is known already stays."""
        rows = [
            (prompt, most_tokens, line.text, line.tokens, line.seconds)
            for prompt, line in lines.items()
        ]
        self._insert("completions", fingerprint, rows)

    def _insert(
        self, table: str, fingerprint: ScorerFingerprint, rows: Sequence[tuple[Any, ...]]
    ) -> None:
        name = str(fingerprint)
        with self._errors(), self._transaction():
            self._db.execute("INSERT OR IGNORE INTO scorers (fingerprint) VALUES (?)", (name,))
            query = "SELECT id FROM scorers WHERE fingerprint = ?"
            scorer = self._db.execute(query, (name,)).fetchone()[0]
            places = ", ".join("?" * _COLUMNS[table])
            self._db.executemany(
                f"INSERT INTO {table} VALUES ({places}) ON CONFLICT DO NOTHING",
                [(scorer, *row) for row in rows],
            )

    def _prepare(self) -> None:
        """Make the tables of a new file; check those of an old one before anything is written."""
        if not self._tables():
            with self._transaction():
                if not self._tables():  # else another process was faster
                    for statement in _SCHEMA.split(";")[:-1]:
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        version = self._pragma("user_version")
        if self._pragma("application_id") != _APPLICATION_ID:
            raise self._foreign("is an SQLite file of another program")
        if version != SCHEMA_VERSION:
            raise self._foreign(
                f"has schema version {version}, this cep reads {SCHEMA_VERSION}; it"
            )
        damage = self._pragma("quick_check(1)")
        if damage != "ok":
            raise self._foreign(f"is damaged ({damage})")
        if not self._tables("WHERE name = 'completions'"):
            self._db.execute(_COMPLETIONS)
        self._db.execute("PRAGMA synchronous = FULL")
        if self._pragma("journal_mode") != "wal":
            self._pragma("journal_mode = WAL")

    def _tables(self, where: str = "") -> int:
        return self._db.execute(f"SELECT count(*) FROM sqlite_master {where}").fetchone()[0]

    def _pragma(self, name: str) -> int | str:
        return self._db.execute(f"PRAGMA {name}").fetchone()[0]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Say what is wrong with the file, by name."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self._foreign(f"is damaged or truncated ({error})") from error
            if code not in _REASONS:
                raise
            raise CacheError(
                f"Cannot use the score journal `{self.path}`: {_REASONS[code]}.",
                "Free some space, or choose another --workspace; what was recorded is kept.",
            ) from error

    def _foreign(self, what: str) -> CacheError:
        return CacheError(
            f"`{self.path}` {what} and was left untouched.",
            "Move it away or restore it from a copy; cep starts a new journal where there is none.",
        )


class JournaledScorer(Scorer):
    """A scorer that asks `inner`, a few prompts per call, only for what the journal lacks.

    Answers cost what was recorded when they were given (`seconds`, `tokens`), wherever they come
    from; `live_seconds` is what was spent on them now.
    """

    def __init__(self, inner: Scorer, journal: Journal) -> None:
        self._inner = inner
        self._journal = journal
        self.fingerprint = inner.fingerprint  # a journal changes no score
        self.prompts_at_once, self.lines_at_once = inner.prompts_at_once, inner.lines_at_once

    @override
    def score(
        self, prompts: Sequence[Prompt], action_sets: Sequence[Sequence[str]]
    ) -> list[ActionScores]:
        keys = [prompt_hash(prompt) for prompt in prompts]
        known = {key: self._journal.read(self.fingerprint, key) for key in keys}
        missing: dict[bytes, tuple[Prompt, dict[str, None]]] = {}
        for key, prompt, actions in zip(keys, prompts, action_sets, strict=True):
            new = dict.fromkeys(action for action in actions if action not in known[key])
            if new:
                missing.setdefault(key, (prompt, {}))[1].update(new)
        live: dict[bytes, float] = {}
        for part in _parts(missing, self.prompts_at_once):
            new_sets = [tuple(missing[key][1]) for key in part]
            answers = self._inner.score([missing[key][0] for key in part], new_sets)
            records = map(_records, new_sets, answers)
            self._journal.write(self.fingerprint, dict(zip(part, records, strict=True)))
            live |= {key: a.live_seconds for key, a in zip(part, answers, strict=True)}
        for key in missing:  # what was recorded first counts
            known[key] = self._journal.read(self.fingerprint, key)
        return [
            _combine([known[key][action] for action in actions], live.pop(key, 0.0))
            for key, actions in zip(keys, action_sets, strict=True)
        ]

    @override
    def count_tokens(self, text: str) -> int:
        return self._inner.count_tokens(text)

    @override
    def complete(self, prompts: Sequence[Prompt], most_tokens: int) -> list[Completion]:
        by_key = {prompt_hash(prompt): prompt for prompt in prompts}
        known = self._journal.read_completions(self.fingerprint, most_tokens, by_key)
        missing = [key for key in by_key if key not in known]
        live: dict[bytes, float] = {}
        for part in _parts(missing, self.lines_at_once):
            written = self._inner.complete([by_key[key] for key in part], most_tokens)
            lines = dict(zip(part, written, strict=True))
            self._journal.write_completions(self.fingerprint, most_tokens, lines)
            live |= {key: line.live_seconds for key, line in lines.items()}
        known |= self._journal.read_completions(self.fingerprint, most_tokens, missing)
        return [
            replace(known[key], live_seconds=live.pop(key, 0.0))
            for key in map(prompt_hash, prompts)
        ]

    @override
    def tokens(self, prompt: Prompt, actions: Sequence[str]) -> ReadTokens:
        return self._inner.tokens(prompt, actions)  # the journal keeps none


def _parts(keys: Iterable[bytes], size: int) -> list[list[bytes]]:
    listed = list(keys)
    return [listed[start : start + size] for start in range(0, len(listed), size)]


def _records(actions: Sequence[str], answer: ActionScores) -> dict[str, Record]:
    """Each action with its score and an equal share of the call's cost."""
    share = 1.0 / len(actions)
    tokens, seconds = answer.tokens * share, answer.seconds * share
    found = {}
    for action, value, length in zip(actions, answer.log_likelihood, answer.lengths, strict=True):
        if not np.isfinite(value):
            raise PriorError(
                f"The model scored the action `{action}` as {value}, expected a finite number.",
                "Check the model and its dtype: cep doctor",
            )
        found[action] = Record(float(value), int(length), tokens, seconds)
    return found


def _combine(records: Sequence[Record], live_seconds: float) -> ActionScores:
    return ActionScores(
        log_likelihood=np.array([r.log_likelihood for r in records], np.float64),
        lengths=np.array([r.length for r in records], np.int64),
        tokens=sum(r.tokens for r in records),
        seconds=sum(r.seconds for r in records),
        live_seconds=live_seconds,
    )
