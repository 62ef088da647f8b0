"""Every environment by its id. Importing this loads no simulator.

A new environment is an `EnvSpec` in `_ours`. Other packages add theirs through the entry-point
group `cep.envs` (see `cepcli.envs.registration`), and are loaded where an id is asked for that is
none of ours, or all are listed.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from cepcli.config import build, to_dict
from cepcli.envs import babyai, metaworld, mujoco
from cepcli.envs.alfworld.env import AlfworldEnv, AlfworldOptions
from cepcli.envs.base import Split, SymbolicEnv
from cepcli.envs.boundary import asking, guarded
from cepcli.envs.control import ControlEnv, ControlSpec
from cepcli.envs.registration import GROUP, EnvSpec, Factory, Plugin, load_plugins
from cepcli.envs.textworld import make as textworld
from cepcli.envs.textworld.env import TextWorldEnv
from cepcli.envs.webshop.env import WebShopEnv
from cepcli.envs.webshop.shop import WebShopOptions, settled
from cepcli.errors import EnvError
from cepcli.extras import require_extra
from cepcli.registry import suggest

__all__ = [
    "GROUP", "EnvSpec", "control_ids", "control_spec", "env_ids", "full_options",
    "make_control_env", "make_env", "plugins", "spec",
]  # fmt: skip

_Env = TypeVar("_Env", SymbolicEnv, ControlEnv)

_TEXTWORLD = {
    "coin": ("walk to the coin, past dead ends", textworld.CoinOptions),
    "treasure": ("find one of two objects; the other loses", textworld.TreasureOptions),
    "cooking": ("read a recipe, prepare it, eat", textworld.CookingOptions),
    "simple": ("find the food and put it on the stove", textworld.SimpleOptions),
    "custom": ("a generated quest of chosen length", textworld.CustomOptions),
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
    return _make(spec(env_id), SymbolicEnv, split, workspace, options, progress)


def make_control_env(
    env_id: str, *, split: Split = "train", options: dict[str, Any] | None = None
) -> ControlEnv:
    """The control environment `env_id`, `metaworld/NAME` for any task too; see `make_env`."""
    return _make(spec(env_id), ControlEnv, split, Path(), options, None)


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
    contract: type[_Env],
    split: Split,
    workspace: Path,
    options: dict[str, Any] | None,
    progress: Callable[[str], None] | None,
) -> _Env:
    if split not in ("train", "heldout"):
        raise EnvError(f"`split` is {split!r}, expected train or heldout.")
    _require_kind(found, "text" if contract is SymbolicEnv else "control")
    if found.extra is not None:
        require_extra(found.extra, f"`{found.id}`")
    with asking(found.id, "its factory"):
        built = build(found.options, options or {})
        made = found.factory(found.id, split, workspace, built, progress)
    if not isinstance(made, contract):
        raise EnvError(
            f"The factory of `{found.id}` returned {type(made).__name__}, "
            f"expected a {contract.__name__}.",
            "See cepcli/envs/base.py and cepcli/envs/control.py.",
        )
    return guarded(made, found.id)


def _require_kind(found: EnvSpec, kind: str) -> None:
    if found.kind != kind:
        names = {"text": "a text environment", "control": "an environment of continuous control"}
        agents = {"text": "posterior-q or another text agent", "control": "sac or hybrid-sac"}
        raise EnvError(
            f"`{found.id}` is {names[found.kind]}, expected {names[kind]}.",
            f"It takes --agent {agents[found.kind]}; see the others: cep envs list",
        )


def full_options(env_id: str, options: dict[str, Any]) -> dict[str, Any]:
    """`options` with defaults and values of environment variables, for the record of a run.

    Raises:
        EnvError: if there is no such environment.
        ConfigError: on an unknown option or a value that does not fit.
    """
    found = spec(env_id)
    with asking(found.id, "its options"):
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
    for listed in (_ours, _specs):  # nobody's package is loaded for one of ours
        known = listed()
        if env_id in known:
            return known[env_id]
        unlisted = _unlisted(env_id)
        if unlisted is not None:
            return known.get(unlisted.id, unlisted)
    raise _unknown(env_id)


def _unlisted(env_id: str) -> EnvSpec | None:
    """The spec of an installed BabyAI level or Meta-World task by any of its names."""
    family, _, name = env_id.partition("/")
    if family == "babyai":
        level = babyai.find_level(name)
        if level is not None:
            return _babyai_spec(level, f"the level {babyai.levels()[level]}")
    if family == "metaworld":
        name = name.removesuffix("-v3")
        return _metaworld_spec(name) if name in metaworld.TASKS else None
    return None


def _unknown(env_id: str) -> EnvError:
    """Names the nearest id, and what else could have registered it."""
    candidates, family = set(_specs()), env_id.partition("/")[0]
    if family == "babyai":
        candidates |= {f"babyai/{other}" for other in babyai.levels()}
    if family == "metaworld":
        candidates |= {f"metaworld/{other}" for other in metaworld.TASKS}
    message = f"Environment `{env_id}` doesn't exist."
    broken = [plugin for plugin in plugins() if plugin.error is not None]
    if not broken:
        return EnvError(message, suggest(env_id, candidates))
    told = " ".join(str(plugin.error) for plugin in broken)
    return EnvError(
        f"{message} A package that may provide it failed to load: {told}",
        " ".join([suggest(env_id, candidates), *(plugin.fix for plugin in broken)]),
    )


@cache
def _ours() -> dict[str, EnvSpec]:
    """The listed environments that come with cep, by id."""
    specs = [
        *(_babyai_spec(name, summary) for name, (_, summary) in babyai.LEVELS.items()),
        *(
            EnvSpec(
                f"textworld/{name}", "textworld", summary, TextWorldEnv, options,
                check_options={"games": 1, "heldout_games": 1}, extra="textworld",
            )
            for name, (summary, options) in _TEXTWORLD.items()
        ),
        EnvSpec(
            "webshop", "webshop", "search a shop, choose a product and its options, buy it",
            WebShopEnv, WebShopOptions, settle=settled,
        ),
        *(
            EnvSpec(
                env_id, "alfworld", summary, AlfworldEnv, AlfworldOptions, extra="alfworld",
                check_options={"source": "household", "games": 6, "heldout_games": 6},
            )
            for env_id, summary in _ALFWORLD.items()
        ),
        *(
            _control_spec(known, mujoco.MujocoControl, mujoco.MujocoOptions)
            for known in mujoco.SPECS.values()
        ),
        *map(_metaworld_spec, _METAWORLD),
    ]  # fmt: skip
    return {one.id: one for one in specs}


def _babyai_spec(name: str, summary: str) -> EnvSpec:
    return EnvSpec(f"babyai/{name}", "babyai", summary, babyai.BabyAIEnv, babyai.BabyAIOptions)


def _metaworld_spec(name: str) -> EnvSpec:
    known = metaworld.spec(name)
    return _control_spec(known, metaworld.MetaWorldControl, metaworld.MetaWorldOptions)


def _control_spec(known: ControlSpec, factory: Factory, options: type) -> EnvSpec:
    return EnvSpec(known.id, known.family, known.summary, factory, options, control=known)


@cache
def plugins() -> list[Plugin]:
    """What other packages add, and which of them are broken; loaded once."""
    return load_plugins(_ours())


def _specs() -> dict[str, EnvSpec]:
    """Every listed environment by id."""
    return {**_ours(), **{spec.id: spec for plugin in plugins() for spec in plugin.specs}}
