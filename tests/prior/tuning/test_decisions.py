"""Decisions on disk."""

import json

import pytest

from cepcli.errors import ArtifactError
from cepcli.prior.tuning.decisions import ExpertDecision, episodes, read_decisions, write_decisions
from cepcli.types import TextState

STATE = TextState("g", "x\ny", ("a", "b"))
DECISIONS = [ExpertDecision(0, 7, 0, STATE, "b", 1.0), ExpertDecision(2, 9, 0, STATE, "a", 0.5)]


def test_decisions_survive_the_disk(tmp_path):
    write_decisions(tmp_path / "d.jsonl", DECISIONS)
    assert read_decisions(tmp_path / "d.jsonl") == DECISIONS
    assert DECISIONS[0].label == 1


def test_episodes_keep_their_decisions_together():
    assert episodes(DECISIONS) == {0: DECISIONS[:1], 2: DECISIONS[1:]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": "c"}, "not among its `actions`"),
        ({"goal": None}, "has no `goal`"),
        ({"text": "x\ud800"}, "expected a string of whole characters"),
    ],
)
def test_bad_line_is_named(tmp_path, change, message):
    write_decisions(tmp_path / "d.jsonl", DECISIONS)
    lines = (tmp_path / "d.jsonl").read_text().splitlines()
    row = json.loads(lines[1]) | change
    row = {key: value for key, value in row.items() if value is not None}
    (tmp_path / "d.jsonl").write_text(lines[0] + "\n" + json.dumps(row) + "\n")
    with pytest.raises(ArtifactError, match=message) as error:
        read_decisions(tmp_path / "d.jsonl")
    assert "d.jsonl:2" in error.value.message


def test_file_that_is_no_json_or_absent(tmp_path):
    (tmp_path / "d.jsonl").write_text("{")
    with pytest.raises(ArtifactError, match="not JSON"):
        read_decisions(tmp_path / "d.jsonl")
    with pytest.raises(ArtifactError, match="Cannot read"):
        read_decisions(tmp_path / "absent.jsonl")
