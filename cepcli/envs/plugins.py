"""Environments of other packages, by the entry-point group `cep.envs`.

Each entry point is a callable that returns a list of `EnvSpec`. One that fails hides its own
environments, nobody else's: it is kept with its error, which `cep envs list` and `cep doctor` show.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from cepcli.envs.env_spec import EnvSpec
from cepcli.errors import EnvError, in_one_line

GROUP = "cep.envs"


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point of `GROUP`, loaded.

    Attributes:
        name: of the entry point.
        value: what it points at, "package.module:function".
        package: the distribution that declares it; "" if unknown.
        specs: the environments that it adds.
        error: why it adds none, as one sentence; None if it was loaded.
    """

    name: str
    value: str
    package: str
    specs: tuple[EnvSpec, ...] = ()
    error: str | None = None

    @property
    def fix(self) -> str:
        """What to do about its error."""
        package = self.package or "the package that declares it"
        return f"Fix or uninstall {package}."


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
