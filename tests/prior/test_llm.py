"""From raw scores to a prior, computed by hand."""

import numpy as np
import pytest

from cepcli.prior.base import ActionScores, PriorShape, Scorer, ScorerFingerprint
from cepcli.prior.llm import LLMPrior
from cepcli.prior.prompts import PromptTemplate
from cepcli.types import TextState

FINGERPRINT = ScorerFingerprint("table", "m", "r", "", "babyai-1", "float64")
RAW = {"go": (-2.0, 1), "go far": (-3.0, 2)}
NEUTRAL = {"go": -1.0, "go far": -4.0}
STATE = TextState("g", "x", ("go", "go far"))


class TableScorer(Scorer):
    """Scores from the tables above; the neutral prompt has its own."""

    def __init__(self):
        self.asked = []

    @property
    def fingerprint(self):
        return FINGERPRINT

    def count_tokens(self, text):
        return len(text.split())

    def score(self, prompts, action_sets):
        self.asked.append([tuple(actions) for actions in action_sets])
        return [self._one(p, a) for p, a in zip(prompts, action_sets, strict=True)]

    def _one(self, prompt, actions):
        neutral = "unknown" in prompt.state
        scores = [NEUTRAL[a] if neutral else RAW[a][0] for a in actions]
        lengths = np.array([RAW[a][1] for a in actions], np.int64)
        return ActionScores(np.array(scores), lengths, 10.0, 0.5, 0.25)


def prior(normalisation, **shape):
    return LLMPrior(TableScorer(), PromptTemplate("babyai"), normalisation, PriorShape(**shape))


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [("sum", [-2.0, -3.0]), ("mean", [-2.0, -1.5]), ("pmi", [-1.0, 1.0])],
)
def test_normalised_scores(normalisation, expected):
    [answer] = prior(normalisation).log_probs([STATE])
    np.testing.assert_allclose(answer.scores, expected)


def test_temperature_and_smoothing():
    [answer] = prior("sum", temperature=2.0, smoothing=0.1).log_probs([STATE])
    weight = 1 / (1 + np.exp(-0.5))
    expected = [0.9 * weight + 0.05, 0.9 * (1 - weight) + 0.05]
    np.testing.assert_allclose(np.exp(answer.log_prior), expected)
    assert (answer.kind, answer.tokens, answer.seconds) == ("miss", 10.0, 0.5)
    assert answer.live_seconds == 0.25


def test_neutral_scores_are_asked_once_per_action_and_charged_to_no_decision():
    judged = prior("pmi")
    answers = judged.log_probs([STATE, STATE]) + judged.log_probs([STATE])
    costs = [(answer.tokens, answer.seconds, answer.live_seconds) for answer in answers]
    assert costs == [(10.0, 0.5, 0.25)] * 3
    assert judged.scorer.asked == [[STATE.actions], [STATE.actions] * 2, [STATE.actions]]


def test_score_of_an_action_does_not_depend_on_the_others():
    for normalisation in ("sum", "mean", "pmi"):
        judged = prior(normalisation)
        [both] = judged.log_probs([STATE])
        [alone] = judged.log_probs([TextState("g", "x", ("go far",))])
        assert alone.scores[0] == both.scores[1]


def test_no_states_ask_nothing():
    judged = prior("pmi")
    assert judged.log_probs([]) == []
    assert judged.scorer.asked == []


def test_namespace_names_scorer_normalisation_encoder_and_family():
    space = prior("mean").namespace("abc", "babyai")
    assert space.scorer == FINGERPRINT
    assert (space.normalisation, space.key_encoder_sha256, space.env_family) == (
        "mean", "abc", "babyai",
    )  # fmt: skip


def test_a_long_text_is_shortened_before_it_is_asked_about():
    from tests.fakes import FakeScorer

    long = TextState("g", " ".join(f"w{number}" for number in range(3000)), ("go", "stay"))
    scorer = FakeScorer()
    made = LLMPrior(scorer, PromptTemplate("babyai"), "sum", PriorShape(), 100)
    made.log_probs([long, STATE])
    [[(prompt, _), (short, _)]] = scorer.calls
    assert "w0 " in prompt.state
    assert prompt.state.rstrip().endswith("w2999\nNext action:")
    assert 90 < len(prompt.state.split()) < 110
    assert "…" not in short.state


def test_another_budget_for_texts_is_another_prior():
    def namespace(*more):
        made = LLMPrior(TableScorer(), PromptTemplate("babyai"), "sum", PriorShape(), *more)
        return made.namespace("k", "babyai")

    assert namespace(64) != namespace(65) != namespace()
    assert namespace(512) == namespace()
