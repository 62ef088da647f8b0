"""The ways in which servers say how likely a given text is, and which tokens it has.

Which of them a server knows is found by `cepcli.prior.server.probe`.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from cepcli.prior.server.connection import Connection, UnusableError, told

T = TypeVar("T")
#: Servers write numbers like −9999 where they tell no log-probability; no model is so sure, nats.
_STAND_IN = -1000.0
#: Added to a logit; no other token is generated then.
_FORCE = 1000
_WHOLE_VOCABULARY = 1_000_000

#: Ways to score, in the order in which they are tried: the extension of vLLM (log-probabilities of
#: the prompt's tokens), the first form of OpenAI's completions (the prompt is repeated), and
#: llama-server's own (a grammar of token ids lets nothing else be generated).
WAYS = ("prompt_logprobs", "echo", "grammar")
ONE_BY_ONE = {"grammar"}
#: The body of a request to `/tokenize`, for a model, a text and whether special tokens are added.
TOKENIZERS: dict[str, Callable[[str, str, bool], dict[str, Any]]] = {
    "vllm": lambda model, text, special: {
        "model": model, "prompt": text, "add_special_tokens": special,
    },
    "llama": lambda model, text, special: {
        "content": text, "add_special": special, "parse_special": True,
    },
}  # fmt: skip


class Row(NamedTuple):
    """Tokens of a prompt and of one continuation that is to be scored."""

    prompt: list[int]
    action: list[int]


class Scored(NamedTuple):
    """Log-probability of each token of a continuation, and how many tokens that took."""

    log_probs: list[float]
    tokens: float


class ServedModel(NamedTuple):
    """A model and the connection to its server.

    While `probing`, each method raises an `UnusableError` where the server cannot do it.
    """

    connection: Connection
    name: str

    async def tokenize(
        self, form: str, text: str, *, special: bool = True, probing: bool = False
    ) -> list[int]:
        """Token ids of a text by the model's own tokenizer; `form` is one of `TOKENIZERS`."""

        def read(data: dict[str, Any]) -> list[int]:
            tokens = data.get("tokens")
            if not (isinstance(tokens, list) and tokens and all(type(t) is int for t in tokens)):
                raise UnusableError("no list of token ids")
            return tokens

        body = TOKENIZERS[form](self.name, text, special)
        return await self.connection.ask("/tokenize", body, read, probing=probing)

    async def pieces(self, text: str) -> dict[int, str]:
        """How the tokens of a text are written, as far as the server tells; asks in all forms."""
        body: dict[str, Any] = {"return_token_strs": True, "with_pieces": True}
        for form in TOKENIZERS.values():
            body |= form(self.name, text, True)

        def read(data: dict[str, Any]) -> dict[int, str]:
            tokens = _list(data.get("tokens"))
            entries = [entry for entry in tokens if isinstance(entry, dict)]
            if entries:
                return {
                    entry["id"]: _piece(entry.get("piece")) for entry in entries if "id" in entry
                }
            return dict(zip(tokens, map(_piece, _list(data.get("token_strs"))), strict=False))

        try:
            return await self.connection.ask("/tokenize", body, read, probing=True)
        except UnusableError:
            return {}

    async def score(
        self, rows: Sequence[Row], way: str, size: int, *, probing: bool = False
    ) -> list[Scored]:
        """Score rows, `size` in a request; requests run side by side, and end when one fails."""
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        ask = self._grammar if way == "grammar" else self._completions
        answers = await together([ask(part, way, probing) for part in parts])
        return [scored for answer in answers for scored in answer]

    async def _completions(self, rows: Sequence[Row], way: str, probing: bool) -> list[Scored]:
        """Score rows as prompts, each in one piece; what is generated after them is ignored."""
        prompts = [row.prompt + row.action for row in rows]
        echo = way == "echo"
        body = {
            "model": self.name, "prompt": prompts if len(prompts) > 1 else prompts[0],
            "max_tokens": 1, "temperature": 0,
            **({"echo": True, "logprobs": 1} if echo else {"prompt_logprobs": 1}),
        }  # fmt: skip
        log_probs = _echoed if echo else _of_the_extension

        def read(data: dict[str, Any]) -> list[Scored]:
            choices = _list(data.get("choices"))
            if len(choices) != len(rows):
                raise UnusableError(f"{len(choices)} choices for {len(rows)} prompts")
            answers: dict[int, Scored] = {}
            for number, choice in enumerate(choices):
                if not isinstance(choice, dict):
                    raise UnusableError("choices that are not objects")
                place = choice.get("index", number)
                if place not in range(len(rows)) or place in answers:
                    raise UnusableError(f"a choice of index {place} for {len(rows)} prompts")
                found = log_probs(choice, prompts[place])[-len(rows[place].action) :]
                answers[place] = Scored(found, float(len(prompts[place])))
            return [answers[place] for place in range(len(rows))]

        return await self.connection.ask("/v1/completions", body, read, probing=probing)

    async def _grammar(self, rows: Sequence[Row], way: str, probing: bool) -> list[Scored]:
        """Force the row's tokens by a grammar.

        It fails where a token ends inside a character or ends the text; there it goes token by
        token.
        """
        [row] = rows
        rules = " ".join(f"<[{token}]>" for token in row.action)

        def read(entries: list[dict[str, Any]], data: dict[str, Any]) -> list[float]:
            if [entry.get("id") for entry in entries] != row.action:
                raise UnusableError(
                    f"{len(entries)} entries for {len(row.action)} tokens, or of other tokens"
                )
            return [_log_prob(entry.get("logprob")) for entry in entries]

        wanted = {"grammar": f"root ::= {rules}"}
        try:
            return [Scored(*await self._generate(row.prompt, len(row.action), wanted, read, True))]
        except UnusableError:
            if probing:
                raise
            return [await self._token_by_token(row)]

    async def _token_by_token(self, row: Row) -> Scored:
        """Log-probability of one token after the other, each by a request of its own."""
        log_probs, tokens = [], 0.0
        for place, token in enumerate(row.action):
            prompt = row.prompt + row.action[:place]
            found, evaluated = await self._forced(prompt, token)
            tokens += evaluated
            if found is None:
                found, evaluated = await self._looked_up(prompt, token, row.action[-1])
                tokens += evaluated
            log_probs.append(found)
        return Scored(log_probs, tokens)

    async def _forced(self, prompt: list[int], token: int) -> tuple[float | None, float]:
        """Log-probability of a token that a bias forces; None where that is not told."""

        def read(entries: list[dict[str, Any]], data: dict[str, Any]) -> float | None:
            ids = [entry.get("id") for entry in entries]
            if data.get("tokens") != [token] or ids not in ([], [token]):
                raise UnusableError(f"another token than {token}, which was forced")
            return _log_prob(entries[0].get("logprob")) if entries else None

        return await self._generate(prompt, 1, {"logit_bias": [[token, _FORCE]]}, read)

    async def _looked_up(self, prompt: list[int], token: int, end: int) -> tuple[float, float]:
        """Log-probability of a token among those of the whole vocabulary, which is long.

        A token that ends inside a character is listed there, though not when it is generated
        itself; `end`, a line break, is generated in its place.
        """

        def read(entries: list[dict[str, Any]], data: dict[str, Any]) -> float:
            for entry in _list(told(entries, 0, "top_logprobs")):
                if told(entry, "id") == token:
                    return _log_prob(told(entry, "logprob"))
            raise UnusableError(f"no log-probability of the token {token}")

        wanted = {"logit_bias": [[end, _FORCE]], "n_probs": _WHOLE_VOCABULARY}
        return await self._generate(prompt, 1, wanted, read)

    async def _generate(
        self,
        prompt: list[int],
        tokens: int,
        wanted: dict[str, Any],
        read: Callable[[list[dict[str, Any]], dict[str, Any]], T],
        probing: bool = False,
    ) -> tuple[T, float]:
        """Have llama-server generate tokens; what `read` makes of them, and what it evaluated."""
        body = {
            "model": self.name, "prompt": prompt, "n_predict": tokens, "n_probs": 1,
            "temperature": 0, "post_sampling_probs": False, "cache_prompt": True,
            "return_tokens": True,
            "response_fields": ["tokens", "completion_probabilities", "timings"],
            **wanted,
        }  # fmt: skip

        def parsed(data: dict[str, Any]) -> tuple[T, float]:
            entries = _list(data.get("completion_probabilities"))
            found = read([entry for entry in entries if isinstance(entry, dict)], data)
            new = told(data, "timings", "prompt_n")  # of the prompt: the rest it had kept
            return found, float(len(prompt) if new is None else new) + tokens

        return await self.connection.ask("/completion", body, parsed, probing=probing)


