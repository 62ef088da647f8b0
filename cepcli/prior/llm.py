"""A language model as a prior: prompt, perhaps a thought, score, normalise, shape.

A prior that thinks has the model write a sentence first, and scores the actions after it. This is
ReAct (Yao et al., arXiv 2210.03629) with its action step constrained to the admissible actions. A
thought sees its own state only, as every prompt here: thoughts of earlier decisions are not
remembered. Thoughts are greedy, so the same state brings the same thought, and the journal keeps
them like scores.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from typing_extensions import override

from cepcli.prior.base import (
    ActionScores,
    Completion,
    Namespace,
    Prior,
    PriorAnswer,
    PriorShape,
    ReadTokens,
    Scorer,
)
from cepcli.prior.config import TEXT_TOKENS, Normalisation
from cepcli.prior.prompts import THINKING, PromptTemplate, shortened
from cepcli.types import TextState

_NO_THOUGHT = Completion("", 0.0, 0.0, 0.0)


class LLMPrior(Prior):
    """log p(a|s) from a scorer.

    Args:
        scorer: says how likely the model finds each action after a prompt.
        template: renders a state into a prompt.
        normalisation: "sum", "mean" (by token count), or "pmi" (minus the neutral-prompt score;
            what that score took is in the journal but charged to no decision).
        shape: temperature and smoothing.
        text_tokens: tokens of a state's text at most; a longer one loses words from its middle.
        thought_tokens: tokens of a thought at most; None for a prior that does not think.
    """

    def __init__(
        self,
        scorer: Scorer,
        template: PromptTemplate,
        normalisation: Normalisation,
        shape: PriorShape,
        text_tokens: int = TEXT_TOKENS,
        thought_tokens: int | None = None,
    ) -> None:
        self.scorer = scorer
        self.template = template
        self.normalisation = normalisation
        self.text_tokens = text_tokens
        self._thought_tokens = thought_tokens
        self._shape = shape
        self._neutral: dict[str, float] = {}

    @property
    @override
    def shape(self) -> PriorShape:
        return self._shape

    def namespace(self, key_encoder_sha256: str, env_family: str) -> Namespace:
        """What cache entries filled by this prior belong to; those with thoughts are kept apart."""
        scorer = self.scorer.fingerprint
        template = scorer.template
        if self.text_tokens != TEXT_TOKENS:
            template += f"/{self.text_tokens}"
        if self._thought_tokens is not None:
            template += f"+{THINKING}/{self._thought_tokens}"
        scorer = replace(scorer, template=template)
        return Namespace(scorer, self.normalisation, key_encoder_sha256, env_family)

    @override
    def log_probs(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        """Score every admissible action of every state; each state counts as one query."""
        if not states:
            return []
        if self.normalisation == "pmi":
            self._score_neutral(states)
        fitted = [self.fitted(state) for state in states]
        if self._thought_tokens is None:
            thoughts = [_NO_THOUGHT] * len(states)
            prompts = [self.template.render(state) for state in fitted]
        else:
            asked = [self.template.thinking(state) for state in fitted]
            thoughts = self.scorer.complete(asked, self._thought_tokens)
            pairs = zip(fitted, thoughts, strict=True)
            prompts = [self.template.acting(state, thought.text) for state, thought in pairs]
        raw = self.scorer.score(prompts, [state.actions for state in states])
        return [self._answer(*each) for each in zip(states, raw, thoughts, strict=True)]

    def fitted(self, state: TextState) -> TextState:
        """The state with a text that keeps to `text_tokens`."""
        if len(state.text.encode(errors="surrogatepass")) <= self.text_tokens:  # a token has a byte
            return state
        text = shortened(state.text, self.text_tokens, self.scorer.count_tokens)
        return replace(state, text=text)

    def tokens(self, state: TextState) -> ReadTokens:
        """The tokens of a state's prompt, and those of each action that are scored."""
        return self.scorer.tokens(self.template.render(self.fitted(state)), state.actions)

    def _answer(self, state: TextState, raw: ActionScores, thought: Completion) -> PriorAnswer:
        scores = self.normalise(state.actions, raw)
        return PriorAnswer(
            log_prior=self._shape.log_prior(scores),
            scores=scores,
            kind="miss",
            tokens=raw.tokens + thought.tokens,
            seconds=raw.seconds + thought.seconds,
            live_seconds=raw.live_seconds + thought.live_seconds,
            thought=thought.text,
        )

    def normalise(self, actions: Sequence[str], raw: ActionScores) -> Float[ndarray, " actions"]:
        """Raw log-likelihoods as scores that can be compared across actions."""
        if self.normalisation == "mean":
            return raw.log_likelihood / raw.lengths
        if self.normalisation == "pmi":
            return raw.log_likelihood - np.array([self._neutral[a] for a in actions])
        return raw.log_likelihood

    def _score_neutral(self, states: Sequence[TextState]) -> None:
        """Score the actions that never were under the neutral prompt, and keep the scores.

        No decision is charged for it: it happens once per action, not per decision, and a resumed
        run, which finds it in the journal, must account as one that was never stopped.
        """
        new = dict.fromkeys(a for s in states for a in s.actions if a not in self._neutral)
        if new:
            [raw] = self.scorer.score([self.template.neutral()], [list(new)])
            self._neutral.update(zip(new, raw.log_likelihood.tolist(), strict=True))
