"""Scores by a local language model: several states in one row, the fixed prefix kept.

The keys and values of a prompt's fixed part are computed once and kept. Each call then packs the
state parts and candidate actions of as many states as fit into one row (`token_tree`), so that a
state costs its own tokens and few more.
"""

import copy
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cepcli.prior.base import (
    WHOLE_TEXT,
    ActionScores,
    Completion,
    Prompt,
    ReadTokens,
    Scorer,
    ScorerFingerprint,
    Token,
)
from cepcli.prior.local.attention import attention_mask, whole_cache
from cepcli.prior.local.language_model import LanguageModel
from cepcli.prior.local.token_tree import Branch, TokenTree, build_tree, pack
from cepcli.prior.local.whole_text import common_beginning

#: Fixed prefixes whose keys and values are kept; one run uses one or two.
_KEPT_PREFIXES = 8
#: Prompts scored at a time.
_ON_CPU, _ON_ACCELERATOR = 4, 64


class HFScorer(Scorer):
    """A transformers causal language model as a scorer.

    Args:
        language_model: the model, its adapter merged.
        template: version string of the prompt template, for the fingerprint.
        row_tokens: at most so many tokens in one forward pass (one state may exceed it).
    """

    def __init__(self, language_model: LanguageModel, *, template: str, row_tokens: int) -> None:
        self._lm = language_model
        self._row_tokens = row_tokens
        self._fixed: dict[str, list[int]] = {}
        self._caches: dict[tuple[int, ...], Any] = {}
        self._fingerprint = ScorerFingerprint(
            backend="hf",
            model=language_model.name,
            revision=language_model.revision,
            adapter_sha256=language_model.adapter_sha256,
            template=template,
            dtype=language_model.dtype,
            tokens=WHOLE_TEXT,
        )

    @property
    def fingerprint(self) -> ScorerFingerprint:
        """The model, its revision, adapter and precision, and the prompt template."""
        return self._fingerprint

    @torch.inference_mode()
    def score(
        self, prompts: Sequence[Prompt], action_sets: Sequence[Sequence[str]]
    ) -> list[ActionScores]:
        """Summed token log-likelihoods of each action; prompts may differ in their prefix."""
        pairs = zip(prompts, action_sets, strict=True)
        branches = [self._lm.branch(prompt, actions) for prompt, actions in pairs]
        kept = [
            self._kept(prompt.prefix, branch)
            for prompt, branch in zip(prompts, branches, strict=True)
        ]
        answers: dict[int, ActionScores] = {}
        for first in dict.fromkeys(kept):
            members = [i for i, one in enumerate(kept) if one == first]
            found = self._score_behind(first, [branches[i] for i in members])
            answers |= dict(zip(members, found, strict=True))
        return [answers[i] for i in range(len(prompts))]

    @property
    def prompts_at_once(self) -> int:
        """About a second's worth; four short prompts share a row, and more gain a CPU nothing."""
        return _ON_CPU if self._lm.device.type == "cpu" else _ON_ACCELERATOR

    def count_tokens(self, text: str) -> int:
        """By the model's tokenizer."""
        return self._lm.count(text)

    @torch.inference_mode()
    def complete(self, prompts: Sequence[Prompt], most_tokens: int) -> list[Completion]:
        """A line after each prompt, greedily; one at a time, so that none changes another's."""
        return [self._line(prompt.prefix + prompt.state, most_tokens) for prompt in prompts]

    def _line(self, text: str, most_tokens: int) -> Completion:
        started = time.perf_counter()
        tokens = self._lm.encode(text)
        self._lm.check_context(len(tokens) + most_tokens)
        ids = torch.tensor([tokens], device=self._lm.device)
        tokenizer = self._lm.tokenizer
        written = self._lm.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=most_tokens, do_sample=False,
            stop_strings=["\n"], tokenizer=tokenizer,
            pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
        )[0, ids.shape[1] :]  # fmt: skip
        line = tokenizer.decode(written, skip_special_tokens=True).split("\n")[0].strip()
        seconds = time.perf_counter() - started
        return Completion(line, float(ids.shape[1] + len(written)), seconds, seconds)

    @torch.inference_mode()
    def tokens(self, prompt: Prompt, actions: Sequence[str]) -> ReadTokens:
        """By the model's tokenizer, with what one pass over them all gives."""
        branch = self._lm.branch(prompt, actions)
        log_probs = iter(token_log_probs(self._lm, build_tree([branch])).tolist())
        pieces = self._lm.tokenizer.convert_ids_to_tokens
        scored = [
            [Token(i, piece, next(log_probs)) for i, piece in zip(ids, pieces(ids), strict=True)]
            for ids in branch.continuations
        ]
        read = [Token(*pair) for pair in zip(branch.prompt, pieces(branch.prompt), strict=True)]
        return ReadTokens(read, scored, list(branch.dropped))

    def _score_behind(
        self, first: tuple[int, ...], branches: Sequence[Branch]
    ) -> list[ActionScores]:
        """Score branches that all begin with the tokens `first`, row by row."""
        rest = [branch.behind(len(first)) for branch in branches]
        cache = self._cache(first)
        answers = []
        for row in pack([branch.size for branch in rest], self._row_tokens):
            started = time.perf_counter()
            tree = build_tree([rest[i] for i in row])
            forked = None if cache is None else fork(cache)
            found = tree_log_likelihoods(self._lm, tree, cache=forked, offset=len(first))
            scores = found.double().cpu().numpy()
            seconds = (time.perf_counter() - started) / len(row)
            start = 0
            for i in row:
                lengths = np.array([len(c) for c in rest[i].continuations], dtype=np.int64)
                scored = ActionScores(
                    log_likelihood=scores[start : start + len(lengths)],
                    lengths=lengths,
                    tokens=len(tree.tokens) / len(row),
                    seconds=seconds,
                    live_seconds=seconds,
                )
                answers.append(scored)
                start += len(lengths)
        return answers

    def _kept(self, prefix: str, branch: Branch) -> tuple[int, ...]:
        """The first tokens of a prompt whose keys and values are kept.

        All that it shares with its fixed prefix but the last, which predicts what follows.
        """
        if prefix not in self._fixed:
            _make_room(self._fixed)
            self._fixed[prefix] = self._lm.encode(prefix)
        shared = min(common_beginning(self._fixed[prefix], branch.prompt), branch.shared)
        return tuple(branch.prompt[: max(0, shared - 1)])

    def _cache(self, first: tuple[int, ...]) -> Any:
        """Keys and values of the first tokens of a row, computed when they are new."""
        if not first:
            return None
        if first not in self._caches:
            _make_room(self._caches)
            self._caches[first] = encode_prefix(self._lm, first)
        return self._caches[first]


