"""The score journal: nothing is asked twice, nothing recorded is lost, damage is never hidden."""

import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cepcli.errors import ArtifactError, CacheError, PriorError
from cepcli.prior.base import ActionScores, Prompt
from cepcli.prior.journal import Journal, JournaledScorer, Record, prompt_hash
from tests.fakes import FINGERPRINT, FakeScorer

KITCHEN = Prompt("You play a game.", "You are in a kitchen.")
CELLAR = Prompt("You play a game.", "You are in a cellar.")
ACTIONS = ("go north", "take knife", "look")


def held(journal):
    """Prompts and answers in a journal."""
    query = "SELECT count(DISTINCT prompt), count(*) FROM scores"
    return journal._db.execute(query).fetchone()


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


def test_scores_are_those_of_the_inner_scorer(journal):
    answers = JournaledScorer(FakeScorer(), journal).score([KITCHEN, CELLAR], [ACTIONS, ACTIONS])
    expected = FakeScorer().score([KITCHEN, CELLAR], [ACTIONS, ACTIONS])
    for answer, direct in zip(answers, expected, strict=True):
        assert answer.log_likelihood.tolist() == direct.log_likelihood.tolist()
        assert answer.lengths.tolist() == direct.lengths.tolist()
        assert answer.tokens == pytest.approx(direct.tokens)
        assert (answer.seconds, answer.live_seconds) == pytest.approx((0.25, 0.25))


def test_a_known_answer_costs_what_was_recorded_and_nothing_live(journal):
    JournaledScorer(FakeScorer(), journal).score([KITCHEN], [ACTIONS])
    inner = FakeScorer(seconds=99.0)
    (answer,) = JournaledScorer(inner, journal).score([KITCHEN], [ACTIONS])
    assert inner.calls == []
    assert answer.seconds == pytest.approx(0.25)
    assert answer.tokens == pytest.approx(20 + 5)
    assert answer.live_seconds == 0.0


def test_only_the_missing_actions_of_a_prompt_are_scored(journal):
    scorer = JournaledScorer(inner := FakeScorer(), journal)
    scorer.score([KITCHEN], [("look", "go north")])
    (answer,) = scorer.score([KITCHEN], [ACTIONS])
    assert inner.calls == [[(KITCHEN, ("look", "go north"))], [(KITCHEN, ("take knife",))]]
    (direct,) = FakeScorer().score([KITCHEN], [ACTIONS])
    assert answer.log_likelihood.tolist() == direct.log_likelihood.tolist()
    assert answer.seconds == pytest.approx(0.5)
    assert answer.live_seconds == 0.25
    (share,) = scorer.score([KITCHEN], [("look",)])
    assert share.seconds == pytest.approx(0.125)


def test_what_is_missing_of_few_prompts_goes_into_one_call_and_duplicates_are_asked_once(journal):
    scorer = JournaledScorer(inner := FakeScorer(), journal)
    answers = scorer.score([KITCHEN, CELLAR, KITCHEN], [("look",), ("look",), ("look", "go north")])
    assert inner.calls == [[(KITCHEN, ("look", "go north")), (CELLAR, ("look",))]]
    assert [a.live_seconds for a in answers] == [0.25, 0.25, 0.0]
    assert answers[0].log_likelihood[0] == answers[2].log_likelihood[0]


@pytest.mark.parametrize(("at_once", "calls"), [(4, [4, 4, 2]), (1, [1] * 10), (16, [10])])
def test_scorer_says_how_many_go_together_and_each_part_is_on_disk_before_the_next(
    journal, at_once, calls
):
    recorded = []

    class Watched(FakeScorer):
        @property
        def prompts_at_once(self):
            return at_once

        def score(self, prompts, action_sets):
            with Journal(journal.path) as other:
                recorded.append(held(other)[0])
            return super().score(prompts, action_sets)

    prompts = [Prompt("p", str(i)) for i in range(10)]
    answers = JournaledScorer(inner := Watched(), journal).score(prompts, [ACTIONS] * 10)
    assert [len(call) for call in inner.calls] == calls
    assert recorded == [sum(calls[:n]) for n in range(len(calls))]
    for answer, direct in zip(answers, FakeScorer().score(prompts, [ACTIONS] * 10), strict=True):
        assert answer.log_likelihood.tolist() == direct.log_likelihood.tolist()
        assert answer.live_seconds == 0.25


