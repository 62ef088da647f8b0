"""The tokens that are scored, against the naive way, for a tokenizer of each kind."""

from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cepcli.errors import PriorError
from cepcli.prior.base import Prompt
from cepcli.prior.config import FinetuneConfig
from cepcli.prior.local.hf import HFScorer
from cepcli.prior.local.language_model import load_language_model
from cepcli.prior.local.whole_text import Borders, Ends, TokenSplit, common_beginning, find_ends
from cepcli.prior.prompts import PromptTemplate
from cepcli.prior.tuning.decisions import ExpertDecision
from cepcli.prior.tuning.finetune import candidate_loss
from cepcli.prior.tuning.lessons import Lesson
from cepcli.types import TextState
from tests.prior.tiny import KINDS, save_tiny

ACTIONS = ("go north", "go north east", "turn left", "toggle", "(wait)", "nord-öst", " go")
PREFIX = "An agent walks through a grid world.\n"
PROMPTS = [
    Prompt(PREFIX, "Goal: go to the red ball\nYou see a wall.\nNext action:"),
    Prompt(PREFIX, "Goal: go to the key\nYou see  2 keys, 11 steps left.\nNext action:"),
    Prompt(PREFIX, "\nGoal: öffne\n\n>"),
    Prompt("", "You see nothing.\nNext action:"),
    Prompt("An agent", " walks.\nNext action: "),
]


class Kind:
    """A tiny model, and what its tokenizer says without any of our code."""

    def __init__(self, name, folder):
        self.raw = KINDS[name]()
        self.eos = "EOS" in name
        self.model = load_language_model(str(save_tiny(folder, self.raw)), dtype="float32")

    def ids(self, text):
        ids = self.raw.encode(text).ids
        return ids[:-1] if self.eos else ids

    def naive(self, prompt, action):
        """Log-likelihood and number of the tokens behind what prompt and whole text share."""
        text = prompt.prefix + prompt.state
        alone, whole = self.ids(text), self.ids(f"{text} {action}\n")
        start = next((i for i, pair in enumerate(zip(alone, whole, strict=False))
                      if pair[0] != pair[1]), min(len(alone), len(whole)))  # fmt: skip
        with torch.inference_mode():
            logits = self.model.model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        scores = [float(logits[i - 1, whole[i]]) for i in range(start, len(whole))]
        return sum(scores), len(scores)

    def fresh(self):
        """The model with nothing remembered."""
        return replace(self.model, borders=Borders("tiny"))


