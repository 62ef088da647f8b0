"""A prior that thinks first: a sentence is generated, then the actions are scored after it.

This is ReAct (Yao et al., arXiv 2210.03629) with its action step constrained to the admissible
actions. A thought sees its own state only: what a state describes is all that the prompt holds, as
for every prior here, and thoughts of earlier decisions are not remembered. Thoughts are greedy, so
that the same state brings the same thought, and the journal keeps them like scores.
"""

from collections.abc import Sequence
from dataclasses import replace

from cepcli.prior.base import ActionScores, Completion, Namespace, PriorAnswer, PriorShape, Scorer
from cepcli.prior.config import TEXT_TOKENS, Normalisation
from cepcli.prior.llm import LLMPrior
from cepcli.prior.prompts import THINKING, PromptTemplate
from cepcli.types import TextState


class ThinkingPrior(LLMPrior):
    """log p(a|s, thought) with a thought that the same model generates for s.

    Args:
        scorer: generates and scores.
        template: renders a state into a prompt.
        normalisation: as for `LLMPrior`.
        shape: temperature and smoothing.
        thought_tokens: tokens of a thought at most.
        text_tokens: as for `LLMPrior`.
    """

    def __init__(
        self,
        scorer: Scorer,
        template: PromptTemplate,
        normalisation: Normalisation,
        shape: PriorShape,
        thought_tokens: int,
        text_tokens: int = TEXT_TOKENS,
    ) -> None:
        super().__init__(scorer, template, normalisation, shape, text_tokens)
        self._thought_tokens = thought_tokens

    def namespace(self, key_encoder_sha256: str, env_family: str) -> Namespace:
        """Apart from that of the same prior without thoughts, or with longer ones."""
        found = super().namespace(key_encoder_sha256, env_family)
        template = f"{found.scorer.template}+{THINKING}/{self._thought_tokens}"
        return replace(found, scorer=replace(found.scorer, template=template))

    def log_probs(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        """Think about every state, then score its actions; both count as one query."""
        if not states:
            return []
        if self.normalisation == "pmi":
            self._score_neutral(states)
        fitted = [self.fitted(state) for state in states]
        asked = [self.template.thinking(state) for state in fitted]
        thoughts = self.scorer.complete(asked, self._thought_tokens)
        pairs = zip(fitted, thoughts, strict=True)
        prompts = [self.template.acting(state, thought.text) for state, thought in pairs]
        raw = self.scorer.score(prompts, [state.actions for state in states])
        return [
            self._thought_out(state, scores, thought)
            for state, scores, thought in zip(states, raw, thoughts, strict=True)
        ]

    def _thought_out(self, state: TextState, raw: ActionScores, thought: Completion) -> PriorAnswer:
        answer = self._answer(state, raw)
        return replace(
            answer,
            thought=thought.text,
            tokens=answer.tokens + thought.tokens,
            seconds=answer.seconds + thought.seconds,
            live_seconds=answer.live_seconds + thought.live_seconds,
        )
