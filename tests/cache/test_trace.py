import gzip
import json

import numpy as np
import pytest

from cepcli.cache.trace import FILE, TraceWriter, fresh_scores, read_trace
from cepcli.errors import CacheError
from cepcli.prior.base import PriorAnswer, PriorShape
from cepcli.types import TextState
from tests.fakes import NAMESPACE

SHAPE = PriorShape(0.7, 0.05)
STATES = [TextState("find it", "a room", ("go", "stay")), TextState("find it", "a hall", ("go",))]


def answer(kind, *scores):
    scores = np.array(scores)
    return PriorAnswer(SHAPE.log_prior(scores), scores, kind)


def write(directory, offset=0):
    return TraceWriter(directory, "toy", NAMESPACE, SHAPE, offset=offset)


@pytest.fixture
def traced(tmp_path):
    """A trace of three decisions."""
    writer = write(tmp_path)
    writer.write(STATES[0], 0, answer("miss", -1.0, -2.0), [0.5, 0.25], 0.8)
    writer.write(STATES[1], 0, answer("miss", -3.0), None, 0.7)
    writer.write(STATES[0], 1, answer("exact", -1.0, -2.0), [0.1, 0.2], 0.6)
    writer.close()
    return tmp_path


def test_what_was_written_is_read(traced):
    trace = read_trace(traced)
    assert (trace.env, trace.namespace, trace.shape) == ("toy", NAMESPACE, SHAPE)
    assert [d.state for d in trace.decisions] == [STATES[0], STATES[1], STATES[0]]
    assert [d.episode for d in trace.decisions] == [0, 0, 1]
    assert [d.q_values for d in trace.decisions] == [(0.5, 0.25), None, (0.1, 0.2)]
    assert [d.temperature for d in trace.decisions] == [0.8, 0.7, 0.6]
    assert fresh_scores(trace, STATES[0]).tolist() == [-1.0, -2.0]


def test_a_packed_trace_is_read_and_a_cut_one_is_named(traced, tmp_path):
    packed = tmp_path / "trace.jsonl.gz"
    packed.write_bytes(gzip.compress((traced / FILE).read_bytes()))
    assert read_trace(packed) == read_trace(traced)
    for damaged in (packed.read_bytes()[:-20], b"no gzip", packed.read_bytes()[:30] + b"\0" * 60):
        packed.write_bytes(damaged)
        with pytest.raises(CacheError, match="is not a complete gzip file; it was left untouched"):
            read_trace(packed)


def test_a_text_and_an_action_set_are_written_once(traced):
    rows = [json.loads(line) for line in (traced / FILE).read_text().splitlines()]
    assert [row["text"] for row in rows if "text" in row] == ["find it", "a room", "a hall"]
    assert len([row for row in rows if "actions" in row]) == 2


def test_a_resumed_trace_is_the_same_file_as_one_never_stopped(tmp_path, traced):
    folder = tmp_path / "resumed"
    folder.mkdir()
    writer = write(folder)
    writer.write(STATES[0], 0, answer("miss", -1.0, -2.0), [0.5, 0.25], 0.8)
    offset = writer.sync()
    writer.write(STATES[1], 0, answer("miss", -9.0), None, 0.1)  # lost with the kill
    writer.close()
    writer = write(folder, offset)
    writer.write(STATES[1], 0, answer("miss", -3.0), None, 0.7)
    writer.write(STATES[0], 1, answer("exact", -1.0, -2.0), [0.1, 0.2], 0.6)
    writer.close()
    assert (folder / FILE).read_bytes() == (traced / FILE).read_bytes()


def test_answers_of_the_cache_are_not_taken_for_the_llms(tmp_path):
    writer = write(tmp_path)
    writer.write(STATES[0], 0, answer("semantic", -1.0, -2.0), None, 0.8)
    writer.close()
    with pytest.raises(CacheError, match="behind a cache"):
        fresh_scores(read_trace(tmp_path), STATES[0])


def test_no_trace_says_how_to_record_one(tmp_path):
    with pytest.raises(CacheError) as error:
        read_trace(tmp_path)
    assert "--trace" in error.value.hint


def corrupted(change):
    """`change` as an edit of the lines of a trace."""

    def edit(path):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(change(lines)))

    return edit


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [*lines[:-1], lines[-1][:10]], "truncated in line"),
        (lambda lines: [], "does not begin like a trace"),
        (lambda lines: ["hello\n", *lines[1:]], "does not begin like a trace"),
        (
            lambda lines: [lines[0].replace('"kind": "trace"', '"kind": "x"'), *lines[1:]],
            "like a x",
        ),
        (lambda lines: [lines[0].replace('sion": 1', 'sion": 2'), *lines[1:]], "version 2"),
        (lambda lines: [lines[0].replace("scorer", "score"), *lines[1:]], "malformed head"),
        (lambda lines: [x.replace("-1.0", "NaN") for x in lines], "malformed in line"),
        (lambda lines: [x.replace("0.25", "Infinity") for x in lines], "malformed in line"),
        (lambda lines: [x.replace('"at": [0', '"at": [99') for x in lines], "malformed in line"),
        (lambda lines: lines[:1], "holds no decision"),
    ],
)
def test_a_damaged_foreign_or_newer_trace_is_named_and_left_alone(traced, change, said):
    path = traced / FILE
    corrupted(change)(path)
    before = path.read_bytes()
    with pytest.raises(CacheError, match=said) as error:
        read_trace(traced)
    assert str(path) in error.value.message
    assert path.read_bytes() == before