#: Of tokenizers that resemble another one.
LATER = {"byte-level, BOS", "sentencepiece, prefix blank", "merges over the border"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(k, marks=pytest.mark.slow) if k in LATER else k for k in KINDS],
)
def kind(request, tmp_path_factory):
    return Kind(request.param, tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def kind_of(tmp_path):
    return lambda name: Kind(name, tmp_path / "tiny")


@pytest.mark.parametrize("row_tokens", [1, 512])
def test_scores_are_those_of_one_pass_over_each_whole_text(kind, row_tokens):
    scorer = HFScorer(kind.fresh(), template="t", row_tokens=row_tokens)
    for prompts in (PROMPTS, PROMPTS[::-1]):  # the second time much is remembered
        answers = scorer.score(prompts, [ACTIONS] * len(prompts))
        for prompt, answer in zip(prompts, answers, strict=True):
            expected = [kind.naive(prompt, action) for action in ACTIONS]
            np.testing.assert_allclose(answer.log_likelihood, [e[0] for e in expected], atol=2e-4)
            assert answer.lengths.tolist() == [e[1] for e in expected]


@pytest.mark.parametrize("normalisation", ["sum", "mean"])
def test_tuning_learns_from_the_same_tokens(kind, normalisation):
    template = PromptTemplate("babyai")
    texts = ("You see a red ball.", "You see a wall.")
    states = [TextState("go to the key", text, ACTIONS) for text in texts]
    lessons = [
        Lesson(template, ExpertDecision(i, i, 0, s, ACTIONS[i])) for i, s in enumerate(states)
    ]
    expected = 0.0
    for label, state in enumerate(states):
        found = [kind.naive(template.render(state), action) for action in ACTIONS]
        scores = [s / n if normalisation == "mean" else s for s, n in found]
        expected -= float(torch.tensor(scores).log_softmax(0)[label])
    with torch.inference_mode():
        loss = candidate_loss(kind.model, lessons, FinetuneConfig(normalisation=normalisation))
    assert float(loss) == pytest.approx(expected, abs=1e-3)


def test_a_line_is_written_after_the_tokens_of_the_prompt(kind):
    prompt = PROMPTS[0]
    ids = kind.ids(prompt.prefix + prompt.state)
    with torch.inference_mode():
        for _ in range(3):
            logits = kind.model.model(input_ids=torch.tensor([ids])).logits[0, -1]
            ids = [*ids, int(logits.argmax())]
    written = ids[-3:]
    text = kind.model.tokenizer.decode(written, skip_special_tokens=True)
    [line] = HFScorer(kind.model, template="t", row_tokens=512).complete([prompt], 3)
    assert line.text == text.split("\n")[0].strip()


def test_shown_tokens_are_those_that_are_scored(kind):
    scorer = HFScorer(kind.model, template="t", row_tokens=512)
    read = scorer.tokens(PROMPTS[1], ACTIONS)
    [answer] = scorer.score(PROMPTS[1:2], [ACTIONS])
    text = PROMPTS[1].prefix + PROMPTS[1].state
    assert [token.id for token in read.prompt] == kind.ids(text)
    assert all(token.piece == kind.raw.id_to_token(token.id) for token in read.prompt)
    for action, total, dropped, tokens in zip(
        ACTIONS, answer.log_likelihood, read.dropped, read.actions, strict=True
    ):
        assert sum(token.log_prob for token in tokens) == pytest.approx(total, abs=2e-4)
        first = kind.ids(text)[: len(read.prompt) - dropped]
        assert first + [token.id for token in tokens] == kind.ids(f"{text} {action}\n")


def test_special_tokens_are_no_part_of_a_texts_length(kind):
    text = "You see a wall."
    assert kind.model.count(text) == len(kind.raw.encode(text, add_special_tokens=False).ids)
    assert kind.model.count("") == 0


_words = st.sampled_from(
    ["go", "north", " ", "\n", "Next action:", "a", "wall", ".", ":", "ö", "日", "1", "23", "¨"]
)
_SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_texts = st.lists(_words, min_size=1, max_size=12).map("".join)


@given(st.lists(_texts, min_size=2, max_size=4), st.lists(_texts, min_size=1, max_size=3))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_remembered_changes_no_token(kind, texts, actions):
    model, ends = kind.fresh(), ("\nNext action:", "Next action:", ":", "")
    for text in texts:
        for end in ends:
            prompt = Prompt("An agent. ", text + end)
            ids = kind.ids("An agent. " + text + end)
            branch = model.branch(prompt, actions)
            assert branch.prompt == ids
            for action, dropped, found in zip(
                actions, branch.dropped, branch.continuations, strict=True
            ):
                whole = kind.ids(f"An agent. {text}{end} {action}\n")
                assert [*ids[: len(ids) - dropped], *found] == whole
                assert common_beginning(ids, whole) == len(ids) - dropped


def test_a_token_that_crosses_the_border_belongs_to_the_action(kind_of):
    kind = kind_of("merges over the border")
    branch = kind.model.branch(PROMPTS[0], ["go north", "toggle"])
    pieces = kind.model.tokenizer.convert_ids_to_tokens(branch.continuations[0])
    assert ": go" in pieces[0]
    lost = kind.model.tokenizer.convert_ids_to_tokens(branch.prompt[-branch.dropped[0] :])
    assert "".join(pieces) == "".join(lost) + " go north\n"
    assert branch.shared == len(branch.prompt) - max(branch.dropped)


def test_repeated_actions_are_not_tokenized_again(kind_of):
    kind, texts = kind_of("byte-level, BOS"), []
    tokenizer = kind.model.tokenizer

    def heard(text, **settings):
        texts.append(text)
        return tokenizer(text, **settings)

    model = replace(kind.model, tokenizer=heard)
    model.branch(PROMPTS[0], ACTIONS)
    del texts[:]
    model.branch(PROMPTS[1], ACTIONS)
    assert texts == [PROMPTS[1].prefix + PROMPTS[1].state]


def test_a_split_is_remembered_only_where_a_known_token_stands_left_of_it():
    borders = Borders("m")
    prompt, actions = [1, 2, 3, 4], ["a", "b"]
    whole = {"a": [1, 2, 3, 9], "b": [1, 8, 9]}
    found = borders.splits("text", prompt, actions, whole)
    assert found == [TokenSplit(1, [9]), TokenSplit(3, [8, 9])]
    assert borders.unknown("text", prompt, actions) == ["b"]
    assert borders.unknown("test", prompt, actions) == actions
    assert borders.unknown("text", [1, 2, 5, 4], actions) == actions
    assert borders.unknown("text", [7, 7, 2, 3, 4], actions) == ["b"]


# What must not change: the embedded model's tokens, which recorded answers rest on.

_TEMPLATES = sorted(
    file.name.removesuffix(".j2")
    for file in resources.files("cepcli.prior").joinpath("templates").iterdir()
    if file.name.endswith(".j2")
)
_STATES = [
    TextState("go to the red ball", "You see a red ball 2 steps left.\nYou carry nothing.", ()),
    TextState(
        "Your task is to: put a clean mug in coffeemachine.",
        "-= Kitchen =-\nYou are in the middle of a room. Looking quickly around you, you see a "
        "cabinet 13, a drawer 2, and a fridge 1.\n\nYou carry:  an apple",
        (),
    ),
    TextState(
        "i need a size 9.5 men's shoe, and price lower than 60.00 dollars",
        "[Back to Search] Page 1 (Total results: 50) [B08L5Z6KQ1] Schuh größer – 日本 €59.99\t★★★",
        (),
    ),
    TextState("run as fast as possible", "The torso leans -12 degrees; it's at 1.25 m.", ()),
]
_ACTIONS = (
    "turn left", "go forward", "go north", "go north east", "take the red ball from table 1",
    "search[men's shoe 9.5]", "click[B08L5Z6KQ1]", "click[< prev]", "put mug 1 in/on desk 1",
    "(wait)", "open the gripper and move up", "größer", "...", "",
)  # fmt: skip


def apart(model, prompt, actions):
    """Prefix, state and actions tokenized apart from each other, as once they were."""
    texts = [prompt.prefix, prompt.state, *(f" {action}\n" for action in actions)]
    first, second, *rest = model.tokenizer(texts, add_special_tokens=False).input_ids
    return first + second, rest


@pytest.mark.parametrize("template", _TEMPLATES)
def test_the_embedded_models_tokens_are_those_of_prefix_state_and_action_apart(
    embedded_model, template
):
    made = PromptTemplate("default", template)
    for state in _STATES:
        for prompt in (
            made.render(state), made.thinking(state), made.acting(state, "I go north."),
            made.neutral(),
        ):  # fmt: skip
            branch = embedded_model.branch(prompt, _ACTIONS)
            assert (branch.prompt, branch.continuations) == apart(embedded_model, prompt, _ACTIONS)
            assert not any(branch.dropped)
    assert embedded_model.ends == Ends(0, 0)


@given(_texts.filter(str.strip), _texts, _texts)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_so_they_are_for_any_state(embedded_model, goal, text, action):
    for template in _TEMPLATES:
        prompt = PromptTemplate("default", template).render(TextState(goal, text, ()))
        branch = embedded_model.branch(prompt, [action])
        assert (branch.prompt, branch.continuations) == apart(embedded_model, prompt, [action])


# What is refused.


def test_a_tokenizer_without_line_breaks_is_refused(tmp_path):
    from tokenizers import normalizers

    tokenizer = KINDS["byte-level"]()
    tokenizer.normalizer = normalizers.Strip(left=False, right=True)
    with pytest.raises(PriorError, match="gives a line break no token"):
        load_language_model(str(save_tiny(tmp_path / "tiny", tokenizer)))


def test_special_tokens_that_are_not_around_a_text_are_refused():
    assert find_ends("m", [5, 6], [1, 5, 6, 2], [5, 6, 7]) == Ends(1, 1)
    with pytest.raises(PriorError, match=r"`m` gives other tokens .*\[1, 7\] instead of \[5, 6\]"):
        find_ends("m", [5, 6], [1, 7], [5, 6, 7])


def test_an_action_without_a_token_is_refused():
    with pytest.raises(PriorError, match="gives the action `a` no token"):
        Borders("m").splits("text", [1, 2], ["a"], {"a": [1, 2]})


@pytest.mark.parametrize("ids", [[], [1]])
def test_an_empty_prompt_is_refused_also_behind_bos(ids):
    with pytest.raises(PriorError, match="A prompt is empty"):
        Borders("m").splits("", ids, ["a"], {"a": [*ids, 5]})