def _make_room(kept: dict[Any, Any]) -> None:
    """Forget the oldest, so that one more may be kept."""
    while len(kept) >= _KEPT_PREFIXES:
        del kept[next(iter(kept))]


def encode_prefix(language_model: LanguageModel, ids: Sequence[int]) -> Any:
    """The keys and values of some first tokens, for `tree_log_likelihoods(cache=...)`."""
    cache = whole_cache(language_model.text_config)
    if ids:
        row = torch.tensor([list(ids)], device=language_model.device)
        language_model.model(input_ids=row, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def tree_log_likelihoods(
    language_model: LanguageModel, tree: TokenTree, *, cache: Any = None, offset: int = 0
) -> Float[Tensor, " continuations"]:
    """Log-likelihood of each continuation in `tree`, after `offset` tokens that `cache` holds.

    Differentiable; the caller decides about gradients.
    """
    log_probs = token_log_probs(language_model, tree, cache=cache, offset=offset)
    total = torch.zeros(tree.continuations, device=log_probs.device)
    return total.index_add(0, torch.from_numpy(tree.owner).to(log_probs.device), log_probs)


def token_log_probs(
    language_model: LanguageModel, tree: TokenTree, *, cache: Any = None, offset: int = 0
) -> Float[Tensor, " scored"]:
    """Log-probability of each scored token in `tree`, in its order.

    The output layer is the dearest of a small model, so it runs on the needed positions only.
    """
    model, device = language_model.model, language_model.device
    nodes = len(tree.tokens)
    allowed = torch.ones(nodes, offset + nodes, dtype=torch.bool)
    allowed[:, offset:] = torch.from_numpy(tree.ancestors())
    depths = torch.from_numpy(tree.depths) + offset
    mask = attention_mask(
        language_model.text_config, allowed, depths, torch.cat([torch.arange(offset), depths]),
        language_model.torch_dtype, device,
    )  # fmt: skip
    output = model(
        input_ids=torch.from_numpy(tree.tokens)[None].to(device),
        attention_mask=mask,
        position_ids=depths[None].to(device),
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=torch.from_numpy(tree.readouts).to(device),
    )
    logits = output.logits[0].float()
    predictor = torch.from_numpy(tree.predictor).to(device)
    target = torch.from_numpy(tree.target).to(device)
    return logits[predictor, target] - logits.logsumexp(-1)[predictor]


def fork(cache: Any) -> Any:
    """A copy of a key-value cache that can grow while the original stays.

    Shallow is enough: a layer's update concatenates into a new tensor and never writes in place.
    """
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    return copied
