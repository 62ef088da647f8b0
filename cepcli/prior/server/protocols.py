"""The ways in which servers say how likely a given text is, and which tokens it has.

Which of them a server knows is found by `cepcli.prior.server.probe`.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from cepcli.prior.server.connection import Connection, UnusableError

#: Servers write numbers like −9999 where they tell no log-probability; no model is so sure, nats.
_STAND_IN = -1000.0
#: Added to a logit; no other token is generated then.
_FORCE = 1000
_WHOLE_VOCABULARY = 1_000_000


class Row(NamedTuple):
    """Tokens of a prompt and of one continuation that is to be scored."""

    prompt: list[int]
    action: list[int]


class Scored(NamedTuple):
    """Log-probability of each token of a continuation, and how many tokens that took."""

    log_probs: list[float]
    tokens: float


#: Scores rows in one request.
Way = Callable[[Connection, str, Sequence[Row], bool], Awaitable[list[Scored]]]


class Tokenize(Protocol):
    """Token ids of a text, as the model's own tokenizer reads it."""

    def __call__(
        self,
        connection: Connection,
        model: str,
        text: str,
        *,
        special: bool = True,
        probing: bool = False,
    ) -> Awaitable[list[int]]:
        """With special tokens around it, unless not `special`."""
        ...


async def prompt_logprobs(
    connection: Connection, model: str, rows: Sequence[Row], probing: bool
) -> list[Scored]:
    """The extension of vLLM: log-probabilities of the tokens of the prompt."""
    body = {"prompt_logprobs": 1}
    return await _of_prompts(connection, model, rows, body, _extension_entries, probing)


async def echo(
    connection: Connection, model: str, rows: Sequence[Row], probing: bool
) -> list[Scored]:
    """The first form of OpenAI's completions: the prompt is repeated, with log-probabilities."""
    body = {"echo": True, "logprobs": 1}
    return await _of_prompts(connection, model, rows, body, _echoed_entries, probing)


async def grammar(
    connection: Connection, model: str, rows: Sequence[Row], probing: bool
) -> list[Scored]:
    """llama-server's own: a grammar of token ids lets nothing else be generated.

    It fails where a token ends inside a character or ends the text; there it goes token by token.
    """
    [row] = rows
    rules = " ".join(f"<[{token}]>" for token in row.action)
    body = _generating(model, row.prompt, len(row.action), {"grammar": f"root ::= {rules}"})

    def read(data: dict[str, Any]) -> list[Scored]:
        entries = _generated(data)
        if [entry.get("id") for entry in entries] != row.action:
            raise UnusableError(
                f"{len(entries)} entries for {len(row.action)} tokens, or of other tokens"
            )
        log_probs = [_log_prob(entry.get("logprob")) for entry in entries]
        return [Scored(log_probs, _tokens_read(data, row.prompt) + len(row.action))]

    try:
        return await connection.ask("/completion", body, read, probing=True)
    except UnusableError:
        if probing:
            raise
        return [await _token_by_token(connection, model, row)]


async def _token_by_token(connection: Connection, model: str, row: Row) -> Scored:
    """Log-probability of one token after the other, each by a request of its own."""
    log_probs, tokens = [], 0.0
    for place, token in enumerate(row.action):
        prompt = row.prompt + row.action[:place]
        found, read = await _one_token(connection, model, prompt, token)
        tokens += read
        if found is None:
            found, read = await _looked_up(connection, model, prompt, token, row.action[-1])
            tokens += read
        log_probs.append(found)
    return Scored(log_probs, tokens)


async def _one_token(
    connection: Connection, model: str, prompt: list[int], token: int
) -> tuple[float | None, float]:
    """Log-probability of a token that a bias forces; None where that is not told."""

    def read(data: dict[str, Any]) -> tuple[float | None, float]:
        entries = _generated(data)
        if data.get("tokens") != [token] or [entry.get("id") for entry in entries] not in (
            [],
            [token],
        ):
            raise UnusableError(f"another token than {token}, which was forced")
        found = _log_prob(entries[0].get("logprob")) if entries else None
        return found, _tokens_read(data, prompt) + 1

    body = _generating(model, prompt, 1, {"logit_bias": [[token, _FORCE]]})
    return await connection.ask("/completion", body, read)


