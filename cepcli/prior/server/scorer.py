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
from typing import Any, TypeVar

import numpy as np
from typing_extensions import override

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
from cepcli.prior.server.connection import Connection, UnusableError, told
from cepcli.prior.server.probe import ENDINGS, KNOWN, find_way
from cepcli.prior.server.protocols import Row, Scored, ServedModel, together
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


class ServerScorer(Scorer):
    """A served causal language model as a scorer.

    Args:
        address: where, and under which name.
        key: bearer token, or None.
        template: version string of the prompt template, for the fingerprint.
        config: time limit, retries, concurrency.

    Attributes:
        way: how the server scores, one of `cepcli.prior.server.protocols.WAYS`.

    Raises:
        PriorError: if no server answers there, it serves no such model, or it cannot score.
    """

    def __init__(
        self, address: ServerAddress, *, key: str | None, template: str, config: ServerConfig
    ) -> None:
        connection = Connection(address.url, key, config)
        self._loop = _Loop()
        self._close = weakref.finalize(self, self._loop.close, connection.close)
        try:
            revision = self._loop.run(self._introduce(connection, address.model, config.batch))
        except BaseException:
            self._close()
            raise
        self.way = self._found.way
        self._lengths: dict[str, int] = {}
        self._borders = Borders(self._model.name)
        self.fingerprint = ScorerFingerprint(
            backend="server",
            model=self._model.name,
            revision=revision,
            adapter_sha256="",
            template=template,
            dtype="",
            tokens=WHOLE_TEXT,
        )
        # as many as keep all requests busy: more would be lost where one of them fails
        busy = config.concurrency * self._found.batch
        self.prompts_at_once = max(config.concurrency, busy // _FEW_ACTIONS)
        self.lines_at_once = config.concurrency

    def close(self) -> None:
        """Close the connections; the scorer's end does so, too."""
        self._close()

    @override
    def score(
        self, prompts: Sequence[Prompt], action_sets: Sequence[Sequence[str]]
    ) -> list[ActionScores]:
        if not prompts:
            return []
        started = time.perf_counter()
        scored = self._loop.run(self._score(prompts, action_sets))
        seconds = (time.perf_counter() - started) / len(prompts)
        return [
            ActionScores(
                log_likelihood=np.array([math.fsum(one.log_probs) for one in each], np.float64),
                lengths=np.array([len(one.log_probs) for one in each], np.int64),
                tokens=sum(one.tokens for one in each),
                seconds=seconds,
                live_seconds=seconds,
            )
            for each in scored
        ]

    @override
    def count_tokens(self, text: str) -> int:
        if text not in self._lengths:
            if len(self._lengths) >= _KEPT_TEXTS:
                self._lengths.clear()
            self._lengths[text] = self._loop.run(self._count(text))
        return self._lengths[text]

    @override
    def complete(self, prompts: Sequence[Prompt], most_tokens: int) -> list[Completion]:
        if not prompts:
            return []
        started = time.perf_counter()
        lines = self._loop.run(together([self._line(prompt, most_tokens) for prompt in prompts]))
        seconds = (time.perf_counter() - started) / len(prompts)
        return [Completion(text, tokens, seconds, seconds) for text, tokens in lines]

    @override
    def tokens(self, prompt: Prompt, actions: Sequence[str]) -> ReadTokens:
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
                f"The server at {self._model.connection.url} serves other weights under the name "
                f"`{self._model.name}` than those that `{journal.path}` has answers of: a known "
                f"text scores {change:.1f} nats differently.",
                "Serve the former weights, give the new ones another name, or use another "
                "--workspace.",
            )

    async def _introduce(self, connection: Connection, wanted: str | None, batch: int) -> str:
        """Find the model and how it scores; SHA-256 of what the server says of it."""
        entry = _chosen(await connection.ask("/v1/models", None, _models), wanted, connection.url)
        self._model = ServedModel(connection, entry["id"])
        self._found = await find_way(self._model, batch)
        context = entry.get("max_model_len")
        if self._found.tokenize == "llama":  # what one of its slots holds
            try:
                context = await connection.ask("/props", None, _context_of_a_slot, probing=True)
            except UnusableError:
                context = None
        self._context = context if type(context) is int else None
        identity = {key: entry[key] for key in _IDENTITY if entry.get(key) is not None}
        if isinstance(meta := identity.get("meta"), dict):
            identity["meta"] = {k: v for k, v in meta.items() if k not in _NOT_WEIGHTS}
        facts = json.dumps([identity, self._found.tokens], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()

    async def _score(
        self, prompts: Sequence[Prompt], action_sets: Sequence[Sequence[str]]
    ) -> list[list[Scored]]:
        texts = [prompt.prefix + prompt.state for prompt in prompts]
        heads = await together([self._tokens(text) for text in texts])
        rows = []
        for text, tokens, actions in zip(texts, heads, action_sets, strict=True):
            rows += await self._rows(text, tokens, actions)
        scored = iter(await self._model.score(rows, self.way, self._found.batch))
        return [[next(scored) for _ in actions] for actions in action_sets]

    async def _line(self, prompt: Prompt, most_tokens: int) -> tuple[str, float]:
        tokens = await self._tokens(prompt.prefix + prompt.state)
        self._check_context(len(tokens), most_tokens)
        body = {
            "model": self._model.name, "prompt": tokens, "max_tokens": most_tokens,
            "temperature": 0, "stop": ["\n"],
        }  # fmt: skip
        text, written = await self._model.connection.ask("/v1/completions", body, _written)
        if written is None:
            written = await self._count(text)
        return text.split("\n")[0].strip(), float(len(tokens) + written)

    async def _explained(self, prompt: Prompt, actions: Sequence[str]) -> ReadTokens:
        text = prompt.prefix + prompt.state
        tokens = await self._tokens(text)
        rows = await self._rows(text, tokens, actions)
        [scored] = await self._score([prompt], [actions])
        texts = [text, *(text + ended(action) for action in actions)]
        known = await together([self._model.pieces(t) for t in texts])
        written = {token: piece for one in known for token, piece in one.items()}

        def shown(token: int, log_prob: float | None = None) -> Token:
            return Token(token, written.get(token, ""), log_prob)

        return ReadTokens(
            [shown(token) for token in tokens],
            [
                [shown(*pair) for pair in zip(row.action, found.log_probs, strict=True)]
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
        return await self._model.tokenize(self._found.tokenize, text)

    def _check_context(self, prompt: int, more: int) -> None:
        needed = prompt + more + 1
        if self._context is not None and needed > self._context:
            raise PriorError(
                f"A prompt of {prompt} tokens needs {needed} with its actions, but "
                f"`{self._model.name}` at {self._model.connection.url} takes {self._context}.",
                "Serve it with more (vLLM: --max-model-len, llama-server: --ctx-size, which its "
                "slots share), or lower `text_tokens` (of a run: `llm.text_tokens`), so that "
                "texts are shortened.",
            )


class _Loop:
    """An event loop in a thread of its own, so that any caller may wait and may be interrupted."""

    def __init__(self) -> None:
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

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Call off what runs, await `last`, and end the thread."""

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await last()

        self.run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _written(data: dict[str, Any]) -> tuple[str, int | None]:
    """What the server wrote, and how many tokens these were if it says so."""
    text = told(data, "choices", 0, "text")
    if not isinstance(text, str):
        raise UnusableError("no text")
    count = told(data, "usage", "completion_tokens")
    return text, count if type(count) is int else None


def _context_of_a_slot(data: dict[str, Any]) -> Any:
    return told(data, "default_generation_settings", "n_ctx")


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
