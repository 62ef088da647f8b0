"""The reference of every command and setting, docs/commands.md, made from the code.

Example: scripts/command-reference
"""

import dataclasses
import importlib
import itertools
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any

import typer

#: Commands by the configuration that their `--set` fills, as "module:class".
SETTINGS: dict[str, tuple[str, ...]] = {
    "cepcli.agents.config:TrainConfig": ("cep train", "cep ablate", "cep bench sb3"),
    "cepcli.annotate.build:AnnotateConfig": (
        "cep annotate auto", "cep annotate serve", "cep annotate terminal",
    ),
    "cepcli.keys.config:AbstractionConfig": ("cep abstract train",),
    "cepcli.prior.config:FinetuneConfig": ("cep prior finetune",),
    "cepcli.prior.config:PriorConfig": ("cep prior score", "cep prior eval"),
    "cepcli.datasets.demonstrations:DemosConfig": ("cep prior demos",),
    "cepcli.agents.offline_config:OfflineConfig": (
        "cep offline cql", "cep offline cql-prior", "cep offline bc", "cep offline iql",
        "cep offline td3-bc",
    ),
    "cepcli.datasets.collect:CollectConfig": ("cep offline collect",),
    "cepcli.datasets.labelling:LabelConfig": ("cep offline label",),
    "cepcli.cache.config:CacheConfig": ("cep cache replay", "cep cache warm"),
    "cepcli.keys.config:HeadConfig": ("cep cache train-head", "cep bench keys"),
}  # fmt: skip

_INTRODUCTION = """\
# Commands

Made by `scripts/command-reference` from the commands themselves; edit their help, not this page.
Which command to use when is told in the [guides](../README.md#documentation). Every command has
`--help`.

Exit codes: 0 success; 2 an error that you can fix, explained in one sentence; 1 a bug in cep;
130 Ctrl-C, 143 SIGTERM, 129 SIGHUP, each with the work so far kept and the command that resumes it.
"""
_SETTINGS = """\
## Settings

What `--set KEY=VALUE` and `--config FILE.toml` may set. A section's keys are written `section.key`,
in TOML under `[section]`. A key that does not exist is an error that names the nearest one.
"""
_ENV_OPTIONS = """\
## Options of environments

`--set env_options.KEY=VALUE`, or the section `[env_options]`. An environment that is not here has
none.
"""


def commands(group: Any, words: tuple[str, ...] = ("cep",)) -> Iterator[tuple[str, Any]]:
    """Every command below `group` by its words, in the order in which help lists them."""
    for name, command in group.commands.items():
        if getattr(command, "commands", None):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def markdown() -> str:
    """The whole page."""
    from cepcli.cli.main import app

    found = dict(commands(typer.main.get_command(app)))
    pages = [_INTRODUCTION, _index(found), *itertools.starmap(_command, found.items()), _SETTINGS]
    pages += [_settings(where, names) for where, names in SETTINGS.items()]
    pages += [_ENV_OPTIONS, *_env_options()]
    return "\n".join(pages)


def _index(found: dict[str, Any]) -> str:
    """A table of all commands with the first sentence of their help."""
    lines = ["| command | what it does |", "| --- | --- |"]
    for name, command in found.items():
        sentence = re.split(r"(?<=[.;])\s", _line(command.help))[0].rstrip(".;")
        lines.append(f"| [`{name}`](#{name.replace(' ', '-')}) | {sentence} |")
    return "\n".join([*lines, ""])


def _command(name: str, command: Any) -> str:
    """One command: what it does, its arguments and its options."""
    lines = [f"## {name}", "", _line(command.help), ""]
    usage = [f"`{name}"]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            shown = _shown(parameter)
            usage.append(shown if parameter.required else f"[{shown}]")
    lines += [" ".join([*usage, "[OPTIONS]`"]), ""]
    lines += ["| | default | |", "| --- | --- | --- |"]
    for parameter in command.params:
        lines.append(f"| `{_names(parameter)}` | {_default(parameter)} | {_line(parameter.help)} |")
    return "\n".join([*lines, ""])


def _shown(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper()
    return f"{name}…" if parameter.nargs == -1 else name


def _names(parameter: Any) -> str:
    """An argument's name, or an option as it is typed."""
    if parameter.param_type_name == "argument":
        return _shown(parameter)
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {_value(parameter)}"


def _value(parameter: Any) -> str:
    """What follows an option."""
    return (parameter.metavar or parameter.name.strip("_").replace("_", "-")).upper()


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required:
        return "required"
    if value is None or value is False or callable(value):
        return ""
    return f"`{value}`"


def _settings(where: str, names: tuple[str, ...]) -> str:
    """The keys of a configuration, of its sections, too."""
    module, _, name = where.partition(":")
    return _table_of(name, names, getattr(importlib.import_module(module), name))


def _env_options() -> Iterator[str]:
    """The options of cep's own environments, alike ones together."""
    from cepcli.envs.catalog import env_ids, spec

    found: dict[type, list[str]] = {}
    for env_id in env_ids():
        options = spec(env_id).options
        if options.__module__.startswith("cepcli.") and dataclasses.fields(options):
            found.setdefault(options, []).append(env_id)
    return (_table_of(options.__name__, ids, options) for options, ids in found.items())


def _table_of(name: str, users: Iterable[str], config: type) -> str:
    """The keys of a configuration, and where they hold."""
    of = ", ".join(f"`{user}`" for user in users)
    lines = [f"### {name}", "", f"Of {of}.", "", "| key | default | |", "| --- | --- | --- |"]
    lines += [f"| `{key}` | {value} | {text} |" for key, value, text in keys(config)]
    return "\n".join([*lines, ""])


def keys(config: type, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Key, default and help of every field of a configuration, those of sections after it."""
    hints = typing.get_type_hints(config)
    for each in dataclasses.fields(config):
        hint = hints[each.name]
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            yield from keys(hint, f"{prefix}{each.name}.")
            continue
        text = _line(each.metadata.get("help", ""))
        choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
        if choices and not all(str(choice) in text for choice in choices):
            text = f"{text}; {', '.join(map(str, choices))}"
        yield prefix + each.name, _plain(each), text


def _plain(each: dataclasses.Field[Any]) -> str:
    """A field's default as it would be typed."""
    if each.default_factory is not dataclasses.MISSING:
        value = each.default_factory()
    elif each.default is dataclasses.MISSING:
        return "required"
    else:
        value = each.default
    if value is None or value == {}:
        return ""
    if isinstance(value, tuple):
        value = list(value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _line(text: str | None) -> str:
    """A help text on one line, for a cell of a table: no bars, and no tags outside of code."""
    parts = " ".join((text or "").split()).replace("|", "\\|").split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


if __name__ == "__main__":
    print(markdown(), end="")
