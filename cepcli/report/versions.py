"""In what compared runs differ besides: versions of libraries, and τ that follows the cache.

An environment of another version is another world: seeds of one setting that differ in one of the
libraries which play it are not averaged, and settings that do are named where they are compared.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cepcli.errors import ConfigError

#: Libraries that play the environments of a family, by the beginning of their ids.
PLAYED_BY = {
    "babyai": ("minigrid", "gymnasium"),
    "textworld": ("textworld",),
    "alfworld": ("textworld", "alfworld"),
    "webshop": (),
    "halfcheetah": ("mujoco", "gymnasium"),
    "walker2d": ("mujoco", "gymnasium"),
    "ant": ("mujoco", "gymnasium"),
    "metaworld": ("metaworld", "mujoco", "gymnasium"),
}
#: Those that change numbers a little, and no world: named where runs are compared, but pooled.
_NAMED = ("torch",)


def check_seeds(label: str, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to pool runs of one setting that are no seeds of one experiment.

    Args:
        label: of the setting.
        runs: finished ones by name: their summaries, with "versions".

    Raises:
        ConfigError: if two have the same seed, or were played by different versions.
    """
    seeds: dict[int, str] = {}
    for name, summary in runs.items():
        other = seeds.setdefault(summary["seed"], name)
        if other != name:
            raise ConfigError(
                f"`{other}` and `{name}` are both seed {summary['seed']} of `{label}`, which would "
                "count twice.",
                "Leave one of them out.",
            )
    for library in _players(runs.values()):
        found = _by_version(library, runs)
        if len(found) > 1:
            told = ", ".join(f"`{names[0]}` with {version}" for version, names in found.items())
            apart = "; ".join(f"cep runs compare {' '.join(names)}" for names in found.values())
            raise ConfigError(
                f"The seeds of `{label}` were played by different versions of {library}, so they "
                f"are not averaged: {told}.",
                f"Compare them apart: {apart}",
            )


def differences(settings: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """What to say of settings of one environment that were made with different versions.

    Args:
        settings: summaries, with "versions", of each setting by its label.
    """
    of_all = [summary for summaries in settings.values() for summary in summaries]
    notes = []
    for library in (*_players(of_all), *_NAMED):
        found: dict[str, list[str]] = {}
        for label, summaries in settings.items():
            for version in dict.fromkeys(_version(library, summary) for summary in summaries):
                if version is not None:
                    found.setdefault(version, []).append(label)
        if len(found) > 1:
            told = "; ".join(f"{version}: {', '.join(names)}" for version, names in found.items())
            notes.append(f"Not made with the same {library}: {told}.")
    return notes


def _players(summaries: Any) -> tuple[str, ...]:
    """The libraries that play the environments of these runs, and read their datasets."""
    found: dict[str, None] = {}
    for summary in summaries:
        family = (summary["env"] or "").partition("/")[0]
        found |= dict.fromkeys(PLAYED_BY.get(family, ("gymnasium",)))
        if "dataset" in summary:
            found["minari"] = None
    return tuple(found)


def _by_version(library: str, runs: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, summary in runs.items():
        version = _version(library, summary)
        if version is not None:
            found.setdefault(version, []).append(name)
    return found


def _version(library: str, summary: Mapping[str, Any]) -> str | None:
    """None where an earlier cep did not record it."""
    return (summary.get("versions") or {}).get(library)


#: Agents whose τ a schedule gives, and the schedules that follow what a cache answers.
_HAVE_TAU = ("posterior-q", "yan", "hybrid-sac")
_BY_HITS = ("hit-rate", "reliable-hit-rate")


def temperature_note(runs: Iterable[tuple[str, Mapping[str, Any]]]) -> str | None:
    """What there is to say where runs behind different caches have different τ for that reason.

    Args:
        runs: a label and the settings of each; several may have the same label.
    """
    told = [
        (label, settings["posterior"].get("schedule"), settings.get("cache", {}).get("mode"))
        for label, settings in runs
        if settings.get("agent") in _HAVE_TAU and "posterior" in settings
    ]
    follow = list(dict.fromkeys(label for label, schedule, _ in told if schedule in _BY_HITS))
    if not follow or len({mode for _, _, mode in told}) < 2:
        return None
    return (
        f"τ followed the hit rate in {', '.join(follow)}: what differs in its cache differs in τ, "
        "too. Caches alone are compared with --set posterior.schedule=constant."
    )
