"""What is registered of an environment, and what other packages register.

Packages add environments by the entry-point group `cep.envs`. Each entry point is a callable that
returns a list of `EnvSpec`. One that fails hides its own environments, nobody else's: its error is
what `cep envs list` and `cep doctor` show.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol

from cepcli.envs.base import Split, SymbolicEnv
from cepcli.envs.control import ControlEnv, ControlSpec
from cepcli.errors import EnvError, in_one_line

GROUP = "cep.envs"


class Factory(Protocol):
    """Makes an environment, such as its class; `options` is an instance of the spec's options."""

    def __call__(
        self,
        env_id: str,
        split: Split,
        workspace: Path,
        options: Any,
        progress: Callable[[str], None] | None,
    ) -> SymbolicEnv | ControlEnv:
        """The environment `env_id`, not yet reset."""
        ...


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """A registered environment.

    Attributes:
        id: what the user types, "family/name".
        family: names the prompt template and the cache namespace.
        summary: one line for `cep envs list`.
        factory: makes the environment.
        options: the frozen dataclass that `make_env(options=...)` fills; every field has a default.
        check_options: options that make a contract check quick.
        control: what is known of a `ControlEnv` without making it; None of a `SymbolicEnv`.
        settle: the options with what they leave to the user's environment variables filled in.
        extra: the extra of cep that the environment needs (see `cepcli.extras`), or None.
    """

    id: str
    family: str
    summary: str
    factory: Factory
    options: type
    check_options: Mapping[str, Any] = field(default_factory=dict)
    control: ControlSpec | None = None
    settle: Callable[[Any], Any] | None = None
    extra: str | None = None

    @property
    def kind(self) -> Literal["text", "control"]:
        """Which contract the environment keeps."""
        return "text" if self.control is None else "control"


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point of `GROUP`, loaded."""

    name: str  # of the entry point
    value: str  # what it points at, "package.module:function"
    package: str  # the distribution that declares it; "" if unknown
    specs: tuple[EnvSpec, ...] = ()  # the environments that it adds
    error: str | None = None  # why it adds none, as one sentence; None if it was loaded

    @property
    def fix(self) -> str:
        """What to do about its error."""
        return f"Fix or uninstall {self.package or 'the package that declares it'}."


def load_plugins(known: Mapping[str, EnvSpec]) -> list[Plugin]:
    """Every entry point of `GROUP`, in the order of their names.

    Args:
        known: the environments that there are without them, whose ids nobody may take.
    """
    taken, plugins = set(known), []
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda one: one.name):
        package = point.dist.name if point.dist is not None else ""
        try:
            specs = _load(point, taken)
        except EnvError as error:
            plugins.append(Plugin(point.name, point.value, package, error=error.message))
        else:
            taken |= {spec.id for spec in specs}
            plugins.append(Plugin(point.name, point.value, package, tuple(specs)))
    return plugins


def _load(point: metadata.EntryPoint, taken: set[str]) -> list[EnvSpec]:
    """The environments of an entry point; whatever its code raises or ends is an EnvError."""
    where = f"The entry point `{point.name}` ({point.value}) of the group `{GROUP}`"
    try:
        specs = point.load()()
        _check(specs, taken, where)
        return specs
    except EnvError:
        raise
    except (Exception, SystemExit) as error:  # another author's code
        raise EnvError(f"{where} failed: {in_one_line(error)}.") from error


def _check(specs: object, taken: set[str], where: str) -> None:
    """Refuse what is no list of environments that have ids of their own."""
    if not isinstance(specs, list) or not all(isinstance(one, EnvSpec) for one in specs):
        raise EnvError(f"{where} returned {specs!r:.200}, expected a list of EnvSpec.")
    seen = set(taken)
    for spec in specs:
        if not isinstance(spec.id, str) or not spec.id:
            raise EnvError(f"{where} registers the id {spec.id!r}, expected a non-empty string.")
        if spec.id in seen:
            raise EnvError(f"{where} registers `{spec.id}`, which exists already.")
        seen.add(spec.id)
