"""Every environment by its id. Importing this loads no simulator.

Other packages add families through the entry-point group `cep.envs`, see `cepcli.envs.plugins`.
They are loaded where an id is asked for that is none of ours, or all are listed.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cepcli.config import build, to_dict
from cepcli.envs import babyai
from cepcli.envs.alfworld import env as alfworld
from cepcli.envs.base import Split, SymbolicEnv
from cepcli.envs.boundary import asking, guarded
from cepcli.envs.control import ControlEnv, ControlSpec
from cepcli.envs.control_options import MetaWorldOptions, MujocoOptions
from cepcli.envs.env_spec import EnvSpec
from cepcli.envs.metaworld import specs as metaworld_specs
from cepcli.envs.mujoco import specs as mujoco_specs
from cepcli.envs.plugins import GROUP, Plugin, load_plugins
from cepcli.envs.textworld import env as textworld_games
from cepcli.envs.textworld import make as textworld_make
from cepcli.envs.webshop.options import WebShopOptions, settled
from cepcli.errors import EnvError
from cepcli.extras import require_extra
from cepcli.registry import suggest

__all__ = [
    "GROUP", "EnvSpec", "control_ids", "control_spec", "env_ids", "full_options",
    "make_control_env", "make_env", "plugins", "spec",
]  # fmt: skip

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
    found = spec(env_id)
    made = _make(found, "text", split, workspace, options or {}, progress)
    if not isinstance(made, SymbolicEnv):
        raise _made_something_else(found, made, "SymbolicEnv")
    return guarded(made, found.id)


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
    found = spec(env_id)
    made = _make(found, "control", split, Path(), options or {}, None)
    if not isinstance(made, ControlEnv):
        raise _made_something_else(found, made, "ControlEnv")
    return guarded(made, found.id)


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
) -> Any:
    if split not in ("train", "heldout"):
        raise EnvError(f"`split` is {split!r}, expected train or heldout.")
    _require_kind(found, kind)
    if found.extra is not None:
        require_extra(found.extra, f"`{found.id}`")
    with asking(found.id, "its factory"):
        built = build(found.options, options)
        return found.factory(found.id, split, workspace, built, progress)


def _made_something_else(found: EnvSpec, made: object, expected: str) -> EnvError:
    return EnvError(
        f"The factory of `{found.id}` returned {type(made).__name__}, expected a {expected}.",
        "See cepcli/envs/base.py and cepcli/envs/control.py.",
    )


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
        return _metaworld_spec(name) if name in metaworld_specs.TASKS else None
    return None


def _unknown(env_id: str) -> EnvError:
    """Names the nearest id, and what else could have registered it."""
    candidates, family = set(_specs()), env_id.partition("/")[0]
    if family == "babyai":
        candidates |= {f"babyai/{other}" for other in babyai.levels()}
    if family == "metaworld":
        candidates |= {f"metaworld/{other}" for other in metaworld_specs.TASKS}
    said = f"Environment `{env_id}` doesn't exist."
    broken = [plugin for plugin in plugins() if plugin.error is not None]
    if not broken:
        return EnvError(said, suggest(env_id, candidates))
    told = " ".join(str(plugin.error) for plugin in broken)
    return EnvError(
        f"{said} A package that could have it cannot be used: {told}",
        " ".join([suggest(env_id, candidates), *(plugin.fix for plugin in broken)]),
    )


@cache
def _ours() -> dict[str, EnvSpec]:
    """The listed environments that come with cep, by id."""
    specs = [_babyai_spec(name, summary) for name, summary in _BABYAI.items()]
    specs += [_textworld_spec(name, *entry) for name, entry in _TEXTWORLD.items()]
    specs.append(_webshop_spec())
    specs += [_alfworld_spec(env_id, summary) for env_id, summary in _ALFWORLD.items()]
    specs += [_mujoco_spec(each) for each in mujoco_specs.SPECS.values()]
    specs += [_metaworld_spec(name) for name in _METAWORLD]
    return {s.id: s for s in specs}


@cache
def plugins() -> list[Plugin]:
    """What other packages add, and which of them are broken; loaded once."""
    return load_plugins(_ours())


def _specs() -> dict[str, EnvSpec]:
    """Every listed environment by id."""
    return {**_ours(), **{spec.id: spec for plugin in plugins() for spec in plugin.specs}}


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
        extra="textworld",
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
        extra="alfworld",
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
    from cepcli.envs.webshop.env import make_webshop

    return make_webshop(env_id, split, workspace, options, progress)


def _make_mujoco(
    env_id: str, split: Split, workspace: Path, options: MujocoOptions, progress: object
) -> ControlEnv:
    from cepcli.envs.mujoco.env import MujocoControl

    return MujocoControl(env_id, split)


def _make_metaworld(
    env_id: str, split: Split, workspace: Path, options: MetaWorldOptions, progress: object
) -> ControlEnv:
    from cepcli.envs.metaworld.env import MetaWorldControl

    return MetaWorldControl(env_id.partition("/")[2], split, options)
