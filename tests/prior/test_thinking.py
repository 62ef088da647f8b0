"""A prior that writes a thought before it scores."""

import pytest

from cepcli.errors import PriorError
from cepcli.prior.base import PriorShape, Prompt, Scorer, ScorerFingerprint
from cepcli.prior.journal import Journal, JournaledScorer
from cepcli.prior.llm import LLMPrior
from cepcli.prior.prompts import PromptTemplate
from cepcli.types import TextState
from tests.fakes import FakeScorer

TEMPLATE = PromptTemplate("babyai")
STATE = TextState("go to the door", "You see a door.", ("go forward", "turn left"))
OTHER = TextState("go to the door", "You see a wall.", ("turn left",))


def thinker(scorer, normalisation="sum", tokens=12):
    return LLMPrior(scorer, TEMPLATE, normalisation, PriorShape(), thought_tokens=tokens)


def test_actions_are_scored_after_the_thought_about_their_state():
    scorer = FakeScorer()
    answers = thinker(scorer).log_probs([STATE, OTHER])
    asked = [prompt for prompt, _ in scorer.lines]
    assert [limit for _, limit in scorer.lines] == [12, 12]
    assert all(prompt.state.endswith("\nThought:") for prompt in asked)
    assert "You see a door." in asked[0].state
    assert "Next action" not in asked[0].state
    [scored] = scorer.calls
    for (prompt, actions), answer, state, thinking in zip(
        scored, answers, (STATE, OTHER), asked, strict=True
    ):
        assert prompt.prefix == thinking.prefix
        assert prompt.state == f"{thinking.state} {answer.thought}\nNext action:"
        assert actions == state.actions
    assert answers[0].thought != answers[1].thought
    assert thinker(scorer).log_probs([]) == []


def test_a_thought_costs_what_it_took_and_counts_as_one_query():
    [answer] = thinker(FakeScorer(seconds=0.5)).log_probs([STATE])
    [plain] = LLMPrior(FakeScorer(seconds=0.5), TEMPLATE, "sum", PriorShape()).log_probs([STATE])
    assert (answer.seconds, answer.live_seconds) == (1.0, 1.0)
    assert answer.tokens == plain.tokens + 7.0
    assert answer.kind == "miss"


def test_thoughts_of_the_journal_are_not_written_again(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        [first] = thinker(JournaledScorer(FakeScorer(), journal)).log_probs([STATE])
        inner = FakeScorer(salt="would say something else")
        [again] = thinker(JournaledScorer(inner, journal)).log_probs([STATE])
        assert inner.lines == inner.calls == []
        assert again.thought == first.thought
        assert again.log_prior.tolist() == first.log_prior.tolist()
        assert (again.seconds, again.live_seconds) == (first.seconds, 0.0)
        [longer] = thinker(JournaledScorer(inner, journal), tokens=20).log_probs([STATE])
        assert longer.thought != first.thought


def test_a_journal_from_before_thoughts_takes_them(tmp_path):
    import sqlite3

    with Journal(tmp_path / "j.sqlite") as journal:
        [scored] = JournaledScorer(FakeScorer(), journal).score([Prompt("p", "s")], [("a",)])
    with sqlite3.connect(tmp_path / "j.sqlite") as old:
        old.execute("DROP TABLE completions")
    with Journal(tmp_path / "j.sqlite") as journal:
        inner = FakeScorer()
        scorer = JournaledScorer(inner, journal)
        assert scorer.score([Prompt("p", "s")], [("a",)])[0].log_likelihood == scored.log_likelihood
        assert thinker(scorer).log_probs([STATE])[0].thought


def test_cached_answers_are_kept_apart_from_those_without_thoughts():
    plain = LLMPrior(FakeScorer(), TEMPLATE, "sum", PriorShape()).namespace("k", "babyai")
    assert thinker(FakeScorer()).namespace("k", "babyai") != plain
    long = thinker(FakeScorer(), tokens=64).namespace("k", "babyai")
    assert thinker(FakeScorer()).namespace("k", "babyai") != long


def test_a_scorer_that_writes_no_text_says_so():
    class Silent(FakeScorer):
        @property
        def fingerprint(self):
            return ScorerFingerprint("table", "m", "r", "", "t", "float64")

        complete = Scorer.complete

    with pytest.raises(PriorError, match="kind `table` cannot write text"):
        thinker(Silent()).log_probs([STATE])


@pytest.mark.slow
def test_the_model_writes_one_line_and_always_the_same(embedded_model):
    from cepcli.prior.local.hf import HFScorer

    scorer = HFScorer(embedded_model, template="t", row_tokens=512)
    prompts = [TEMPLATE.thinking(STATE), TEMPLATE.thinking(OTHER)]
    both = scorer.complete(prompts, 8)
    [alone] = scorer.complete(prompts[1:], 8)
    assert alone.text == both[1].text, "what is asked beside it changes nothing"
    assert all(line.text and "\n" not in line.text for line in both)
    shown = len(embedded_model.encode(prompts[0].prefix + prompts[0].state))
    assert shown < both[0].tokens <= shown + 8
    assert both[0].seconds == both[0].live_seconds > 0
