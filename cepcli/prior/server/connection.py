"""JSON over HTTP with a server that may be busy, slow, gone, or hidden behind something else.

Requests run side by side up to a bound; each has a time limit and a bounded number of retries, with
waits that double and differ by chance. What fails for good says what came back, never the key.
"""

import asyncio
import json
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx

from cepcli.errors import ConfigError, PriorError, ServerError
from cepcli.prior.config import ServerConfig
from cepcli.prior.server.address import is_this_machine

T = TypeVar("T")
#: Another attempt may succeed after timeouts and rate limits, and where the fault is the server's,
_BUSY = frozenset({408, 425, 429})
#: but not where it says that it cannot do this at all.
_NEVER = frozenset({501, 505})
_INTERNAL_ERROR = 500
_LONGEST_WAIT = 60.0
_SHOWN = 160
_KEPT = "What was answered before is kept in the journal."


class UnusableError(Exception):
    """A server's answer that does not hold what was asked for; says what it holds instead."""


class Connection:
    """Asks one server; belongs to the event loop that it is used in.

    Args:
        url: the server's, to which paths are added.
        key: sent as a bearer token, or None.
        config: time limit, retries and how many requests at once.

    Raises:
        ConfigError: if the key cannot be part of a header, or others could read it on its way.
    """

    def __init__(self, url: str, key: str | None, config: ServerConfig) -> None:
        if key is not None and not re.fullmatch(r"[\x21-\x7e]+", key):
            raise ConfigError(
                "The key in CEP_SERVER_KEY holds blanks or characters that no key has.",
                "Set it again, without quotes or line breaks inside.",
            )
        here = is_this_machine(url)
        if key is not None and not (here or config.insecure or url.startswith("https:")):
            raise ConfigError(
                f"The key in CEP_SERVER_KEY would go to {url} unencrypted, where others can read "
                "it on its way.",
                "Give an address of https://, or a tunnel's (ssh -L 8000:localhost:8000 HOST), or "
                "allow it: --insecure, or --set llm.server.insecure=true",
            )
        self.url = url
        self._key = key
        self._config = config
        self._free = asyncio.Semaphore(config.concurrency)
        self._chance = random.SystemRandom()
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=config.timeout,
            limits=httpx.Limits(max_connections=None),
            trust_env=not here,  # no proxy stands between this machine and itself
        )

    async def close(self) -> None:
        """Close what is open."""
        await self._client.aclose()

    async def ask(
        self,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[dict[str, Any]], T],
        *,
        probing: bool = False,
    ) -> T:
        """POST `body` to `path` (GET without one); what `read` makes of the answered object.

        Answers that `read` refuses by an `UnusableError` are asked for again, unless `probing`: a
        probe wants to know, so it gets that error, and also where the server lacks the path.

        Raises:
            ServerError: if no attempt gave a usable answer.
            PriorError: if none will.
            UnusableError: while probing.
        """
        trouble = ""
        for attempt in range(self._config.retries + 1):
            wait: float | None = None
            try:
                response = await self._send(path, body)
            except (httpx.TransportError, httpx.DecodingError, TimeoutError) as error:
                trouble = self._failure(error)
            else:
                if _may_pass(response.status_code, probing):
                    trouble, wait = f"it answered {self._status(response)}", _retry_after(response)
                else:
                    try:
                        return read(self._content(response, probing))
                    except UnusableError as error:
                        if probing:
                            raise
                        trouble = f"it answered {error}"
            if attempt < self._config.retries:
                await asyncio.sleep(self._pause(attempt, wait))
        tries = self._config.retries + 1
        asked = "asked once" if tries == 1 else f"asked {tries} times"
        raise ServerError(
            f"The server at {self.url} gave no usable answer to {path}, {asked}: {trouble}.",
            _remedy(trouble),
        )

    async def _send(self, path: str, body: dict[str, Any] | None) -> httpx.Response:
        async with self._free, asyncio.timeout(self._config.timeout):
            if body is None:
                return await self._client.get(self.url + path)
            content = json.dumps(body)
            header = {"Content-Type": "application/json"}
            return await self._client.post(self.url + path, content=content, headers=header)

    def _pause(self, attempt: int, wanted: float | None) -> float:
        """Seconds before the next attempt: what the server wants at least, spread by chance."""
        pause = self._config.backoff * 2.0**attempt
        if wanted is not None:
            pause = max(pause, wanted)
        return min(pause, _LONGEST_WAIT) * self._chance.uniform(1.0, 1.5)

    def _content(self, response: httpx.Response, probing: bool) -> dict[str, Any]:
        """The object that was answered, or an error that says what came instead."""
        status = response.status_code
        if response.has_redirect_location:
            raise self._redirected(response, probing)
        if status in (401, 403):
            raise PriorError(
                f"The server at {self.url} refuses {'the' if self._key else 'to answer without a'} "
                f"key: {self._status(response)}.",
                "Put its key into the environment variable CEP_SERVER_KEY.",
            )
        if status != 200:
            if probing:
                raise UnusableError(self._status(response))
            raise PriorError(
                f"The server at {self.url} refused {response.request.url.path}: "
                f"{self._status(response)}.",
                "If that is the address of a page or of another service, give the server's: "
                "--prior server:URL",
            )
        return _parsed(response, self._clean)

    def _redirected(self, response: httpx.Response, probing: bool) -> Exception:
        """A redirect is named and not followed: the key is for the server that was named."""
        path, status = response.request.url.path, response.status_code
        target = self._clean(_target(str(response.request.url), response.headers["location"]))
        if probing:
            return UnusableError(f"{status}, a redirect to {target}")
        base = target.removesuffix("/").removesuffix(path.removeprefix(urlsplit(self.url).path))
        return PriorError(
            f"The server at {self.url} redirects {path} to {target} ({status}); that is not "
            "followed, for the key is not for another address.",
            f"If that is where the model is served: --prior server:{base}",
        )

    def _status(self, response: httpx.Response) -> str:
        """Status code and the server's own words."""
        try:
            words = _message(json.loads(response.content))
        except (ValueError, UnicodeDecodeError):
            words = _title(response.text) if _is_page(response) else response.text
        words = self._clean(words)
        return f"{response.status_code} ({words})" if words else str(response.status_code)

    def _failure(self, error: Exception) -> str:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return f"no connection ({self._clean(str(error)) or 'timed out'})"
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            return f"no answer within {self._config.timeout:g} s"
        return f"the connection broke ({self._clean(str(error)) or type(error).__name__})"

    def _clean(self, text: str) -> str:
        """A server's words in one short line, without the key, should they repeat it."""
        if self._key:
            text = text.replace(self._key, "***")
        text = "".join(c if c.isprintable() else " " for c in text)
        text = " ".join(text.split())
        return text if len(text) <= _SHOWN else text[:_SHOWN] + " …"


