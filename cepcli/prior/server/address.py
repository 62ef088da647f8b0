"""The name of a prior that a server answers: `server:URL`, or `server:URL#MODEL`."""

import ipaddress
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from cepcli.errors import PriorError

_SCHEME = "server:"
_EXAMPLE = "Try --prior server:http://127.0.0.1:8000, or server:http://127.0.0.1:8000#MODEL"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a language model is served.

    Attributes:
        url: without the `/v1` of the OpenAI interface, beside which the other paths lie.
        model: the name it is served under; None for the only one.
    """

    url: str
    model: str | None

    @property
    def label(self) -> str:
        """A short name: the model's last part, else host and port."""
        return PurePosixPath(self.model).name if self.model else urlsplit(self.url).netloc


def is_this_machine(url: str) -> bool:
    """Whether what is sent to `url` stays on this machine: loopback, or no address at all."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def is_server(name: str) -> bool:
    """Whether a prior's name means a server."""
    return name.startswith(_SCHEME)


def server_address(name: str) -> ServerAddress:
    """The address in `server:URL#MODEL`.

    Raises:
        PriorError: if it is none, or carries what must not be written down: a name, a password or
            a query, for it becomes part of a run's configuration.
    """
    text = name.removeprefix(_SCHEME)
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise PriorError(f"`{name}` is not a server address: {error}.", _EXAMPLE) from error
    if parts.username is not None or parts.password is not None or parts.query:
        raise PriorError(
            "The address of a server holds a user name, a password or a query, which would be "
            "written into every run's configuration.",
            "Leave it out, and put the key into the environment variable CEP_SERVER_KEY.",
        )
    if parts.scheme not in ("http", "https") or not host or text.split() != [text]:
        raise PriorError(
            f"`{name}` is not a server address, expected http:// or https:// and a host.", _EXAMPLE
        )
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return ServerAddress(f"{parts.scheme}://{parts.netloc}{path}", unquote(parts.fragment) or None)
