"""Settings compared over several environments: interquartile means, profiles, improvement.

Runs belong to one setting if their names are the same but for the environment and the seed, as
`walker2d-off_s0` and `ant-off_s1`. Scores of different environments have no common scale, so each
is normalised first: 1 is the mean of a setting that the user names, on the same task, and 0 is 0 or
the mean of another one. The statistics are those of `cepcli.report.statistics`; the means that
normalise are taken as they are, so that the intervals do not speak of their error.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cepcli.errors import ConfigError
from cepcli.registry import suggest
from cepcli.report.comparison import FIGURES, Group, as_json, require_alike, score
from cepcli.report.statistics import (
    Tasks,
    interquartile_mean,
    mean_over_tasks,
    performance_profile,
    probability_of_improvement,
)

#: What runs may be told apart by.
GROUPINGS = ("env", "steps")
#: Scores for which the share of runs above them is told.
ABOVE = (0.5, 0.75, 0.95)


#: The runs of each setting by environment, by the setting's label.
Settings = dict[str, dict[str, Group]]


@dataclass(frozen=True, slots=True)
class Scale:
    """What normalises scores: the settings whose means on a task are 1 and, if named, 0."""

    one: str | None = None
    zero: str | None = None


def groupings(names: str | None) -> list[str]:
    """The keys in a comma list such as `env,steps`; none for None.

    Raises:
        ConfigError: if runs are not told apart by one of them.
    """
    keys = [] if names is None else names.split(",")
    for key in keys:
        if key not in GROUPINGS:
            raise ConfigError(f"Runs are not grouped by `{key}`.", suggest(key, GROUPINGS))
    return keys


def setting_label(label: str, env: str | None) -> str:
    """A run's label without its environment, as `off` for `ant-off`; `default` if that is all."""
    if env is None:
        return label
    for spelt in (env.replace("/", "-"), env.rpartition("/")[2]):
        label = re.sub(rf"(?<![A-Za-z0-9]){re.escape(spelt)}(?![A-Za-z0-9])", "", label)
        label = re.sub(r"([-_.])[-_.]+", r"\1", label).strip("-_.")
    return label or "default"


def grouped(groups: Sequence[Group], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Group]]:
    """The groups apart, by the values of `keys` ("env", "steps") in the order they come.

    A group whose runs differ in one of them is split. An unfinished run that doesn't tell one goes
    with the runs of its own label, or else stands apart.
    """
    parts: dict[tuple[Any, ...], dict[str, Group]] = {}

    def part(label: str, values: tuple[Any, ...]) -> Group:
        return parts.setdefault(values, {}).setdefault(label, Group(label, []))

    for group in groups:
        for summary in group.summaries:
            values = tuple(summary[key] for key in keys)
            part(group.label, values).summaries.append(summary)
        known = next(iter(group.summaries), None)
        for found in group.unfinished:
            told = ((getattr(found, key), known and known[key]) for key in keys)
            values = tuple(other if mine is None else mine for mine, other in told)
            part(group.label, values).unfinished.append(found)
    return {values: list(found.values()) for values, found in parts.items()}


def baseline_of(groups: Sequence[Group], name: str) -> str:
    """The label in one environment of a setting, which may be named with or without that.

    Raises:
        ConfigError: if none of the runs is one.
    """
    labels = {group.label for group in groups}
    if name in labels:
        return name
    for group in groups:
        for env in _envs(group):
            if setting_label(group.label, env) == name:
                return group.label
    known = {setting_label(g.label, env) for g in groups for env in _envs(g)} | labels
    where = ", ".join(sorted({env for group in groups for env in _envs(group)}))
    raise ConfigError(f"None of the runs of {where} is a `{name}`.", suggest(name, known))


def settings_of(groups: Sequence[Group]) -> Settings:
    """The settings among the groups of several environments, with the runs of each.

    Raises:
        ConfigError: if runs of one environment are of several lengths.
    """
    found: Settings = {}
    for (env,), own in grouped(groups, ["env"]).items():
        require_alike(own, own[0])
        for group in own:
            tasks = found.setdefault(setting_label(group.label, env), {})
            if env in tasks:
                raise ConfigError(
                    f"`{tasks[env].label}` and `{group.label}` would be the same setting in {env}.",
                    "Leave one of them out.",
                )
            tasks[env] = group
    return found


