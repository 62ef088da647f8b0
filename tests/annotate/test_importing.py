import json
import math

import pytest

from cepcli.annotate.importing import read_foreign
from cepcli.annotate.rules import compose, describe_slots
from cepcli.errors import ArtifactError
from tests.annotate.worlds import NAMES, SPEC, observation, row


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


def csv(*rows, header="text,primitive,observation"):
    return "\n".join([header, *rows]) + "\n"


QUOTED = '"' + json.dumps(list(observation())) + '"'


def test_json_lines_need_only_observation_text_and_primitive(tmp_path):
    line = json.dumps({"observation": list(observation()), "text": "hm", "primitive": "rise"})
    (found,) = read_foreign(write(tmp_path, "a.jsonl", line + "\n\n"), "walker2d")
    assert (found.text, found.source, found.env) == ("hm", "import", "walker2d")


def test_lines_that_say_their_environment_need_no_flag(tmp_path):
    (found,) = read_foreign(write(tmp_path, "a.jsonl", row(source="person")))
    assert (found.env, found.source) == ("walker2d", "person")
    path = write(tmp_path, "b.jsonl", json.dumps({"text": "hm"}))
    with pytest.raises(ArtifactError, match="does not say of which environment") as error:
        read_foreign(path)
    assert "--env" in error.value.hint


def test_csv_with_an_observation_column(tmp_path):
    path = write(tmp_path, "a.csv", csv(f'"it, say, stands",rise,{QUOTED}'))
    (found,) = read_foreign(path, "walker2d")
    assert (found.text, found.observation) == ("it, say, stands", observation())


def test_csv_with_a_column_per_feature(tmp_path):
    values = ",".join(map(str, observation(torso_pitch=0.5)))
    path = write(
        tmp_path, "a.csv", csv(f"hm,rise,{values}", header=",".join(["text,primitive", *NAMES]))
    )
    (found,) = read_foreign(path, "walker2d")
    assert found.observation == observation(torso_pitch=0.5)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (found,) = read_foreign(write(tmp_path, "a.jsonl", "\ufeff" + row(text="hm")))
    assert found.text == "hm"


def test_a_text_in_the_familys_sentence_gets_its_phrases(tmp_path):
    slots = describe_slots(SPEC, observation())
    (found,) = read_foreign(write(tmp_path, "a.jsonl", row(text=compose(SPEC, slots).lower())))
    assert found.slots == slots


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", csv(f"a,rise,{QUOTED}", f"b,ris,{QUOTED}"), ":3: the primitive `ris`"),
        ("a.csv", csv(f",rise,{QUOTED}"), ":2: the text is empty"),
        ("a.csv", csv('a,rise,"[1, 2]"'), ":2: the observation has 2 numbers"),
        ("a.csv", csv("a,rise,"), ":2: there is neither `observation` nor a number `torso_height`"),
        ("a.csv", csv("a,rise,[1"), ":2: the observation is not a list"),
        ("a.csv", csv("a,rise,1", header="text,primitive,torso_height"), "a number `torso_pitch`"),
        ("a.csv", csv(f"one, two,rise,{QUOTED}"), ":2: the line has more cells than the header"),
        ("a.csv", "t" * 200_000 + "\n", ":1: the line is not CSV"),
        ("a.csv", csv("a" * 200_000 + f",rise,{QUOTED}"), ":2: the line is not CSV"),
        (
            "a.tsv",
            csv(f"a\tris\t{QUOTED}", header="text\tprimitive\tobservation"),
            "primitive `ris`",
        ),
        ("a.jsonl", "[" * 100_000 + "]" * 100_000, ":1: the line is not JSON"),
        (
            "a.csv",
            csv(f"a,b,rise,{QUOTED}", header="text,text,primitive,observation"),
            "`text` twice",
        ),
        ("a.csv", csv("a", header="text"), ":1: the header has no column `primitive`"),
        ("a.csv", "", ":1: the header has no column `text`"),
        ("a.csv", csv(), "There is no annotation in"),
        ("a.jsonl", "", "There is no annotation in"),
        ("a.jsonl", row() + "\n" + row()[:-3], ":2: the line is truncated"),
        ("a.jsonl", row() + "\n[1]", ":2: the line is not a JSON object"),
        ("a.jsonl", row(observation=[math.nan] * 17), ":1: the feature `torso_height` is nan"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, name, text, message):
    with pytest.raises(ArtifactError) as error:
        read_foreign(write(tmp_path, name, text), "walker2d")
    assert message in error.value.message


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ArtifactError, match="Cannot read"):
        read_foreign(tmp_path / "none.jsonl", "walker2d")
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ArtifactError, match="not UTF-8"):
        read_foreign(path, "walker2d")