@pytest.mark.parametrize(("at_once", "calls"), [(1, [1, 1, 1]), (2, [2, 1]), (9, [3])])
def test_lines_go_together_as_the_scorer_says_and_each_is_asked_for_once(journal, at_once, calls):
    asked = []

    class Watched(FakeScorer):
        @property
        def lines_at_once(self):
            return at_once

        def complete(self, prompts, most_tokens):
            asked.append(len(prompts))
            return super().complete(prompts, most_tokens)

    prompts = [Prompt("p", str(i)) for i in (0, 1, 0, 2)]
    scorer = JournaledScorer(Watched(), journal)
    lines = scorer.complete(prompts, 8)
    assert asked == calls
    assert [line.live_seconds for line in lines] == [0.25, 0.25, 0.0, 0.25]
    assert [line.text for line in scorer.complete(prompts, 8)] == [line.text for line in lines]
    assert asked == calls


@pytest.mark.parametrize("component", [f.name for f in dataclasses.fields(FINGERPRINT)])
def test_every_component_of_the_fingerprint_keeps_scorers_apart(journal, component):
    JournaledScorer(FakeScorer(), journal).score([KITCHEN], [ACTIONS])
    other = dataclasses.replace(FINGERPRINT, **{component: "other"})
    inner = FakeScorer(other, salt="other")
    (answer,) = JournaledScorer(inner, journal).score([KITCHEN], [ACTIONS])
    (direct,) = FakeScorer(other, salt="other").score([KITCHEN], [ACTIONS])
    assert answer.log_likelihood.tolist() == direct.log_likelihood.tolist()


def test_prefix_and_state_are_told_apart():
    assert prompt_hash(Prompt("ab", "c")) != prompt_hash(Prompt("a", "bc"))


def test_the_first_answer_is_authoritative(journal):
    first, second = FakeScorer(), FakeScorer(salt="low bits differ")
    with Journal(journal.path) as rival:
        race = _Racing(second, lambda: JournaledScorer(first, rival).score([KITCHEN], [ACTIONS]))
        (answer,) = JournaledScorer(race, journal).score([KITCHEN], [ACTIONS])
    (direct,) = FakeScorer().score([KITCHEN], [ACTIONS])
    assert answer.log_likelihood.tolist() == direct.log_likelihood.tolist()
    assert answer.live_seconds == 0.25


class _Racing(FakeScorer):
    """Lets another process answer first."""

    def __init__(self, inner, rival):
        super().__init__()
        self._inner, self._rival = inner, rival

    def score(self, prompts, action_sets):
        self._rival()
        return self._inner.score(prompts, action_sets)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sets(st.sampled_from("pqrs"), min_size=1)),
        min_size=1,
        max_size=6,
    )
)
def test_any_sequence_of_calls_scores_each_action_of_each_prompt_once(requests):
    with Journal(Path(":memory:")) as journal:
        scorer = JournaledScorer(inner := FakeScorer(), journal)
        for state, actions in requests:
            prompt = Prompt("", state)
            (answer,) = scorer.score([prompt], [sorted(actions)])
            (direct,) = FakeScorer().score([prompt], [sorted(actions)])
            assert answer.log_likelihood.tolist() == direct.log_likelihood.tolist()
    asked = [(p.state, a) for call in inner.calls for p, actions in call for a in actions]
    assert len(asked) == len(set(asked))
    assert set(asked) == {(state, a) for state, actions in requests for a in actions}


def test_a_score_that_is_no_number_is_refused_and_not_recorded(journal):
    class Broken(FakeScorer):
        def score(self, prompts, action_sets):
            nan = np.full(len(action_sets[0]), np.nan)
            return [ActionScores(nan, np.ones(len(nan), np.int64), 1.0, 1.0, 1.0)]

    with pytest.raises(PriorError, match="`look` as nan"):
        JournaledScorer(Broken(), journal).score([KITCHEN], [("look",)])
    assert held(journal) == (0, 0)


def test_costs_are_shared_among_the_actions_of_a_call(journal):
    JournaledScorer(FakeScorer(), journal).score([KITCHEN, CELLAR], [ACTIONS, ("look",)])
    query = "SELECT fingerprint, sum(tokens), sum(seconds) FROM scores, scorers"
    ((fingerprint, tokens, seconds),) = journal._db.execute(query).fetchall()
    assert fingerprint == str(FINGERPRINT)
    assert held(journal) == (2, 4)
    assert (tokens, seconds) == (pytest.approx(46.0), pytest.approx(0.5))


def test_the_journal_is_committed_durably(journal):
    synchronous = journal._db.execute("PRAGMA synchronous").fetchone()[0]
    assert (journal._db.execute("PRAGMA journal_mode").fetchone()[0], synchronous) == ("wal", 2)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.fakes import FINGERPRINT, FakeScorer
