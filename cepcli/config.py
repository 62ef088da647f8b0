"""Configuration: frozen dataclasses, filled from defaults, a TOML file, `--set a.b=value`, flags.

Later sources win, but no key may be set both by a flag and by `--set`, or twice. Unknown keys are
errors that name the nearest known one.
"""

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import typing_extensions

from cepcli.errors import ConfigError
from cepcli.registry import suggest
from cepcli.whole_files import write_whole

T = TypeVar("T")


def resolve(
    cls: type[T],
    *,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    preset_key: str = "",
) -> T:
    """Build a `cls` from its defaults, `file`, `--set` overrides and flags (None = not given).

    `presets[value of preset_key]` lies under all of them and over the defaults.

    Raises:
        ConfigError: on an unknown key, a value of the wrong type, an unreadable file, or a key that
            both an override and a flag set.
    """
    values = given(file=file, overrides=overrides, flags=flags)
    if presets is not None:
        default = cls.__dataclass_fields__[preset_key].default  # type: ignore[attr-defined]
        values = merge(presets.get(values.get(preset_key, default), {}), values)
    return build(cls, values)


def given(
    *,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the user has set, as nested plain values; see `resolve`."""
    values: dict[str, Any] = read_toml(file) if file else {}
    flags = {key: value for key, value in (flags or {}).items() if value is not None}
    flagged = {key: f"its flag as {value!r}" for key, value in flags.items()}
    seen: dict[str, str] = {}
    for override in overrides:
        key = _assign(values, override)
        for other, how in (flagged | seen).items():
            if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."):
                raise ConfigError(
                    f"`{other}` is given twice, by `--set {override}` and by {how}.",
                    "Keep one of the two.",
                )
        seen[key] = f"`--set {override}`"
    for key, value in flags.items():
        _put(values, key.split("."), value)
    return values


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """A `cls` (a dataclass, possibly of dataclasses) from plain nested values."""
    hints = typing.get_type_hints(cls)
    unknown = [key for key in values if key not in hints]
    if unknown:
        key = where + unknown[0]
        raise ConfigError(
            f"Configuration key `{key}` doesn't exist.",
            suggest(key, [where + known for known in hints]),
        )
    return cls(**{k: _convert(v, hints[k], where + k) for k, v in values.items()})


def to_dict(config: Any) -> dict[str, Any]:
    """The full nested configuration without its Nones (TOML has none; absent means None)."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
            return {k: plain(v) for k, v in pairs if v is not None}
        if isinstance(value, tuple):
            return [plain(v) for v in value]
        return dict(value) if isinstance(value, Mapping) else value

    return plain(config)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        ConfigError: if it cannot be read or parsed.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read configuration `{path}`: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"`{path}` is not valid TOML: {error}.") from error


def write_toml(path: Path, config: Any) -> None:
    """Write a configuration dataclass as TOML."""
    import tomli_w

    write_whole(path, tomli_w.dumps(to_dict(config)))


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `under`, section by section."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merge(below, value)
        merged[key] = value
    return merged


def _assign(values: dict[str, Any], override: str) -> str:
    """Put one `key=value` into `values`; returns the key."""
    key, separator, text = override.partition("=")
    key = key.strip()
    if not separator or not key:
        raise ConfigError(
            f"`--set {override}` is not of the form key=value.", "Try --set steps=500"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    _put(values, key.split("."), value)
    return key


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *parents, last = path
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"`{parent}` is a value, not a section: `{'.'.join(path)}`.")
        values = inner
    values[last] = value


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type `hint`, or an error that names the place."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return _convert_union(value, typing.get_args(hint), where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"`{where}` is a section, not a value: {value!r}.")
        return build(hint, value, where + ".")
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return _convert_literal(value, typing.get_args(hint), where)
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_convert(item, typing.get_args(hint)[0], where) for item in items)
    if origin is dict or hint is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"`{where}` is a section, not a value: {value!r}.")
        return dict(value)
    return _convert_scalar(value, hint, where)


