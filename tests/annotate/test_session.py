import pytest

from cepcli.annotate.records import read_annotations
from cepcli.annotate.session import AnswerError, Conflict, described
from tests.annotate import worlds


@pytest.fixture
def made(tmp_path):
    return worlds.session(tmp_path)


def texts(path, source="person"):
    return [a.text for a in read_annotations(path, "walker2d") if a.source == source]


def answer(session, state, text="mine", primitive="rise"):
    return session.answer(state, session.view(state).revision, text, primitive)


def test_an_answer_stands_beside_what_the_rules_said(made):
    session, path = made
    first, second, *_ = session.order
    assert not session.view(first).answered
    view = answer(session, first, " mine,\n in two lines ")
    assert view.answered
    assert view.shown.text == "mine, in two lines"
    assert texts(path) == ["mine, in two lines"]
    assert len(texts(path, "auto")) == 5
    assert session.next_after(first) == second
    assert session.overview()["answered"] == 1


def test_a_second_answer_takes_the_place_of_the_first(made):
    session, path = made
    first = session.order[0]
    answer(session, first, "one")
    answer(session, first, "two")
    assert texts(path) == ["two"]


def test_an_answer_to_an_older_revision_is_not_taken(made):
    session, path = made
    first = session.order[0]
    before = session.view(first).revision
    answer(session, first, "from one tab")
    with pytest.raises(Conflict):
        session.answer(first, before, "from another", "rise")
    assert texts(path) == ["from one tab"]


def test_undo_goes_back_answer_by_answer(made):
    session, path = made
    first, second, *_ = session.order
    answer(session, first, "one")
    answer(session, first, "two")
    answer(session, second, "three")
    assert session.undo().text == "three"
    assert session.undo().text == "two"
    assert texts(path) == ["one"]
    assert session.undo().text == "one"
    assert session.undo() is None
    assert texts(path) == []
    assert len(texts(path, "auto")) == 5


def test_phrases_are_kept_only_where_the_text_is_made_of_them(made):
    session, _ = made
    first = session.order[0]
    text = session.view(first).shown.text.replace("upright", "leaning back")
    assert answer(session, first, text).shown.slots["lean"] == "leaning back"
    assert answer(session, first, "it leans back").shown.slots == {}


@pytest.mark.parametrize(
    ("text", "primitive", "message"),
    [
        (" ", "rise", "The text is empty"),
        ("fine", "ris", "`ris` is none of walker2d"),
        ("a\x07b", "rise", r"the control character U\+0007"),
    ],
)
def test_what_is_no_answer_is_refused(made, text, primitive, message):
    session, path = made
    with pytest.raises(AnswerError, match=message):
        answer(session, session.order[0], text, primitive)
    assert texts(path) == []


def test_a_state_that_is_not_there(made):
    with pytest.raises(AnswerError, match="no state `nothing`"):
        made[0].view("nothing")


def test_an_edit_by_hand_is_shown_and_kept(made):
    session, path = made
    first, second, *_ = session.order
    answer(session, first, "one")
    answer(session, second, "two")
    old = session.view(second).revision
    path.write_text(path.read_text().replace('"two"', '"two by hand"'))
    assert session.view(second).shown.text == "two by hand"
    with pytest.raises(Conflict):
        session.answer(second, old, "three", "rise")
    with pytest.raises(Conflict):
        session.undo()  # it is no longer what was answered
    assert session.undo().text == "one"
    assert texts(path) == ["two by hand"]


def test_an_editor_that_saves_an_older_copy_loses_no_answer(made):
    session, path = made
    first, second, third, *_ = session.order
    answer(session, first, "one")
    opened = path.read_text()
    answer(session, second, "two")
    answer(session, third, "three")
    path.write_text(opened.replace('"one"', '"one by hand"'))
    session.refresh()
    assert texts(path) == ["one by hand", "two", "three"]
    assert "without the last 2 answers" in session.notice
    assert session.undo().text == "three"
    assert texts(path) == ["one by hand", "two"]


def test_an_older_copy_without_a_change_of_an_answer_loses_it_neither(made):
    session, path = made
    first = session.order[0]
    answer(session, first, "one")
    opened = path.read_text()
    answer(session, first, "two")
    path.write_text(opened + "\n")
    assert session.view(first).shown.text == "two"
    assert "without the last 1 answer;" in session.notice


