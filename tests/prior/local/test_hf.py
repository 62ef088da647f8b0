"""The local scorer against the naive way, with the real embedded model."""

import numpy as np
import pytest
import torch

from cepcli.errors import PriorError
from cepcli.prior.base import Prompt
from cepcli.prior.config import FinetuneConfig
from cepcli.prior.local.hf import HFScorer

ACTIONS = ["turn left", "turn right", "go forward", "go north", "go north east", "toggle"]
PROMPTS = [
    Prompt("An agent walks.\n", "Goal: go to the red ball\nYou see a wall.\nNext action:"),
    Prompt("An agent walks.\n", "Goal: go to the key\nYou see a red ball.\nNext action:"),
    Prompt("Somebody else.\n", "You see nothing.\nNext action:"),
    Prompt("", "You see nothing.\nNext action:"),
]


@pytest.fixture(scope="module")
def scorer(embedded_model):
    return HFScorer(embedded_model, template="test-1", row_tokens=512)


def naive(model, prompt: Prompt, action: str) -> float:
    """The log-likelihood of one action by one plain forward pass."""
    branch = model.branch(prompt, [action])
    ids, [answer] = branch.prompt, branch.continuations
    with torch.inference_mode():
        logits = model.model(input_ids=torch.tensor([ids + answer])).logits[0].log_softmax(-1)
    rows = range(len(ids) - 1, len(ids) + len(answer) - 1)
    return float(sum(logits[row, token] for row, token in zip(rows, answer, strict=True)))


def test_tree_gives_the_naive_log_likelihoods_in_one_call_for_all(scorer, embedded_model):
    answers = scorer.score(PROMPTS, [ACTIONS, ACTIONS[:2], ACTIONS[3:5], ACTIONS[:1]])
    for prompt, actions, answer in zip(
        PROMPTS, [ACTIONS, ACTIONS[:2], ACTIONS[3:5], ACTIONS[:1]], answers, strict=True
    ):
        expected = [naive(embedded_model, prompt, action) for action in actions]
        np.testing.assert_allclose(answer.log_likelihood, expected, atol=1e-4)
        branch = embedded_model.branch(prompt, actions)
        assert answer.lengths.tolist() == [len(c) for c in branch.continuations]


def test_small_rows_change_nothing_but_the_packing(scorer, embedded_model):
    small = HFScorer(embedded_model, template="test-1", row_tokens=1)
    one = small.score(PROMPTS[:2], [ACTIONS, ACTIONS])
    two = scorer.score(PROMPTS[:2], [ACTIONS, ACTIONS])
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a.log_likelihood, b.log_likelihood, atol=1e-4)


def test_answer_says_what_it_cost(scorer):
    [answer] = scorer.score(PROMPTS[:1], [ACTIONS])
    assert answer.tokens > 10
    assert answer.seconds == answer.live_seconds > 0


def test_fingerprint_names_model_revision_and_precision(scorer):
    found = scorer.fingerprint
    assert (found.backend, found.model, found.dtype) == ("hf", "embedded", "float32")
    assert len(found.revision) == 64
    assert found.template == "test-1"


def test_few_prompts_go_together_on_a_cpu(scorer):
    assert (scorer.prompts_at_once, scorer.lines_at_once) == (4, 1)


def test_empty_prompt_is_an_error(scorer):
    with pytest.raises(PriorError, match="empty"):
        scorer.score([Prompt("", "")], [["toggle"]])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_adapter_read_back_and_merged_scores_as_in_training(tmp_path):
    from cepcli.prior.local.language_model import load_language_model
    from cepcli.prior.tuning.lora import Adapter

    model = load_language_model("embedded", dtype="float32")
    base = HFScorer(model, template="t", row_tokens=512).score(PROMPTS[:1], [ACTIONS])
    adapter = Adapter(model, FinetuneConfig(rank=2))
    noise = torch.Generator().manual_seed(0)
    weights = {
        name: (0.05 * torch.randn(w.shape, generator=noise)).bfloat16().float()
        for name, w in adapter.weights().items()
    }
    adapter.set_weights(weights)
    tuned = HFScorer(model, template="t", row_tokens=512).score(PROMPTS[:1], [ACTIONS])
    adapter.save(tmp_path)

    merged = load_language_model("embedded", dtype="float32", adapter=tmp_path)
    again = HFScorer(merged, template="t", row_tokens=512).score(PROMPTS[:1], [ACTIONS])
    np.testing.assert_allclose(again[0].log_likelihood, tuned[0].log_likelihood, atol=1e-3)
    assert np.abs(tuned[0].log_likelihood - base[0].log_likelihood).max() > 0.1
    assert len(merged.adapter_sha256) == 64


def test_a_prompt_longer_than_the_context_is_refused(embedded_model):
    from cepcli.errors import PriorError

    scorer = HFScorer(embedded_model, template="t", row_tokens=512)
    context = embedded_model.model.config.max_position_embeddings
    with pytest.raises(PriorError, match=f"takes {context}") as told:
        scorer.score([Prompt("p", " wall" * context)], [["go north"]])
    assert "llm.text_tokens" in told.value.hint
    with pytest.raises(PriorError, match=f"needs {context + 1} tokens .* takes {context}"):
        scorer.complete([Prompt("", " wall" * (context - 7))], 8)
    assert scorer.count_tokens(" wall wall") == 2