def _convert_union(value: Any, options: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in options:
        return None
    first = next(option for option in options if option is not type(None))
    return _convert(value, first, where)


def _convert_literal(value: Any, options: tuple[Any, ...], where: str) -> Any:
    if value not in options:
        raise ConfigError(
            f"`{where}` is {value!r}, expected one of {', '.join(map(str, options))}.",
            suggest(str(value), map(str, options)),
        )
    return value


def _convert_scalar(value: Any, hint: type, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"`{where}` is {value!r}, expected a value of type {hint.__name__}.")
    return value


def refuse_idle(typed: Mapping[str, Any], idle: Mapping[str, str]) -> None:
    """Refuse what was typed but counts for nothing beside the rest.

    Args:
        typed: nested plain values.
        idle: why, by key or by section, as "section.key".

    Raises:
        ConfigError: naming the first such key.
    """
    for key in _leaves(typed):
        parts = key.split(".")
        for end in range(len(parts), 0, -1):
            why = idle.get(".".join(parts[:end]))
            if why is not None:
                raise ConfigError(f"`{key}` has no effect here: {why}.", "Leave it out.")


def _leaves(values: Mapping[str, Any], where: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{where}{key}.")
        else:
            yield where + key


class Range(NamedTuple):
    """Which numbers a setting may have; infinity and NaN are in no range."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def allows(self, value: float) -> bool:
        """Whether a value is in the range."""
        above = self.low < value if self.low_open else self.low <= value
        below = value < self.high if self.high_open else value <= self.high
        return above and below and math.isfinite(value)

    @typing_extensions.override
    def __str__(self) -> str:
        if self == FINITE:
            return "a finite number"
        if self.high == math.inf:
            return f"{'>' if self.low_open else '≥'} {self.low:g}"
        ends = "(" if self.low_open else "[", ")" if self.high_open else "]"
        return f"in {ends[0]}{self.low:g}, {self.high:g}{ends[1]}"


FINITE = Range()
AT_LEAST_ONE = Range(1)
POSITIVE = Range(0, low_open=True)
NOT_NEGATIVE = Range(0)
SHARE = Range(0, 1)
POSITIVE_SHARE = Range(0, 1, low_open=True)
BELOW_ONE = Range(0, 1, high_open=True)


def setting(default: T, help: str, bounds: Range | None = None, **more: float) -> T:
    """A field of a configuration dataclass: its default, its help, and which numbers it may have.

    The help ends with the bounds. A dataclass that is a `Settings` checks them; None is allowed.
    `more` goes into the metadata.
    """
    metadata: dict[str, Any] = {"help": help, **more}
    if bounds is not None:
        metadata["bounds"] = bounds
    if bounds not in (None, FINITE):
        metadata["help"] += f"{';' if ':' in help else ','} {bounds}"
    field: Any = dataclasses.field(default=default, metadata=metadata)
    return field


class Settings:
    """A configuration, or a section of one, whose fields are checked when it is made."""

    __slots__ = ()
    #: What stands before a field's name in messages, as "sac.".
    SECTION = ""

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value is out of bounds."""
        check_bounds(self)


def check_bounds(config: Any) -> None:
    """Check every field that was made by `setting` with bounds; None is always allowed.

    Raises:
        ConfigError: naming the first that is out of bounds.
    """
    for each in dataclasses.fields(config):
        bounds, value = each.metadata.get("bounds"), getattr(config, each.name)
        if bounds is not None and value is not None and not bounds.allows(value):
            expected = f"a finite number {bounds}" if value == math.inf else bounds
            raise ConfigError(f"{config.SECTION}{each.name} is {value}, expected {expected}.")


def require(condition: bool, message: str, hint: str = "") -> None:
    """Raise a `ConfigError` with `message` unless `condition`; for `__post_init__` checks."""
    if not condition:
        raise ConfigError(message, hint)