async def together(work: Sequence[Awaitable[Any]]) -> list[Any]:
    """What all give, in order; where one fails the others are called off."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _of_the_extension(choice: dict[str, Any], prompt: list[int]) -> list[float]:
    """Of vLLM: per token a mapping from token ids; the first is null, for nothing precedes it."""
    entries = _list(choice.get("prompt_logprobs"))
    if len(entries) != len(prompt):
        raise UnusableError(f"{len(entries)} prompt_logprobs for {len(prompt)} tokens")
    found = []
    for entry, token in zip(entries[1:], prompt[1:], strict=True):
        of_token = told(entry, str(token))
        if not isinstance(of_token, dict):
            raise UnusableError(f"no log-probability of the token {token} in its place")
        found.append(_log_prob(of_token.get("logprob")))
    return found


def _echoed(choice: dict[str, Any], prompt: list[int]) -> list[float]:
    """Of OpenAI's form: one number per token, the first null, and one for what was generated."""
    entries = _list(told(choice, "logprobs", "token_logprobs"))
    if len(entries) not in (len(prompt), len(prompt) + 1):
        raise UnusableError(f"{len(entries)} echoed log-probabilities for {len(prompt)} tokens")
    return [_log_prob(entry) for entry in entries[1 : len(prompt)]]


def _log_prob(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value > 1e-3:
        raise UnusableError(f"a log-probability of {value}")
    if value <= _STAND_IN:
        raise UnusableError(f"{value:g} where a log-probability should be, which it does not tell")
    return float(value)


def _piece(value: Any) -> str:
    """A piece; one that is not text comes as a list of bytes."""
    if isinstance(value, list):
        return "".join(f"<0x{byte:02X}>" for byte in value)
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
