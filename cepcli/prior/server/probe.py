"""Which way to log-probabilities a server knows, and whether what it says can be believed.

Servers ignore what they do not know without a word: llama-server takes `echo` and returns the
log-probability of what it generated, others return those of the forced tokens after forcing. So
each way is tried on two known strings that begin alike, and used only if the entries are as many as
the tokens, agree where the strings do, could be probabilities where they part, and are the same
when the strings are asked about again, each alone and in the other order.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from cepcli.errors import PriorError
from cepcli.prior.local.whole_text import PROBES, Ends, common_beginning, find_ends
from cepcli.prior.server.connection import UnusableError, told
from cepcli.prior.server.protocols import ONE_BY_ONE, TOKENIZERS, WAYS, Row, Scored, ServedModel

#: Begins alike, ends likely and unlikely. The end has the form of an action.
KNOWN = "The days of the week are Monday, Tuesday, Wednesday, Thursday,"
ENDINGS = (" Friday and Saturday\n", " purple go north\n")
#: What the same log-probability may differ by between two requests of a batch, nats.
_NOISE = 0.25
#: Above it two equal whole numbers may be rounded log-probabilities, nats.
_ROUNDED = -5.0
#: What the probabilities of two tokens in one place may add up to, rounding included.
_ONE = 1.02


class Found(NamedTuple):
    """How a server scores.

    Attributes:
        way: name of the way, one of `WAYS`.
        batch: rows per request at most.
        tokenize: name of the way to tokenize, one of `TOKENIZERS`.
        tokens: of the known string; tells tokenizers apart.
        ends: special tokens that the tokenizer puts around a text.
        likelihoods: log-likelihood of each of the `ENDINGS`; tells weights apart.
    """

    way: str
    batch: int
    tokenize: str
    tokens: list[int]
    ends: Ends
    likelihoods: list[float]


async def find_way(model: ServedModel, batch: int) -> Found:
    """The first way that gives sound log-probabilities of the known strings.

    Raises:
        PriorError: if there is none, with what each gave instead.
    """
    form, ends = await _find_tokenizer(model)
    known = ends.strip(await model.tokenize(form, KNOWN))
    await _check_reading(model, len(known) + ends.after)
    whole = [ends.strip(await model.tokenize(form, KNOWN + end)) for end in ENDINGS]
    rows = [Row(ids[:1], ids[1:]) for ids in whole]
    reasons = []
    for way in WAYS:
        for size in (1,) if way in ONE_BY_ONE or batch == 1 else (batch, 1):
            try:
                scored = await model.score(rows, way, min(size, 2), probing=True)
                _check(rows, scored)
                again = await model.score(rows[::-1], way, 1, probing=True)
                for first, second in zip(scored, again[::-1], strict=True):
                    gap = _gap(first.log_probs, second.log_probs)
                    if gap > _NOISE:
                        raise UnusableError(
                            "log-probabilities of the same text, asked twice, that differ by "
                            f"{gap:.1f} nats, so they depend on what else is asked"
                        )
            except UnusableError as reason:
                reasons.append(f"{way}{' one by one' if size == 1 else ''}: {reason}")
                continue
            sums = [
                math.fsum(row.log_probs[common_beginning(known, ids) - 1 :])
                for row, ids in zip(scored, whole, strict=True)
            ]
            return Found(way, size, form, known, ends, sums)
    raise _cannot(model, f"Tried {'; '.join(reasons)}.")


async def _find_tokenizer(model: ServedModel) -> tuple[str, Ends]:
    reasons = []
    for form in TOKENIZERS:
        try:
            plain, broken = [
                await model.tokenize(form, text, special=False, probing=True) for text in PROBES
            ]
            full = await model.tokenize(form, PROBES[0], probing=True)
        except UnusableError as reason:
            reasons.append(f"{form}: {reason}")
            continue
        return form, find_ends(model.name, plain, full, broken)
    raise _cannot(model, f"It gave no token ids at /tokenize ({'; '.join(reasons)}).")


async def _check_reading(model: ServedModel, tokens: int) -> None:
    """Refuse a server that reads a text as other tokens than it says at /tokenize.

    Only their number can be asked for; a missing or a second BOS changes it.
    """

    def read(data: dict[str, Any]) -> int | None:
        count = told(data, "usage", "prompt_tokens")
        return count if type(count) is int and count > 0 else None

    body = {"model": model.name, "prompt": KNOWN, "max_tokens": 1, "temperature": 0}
    try:
        found = await model.connection.ask("/v1/completions", body, read, probing=True)
    except UnusableError:
        return
    if found is not None and found != tokens:
        raise _cannot(
            model,
            f"It reads `{KNOWN}` as {found} tokens, but /tokenize gives {tokens}: one of the two "
            "leaves special tokens out, or adds them twice.",
        )


def _check(rows: Sequence[Row], scored: Sequence[Scored]) -> None:
    """Refuse log-probabilities of other tokens, shifted ones, and those of forced tokens."""
    one, two = (row.action for row in rows)
    apart = next(i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
    first, second = (found.log_probs for found in scored)
    gap = _gap(first[:apart], second[:apart])
    if gap > _NOISE:
        raise UnusableError(
            f"log-probabilities of equal tokens after equal text differ by {gap:.1f} nats, so "
            "they are shifted, or of other tokens"
        )
    total = math.exp(first[apart]) + math.exp(second[apart])
    if total > _ONE:
        raise UnusableError(
            f"two tokens in the same place have probabilities that add up to {total:.2f}, so they "
            "are not the model's own"
        )
    for found in scored:
        low = [p for p in found.log_probs if p <= _ROUNDED and p == round(p)]
        twice = next((p for p in low if low.count(p) > 1), None)
        if twice is not None:
            raise UnusableError(
                f"{twice:g} as the log-probability of different tokens, so it stands for those "
                "that are not told"
            )


def _gap(one: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def _cannot(model: ServedModel, what: str) -> PriorError:
    failed = "It failed (500): look at its log first. " if ": 500" in what else ""
    return PriorError(
        f"The server at {model.connection.url} cannot say how likely a given text is. {what}",
        f"{failed}What works: vLLM (vllm serve MODEL), or llama.cpp's llama-server of 2025-10 or "
        "later, addressed directly, with /tokenize beside /v1; not a chat interface, and not "
        "Ollama.",
    )
