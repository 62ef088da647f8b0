"""Scores by a local language model: several states in one row, the fixed prefix kept.

The keys and values of a prompt's fixed part are computed once and kept. Each call then packs the
state parts and candidate actions of as many states as fit into one row (`token_tree`), so that a
state costs its own tokens and few more.
"""

import copy
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from typing_extensions import override

from cepcli.errors import PriorError
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
from cepcli.prior.local.language_model import LanguageModel
from cepcli.prior.local.token_tree import Branch, TokenTree, build_tree, pack
from cepcli.prior.local.whole_text import common_beginning

#: Fixed prefixes whose keys and values are kept; one run uses one or two.
_KEPT_PREFIXES = 8
_FULL, _SLIDING = "full_attention", "sliding_attention"


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
        self._fixed = lru_cache(_KEPT_PREFIXES)(language_model.encode)
        self._keys_of = lru_cache(_KEPT_PREFIXES)(lambda ids: encode_prefix(language_model, ids))
        self.fingerprint = ScorerFingerprint(
            backend="hf",
            model=language_model.name,
            revision=language_model.revision,
            adapter_sha256=language_model.adapter_sha256,
            template=template,
            dtype=language_model.dtype,
            tokens=WHOLE_TEXT,
        )
        # about a second's worth; four short prompts share a row, and more gain a CPU nothing
        self.prompts_at_once = 4 if language_model.device.type == "cpu" else 64

    @override
    @torch.inference_mode()
    def score(
        self, prompts: Sequence[Prompt], action_sets: Sequence[Sequence[str]]
    ) -> list[ActionScores]:
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

    @override
    def count_tokens(self, text: str) -> int:
        return self._lm.count(text)

    @override
    @torch.inference_mode()
    def complete(self, prompts: Sequence[Prompt], most_tokens: int) -> list[Completion]:
        # greedily, and one at a time, so that none changes another's
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

    @override
    @torch.inference_mode()
    def tokens(self, prompt: Prompt, actions: Sequence[str]) -> ReadTokens:
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
        keys = self._keys_of(first) if first else None
        answers = []
        for row in pack([branch.size for branch in rest], self._row_tokens):
            started = time.perf_counter()
            tree = build_tree([rest[i] for i in row])
            cache = fork(keys) if first else None
            found = tree_log_likelihoods(self._lm, tree, cache=cache, offset=len(first))
            scores = found.double().cpu().numpy()
            seconds = (time.perf_counter() - started) / len(row)
            lengths = [np.array([len(c) for c in rest[i].continuations], np.int64) for i in row]
            ends = np.cumsum([len(each) for each in lengths])
            tokens = len(tree.tokens) / len(row)
            answers += [
                ActionScores(*each, tokens, seconds, seconds)
                for each in zip(np.split(scores, ends[:-1]), lengths, strict=True)
            ]
        return answers

    def _kept(self, prefix: str, branch: Branch) -> tuple[int, ...]:
        """The first tokens of a prompt whose keys and values are kept.

        All that it shares with its fixed prefix but the last, which predicts what follows.
        """
        shared = min(common_beginning(self._fixed(prefix), branch.prompt), branch.shared)
        return tuple(branch.prompt[: max(0, shared - 1)])


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


def attention_mask(
    config: Any,
    allowed: Bool[Tensor, "nodes keys"],
    depths: Int[Tensor, " nodes"],
    key_depths: Int[Tensor, " keys"],
    dtype: torch.dtype,
    device: torch.device,
) -> Any:
    """The mask of a row for transformers: one for all layers, or one for each kind of them.

    Some layers (of Gemma and Mistral, say) see less than `sliding_window` positions back. A mask
    that is given to transformers replaces the model's own, that window included.

    Args:
        config: the model's.
        allowed: which keys are before a node in its own text.
        depths: position of each node in its text.
        key_depths: the same of each key.
        dtype: precision of the mask.
        device: where it goes.

    Raises:
        PriorError: if the model has a kind of layer of which a tree cannot be asked.
    """

    def mask(seen: Bool[Tensor, "nodes keys"]) -> Tensor:
        empty = torch.zeros(seen.shape, dtype=dtype)
        return empty.masked_fill_(~seen, torch.finfo(dtype).min)[None, None].to(device)

    kinds = _kinds(config)
    window = getattr(config, "sliding_window", None)
    near = allowed
    if _SLIDING in kinds and window:
        near = allowed & (depths[:, None] - key_depths[None] < window)
    if near is allowed or torch.equal(near, allowed):
        return mask(allowed)
    if kinds == {_SLIDING}:
        return mask(near)
    return {_FULL: mask(allowed), _SLIDING: mask(near)}


def whole_cache(config: Any) -> Any:
    """A cache that keeps all keys and values, of layers with a window, too: their mask tells."""
    from transformers import DynamicCache

    _kinds(config)
    return DynamicCache()


def _kinds(config: Any) -> set[str]:
    """Kinds of the model's layers; one of Mistral's, say, that all have a window, says no kind."""
    unstated = _SLIDING if getattr(config, "sliding_window", None) else _FULL
    kinds = set(getattr(config, "layer_types", None) or [unstated])
    others = kinds - {_FULL, _SLIDING}
    if others:
        raise PriorError(
            f"A model with layers of {', '.join(sorted(others))} cannot be asked about several "
            "actions at once.",
            "Serve it, by vLLM or llama.cpp, and name the server: --prior server:URL",
        )
    return kinds
