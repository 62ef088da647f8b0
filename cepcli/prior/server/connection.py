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
_LONGEST_WAIT = 60.0
_SHOWN = 160


class UnusableError(Exception):
    """A server's answer that does not hold what was asked for; says what it holds instead."""


def told(data: Any, *path: str | int) -> Any:
    """What is at a path of keys and indices in JSON; None if there is no such place."""
    for key in path:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return None
    return data


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
                "The key in CEP_SERVER_KEY contains blanks or characters that no key has.",
                "Set it again, without quotes or line breaks inside.",
            )
        here = is_this_machine(url)
        if key is not None and not (here or config.insecure or url.startswith("https:")):
            raise ConfigError(
                f"The key in CEP_SERVER_KEY would go to {url} unencrypted, where others can read "
                "it on its way.",
                "Give an https:// address, or use a tunnel (ssh -L 8000:localhost:8000 HOST), or "
                "allow it: --insecure, or --set llm.server.insecure=true",
            )
        self.url = url
        self._key = key
        self._config = config
        self._free = asyncio.Semaphore(config.concurrency)
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
        trouble, tries = "", self._config.retries + 1
        for attempt in range(tries):
            wait: float | None = None
            try:
                response = await self._send(path, body)
                if not _may_pass(response.status_code, probing):
                    return read(self._content(response, probing))
                trouble, wait = f"it answered {self._status(response)}", _retry_after(response)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                trouble = f"no connection ({self._clean(str(error)) or 'timed out'})"
            except (TimeoutError, httpx.TimeoutException):
                trouble = f"no answer within {self._config.timeout:g} s"
            except (httpx.TransportError, httpx.DecodingError) as error:
                name = type(error).__name__
                trouble = f"the connection broke ({self._clean(str(error)) or name})"
            except UnusableError as error:
                if probing:
                    raise
                trouble = f"it answered {error}"
            if attempt + 1 < tries:
                await asyncio.sleep(self._pause(attempt, wait))
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
        """Seconds before the next attempt: at least what the server wants, with random jitter."""
        pause = max(self._config.backoff * 2.0**attempt, wanted or 0.0)
        return min(pause, _LONGEST_WAIT) * random.SystemRandom().uniform(1.0, 1.5)

    def _content(self, response: httpx.Response, probing: bool) -> dict[str, Any]:
        """The object that was answered, or an error that says what came instead."""
        status, path = response.status_code, response.request.url.path
        if status == 200:
            return self._parsed(response)
        if response.has_redirect_location:  # not followed: the key is for the server that was named
            there = self._clean(_target(str(response.request.url), response.headers["location"]))
            if probing:
                raise UnusableError(f"{status}, a redirect to {there}")
            base = there.removesuffix("/").removesuffix(path.removeprefix(urlsplit(self.url).path))
            raise PriorError(
                f"The server at {self.url} redirects {path} to {there} ({status}). Redirects are "
                "not followed, because the key is not for another address.",
                f"If that is where the model is served: --prior server:{base}",
            )
        if status in (401, 403):
            raise PriorError(
                f"The server at {self.url} refuses {'the' if self._key else 'to answer without a'} "
                f"key: {self._status(response)}.",
                "Put its key into the environment variable CEP_SERVER_KEY.",
            )
        if probing:
            raise UnusableError(self._status(response))
        raise PriorError(
            f"The server at {self.url} refused {path}: {self._status(response)}.",
            "If that is the address of a page or of another service, give the server's: "
            "--prior server:URL",
        )

    def _parsed(self, response: httpx.Response) -> dict[str, Any]:
        if _is_page(response):
            page = self._clean(_title(response.text))
            raise UnusableError(f"an HTML page ({page}) instead of JSON")
        try:
            data = json.loads(response.content)
        except ValueError as error:
            begins = self._clean(response.text[: 2 * _SHOWN])
            raise UnusableError(
                f"no JSON, or only a part of it, beginning with `{begins}`"
            ) from error
        if not isinstance(data, dict):
            raise UnusableError(f"JSON of type {type(data).__name__} instead of an object")
        return data

    def _status(self, response: httpx.Response) -> str:
        """Status code and the server's own words."""
        try:
            words = _message(json.loads(response.content))
        except ValueError:
            words = _title(response.text) if _is_page(response) else response.text
        words = self._clean(words)
        return f"{response.status_code} ({words})" if words else str(response.status_code)

    def _clean(self, text: str) -> str:
        """A server's words in one short line, without the key, should they repeat it."""
        if self._key:
            text = text.replace(self._key, "***")
        text = "".join(c if c.isprintable() else " " for c in text)
        text = " ".join(text.split())
        return text if len(text) <= _SHOWN else text[:_SHOWN] + " …"


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
    if status == 500:
        return not probing
    return status in _BUSY or (status > 500 and status not in _NEVER)


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
    setting = "--set server.{0} (in cep train: --set llm.server.{0})"
    if "HTML" in trouble:
        return (
            "A proxy or another service answers in its place: check the address, and the "
            "variables HTTP_PROXY and NO_PROXY."
        )
    if trouble.startswith("no connection"):
        what = "Start it, or check the address."
    elif trouble.startswith("it answered 429"):
        what = f"Ask for less at once: {setting.format('concurrency=1')}."
    elif trouble.startswith("no answer within"):
        what = f"Look at the server, or give it more time: {setting.format('timeout=600')}."
    else:
        what = "Look at the server's log."
    return f"{what} What was answered before is kept in the journal."


def _target(url: str, location: str) -> str:
    """Where a redirect of `url` leads, without what could be secret; as it was said if nowhere."""
    try:
        there = urlsplit(urljoin(url, location))
    except ValueError:
        return location
    return urlunsplit((there.scheme, there.netloc.rpartition("@")[2], there.path, "", ""))