async def _looked_up(
    connection: Connection, model: str, prompt: list[int], token: int, end: int
) -> tuple[float, float]:
    """Log-probability of a token among those of the whole vocabulary, which is long.

    A token that ends inside a character is listed there, though not when it is generated itself;
    `end`, a line break, is generated in its place.
    """

    def read(data: dict[str, Any]) -> tuple[float, float]:
        [first] = _generated(data)[:1] or [{}]
        for entry in _list(first.get("top_logprobs")):
            if isinstance(entry, dict) and entry.get("id") == token:
                return _log_prob(entry.get("logprob")), _tokens_read(data, prompt) + 1
        raise UnusableError(f"no log-probability of the token {token}")

    wanted = {"logit_bias": [[end, _FORCE]], "n_probs": _WHOLE_VOCABULARY}
    return await connection.ask("/completion", _generating(model, prompt, 1, wanted), read)


async def tokenize_vllm(
    connection: Connection,
    model: str,
    text: str,
    *,
    special: bool = True,
    probing: bool = False,
) -> list[int]:
    """The form that vLLM gives `/tokenize`."""
    body = {"model": model, "prompt": text, "add_special_tokens": special}
    return await connection.ask("/tokenize", body, _tokens, probing=probing)


async def tokenize_llama(
    connection: Connection,
    model: str,
    text: str,
    *,
    special: bool = True,
    probing: bool = False,
) -> list[int]:
    """The form that llama-server gives `/tokenize`."""
    body = {"content": text, "add_special": special, "parse_special": True}
    return await connection.ask("/tokenize", body, _tokens, probing=probing)


async def pieces(connection: Connection, model: str, text: str) -> dict[int, str]:
    """How the tokens of a text are written, as far as the server tells; asks in both forms."""
    body = {
        "model": model, "prompt": text, "add_special_tokens": True, "return_token_strs": True,
        "content": text, "add_special": True, "parse_special": True, "with_pieces": True,
    }  # fmt: skip

    def read(data: dict[str, Any]) -> dict[int, str]:
        told = [entry for entry in _list(data.get("tokens")) if isinstance(entry, dict)]
        if told:
            return {entry["id"]: _piece(entry.get("piece")) for entry in told if "id" in entry}
        written = _list(data.get("token_strs"))
        return dict(zip(_list(data.get("tokens")), map(_piece, written), strict=False))

    try:
        return await connection.ask("/tokenize", body, read, probing=True)
    except UnusableError:
        return {}


def _piece(told: Any) -> str:
    """A piece; one that is no text comes as a list of bytes."""
    if isinstance(told, list):
        return "".join(f"<0x{byte:02X}>" for byte in told)
    return told if isinstance(told, str) else ""


#: In the order in which they are tried.
WAYS: dict[str, Way] = {"prompt_logprobs": prompt_logprobs, "echo": echo, "grammar": grammar}
TOKENIZERS: dict[str, Tokenize] = {"vllm": tokenize_vllm, "llama": tokenize_llama}
ONE_BY_ONE = {"grammar"}


async def score_rows(
    connection: Connection,
    model: str,
    rows: Sequence[Row],
    way: Way,
    size: int,
    *,
    probing: bool = False,
) -> list[Scored]:
    """Score rows, `size` in a request; requests run side by side, and end when one fails."""
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    answers = await together([way(connection, model, part, probing) for part in parts])
    return [scored for answer in answers for scored in answer]


