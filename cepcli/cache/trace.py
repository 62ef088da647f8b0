"""A trace: every decision of a run with what the LLM said, to be replayed without it.

`trace.jsonl` begins with a head; then texts and action sets follow at their first use, and one row
per decision. Scores stand where they were fresh (a miss or an audit); an exact hit repeats those of
the same text. A run with `--cache off` has fresh scores for every decision.
"""

import gzip
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cepcli.errors import CacheError
from cepcli.prior.base import Namespace, PriorAnswer, PriorShape, ScorerFingerprint
from cepcli.types import TextState
from cepcli.workspace.metrics import RowWriter

SCHEMA_VERSION = 1
FILE = "trace.jsonl"
_FRESH = ("miss", "audit")


@dataclass(frozen=True, slots=True)
class TracedDecision:
    """One decision of a trace.

    Attributes:
        state: goal, text and admissible actions.
        episode: number of the episode.
        kind: how the prior was answered then.
        q_values: Q as the posterior took it, one per action; None if the agent has none.
        temperature: τ then.
    """

    state: TextState
    episode: int
    kind: str
    q_values: tuple[float, ...] | None
    temperature: float


@dataclass(slots=True)
class Trace:
    """Decisions in order, and the fresh scores that are known of each text.

    Attributes:
        env: the environment they are from.
        namespace: what the scores belong to.
        shape: how scores become a prior.
        decisions: in order.
        scores: by (goal, text), the score of each action that was scored fresh.
    """

    env: str
    namespace: Namespace
    shape: PriorShape
    decisions: list[TracedDecision] = field(default_factory=list)
    scores: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)


class TraceWriter:
    """Appends decisions to a run's trace.

    Args:
        directory: the run's.
        env: the environment's id.
        namespace: what the scores belong to.
        shape: how scores become a prior.
        offset: bytes of an earlier trace to continue after; what lies beyond is dropped.
    """

    def __init__(
        self, directory: Path, env: str, namespace: Namespace, shape: PriorShape, *, offset: int = 0
    ) -> None:
        path = directory / FILE
        self._texts: dict[str, int] = {}
        self._sets: dict[tuple[str, ...], int] = {}
        self._rows = RowWriter(path, offset=offset)
        if offset:
            self._recall(path)
        else:
            self._rows.write(
                {"schema_version": SCHEMA_VERSION, "kind": "trace", "env": env,
                 "namespace": asdict(namespace), "shape": asdict(shape)}
            )  # fmt: skip

    def write(
        self,
        state: TextState,
        episode: int,
        answer: PriorAnswer,
        q_values: Sequence[float] | None,
        temperature: float,
    ) -> None:
        """Append one decision."""
        row: dict[str, Any] = {
            "at": [
                self._number(self._texts, "text", state.goal),
                self._number(self._texts, "text", state.text),
                self._number(self._sets, "actions", state.actions),
            ],
            "episode": episode,
            "kind": answer.kind,
            "tau": temperature,
        }
        if answer.kind in _FRESH:
            row["scores"] = [round(score, 6) for score in answer.scores.tolist()]
        if q_values is not None:
            row["q"] = [round(q, 6) for q in q_values]
        self._rows.write(row)

    def sync(self) -> int:
        """Flush all rows to disk; returns the bytes so far."""
        return self._rows.sync()

    def close(self) -> None:
        """Close the file."""
        self._rows.close()

    def _number(self, numbers: dict[Any, int], name: str, value: Any) -> int:
        """The number of a text or action set, which is written at its first use."""
        if value not in numbers:
            numbers[value] = len(numbers)
            self._rows.write({name: value})
        return numbers[value]

    def _recall(self, path: Path) -> None:
        """Read which texts and action sets have been written."""
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if "text" in row:
                self._texts[row["text"]] = len(self._texts)
            elif "actions" in row:
                self._sets[tuple(row["actions"])] = len(self._sets)


