"""Scores by a language model that a server holds: vLLM, llama-server, and what speaks like them.

The score of an action is defined as for a local model (`cepcli.prior.local.whole_text`), with the
tokens that the server gives for the whole text, special ones included.
"""

import asyncio
import hashlib
import json
import math
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cepcli.errors import CacheError, PriorError
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
from cepcli.prior.config import ServerConfig
from cepcli.prior.journal import Journal, Record, prompt_hash
from cepcli.prior.local.whole_text import Borders, ended
from cepcli.prior.server.address import ServerAddress
from cepcli.prior.server.connection import Connection, UnusableError
from cepcli.prior.server.probe import ENDINGS, KNOWN, Found, find_way
from cepcli.prior.server.protocols import (
    TOKENIZERS,
    WAYS,
    Row,
    Scored,
    pieces,
    score_rows,
    together,
)
from cepcli.registry import suggest

T = TypeVar("T")
#: Texts whose length in tokens is kept.
_KEPT_TEXTS = 8192
#: A prompt has at least so many actions, as a rule.
_FEW_ACTIONS = 4
#: What tells served models apart, of all that servers say about them.
_IDENTITY = ("root", "parent", "meta")
_NOT_WEIGHTS = ("n_ctx",)
#: What the known endings may score differently before and after, nats; noise is a tenth of it.
_SAME_WEIGHTS = 1.0


class _Model(NamedTuple):
    """A served model: its name, what distinguishes it, and its context in tokens if known."""

    name: str
    identity: dict[str, Any]
    context: int | None