async def together(work: Sequence[Awaitable[Any]]) -> list[Any]:
    """What all give, in order; where one fails the others are called off."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _of_prompts(
    connection: Connection,
    model: str,
    rows: Sequence[Row],
    wanted: dict[str, Any],
    entries: Callable[[dict[str, Any], list[int]], list[float]],
    probing: bool,
) -> list[Scored]:
    """Score rows as prompts, each in one piece; what is generated after them is ignored."""
    prompts = [row.prompt + row.action for row in rows]
    body = {"model": model, "prompt": prompts, "max_tokens": 1, "temperature": 0, **wanted}
    if len(prompts) == 1:
        body["prompt"] = prompts[0]

    def read(data: dict[str, Any]) -> list[Scored]:
        choices = _list(data.get("choices"))
        if len(choices) != len(rows):
            raise UnusableError(f"{len(choices)} choices for {len(rows)} prompts")
        answers: list[Scored | None] = [None] * len(rows)
        for number, choice in enumerate(choices):
            if not isinstance(choice, dict):
                raise UnusableError("choices that are no objects")
            place = choice.get("index", number)
            if place not in range(len(rows)) or answers[place] is not None:
                raise UnusableError(f"a choice of index {place} for {len(rows)} prompts")
            found = entries(choice, prompts[place])[-len(rows[place].action) :]
            answers[place] = Scored(found, float(len(prompts[place])))
        return [answer for answer in answers if answer is not None]

    return await connection.ask("/v1/completions", body, read, probing=probing)


def _generating(
    model: str, prompt: list[int], tokens: int, wanted: dict[str, Any]
) -> dict[str, Any]:
    """A request to llama-server for `tokens` more, with the model's own log-probabilities."""
    return {
        "model": model,
        "prompt": prompt,
        "n_predict": tokens,
        "n_probs": 1,
        "temperature": 0,
        "post_sampling_probs": False,
        "cache_prompt": True,
        "return_tokens": True,
        "response_fields": ["tokens", "completion_probabilities", "timings"],
        **wanted,
    }


def _generated(data: dict[str, Any]) -> list[dict[str, Any]]:
    """What llama-server says of the tokens that it generated."""
    return [e for e in _list(data.get("completion_probabilities")) if isinstance(e, dict)]


def _tokens_read(data: dict[str, Any], prompt: list[int]) -> float:
    """Tokens of the prompt that llama-server evaluated now, and had not kept."""
    timings = data.get("timings")
    told = timings.get("prompt_n") if isinstance(timings, dict) else None
    return float(len(prompt) if told is None else told)


def _extension_entries(choice: dict[str, Any], prompt: list[int]) -> list[float]:
    """Of vLLM: per token a mapping from token ids; the first is null, for nothing precedes it."""
    entries = _list(choice.get("prompt_logprobs"))
    if len(entries) != len(prompt):
        raise UnusableError(f"{len(entries)} prompt_logprobs for {len(prompt)} tokens")
    found = []
    for entry, token in zip(entries[1:], prompt[1:], strict=True):
        of_token = entry.get(str(token)) if isinstance(entry, dict) else None
        if not isinstance(of_token, dict):
            raise UnusableError(f"no log-probability of the token {token} in its place")
        found.append(_log_prob(of_token.get("logprob")))
    return found


def _echoed_entries(choice: dict[str, Any], prompt: list[int]) -> list[float]:
    """Of OpenAI's form: one number per token, the first null, and one for what was generated."""
    logprobs = choice.get("logprobs")
    entries = _list(logprobs.get("token_logprobs")) if isinstance(logprobs, dict) else []
    if len(entries) not in (len(prompt), len(prompt) + 1):
        raise UnusableError(f"{len(entries)} echoed log-probabilities for {len(prompt)} tokens")
    return [_log_prob(entry) for entry in entries[1 : len(prompt)]]


def _tokens(data: dict[str, Any]) -> list[int]:
    tokens = data.get("tokens")
    if not isinstance(tokens, list) or not tokens or not all(type(t) is int for t in tokens):
        raise UnusableError("no list of token ids")
    return tokens


def _log_prob(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value > 1e-3:
        raise UnusableError(f"a log-probability of {value}")
    if value <= _STAND_IN:
        raise UnusableError(f"{value:g} where a log-probability should be, which it does not tell")
    return float(value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