def read_trace(path: Path) -> Trace:
    """The trace in `path`, a file, which gzip may have packed, or a run's directory.

    Raises:
        CacheError: if there is none, or it is truncated, foreign, newer, or holds a NaN.
    """
    file = path / FILE if path.is_dir() else path
    lines = _lines(file)
    trace = _head(file, lines[0] if lines else "")
    texts: list[str] = []
    sets: list[tuple[str, ...]] = []
    states: dict[tuple[int, int, int], TextState] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.endswith("\n"):
            raise _damaged(file, f"is truncated in line {number}")
        try:
            row = json.loads(line)
            if "text" in row:
                texts.append(row["text"])
            elif "actions" in row:
                sets.append(tuple(row["actions"]))
            else:
                _add_decision(trace, row, texts, sets, states)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise _damaged(file, f"is malformed in line {number} ({error!r})") from error
    if not trace.decisions:
        raise _damaged(file, "holds no decision")
    return trace


def _lines(file: Path) -> list[str]:
    open_text = gzip.open if file.suffix == ".gz" else open
    try:
        with open_text(file, "rt", encoding="utf-8", newline="\n") as stream:
            return stream.readlines()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(file, "is not a complete gzip file") from error
    except OSError as error:
        raise CacheError(
            f"Cannot read the trace `{file}`: {error.strerror}.",
            "Record one: cep train --env ID --cache off --trace",
        ) from error
    except UnicodeDecodeError as error:
        raise _damaged(file, "is not text") from error


def _damaged(file: Path, why: str) -> CacheError:
    return CacheError(
        f"The trace `{file}` {why}; it was left untouched.",
        "Record it again: cep train --env ID --cache off --trace",
    )


def _head(file: Path, line: str) -> Trace:
    try:
        head = json.loads(line)
        kind, version = head["kind"], head["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(file, "does not begin like a trace") from error
    if kind != "trace":
        raise _damaged(file, f"does not begin like a trace, but like a {kind}")
    if version != SCHEMA_VERSION:
        raise CacheError(
            f"`{file}` has schema version {version}, this cep reads {SCHEMA_VERSION}.",
            "Install the version of cep that wrote it.",
        )
    try:
        rest = {key: value for key, value in head["namespace"].items() if key != "scorer"}
        namespace = Namespace(scorer=ScorerFingerprint(**head["namespace"]["scorer"]), **rest)
        return Trace(head["env"], namespace, PriorShape(**head["shape"]))
    except (KeyError, TypeError) as error:
        raise _damaged(file, f"has a malformed head ({error})") from error


def _add_decision(
    trace: Trace,
    row: dict[str, Any],
    texts: Sequence[str],
    sets: Sequence[tuple[str, ...]],
    states: dict[tuple[int, int, int], TextState],
) -> None:
    at: tuple[int, int, int] = tuple(row["at"])
    if at not in states:
        goal, text, actions = at
        states[at] = TextState(texts[goal], texts[text], sets[actions])
    state = states[at]
    if "scores" in row:
        scores = _finite(row["scores"], len(state.actions))
        known = trace.scores.setdefault((state.goal, state.text), {})
        known.update(zip(state.actions, scores, strict=True))
    q_values = _finite(row["q"], len(state.actions)) if "q" in row else None
    tau = float(row["tau"])
    if not tau > 0:
        raise ValueError(f"temperature {tau}")
    trace.decisions.append(TracedDecision(state, int(row["episode"]), row["kind"], q_values, tau))


def _finite(values: Sequence[float], expected: int) -> tuple[float, ...]:
    if len(values) != expected or not all(math.isfinite(value) for value in values):
        raise ValueError(f"{expected} finite numbers expected, got {values}")
    return tuple(map(float, values))


def fresh_scores(trace: Trace, state: TextState) -> np.ndarray:
    """The LLM's score of each action of a traced state, float64 [actions].

    Raises:
        CacheError: if the trace does not have them all.
    """
    known = trace.scores.get((state.goal, state.text), {})
    missing = [action for action in state.actions if action not in known]
    if missing:
        raise CacheError(
            f"The trace of `{trace.env}` has no fresh score for `{missing[0]}` at a decision: it "
            "was recorded behind a cache that answered for the LLM.",
            "Record one with every answer: cep train --env ID --cache off --trace",
        )
    return np.array([known[action] for action in state.actions], np.float64)