class ServerScorer(Scorer):
    """A served causal language model as a scorer.

    Args:
        address: where, and under which name.
        key: bearer token, or None.
        template: version string of the prompt template, for the fingerprint.
        config: time limit, retries, concurrency.

    Raises:
        PriorError: if no server answers there, it serves no such model, or it cannot score.
    """

    def __init__(
        self, address: ServerAddress, *, key: str | None, template: str, config: ServerConfig
    ) -> None:
        self._config = config
        self._loop = _Loop()
        self._close = weakref.finalize(self, self._loop.close)
        try:
            self._connection = self._loop.run(_connect(address.url, key, config))
            self._loop.at_end.append(self._connection.close)
            self._model, self._found = self._loop.run(self._introduce(address.model))
        except BaseException:
            self._close()
            raise
        self._lengths: dict[str, int] = {}
        self._borders = Borders(self._model.name)
        self._fingerprint = ScorerFingerprint(
            backend="server",
            model=self._model.name,
            revision=_revision(self._model, self._found),
            adapter_sha256="",
            template=template,
            dtype="",
            tokens=WHOLE_TEXT,
        )

    @property
    def fingerprint(self) -> ScorerFingerprint:
        """The served model, what the server says of it, its tokens, and the prompt template."""
        return self._fingerprint

    @property
    def way(self) -> str:
        """How the server scores, one of `server_ways.WAYS`."""
        return self._found.way

    def close(self) -> None:
        """Close the connections; the scorer's end does so, too."""
        self._close()

    def score(
        self, prompts: Sequence[Prompt], action_sets: Sequence[Sequence[str]]
    ) -> list[ActionScores]:
        """Summed token log-likelihoods of each action; requests run side by side."""
        if not prompts:
            return []
        started = time.perf_counter()
        scored = self._loop.run(self._score(prompts, action_sets))
        seconds = (time.perf_counter() - started) / len(prompts)
        return [_summed(answer, seconds) for answer in scored]

    @property
    def prompts_at_once(self) -> int:
        """As many as keep all requests busy: more would be lost where one of them fails."""
        busy = self._config.concurrency * self._found.batch
        return max(self._config.concurrency, busy // _FEW_ACTIONS)

    @property
    def lines_at_once(self) -> int:
        """A request each."""
        return self._config.concurrency

    def count_tokens(self, text: str) -> int:
        """By the server's tokenizer; texts that come again are asked about once."""
        if text not in self._lengths:
            if len(self._lengths) >= _KEPT_TEXTS:
                self._lengths.clear()
            self._lengths[text] = self._loop.run(self._count(text))
        return self._lengths[text]

    def complete(self, prompts: Sequence[Prompt], most_tokens: int) -> list[Completion]:
        """A line after each prompt, at temperature 0; requests run side by side."""
        if not prompts:
            return []
        started = time.perf_counter()
        lines = self._loop.run(together([self._line(prompt, most_tokens) for prompt in prompts]))
        seconds = (time.perf_counter() - started) / len(prompts)
        return [Completion(text, tokens, seconds, seconds) for text, tokens in lines]

    def tokens(self, prompt: Prompt, actions: Sequence[str]) -> ReadTokens:
        """By the server's tokenizer, with the log-probabilities that it gives."""
        return self._loop.run(self._explained(prompt, actions))

    def check_unchanged(self, journal: Journal) -> None:
        """Refuse a server whose weights changed under the same name since `journal` was filled.

        Raises:
            CacheError: if it scores the known endings otherwise than it did.
        """
        prompt = prompt_hash(Prompt(prefix="", state=KNOWN))
        before = journal.read(self.fingerprint, prompt)
        now = dict(zip(ENDINGS, self._found.likelihoods, strict=True))
        if not before:
            records = {ending: Record(score, 1, 0.0, 0.0) for ending, score in now.items()}
            journal.write(self.fingerprint, {prompt: records})
            return
        change = max(abs(before[end].log_likelihood - now[end]) for end in ENDINGS)
        if change > _SAME_WEIGHTS:
            raise CacheError(
                f"The server at {self._connection.url} serves other weights under the name "
                f"`{self._model.name}` than those that `{journal.path}` has answers of: a known "
                f"text scores {change:.1f} nats differently.",
                "Serve the former weights, give the new ones another name, or use another "
                "--workspace.",
            )

    async def _introduce(self, wanted: str | None) -> tuple[_Model, Found]:
        connection = self._connection
        entry = _chosen(await connection.ask("/v1/models", None, _models), wanted, connection.url)
        found = await find_way(connection, entry["id"], self._config.batch)
        context = entry.get("max_model_len")
        if found.tokenize == "llama":
            context = await _llama_context(connection)
        identity = {key: entry[key] for key in _IDENTITY if entry.get(key) is not None}
        if isinstance(meta := identity.get("meta"), dict):
            identity["meta"] = {k: v for k, v in meta.items() if k not in _NOT_WEIGHTS}
        return _Model(entry["id"], identity, context if type(context) is int else None), found

    async def _score(
        self, prompts: Sequence[Prompt], action_sets: Sequence[Sequence[str]]
    ) -> list[list[Scored]]:
        texts = [prompt.prefix + prompt.state for prompt in prompts]
        heads = await together([self._tokens(text) for text in texts])
        rows, sizes = [], []
        for text, tokens, actions in zip(texts, heads, action_sets, strict=True):
            rows += await self._rows(text, tokens, actions)
            sizes.append(len(actions))
        way = WAYS[self._found.way]
        scored = await score_rows(self._connection, self._model.name, rows, way, self._found.batch)
        answers, start = [], 0
        for size in sizes:
            answers.append(scored[start : start + size])
            start += size
        return answers

    async def _line(self, prompt: Prompt, most_tokens: int) -> tuple[str, float]:
        tokens = await self._tokens(prompt.prefix + prompt.state)
        self._check_context(len(tokens), most_tokens)
        body = {
            "model": self._model.name, "prompt": tokens, "max_tokens": most_tokens,
            "temperature": 0, "stop": ["\n"],
        }  # fmt: skip
        text, written = await self._connection.ask("/v1/completions", body, _written)
        if written is None:
            written = await self._count(text)
        return text.split("\n")[0].strip(), float(len(tokens) + written)

    async def _explained(self, prompt: Prompt, actions: Sequence[str]) -> ReadTokens:
        text = prompt.prefix + prompt.state
        tokens = await self._tokens(text)
        rows = await self._rows(text, tokens, actions)
        [scored] = await self._score([prompt], [actions])
        texts = [text, *(text + ended(action) for action in actions)]
        told = await together([pieces(self._connection, self._model.name, t) for t in texts])
        written = {token: piece for one in told for token, piece in one.items()}
        return ReadTokens(
            [Token(token, written.get(token, "")) for token in tokens],
            [
                [
                    Token(token, written.get(token, ""), log_prob)
                    for token, log_prob in zip(row.action, found.log_probs, strict=True)
                ]
                for row, found in zip(rows, scored, strict=True)
            ],
            [len(tokens) - len(row.prompt) for row in rows],
        )

    async def _rows(self, text: str, tokens: list[int], actions: Sequence[str]) -> list[Row]:
        """What is scored of each action after a prompt; only new ones are tokenized."""
        new = self._borders.unknown(text, tokens, actions)
        ids = await together([self._tokens(text + ended(action)) for action in new])
        whole = dict(zip(new, ids, strict=True))
        splits = self._borders.splits(text, tokens, actions, whole)
        self._check_context(len(tokens), max(len(split.action) for split in splits))
        return [Row(tokens[: len(tokens) - s.dropped], s.action) for s in splits]

    async def _tokens(self, text: str) -> list[int]:
        """Of a text that goes on."""
        return self._found.ends.strip(await self._read(text)) if text else []

    async def _count(self, text: str) -> int:
        return self._found.ends.plain(await self._read(text)) if text else 0

    async def _read(self, text: str) -> list[int]:
        tokenize = TOKENIZERS[self._found.tokenize]
        return await tokenize(self._connection, self._model.name, text)

    def _check_context(self, prompt: int, more: int) -> None:
        needed = prompt + more + 1
        context = self._model.context
        if context is not None and needed > context:
            raise PriorError(
                f"A prompt of {prompt} tokens needs {needed} with its actions, but "
                f"`{self._model.name}` at {self._connection.url} takes {context}.",
                "Serve it with more (vLLM: --max-model-len, llama-server: --ctx-size, which its "
                "slots share), or set `text_tokens` (of a run: `llm.text_tokens`) lower, so that "
                "texts are shortened.",
            )


class _Loop:
    """An event loop in a thread of its own, so that any caller may wait and may be interrupted.

    Attributes:
        at_end: what to await before the loop closes.
    """

    def __init__(self) -> None:
        self.at_end: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which ends when the caller is interrupted."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Call off what runs, await what is left to do, and end the thread."""
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for close in self.at_end:
            await close()


async def _connect(url: str, key: str | None, config: ServerConfig) -> Connection:
    """A connection of the running loop."""
    return Connection(url, key, config)


def _summed(scored: Sequence[Scored], seconds: float) -> ActionScores:
    return ActionScores(
        log_likelihood=np.array([math.fsum(one.log_probs) for one in scored], np.float64),
        lengths=np.array([len(one.log_probs) for one in scored], np.int64),
        tokens=sum(one.tokens for one in scored),
        seconds=seconds,
        live_seconds=seconds,
    )


def _written(data: dict[str, Any]) -> tuple[str, int | None]:
    """What the server wrote, and how many tokens these were if it says so."""
    choices = data.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    text = first.get("text") if isinstance(first, dict) else None
    if not isinstance(text, str):
        raise UnusableError("no text")
    usage = data.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return text, count if type(count) is int else None


def _models(data: dict[str, Any]) -> list[dict[str, Any]]:
    entries = data.get("data")
    found = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    if not found or not all(isinstance(e.get("id"), str) for e in found):
        raise UnusableError("no list of models")
    return found


def _chosen(entries: list[dict[str, Any]], wanted: str | None, url: str) -> dict[str, Any]:
    """The entry of the wanted model, or the only one."""
    names = [entry["id"] for entry in entries]
    if wanted is None:
        if len(entries) == 1:
            return entries[0]
        raise PriorError(
            f"The server at {url} serves {len(names)} models: {', '.join(names)}.",
            f"Say which: --prior server:{url}#{names[0]}",
        )
    for entry in entries:
        if wanted == entry["id"] or wanted in (entry.get("aliases") or ()):
            return entry
    raise PriorError(
        f"The server at {url} serves no model `{wanted}`, but {', '.join(names)}.",
        suggest(wanted, names),
    )


async def _llama_context(connection: Connection) -> int | None:
    """Tokens that one slot of llama-server holds."""

    def read(data: dict[str, Any]) -> int | None:
        settings = data.get("default_generation_settings")
        return settings.get("n_ctx") if isinstance(settings, dict) else None

    try:
        return await connection.ask("/props", None, read, probing=True)
    except UnusableError:
        return None


def _revision(model: _Model, found: Found) -> str:
    """Sha256 of what the server says of its model, and of how it tokenizes."""
    facts = json.dumps([model.identity, found.tokens], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()
