"""Key encoders by name."""

from collections.abc import Callable

from cepcli.errors import ConfigError
from cepcli.keys.encoder import MINILM, MiniLM, TextEncoder
from cepcli.keys.hashing import HashEncoder
from cepcli.keys.static import StaticEncoder, ensure_static
from cepcli.registry import suggest

Notify = Callable[[str], None]


def _minilm(device: str, notify: Notify) -> TextEncoder:
    if not MINILM.is_ready():
        notify("Fetching the text encoder MiniLM, once")
    return MiniLM(device)


def _static(device: str, notify: Notify) -> TextEncoder:
    return StaticEncoder(ensure_static(notify))


def _hash(device: str, notify: Notify) -> TextEncoder:
    return HashEncoder()


_MAKERS: dict[str, Callable[[str, Notify], TextEncoder]] = {
    "minilm": _minilm,
    "static": _static,
    "hash": _hash,
}


def make_encoder(name: str, device: str = "cpu", notify: Notify = lambda text: None) -> TextEncoder:
    """The text encoder `name`, one of `EncoderName`; says through `notify` what is done once.

    Args:
        name: minilm, static (distilled from it, a mean over tokens) or hash (no model).
        device: where MiniLM runs; the other two need none.
        notify: told when something is fetched or distilled first.

    Raises:
        ConfigError: if there is no such encoder.
        PriorError: if its model cannot be had or is damaged.
    """
    if name not in _MAKERS:
        raise ConfigError(f"There is no text encoder `{name}`.", suggest(name, _MAKERS))
    return _MAKERS[name](device, notify)
