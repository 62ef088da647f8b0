"""How much the shared token tree saves: against forwarding prompt and action for each candidate.

Both ways score the same random tokens with the embedded model, take turns in one process, and must
agree. Timings are medians over the turns.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cepcli.errors import PriorError
from cepcli.prior.local.embedded import EMBEDDED
from cepcli.prior.local.hf import encode_prefix, fork, tree_log_likelihoods
from cepcli.prior.local.language_model import LanguageModel, load_language_model
from cepcli.prior.local.token_tree import Branch, build_tree
from cepcli.seeding import generator

FIXED_TOKENS = 158
STATE_TOKENS = 64
#: Tokens of an action, the line break that ends it included; actions of one state have 2 to 5.
_ACTION_TOKENS = (2, 6)
#: Nats that the two ways may differ; their float32 sums run in another order.
_TOLERANCE = 1e-4


def bench_prior(
    candidates: Sequence[int] = (4, 8, 20), repeats: int = 3, *, threads: int = 1
) -> dict[str, Any]:
    """Time both ways for each number of candidates, float32, on the CPU.

    Returns:
        "speedup" by number of candidates, "max_abs_difference" between the log-likelihoods in nats,
        "ms" of each way, and what was run.

    Raises:
        PriorError: if the two ways differ by more than rounding does.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = load_language_model(EMBEDDED, dtype="float32")
        with torch.inference_mode():
            rows = {str(count): _compare(model, count, repeats) for count in candidates}
    finally:
        torch.set_num_threads(before)
    difference = float(np.max([row["difference"] for row in rows.values()]))
    if not difference <= _TOLERANCE:  # nan is no agreement
        raise PriorError(
            f"Token-tree scores differ from naive ones by {difference:.1e} nats, expected at most "
            f"{_TOLERANCE:.0e}: this installation's language models cannot be trusted.",
            "See which versions are installed: cep doctor",
        )
    return {
        "speedup": {count: row["naive"] / row["tree"] for count, row in rows.items()},
        "max_abs_difference": difference,
        "ms": {count: {k: row[k] for k in ("naive", "tree")} for count, row in rows.items()},
        "fixed_tokens": FIXED_TOKENS,
        "state_tokens": STATE_TOKENS,
        "threads": threads,
        "repeats": repeats,
        "dtype": "float32",
    }


def _compare(model: LanguageModel, candidates: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of both ways, and how far their answers are apart."""
    random = generator(0, f"bench_prior/{candidates}")
    vocabulary = int(model.text_config.vocab_size)
    prompt = random.integers(vocabulary, size=FIXED_TOKENS + STATE_TOKENS).tolist()
    actions = [
        random.integers(vocabulary, size=random.integers(*_ACTION_TOKENS)).tolist()
        for _ in range(candidates)
    ]
    kept = FIXED_TOKENS - 1  # the tree begins with the last fixed token, which predicts the next
    cache = encode_prefix(model, prompt[:kept])
    times: dict[str, list[float]] = {"naive": [], "tree": []}
    difference = 0.0
    for turn in range(repeats + 1):  # the first turn warms up
        started = time.perf_counter()
        naive = naive_log_likelihoods(model, prompt, actions)
        between = time.perf_counter()
        tree = build_tree([Branch(prompt[kept:], actions)])
        fast = tree_log_likelihoods(model, tree, cache=fork(cache), offset=kept)
        ended = time.perf_counter()
        difference = float(np.maximum(difference, float((naive - fast).abs().max())))
        if turn:
            times["naive"].append(between - started)
            times["tree"].append(ended - between)
    medians = {way: 1e3 * float(np.median(values)) for way, values in times.items()}
    return {**medians, "difference": difference}


def naive_log_likelihoods(
    language_model: LanguageModel, prompt: Sequence[int], actions: Sequence[Sequence[int]]
) -> Float[Tensor, " actions"]:
    """Prompt and action forwarded for each action, as one right-padded batch."""
    longest = max(map(len, actions))
    ids = torch.zeros(len(actions), len(prompt) + longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, action in enumerate(actions):
        tokens = torch.tensor([*prompt, *action])
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    ids, mask = ids.to(language_model.device), mask.to(language_model.device)
    output = language_model.model(
        input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=longest + 1
    )
    log_probs = output.logits[:, :-1].float().log_softmax(-1)
    target = ids[:, len(prompt) :]
    taken = log_probs.gather(-1, target[..., None])[..., 0]
    return (taken * mask[:, len(prompt) :]).sum(1)
