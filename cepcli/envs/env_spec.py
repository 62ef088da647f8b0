"""What is registered of an environment: id, family, how it is made, which options it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from cepcli.envs.base import Split, SymbolicEnv
from cepcli.envs.control import ControlEnv, ControlSpec


class Factory(Protocol):
    """Makes an environment; `options` is an instance of the spec's options dataclass."""

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
