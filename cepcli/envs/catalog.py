"""Every environment by its id. Importing this loads no simulator.

Other packages add families through the entry-point group `cep.envs`: each entry point is a callable
that returns a list of `EnvSpec`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol

from cepcli.config import build, to_dict
from cepcli.envs import (
    alfworld,
    babyai,
    metaworld_specs,
    mujoco_specs,
    textworld_games,
    textworld_make,
)
from cepcli.envs.base import Split, SymbolicEnv
from cepcli.envs.control import ControlEnv, ControlSpec
from cepcli.envs.control_options import MetaWorldOptions, MujocoOptions
from cepcli.envs.webshop_options import WebShopOptions, settled
from cepcli.errors import EnvError
from cepcli.registry import suggest

GROUP = "cep.envs"


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
    """

    id: str
    family: str
    summary: str
    factory: Factory
    options: type
    check_options: Mapping[str, Any] = field(default_factory=dict)
    control: ControlSpec | None = None
    settle: Callable[[Any], Any] | None = None

    @property
    def kind(self) -> Literal["text", "control"]:
        """Which contract the environment keeps."""
        return "text" if self.control is None else "control"


_BABYAI = {
    "goto-redball": "go to the red ball, among distractors",
    "goto-local": "go to a named object in one room",
    "goto-obj": "go to the only object in the room",
    "goto-door": "go to a door of a named colour",
    "pickup-loc": "pick up an object named by where it is",
    "open-door": "open a door named by colour or place",
    "put-next-local": "put one object next to another",
    "unlock": "find the key and open a locked door, in a maze of rooms",
}
_TEXTWORLD: dict[str, tuple[str, type]] = {
    "coin": ("walk to the coin, past dead ends", textworld_make.CoinOptions),
    "treasure": ("find one of two objects; the other loses", textworld_make.TreasureOptions),
    "cooking": ("read a recipe, prepare it, eat", textworld_make.CookingOptions),
    "simple": ("find the food and put it on the stove", textworld_make.SimpleOptions),
    "custom": ("a generated quest of chosen length", textworld_make.CustomOptions),
}
_ALFWORLD = {
    "alfworld": "household tasks of six kinds, in turn",
    "alfworld/pick": "find a thing and put it somewhere",
    "alfworld/look": "find a thing and look at it under a lamp",
    "alfworld/clean": "find a thing, clean it, put it somewhere",
    "alfworld/heat": "find a thing, heat it, put it somewhere",
    "alfworld/cool": "find a thing, cool it, put it somewhere",
    "alfworld/pick-two": "find two things of a kind and put them in one place",
}
_METAWORLD = (
    "reach", "push", "pick-place", "door-open", "drawer-open", "button-press", "window-open",
)  # fmt: skip


