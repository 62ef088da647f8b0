import json
import math
from dataclasses import replace

import pytest

from cepcli.annotate.records import (
    believed,
    open_annotations,
    parse,
    read_annotations,
    rounded,
    state_id,
    suggestion,
    to_line,
)
from cepcli.errors import ArtifactError
from cepcli.workspace.artifacts import Workspace
from tests.annotate.worlds import SPEC, annotation, observation, row


def test_a_line_says_what_the_annotation_said():
    one = annotation(text="It is hardly moving", slots={"pace": "hardly moving"})
    assert parse([to_line(one)], "walker2d") == ([one], [])


@pytest.mark.parametrize(
    "given", [{"pace": "hardly moving"}, {"pace": "stands", "cloud": "it"}, {"cloud": "it"}]
)
def test_phrases_that_the_text_has_not_or_the_family_has_no_slot_for_are_dropped(given):
    (found,), _ = parse([row(slots=given)], "walker2d")
    assert found.slots == {}


def test_a_sentence_of_phrases_edited_by_hand_has_the_phrases_that_it_says_now():
    standing = suggestion(SPEC, observation())
    fast = suggestion(SPEC, observation(forward_speed=3.0))
    assert fast.slots != standing.slots
    for stale in (standing.slots, {"pace": fast.slots["pace"]}):
        (found,), _ = parse([to_line(replace(fast, slots=stale))], "walker2d")
        assert found.slots == fast.slots


def test_a_file_without_annotations_is_refused(tmp_path):
    space = Workspace(tmp_path)
    (space.begin("annotations", "ant") / "annotations.jsonl").write_text("\n")
    space.finish("annotations", "ant", seed=0)
    with pytest.raises(ArtifactError, match="There is no annotation of ant in"):
        open_annotations(space, "ant")


def test_a_family_without_rules_gets_no_phrases_and_no_words(monkeypatch):
    monkeypatch.setattr("cepcli.annotate.records.has_rules", lambda spec: False)
    monkeypatch.setattr("cepcli.annotate.rules.has_rules", lambda spec: False)
    (found,), _ = parse([row(text="Oh, it stands", slots={"air": "it stands"})], "walker2d")
    assert found.slots == {"air": "it stands"}
    offered = suggestion(SPEC, observation())
    assert (offered.text, offered.primitive) == ("", SPEC.actions[0])


def test_blank_lines_are_no_annotations_and_no_mistakes():
    found, defects = parse(["", row(), "   "], "walker2d")
    assert [each is None for each in found] == [True, False, True]
    assert not defects


BAD = {
    "unknown primitive": (row(primitive="ris"), "`ris` is none of walker2d", "`rise`"),
    "empty text": (row(text="  "), "the text is empty", "in words"),
    "no text": (row(text=None), "the text is empty", ""),
    "too few features": (row(observation=[1.0, 2.0]), "has 2 numbers, expected the 17", "walker2d"),
    "NaN": (
        row(observation=[1.0, math.nan, *[0] * 15]), "`torso_pitch` is nan", "annotate",
    ),
    "too large": (row(observation=[10**400, *[0] * 16]), "`torso_height` is 1000", "annotate"),
    "half a character": (
        row().replace("it stands", "\\ud800"), "half a character", "again",
    ),
    "a control character": (
        row().replace("it stands", "\\u001b[31m"), "control character U+001B", "without"
    ),
    "too deep": ("[" * 100_000 + "]" * 100_000, "the line is not JSON", "Delete"),
    "infinite": (row(observation=[math.inf, *[0] * 16]), "`torso_height` is inf", ""),
    "words for numbers": (row(observation=["1"] * 17), "not a list of numbers", ""),
    "truncated": (row()[:-9], "the line is truncated", "Complete it"),
    "not JSON": ("{what}", "not JSON", "Fix it"),
    "no object": ("[1]", "not a JSON object", ""),
    "other family": (row(env="ant"), "is of the family ant, expected walker2d", "--env ant"),
    "no environment": (row(env="walker3d"), "`walker3d` doesn't exist", "`walker2d`"),
    "missing field": (json.dumps({"text": "x"}), "`observation` is missing", "Needed are"),
    "unknown source": (row(source="me"), "source `me` is unknown", "person"),
    "odd slots": (row(slots=["x"]), "not an object of phrases", "pace"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_line_is_named_with_its_number(name, tmp_path):
    line, message, hint = BAD[name]
    path = tmp_path / "annotations.jsonl"
    path.write_text(f"{row()}\n\n{line}\n{row()}\n")
    with pytest.raises(ArtifactError) as error:
        read_annotations(path, "walker2d")
    assert error.value.message.startswith(f"{path}:3: ")
    assert message in error.value.message
    assert hint in error.value.hint


def test_further_wrong_lines_are_counted(tmp_path):
    path = tmp_path / "annotations.jsonl"
    path.write_text(f"{row(text='')}\n{row()}\n{row(text='')}\n{row(text='')}\n")
    with pytest.raises(ArtifactError, match=r":1: .* 2 more lines are wrong"):
        read_annotations(path, "walker2d")


def test_a_person_is_believed_before_a_rule_and_the_later_answer_before_the_earlier():
    auto = annotation(source="auto")
    first, second = annotation(text="first"), annotation(text="second")
    imported, other = annotation(source="import"), annotation(source="auto", state=1)
    assert believed([first, auto, other, second, imported]) == [second, other]
    assert believed([auto, imported]) == [imported]


def test_states_are_the_same_to_five_decimals():
    near, far = observation(torso_pitch=0.1000001), observation(torso_pitch=0.10002)
    assert state_id("walker2d", near) == state_id("walker2d", observation(torso_pitch=0.1))
    assert state_id("walker2d", far) != state_id("walker2d", near)
    assert state_id("ant", near) != state_id("walker2d", near)
    assert str(rounded([-0.0000001])[0]) == "0.0"


def test_what_ships_is_found_and_the_workspace_comes_first(tmp_path):
    space = Workspace(tmp_path)
    shipped, annotations = open_annotations(space, "walker2d")
    assert len(annotations) == 250
    assert shipped.manifest["command"].startswith("cep annotate auto")
    folder = space.begin("annotations", "walker2d")
    (folder / "annotations.jsonl").write_text(row() + "\n")
    space.finish("annotations", "walker2d", seed=0)
    assert len(open_annotations(space, "walker2d")[1]) == 1