def normalised(
    settings: Settings, scale: Scale, by: str | None = None
) -> dict[str, list[list[float]]]:
    """Scores of each setting, a task each and in it a seed each; tasks in one order for all.

    Args:
        settings: of which each must have runs of every task.
        scale: what they are normalised by; nothing is where it names nothing.
        by: the figure that is the score; default: success, or return where nothing can be solved.

    Raises:
        ConfigError: if tasks are several and `scale` names nothing, if a run or a score is missing,
            or a mean that is to be 1 is not above what is to be 0.
    """
    tasks = list(dict.fromkeys(env for own in settings.values() for env in own))
    if len(tasks) > 1 and scale.one is None:
        raise ConfigError(
            f"Scores of {len(tasks)} environments ({', '.join(tasks)}) have no common scale.",
            "Name the setting whose mean on each task shall be 1: --baseline, one of "
            f"{', '.join(settings)}.",
        )
    for name in (scale.one, scale.zero):
        if name is not None and name not in settings:
            raise ConfigError(f"None of the settings is `{name}`.", suggest(name, settings))
    raw = {label: [_scores(label, own, task, by) for task in tasks]
           for label, own in settings.items()}  # fmt: skip
    if scale.one is None:
        return raw
    for number, task in enumerate(tasks):
        one = float(np.mean(raw[scale.one][number]))
        zero = 0.0 if scale.zero is None else float(np.mean(raw[scale.zero][number]))
        if one <= zero:
            lowest = "0" if scale.zero is None else f"the {zero:g} of `{scale.zero}`"
            raise ConfigError(
                f"`{scale.one}` scores {one:g} on {task}, which is not above {lowest}, so it "
                "cannot be the 1 of the scale.",
                "Name a setting with a lower score as 0, as --floor random; or another --baseline.",
            )
        for scores in raw.values():
            scores[number] = [(x - zero) / (one - zero) for x in scores[number]]
    return raw


def aggregated(
    settings: Settings, scale: Scale, by: str | None = None, above: Sequence[float] = ABOVE
) -> list[dict[str, Any]]:
    """A row for each setting, as JSON values; see `normalised` for what is refused.

    Each has "run", its label; "tasks", the number of seeds of each; "unfinished"; "iqm" and "mean";
    "improvement", the probability that a run of it scores higher than one of the baseline (None for
    that itself, and without one); "above", the shares of runs that score above each of `above`.
    """
    scores = normalised(settings, scale, by)
    rows = []
    for label, groups in settings.items():
        own: Tasks = scores[label]
        reference = None if scale.one == label else scores.get(str(scale.one))
        shares = performance_profile(own, above)
        better = None if reference is None else probability_of_improvement(own, reference)
        rows.append(
            {
                "run": label,
                "tasks": {env: len(group.summaries) for env, group in groups.items()},
                "unfinished": [u.progress for group in groups.values() for u in group.unfinished],
                "iqm": as_json(interquartile_mean(own)),
                "mean": as_json(mean_over_tasks(own)),
                "improvement": as_json(better),
                "above": {
                    f"{level:g}": as_json(share) for level, share in zip(above, shares, strict=True)
                },
            }
        )
    return rows


def _scores(label: str, groups: dict[str, Group], task: str, by: str | None) -> list[float]:
    group = groups.get(task, Group(label, []))
    if not group.summaries:
        way = [one.in_words() for one in group.unfinished]
        raise ConfigError(
            f"`{label}` has no finished run of {task}, which other settings have: means over "
            "different tasks cannot be compared.",
            f"{way[0]}." if way else f"Train it, or leave out the runs of {task}.",
        )
    found = []
    for summary in group.summaries:
        if by is not None:
            value = FIGURES[by][1](summary)
        else:
            value = score(summary) if summary["eval"]["episodes"] else None
        if value is None:
            named = "score" if by is None else f"`{by}`"
            raise ConfigError(f"`{summary['run']}` has no {named}.", "Leave it out.")
        found.append(float(value))
    return found


def _envs(group: Group) -> list[str]:
    told = [summary["env"] for summary in group.summaries] + [u.env for u in group.unfinished]
    return sorted({env for env in told if env is not None})