def test_an_answer_confirmed_again_does_not_hide_one_that_an_older_copy_lacks(made):
    session, path = made
    first, second, *_ = session.order
    answer(session, first, "old")
    opened = path.read_text()
    answer(session, second, "new")
    answer(session, first, "old")
    path.write_text(opened + "\n")
    session.refresh()
    assert texts(path) == ["old", "new"]
    assert session.undo().text == "new"
    assert session.undo().text == "old"
    assert session.undo() is None


def test_a_line_by_hand_in_an_older_copy_hides_no_answer_that_it_lacks(made):
    session, path = made
    first, second, *_ = session.order
    opened = path.read_text()
    answer(session, first, "one")
    answer(session, second, "two")
    state = session.state(second)
    by_hand = worlds.row(observation=list(state.observation), text="two by hand")
    path.write_text(opened + by_hand + "\n")
    session.refresh()
    assert sorted(texts(path)) == ["one", "two by hand"]


def test_an_answer_that_was_there_before_does_not_prove_a_copy_young(made):
    session, path = made
    first, second, *_ = session.order
    answer(session, first, "a")
    opened = path.read_text()
    answer(session, second, "b")
    answer(session, first, "other")
    answer(session, first, "a")
    path.write_text(opened + "\n")
    session.refresh()
    assert texts(path) == ["a", "b"]


def test_what_was_undone_after_a_copy_was_made_is_no_edit_by_hand(made):
    session, path = made
    first, second, *_ = session.order
    answer(session, first, "one")
    answer(session, first, "two")
    opened = path.read_text()
    session.undo()
    answer(session, second, "b")
    answer(session, first, "three")
    path.write_text(opened + "\n")
    session.refresh()
    assert texts(path) == ["three", "b"]


def test_undo_takes_out_all_of_what_was_put_back(made):
    session, path = made
    first = session.order[0]
    empty = path.read_text()
    answer(session, first, "first")
    answer(session, first, "second")
    path.write_text(empty + "\n")
    session.refresh()
    assert texts(path) == ["second"]
    assert session.undo().text == "second"
    assert session.undo().text == "first"
    assert texts(path) == []


def test_an_answer_deleted_by_hand_stays_deleted_when_later_ones_are_there(made):
    session, path = made
    first, second, *_ = session.order
    answer(session, first, "one")
    answer(session, second, "two")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"one"' not in line))
    session.refresh()
    assert texts(path) == ["two"]
    assert not session.notice
    assert not session.view(first).answered


def test_a_broken_line_is_told_and_does_not_stand_in_the_way(made):
    session, path = made
    path.write_text(path.read_text() + "half a li")
    answer(session, session.order[0])
    assert [defect.line for defect in session.defects] == [6]
    assert path.read_text().splitlines()[5] == "half a li"


def test_only_the_chosen_environments_are_shown(tmp_path):
    session, _ = worlds.session(tmp_path)
    other = type(session)(worlds.states(), session._file, ["ant"])
    assert other.order == []


def test_states_that_only_the_file_knows_are_shown_too(made):
    session, path = made
    with path.open("a") as file:
        file.write(worlds.row(observation=list(worlds.observation(torso_pitch=0.7))) + "\n")
    session.refresh()
    assert len(session.order) == 6


def test_half_a_character_is_refused(made):
    session, path = made
    with pytest.raises(AnswerError, match="half a character"):
        answer(session, session.order[0], "\ud800")
    assert texts(path) == []


def test_nothing_is_taken_after_the_end(made):
    session, path = made
    session.close()
    with pytest.raises(AnswerError, match="is ending"):
        answer(session, session.order[0])
    assert texts(path) == []


def test_description_names_features_and_primitives(made):
    session, _ = made
    shown = described(session.view(session.order[3]))
    speed = next(f for f in shown["features"] if f["name"] == "forward_speed")
    assert (speed["value"], speed["unit"]) == (3.0, "m/s")
    assert shown["shown"]["source"] == "auto"
    assert {"name": "brake", "meaning": "hold back with the leading leg when too fast to keep "
            "balance"} in shown["primitives"]  # fmt: skip
