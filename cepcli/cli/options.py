"""Options that several commands share, each declared once, alone or in a group.

A group is a dataclass of options. A command that takes a group as a parameter gets an option for
each of its fields: `CommandGroup.command` puts them into the command's signature.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typing_extensions import override

from cepcli.cli import output

if TYPE_CHECKING:
    from cepcli.listener import Advance, Listener
    from cepcli.workspace.artifacts import Workspace

T = TypeVar("T")

RunsArgument = Annotated[
    list[str], typer.Argument(metavar="RUN…", help="Names, or patterns such as 'walker2d-*_s?'.")
]
TraceArgument = Annotated[
    str, typer.Argument(help="A run that was trained with --trace, or the path of a trace.")
]
EnvOption = Annotated[str, typer.Option("--env", help="Environment id; see `cep envs list`.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of every random stream.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a configuration key; repeatable."),
]
EnvOptionsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set an environment option; repeatable."),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or cuda:N; default cpu.")
]
InsecureOption = Annotated[
    bool,
    typer.Option("--insecure", help="Send CEP_SERVER_KEY to another machine over plain HTTP."),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace an existing one of the same name.")
]
OverwriteRunOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace a run of the same name, finished or not.")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Continue an interrupted run of the same name.")
]
WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", help="Artifact directory; default $CEP_HOME or ./artifacts."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, on the last line.")
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only the result, no progress.")
]


@dataclass(frozen=True)
class ReadOptions:
    """Options of a command that looks something up."""

    workspace: WorkspaceOption = None
    json: JsonOption = False

    @property
    def space(self) -> "Workspace":
        """The workspace that `--workspace` names, or the default one."""
        return output.open_workspace(self.workspace)


@dataclass(frozen=True)
class WorkOptions(ReadOptions):
    """Options of a command that may take long and shows progress."""

    quiet: QuietOption = False

    def notify(self, text: str) -> None:
        """Say on stderr what is being done, unless it is to be quiet."""
        output.note(text, quiet=self.quiet)

    def progress(self, title: str, total: int) -> "AbstractContextManager[Advance]":
        """A progress bar on stderr; see `output.progress_bar`."""
        return output.progress_bar(title, total, self.quiet)

    @property
    def listener(self) -> "Listener":
        """What functions below the command line call while they work."""
        from cepcli.listener import Listener

        return Listener(self.notify, self.progress, self.before_model)

    def before_model(self, model: str | None) -> None:
        """Ask about the terms of a model and announce a download; see `models.before_first_use`."""
        from cepcli.cli.models import before_first_use

        before_first_use(model, self.quiet)


@dataclass(frozen=True)
class SettingsOptions:
    """A configuration, from a file and from the command line."""

    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with configuration keys.")
    ] = None
    set_: SetOption = None

    def given(self, flags: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What the user has set; see `cepcli.config.given`."""
        from cepcli.config import given

        return given(file=self.config, overrides=self.set_ or [], flags=flags)

    def resolve(self, cls: type[T], flags: Mapping[str, Any], **presets: Any) -> T:
        """The configuration `cls`; see `cepcli.config.resolve`."""
        from cepcli.config import resolve

        return resolve(cls, file=self.config, overrides=self.set_ or [], flags=flags, **presets)


@dataclass(frozen=True)
class SeriesOptions:
    """How runs that differ in the seed alone are named and started."""

    seeds: Annotated[int, typer.Option(min=1, help="Number of runs, with consecutive seeds.")] = 1
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the run, followed by _s<seed>.")
    ] = None
    resume: ResumeOption = False
    overwrite: OverwriteRunOption = False


@dataclass(frozen=True)
class LLMOptions:
    """How an LLM is asked."""

    no_journal: Annotated[
        bool,
        typer.Option("--no-journal", help="Ask the LLM even where the journal has its answer."),
    ] = False
    insecure: InsecureOption = False

    def flags(self, prefix: str = "llm.") -> dict[str, Any]:
        """The same as configuration keys, those of the LLM below `prefix`."""
        return {
            "journal": False if self.no_journal else None,
            f"{prefix}server.insecure": self.insecure or None,
        }


class CommandGroup(typer.Typer):
    """A group of commands whose parameters may be groups of options."""

    @override
    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        register = super().command(name, **settings)
        return lambda command: register(with_groups(command))


def with_groups(command: Callable[..., T]) -> Callable[..., T]:
    """`command` with the fields of its groups of options as parameters of its own."""
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        group = parameter.annotation
        if not dataclasses.is_dataclass(group):
            parameters.append(parameter)
            continue
        assert isinstance(group, type)
        groups[parameter.name] = group
        parameters += inspect.signature(group).parameters.values()
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]

    @functools.wraps(command)
    def run(**typed: Any) -> T:
        for name, group in groups.items():
            fields = {f.name for f in dataclasses.fields(group)} & {*typed}
            typed[name] = group(**{field: typed.pop(field) for field in fields})
        return command(**typed)

    run.__annotations__ = {p.name: p.annotation for p in parameters}
    vars(run)["__signature__"] = inspect.Signature(parameters)
    return run


def env_options(overrides: list[str] | None) -> dict[str, Any]:
    """Options of an environment by `--set KEY=VALUE`, or `env_options.KEY` as `cep train` has it.

    Unknown options are refused where they are used.
    """
    from cepcli.config import given

    found = given(overrides=overrides or [])
    section = found.pop("env_options", {})
    return {**found, **(section if isinstance(section, dict) else {"env_options": section})}
