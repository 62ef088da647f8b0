from cepcli.annotate.coverage import statistics
from tests.annotate.worlds import SPEC, annotation


def test_coverage_agreement_and_duplicates():
    low, high = {"height": "sunk low"}, {"height": "at full height"}
    found = statistics(
        [
            annotation("low", "rise", "auto", 0, slots=low),
            annotation("high", "brake", "auto", 1, slots=high),
            annotation("high", "brake", "auto", 2, slots=high),
            annotation("low", "rise", "person", 0, slots=low),
            annotation("low", "brake", "person", 1, slots=low),
            annotation("low", "rise", "person", 1, slots=low),
            annotation("high", "lean forward", "import", 3),
        ]
    )
    assert (found["annotations"], found["states"], found["duplicates"]) == (7, 4, 1)
    assert found["sources"] == {"auto": 3, "person": 3, "import": 1}
    assert found["envs"] == {"walker2d": 4}
    assert found["primitives"] == dict.fromkeys(SPEC.actions, 0) | {
        "rise": 2, "brake": 1, "lean forward": 1,
    }  # fmt: skip
    assert found["slots"] == {"height": {"sunk low": 2, "at full height": 1}}
    assert (found["texts"], found["texts_with_several_primitives"]) == (2, 1)
    assert found["agreement"] == [
        {"sources": ["person", "auto"], "states": 2, "primitive": 0.5, "text": 0.5,
         "slots": {"height": 0.5}}
    ]  # fmt: skip


def test_of_nothing_there_is_nothing_to_say():
    found = statistics([])
    assert (found["states"], found["primitives"], found["agreement"]) == (0, {}, [])