from cepcli.prior.base import Prompt
from cepcli.prior.journal import Journal, JournaledScorer, Record
journal = Journal(Path(sys.argv[1]))
scorer = JournaledScorer(FakeScorer(), journal)
scorer.score([Prompt("p", "answered")], [("a", "b")])
journal._db.execute("BEGIN IMMEDIATE")
journal._db.execute("INSERT INTO scores VALUES (1, x'00', 'half', 0, 1, 1, 1)")
os.kill(os.getpid(), signal.SIGKILL)
"""


def run_python(code: str, *arguments: str) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment)


def test_answers_survive_kill_9_and_an_unfinished_commit_leaves_nothing(tmp_path):
    path = tmp_path / "journal.sqlite"
    with run_python(KILLED, str(path)) as process:
        assert process.wait(30) == -signal.SIGKILL
    with Journal(path) as journal:
        inner = FakeScorer()
        JournaledScorer(inner, journal).score([Prompt("p", "answered")], [("a", "b")])
        assert inner.calls == []
        assert held(journal)[1] == 2


SHARING = """
import sys
from pathlib import Path
from tests.fakes import FakeScorer
from cepcli.prior.base import Prompt
from cepcli.prior.journal import Journal, JournaledScorer
with Journal(Path(sys.argv[1])) as journal:
    scorer = JournaledScorer(FakeScorer(salt=sys.argv[2]), journal)
    answers = [scorer.score([Prompt("p", str(i))], [("a", "b")])[0] for i in range(40)]
    again = [scorer.score([Prompt("p", str(i))], [("a", "b")])[0] for i in range(40)]
    same = [list(a.log_likelihood) == list(b.log_likelihood) for a, b in zip(answers, again)]
    sys.exit(0 if all(same) else 3)
"""


def test_processes_that_share_a_journal_see_one_answer(tmp_path):
    path = tmp_path / "deep" / "journal.sqlite"
    processes = [run_python(SHARING, str(path), salt) for salt in "xyz"]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    with Journal(path) as journal:
        assert held(journal)[1] == 80


def filled(path: Path) -> bytes:
    with Journal(path) as journal:
        scorer = JournaledScorer(FakeScorer(), journal)
        scorer.score([Prompt("p", str(i)) for i in range(200)], [ACTIONS] * 200)
    return path.read_bytes()


@pytest.mark.parametrize("keep", [10, 100, 4096, 9000, -100])
def test_a_truncated_journal_is_refused_by_name_and_left_untouched(tmp_path, keep):
    path = tmp_path / "journal.sqlite"
    path.write_bytes(filled(path)[:keep])
    before = path.read_bytes()
    with pytest.raises(CacheError, match=r"journal\.sqlite") as error:
        Journal(path)
    assert "untouched" in error.value.message
    assert path.read_bytes() == before


def test_a_corrupt_page_is_refused(tmp_path):
    path = tmp_path / "journal.sqlite"
    content = bytearray(filled(path))
    content[4096 * 3 : 4096 * 4] = b"\xff" * 4096
    path.write_bytes(content)
    with pytest.raises(CacheError, match="damaged"):
        Journal(path)
    assert path.read_bytes() == bytes(content)


@pytest.mark.parametrize("content", [b"hello", b"\0" * 5000, b'{"kind": "prior-cache"}'])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(CacheError, match="not a score journal"):
        Journal(path)
    assert path.read_bytes() == content


def test_the_database_of_another_program_is_refused(tmp_path):
    path = tmp_path / "journal.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE scores (song TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(CacheError, match="another program"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "journal.sqlite"
    filled(path)
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 2")
    newer.close()
    with pytest.raises(CacheError, match="schema version 2"):
        Journal(path)


def test_an_empty_file_becomes_a_journal(tmp_path):
    (tmp_path / "journal.sqlite").touch()
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert held(journal) == (0, 0)


@pytest.mark.parametrize(
    ("pragma", "reason"), [("max_page_count = 1", "disk is full"), ("query_only = ON", "read-only")]
)
def test_a_full_disk_and_a_read_only_file_are_said_clearly(journal, pragma, reason):
    journal._db.execute(f"PRAGMA {pragma}")
    answers = {bytes([i]): {"a" * 999: Record(-1.0, 1, 1.0, 1.0)} for i in range(99)}
    with pytest.raises(CacheError, match=reason):
        journal.write(FINGERPRINT, answers)
    assert held(journal) == (0, 0)


def test_a_place_that_cannot_be_written_is_said_clearly(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="not a directory"):
        Journal(tmp_path / "file" / "deeper" / "journal.sqlite")
    (tmp_path / "directory").mkdir()
    with pytest.raises(CacheError, match="cannot be opened"):
        Journal(tmp_path / "directory")