def _parsed(response: httpx.Response, clean: Callable[[str], str]) -> dict[str, Any]:
    if _is_page(response):
        raise UnusableError(f"an HTML page ({clean(_title(response.text))}) instead of JSON")
    try:
        data = json.loads(response.content)
    except (ValueError, UnicodeDecodeError) as error:
        begins = clean(response.text[: 2 * _SHOWN])
        raise UnusableError(f"no JSON, or only a part of it, beginning with `{begins}`") from error
    if not isinstance(data, dict):
        raise UnusableError(f"JSON of type {type(data).__name__} instead of an object")
    return data


def _is_page(response: httpx.Response) -> bool:
    kind = response.headers.get("content-type", "")
    return "html" in kind or response.content.lstrip()[:1] == b"<"


def _title(page: str) -> str:
    found = re.search(r"<title[^>]*>(.*?)</title>", page, re.IGNORECASE | re.DOTALL)
    return f"title: {found.group(1)}" if found else "no title"


def _message(data: Any) -> str:
    """The message of an error in any of the forms that servers use."""
    error = data.get("error", data) if isinstance(data, dict) else data
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return error if isinstance(error, str) else json.dumps(error)


def _may_pass(status: int, probing: bool) -> bool:
    """Whether the same request may succeed later; a probe takes 500 for an answer.

    Some servers answer 500 to what they have not been made for, such as several prompts at once.
    """
    if status in _BUSY:
        return True
    return status >= _INTERNAL_ERROR and status not in _NEVER and not (
        probing and status == _INTERNAL_ERROR
    )  # fmt: skip


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds for which the server wants to be left alone: told as a number, or as a date."""
    text = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,6}(\.\d+)?", text):
        return float(text)
    until = _date(text)
    if until is None:
        return None
    now = _date(response.headers.get("date", "")) or datetime.now(UTC)  # by the server's own clock
    return max((until - now).total_seconds(), 0.0)


def _date(text: str) -> datetime | None:
    """The time that a header of HTTP names."""
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _remedy(trouble: str) -> str:
    """What to do about the last thing that went wrong."""
    if trouble.startswith("no connection"):
        return f"Start it, or check the address. {_KEPT}"
    if "HTML" in trouble:
        return (
            "A proxy or another service answers in its place: check the address, and the "
            "variables HTTP_PROXY and NO_PROXY."
        )
    if trouble.startswith("it answered 429"):
        return f"Ask for less at once: {_setting('concurrency=1')}. {_KEPT}"
    if trouble.startswith("no answer within"):
        return f"Look at the server, or give it more: {_setting('timeout=600')}. {_KEPT}"
    return f"Look at the server's log. {_KEPT}"


def _setting(text: str) -> str:
    return f"--set server.{text} (in cep train: --set llm.server.{text})"


def _target(url: str, location: str) -> str:
    """Where a redirect of `url` leads, without what could be secret; as it was said if nowhere."""
    try:
        there = urlsplit(urljoin(url, location))
    except ValueError:
        return location
    return urlunsplit((there.scheme, there.netloc.rpartition("@")[2], there.path, "", ""))