def make_env(
    env_id: str,
    *,
    split: Split = "train",
    workspace: Path,
    options: dict[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> SymbolicEnv:
    """The environment `env_id`, not yet reset.

    Args:
        env_id: a registered id, or `babyai/NAME` for any installed BabyAI level.
        split: which instances it draws; those of the two splits are disjoint.
        workspace: where generated games are kept.
        options: fields of the family's options dataclass.
        progress: told in one line about anything that takes seconds.

    Raises:
        EnvError: if there is no such environment, or it cannot be made.
        ConfigError: on an unknown option or a value that does not fit.
    """
    made = _make(spec(env_id), "text", split, workspace, options or {}, progress)
    assert isinstance(made, SymbolicEnv), made
    return made


def make_control_env(
    env_id: str, *, split: Split = "train", options: dict[str, Any] | None = None
) -> ControlEnv:
    """The control environment `env_id`, not yet reset.

    Args:
        env_id: halfcheetah, walker2d, ant, or `metaworld/NAME` for any of its tasks.
        split: which instances it draws; those of the two splits are disjoint.
        options: fields of the family's options dataclass.

    Raises:
        EnvError: if there is no such environment, or it cannot be made.
        ConfigError: on an unknown option or a value that does not fit.
    """
    made = _make(spec(env_id), "control", split, Path(), options or {}, None)
    assert isinstance(made, ControlEnv), made
    return made


def control_spec(env_id: str) -> ControlSpec:
    """What is known of a control environment; loads no simulator.

    Raises:
        EnvError: if there is no such environment, or it is one of text.
    """
    found = spec(env_id)
    _require_kind(found, "control")
    assert found.control is not None
    return found.control


def control_ids(name: str) -> tuple[str, ...]:
    """The control environment of that name, or all that are listed of the family of that name.

    Raises:
        EnvError: if there is neither.
    """
    found = _specs().items()
    family = sorted(id_ for id_, one in found if one.family == name and one.kind == "control")
    return tuple(family) or (control_spec(name).id,)


def _make(
    found: EnvSpec,
    kind: str,
    split: Split,
    workspace: Path,
    options: dict[str, Any],
    progress: Callable[[str], None] | None,
) -> SymbolicEnv | ControlEnv:
    if split not in ("train", "heldout"):
        raise EnvError(f"`split` is {split!r}, expected train or heldout.")
    _require_kind(found, kind)
    return found.factory(found.id, split, workspace, build(found.options, options), progress)


def _require_kind(found: EnvSpec, kind: str) -> None:
    if found.kind != kind:
        expected = "an environment of text" if kind == "text" else "one of continuous control"
        agents = {"text": "posterior-q or another agent of text", "control": "sac or hybrid-sac"}
        raise EnvError(
            f"`{found.id}` is of kind {found.kind}, expected {expected}.",
            f"An environment of {found.kind} takes --agent {agents[found.kind]}; "
            "cep envs list shows the others.",
        )


def full_options(env_id: str, options: dict[str, Any]) -> dict[str, Any]:
    """`options` with all that they leave out, so that a record of them is complete.

    That is the defaults, and what a run would else take from environment variables again when it
    is resumed or evaluated.

    Raises:
        EnvError: if there is no such environment.
        ConfigError: on an unknown option or a value that does not fit.
    """
    found = spec(env_id)
    built = build(found.options, options)
    return to_dict(found.settle(built) if found.settle else built)


def env_ids() -> list[str]:
    """The listed ids, sorted."""
    return sorted(_specs())


def spec(env_id: str) -> EnvSpec:
    """The spec of an id, of `babyai/NAME` for any installed level too.

    Raises:
        EnvError: if there is none; the hint names the nearest id.
    """
    known = _specs()
    if env_id in known:
        return known[env_id]
    candidates = set(known)
    family, _, name = env_id.partition("/")
    if family == "babyai":
        level = babyai.find_level(name)
        if level is not None:
            full = f"babyai/{level}"
            return known.get(full) or _babyai_spec(level, f"the level {babyai.levels()[level]}")
        candidates |= {f"babyai/{other}" for other in babyai.levels()}
    if family == "metaworld":
        name = name.removesuffix("-v3")
        if name in metaworld_specs.TASKS:
            return known.get(f"metaworld/{name}") or _metaworld_spec(name)
        candidates |= {f"metaworld/{other}" for other in metaworld_specs.TASKS}
    raise EnvError(f"Environment `{env_id}` doesn't exist.", suggest(env_id, candidates))


@cache
def _specs() -> dict[str, EnvSpec]:
    """Every listed environment by id; found once, for looking into installed packages takes ms."""
    specs = [_babyai_spec(name, summary) for name, summary in _BABYAI.items()]
    specs += [_textworld_spec(name, *entry) for name, entry in _TEXTWORLD.items()]
    specs.append(_webshop_spec())
    specs += [_alfworld_spec(env_id, summary) for env_id, summary in _ALFWORLD.items()]
    specs += [_mujoco_spec(each) for each in mujoco_specs.SPECS.values()]
    specs += [_metaworld_spec(name) for name in _METAWORLD]
    known = {s.id: s for s in specs}
    for point in metadata.entry_points(group=GROUP):
        for third_party in _load(point):
            if third_party.id in known:
                raise EnvError(
                    f"The entry point `{point.name}` ({point.value}) registers `{third_party.id}`, "
                    "which exists already.",
                    "Rename it, or uninstall the package.",
                )
            known[third_party.id] = third_party
    return known


def _load(point: metadata.EntryPoint) -> list[EnvSpec]:
    """The specs of an entry point. Whatever its code raises is its author's to hear of."""
    try:
        specs = point.load()()
    except Exception as error:
        raise EnvError(
            f"The entry point `{point.name}` ({point.value}) of the group `{GROUP}` failed: "
            f"{type(error).__name__}: {error}",
            "Fix or uninstall the package that declares it.",
        ) from error
    if not isinstance(specs, list) or not all(isinstance(s, EnvSpec) for s in specs):
        raise EnvError(
            f"The entry point `{point.name}` ({point.value}) of the group `{GROUP}` returned "
            f"{specs!r}, expected a list of EnvSpec.",
            "Fix or uninstall the package that declares it.",
        )
    return specs


def _babyai_spec(name: str, summary: str) -> EnvSpec:
    return EnvSpec(f"babyai/{name}", "babyai", summary, babyai.make_babyai, babyai.BabyAIOptions)


def _textworld_spec(name: str, summary: str, options: type) -> EnvSpec:
    return EnvSpec(
        f"textworld/{name}",
        "textworld",
        summary,
        textworld_games.make_textworld,
        options,
        {"games": 1, "heldout_games": 1},
    )


def _webshop_spec() -> EnvSpec:
    return EnvSpec(
        "webshop",
        "webshop",
        "search a shop, choose a product and its options, buy it",
        _make_webshop,
        WebShopOptions,
        settle=settled,
    )


def _alfworld_spec(env_id: str, summary: str) -> EnvSpec:
    return EnvSpec(
        env_id,
        "alfworld",
        summary,
        alfworld.make_alfworld,
        alfworld.AlfworldOptions,
        {"source": "household", "games": 6, "heldout_games": 6},
    )


def _mujoco_spec(known: ControlSpec) -> EnvSpec:
    return EnvSpec(
        known.id, known.family, known.summary, _make_mujoco, MujocoOptions, control=known
    )


def _metaworld_spec(name: str) -> EnvSpec:
    known = metaworld_specs.spec(name)
    return EnvSpec(
        known.id, known.family, known.summary, _make_metaworld, MetaWorldOptions, control=known
    )


def _make_webshop(
    env_id: str,
    split: Split,
    workspace: Path,
    options: WebShopOptions,
    progress: Callable[[str], None] | None,
) -> SymbolicEnv:
    from cepcli.envs.webshop import make_webshop

    return make_webshop(env_id, split, workspace, options, progress)


def _make_mujoco(
    env_id: str, split: Split, workspace: Path, options: MujocoOptions, progress: object
) -> ControlEnv:
    from cepcli.envs.mujoco import MujocoControl

    return MujocoControl(env_id, split)


def _make_metaworld(
    env_id: str, split: Split, workspace: Path, options: MetaWorldOptions, progress: object
) -> ControlEnv:
    from cepcli.envs.metaworld import MetaWorldControl

    return MetaWorldControl(env_id.partition("/")[2], split, options)
