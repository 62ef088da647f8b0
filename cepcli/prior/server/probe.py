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
from cepcli.prior.server.connection import Connection, UnusableError
from cepcli.prior.server.protocols import ONE_BY_ONE, TOKENIZERS, WAYS, Row, Scored, score_rows

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


async def find_way(connection: Connection, model: str, batch: int) -> Found:
    """The first way that gives sound log-probabilities of the known strings.

    Raises:
        PriorError: if there is none, with what each gave instead.
    """
    tokenize, ends = await _find_tokenizer(connection, model)

    async def tokens(text: str) -> list[int]:
        return ends.strip(await TOKENIZERS[tokenize](connection, model, text))

    known = await tokens(KNOWN)
    await _check_reading(connection, model, len(known) + ends.after)
    whole = [await tokens(KNOWN + end) for end in ENDINGS]
    rows = [Row(ids[:1], ids[1:]) for ids in whole]
    reasons = []
    for name, way in WAYS.items():
        for size in (1,) if name in ONE_BY_ONE or batch == 1 else (batch, 1):
            try:
                scored = await score_rows(connection, model, rows, way, min(size, 2), probing=True)
                _check(rows, scored)
                again = await score_rows(connection, model, rows[::-1], way, 1, probing=True)
                _check_again(scored, again[::-1])
            except UnusableError as reason:
                reasons.append(f"{name}{' one by one' if size == 1 else ''}: {reason}")
                continue
            sums = [
                math.fsum(row.log_probs[common_beginning(known, ids) - 1 :])
                for row, ids in zip(scored, whole, strict=True)
            ]
            return Found(name, size, tokenize, known, ends, sums)
    raise _cannot(connection, f"Tried {'; '.join(reasons)}.")


async def _find_tokenizer(connection: Connection, model: str) -> tuple[str, Ends]:
    reasons = []
    for name, tokenize in TOKENIZERS.items():
        try:
            plain = [
                await tokenize(connection, model, text, special=False, probing=True)
                for text in PROBES
            ]
            full = await tokenize(connection, model, PROBES[0], probing=True)
        except UnusableError as reason:
            reasons.append(f"{name}: {reason}")
            continue
        return name, find_ends(model, plain[0], full, plain[1])
    raise _cannot(connection, f"It gave no token ids at /tokenize ({'; '.join(reasons)}).")


async def _check_reading(connection: Connection, model: str, tokens: int) -> None:
    """Refuse a server that reads a text as other tokens than it says at /tokenize.

    Only their number can be asked for; a missing or a second BOS changes it.
    """

    def read(data: dict[str, Any]) -> int | None:
        usage = data.get("usage")
        count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return count if type(count) is int and count > 0 else None

    body = {"model": model, "prompt": KNOWN, "max_tokens": 1, "temperature": 0}
    try:
        found = await connection.ask("/v1/completions", body, read, probing=True)
    except UnusableError:
        return
    if found is not None and found != tokens:
        raise _cannot(
            connection,
            f"It reads `{KNOWN}` as {found} tokens, but /tokenize gives {tokens}: one of both "
            "leaves special tokens out, or adds them twice.",
        )


def _cannot(connection: Connection, what: str) -> PriorError:
    failed = "It failed (500): look at its log first. " if ": 500" in what else ""
    return PriorError(
        f"The server at {connection.url} cannot say how likely a given text is. {what}",
        f"{failed}What works: vLLM (vllm serve MODEL), or llama.cpp's llama-server of 2025-10 or "
        "later, addressed directly, with /tokenize beside /v1; not a chat interface, and not "
        "Ollama.",
    )


def _check(rows: Sequence[Row], scored: Sequence[Scored]) -> None:
    """Refuse log-probabilities of other tokens, shifted ones, and those of forced tokens."""
    one, two = (row.action for row in rows)
    apart = next(i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
    first, second = (found.log_probs for found in scored)
    gap = max(abs(a - b) for a, b in zip(first[:apart], second[:apart], strict=True))
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


def _check_again(scored: Sequence[Scored], again: Sequence[Scored]) -> None:
    """Refuse a server whose answers hang on what else is asked, or when."""
    for first, second in zip(scored, again, strict=True):
        pairs = zip(first.log_probs, second.log_probs, strict=True)
        gap = max(abs(a - b) for a, b in pairs)
        if gap > _NOISE:
            raise UnusableError(
                f"log-probabilities of the same text, asked twice, that differ by {gap:.1f} nats, "
                "so they hang on what else is asked"
            )
