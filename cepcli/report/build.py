"""A report of runs: what is in their directories as sections of cards, figures and tables."""

from collections.abc import Sequence
from datetime import UTC, datetime

from cepcli.errors import ConfigError
from cepcli.registry import suggest
from cepcli.report.comparison import Group
from cepcli.report.document import Repeat, Report, Section, Table
from cepcli.report.evidence import error_panel, latency_panel, map_panel
from cepcli.report.headlines import cards, compared, uncached
from cepcli.report.over_time import answers_panel, losses_panel, parameters_panel, score_panel
from cepcli.report.saved_runs import SavedRun
from cepcli.report.selection import Scenario, Selection, Setting, Sweep, scenarios, title_of
from cepcli.report.tables import (
    comparison_table,
    differences_table,
    overview_table,
    runs_table,
    sweep_table,
)
from cepcli.report.versions import differences
from cepcli.report.warnings import are_counterparts, group_warnings, run_warnings
from cepcli.version import __version__
from cepcli.workspace.artifacts import Workspace


def build_report(
    selection: Selection, workspace: Workspace, command: str, baseline: str | None = None
) -> Report:
    """Everything a report shows.

    Args:
        selection: the runs.
        workspace: where they are.
        command: that makes the report again.
        baseline: label of the setting that scores are compared with, where it is; by default
            the ablation's, else the one that equals another but for its cache.

    Raises:
        ConfigError: if no setting is called `baseline`.
    """
    found = scenarios(selection.runs)
    _check_baseline(found, baseline)
    named = baseline or next((s.prefix + s.baseline for s in selection.sweeps if s.baseline), None)
    sections, rows = [], []
    for number, scenario in enumerate(found):
        reference = _baseline(scenario, named)
        own = compared(scenario, reference)
        title = title_of(scenario, found)
        rows.append((title, scenario, own))
        sections.append(_section(number, title, scenario, own, reference, workspace))
    return Report(
        title=_title(selection, found),
        command=command,
        made=f"cep {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        notes=[_gone(sweep) for sweep in selection.sweeps if sweep.gone],
        overview=overview_table(rows) if len(sections) > 1 else None,
        sweeps=[sweep_table(sweep) for sweep in selection.sweeps],
        sections=sections,
        runs=runs_table(selection.runs),
    )


def _check_baseline(found: Sequence[Scenario], baseline: str | None) -> None:
    labels = [setting.label for scenario in found for setting in scenario.settings]
    if baseline is not None and baseline not in labels:
        raise ConfigError(f"None of the runs is a `{baseline}`.", suggest(baseline, labels))


def _baseline(scenario: Scenario, named: str | None) -> Setting | None:
    """The setting of that name if it has a result, or the one without a cache."""
    for setting in scenario.settings:
        if setting.label == named and setting.finished:
            return setting
    return uncached(scenario)


def _title(selection: Selection, found: Sequence[Scenario]) -> str:
    if selection.sweeps:
        return ", ".join(f"Ablation {sweep.name}" for sweep in selection.sweeps)
    labels = [setting.label for scenario in found for setting in scenario.settings]
    if len(selection.runs) == 1:
        return selection.runs[0].name
    if len(labels) <= 3:
        return ", ".join(labels)
    envs = dict.fromkeys(scenario.env for scenario in found)
    return f"{len(labels)} settings in {', '.join(envs)}"


def _gone(sweep: Sweep) -> str:
    return (
        f"{len(sweep.gone)} runs of the ablation {sweep.name} are not in this workspace any more: "
        "only its table shows them."
    )


def _section(
    number: int,
    title: str,
    scenario: Scenario,
    rows: dict[str, dict],
    baseline: Setting | None,
    workspace: Workspace,
) -> Section:
    panels = [
        score_panel(scenario), answers_panel(scenario), parameters_panel(scenario),
        error_panel(scenario), latency_panel(scenario), map_panel(scenario, workspace),
        losses_panel(scenario),
    ]  # fmt: skip
    related = any(row.get("score_to_baseline") for row in rows.values())
    tables: list[Table | None] = [
        comparison_table(scenario, rows, baseline.label if baseline is not None else None),
        differences_table(scenario) if len(scenario.settings) > 1 else None,
    ]
    return Section(
        key=f"s{number}",
        title=title,
        subtitle=_subtitle(scenario),
        notes=[*_notes(scenario, baseline, related), *_warnings(scenario, baseline, workspace)],
        cards=cards(scenario, rows, baseline if related else None),
        panels=[panel for panel in panels if panel is not None],
        tables=[table for table in tables if table is not None],
        repeats=[_repeat(run) for run in scenario.runs],
    )


def _subtitle(scenario: Scenario) -> str:
    finished = [s for setting in scenario.settings for s in setting.summaries]
    words = [f"{scenario.steps:,} steps", _count(len(scenario.settings), "setting")]
    words.append(_count(len(scenario.runs), "run"))
    episodes = sorted({s["eval"]["episodes"] for s in finished})
    if any(episodes):
        spread = f"{episodes[0]}–{episodes[-1]}" if len(episodes) > 1 else str(episodes[0])
        words.append(f"scored over {spread} held-out episodes")
    return " · ".join(words)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _notes(scenario: Scenario, baseline: Setting | None, related: bool) -> list[str]:
    notes = [f"{run.name} {_standing(run)}" for run in scenario.runs if not run.finished]
    notes += differences({setting.label: setting.summaries for setting in scenario.settings})
    if baseline is None and len(scenario.settings) > 1:
        notes.append("No retention: there is no baseline. Name one: --baseline SETTING")
    if baseline is not None and not related:
        notes.append(f"No retention against {baseline.label}: not every run here was evaluated.")
    records = [run for run in scenario.runs if run.is_record]
    if records:
        names = records[0].name if len(records) == 1 else f"{len(records)} of these runs"
        kind = "is a record" if len(records) == 1 else "are records"
        notes.append(f"{names} {kind}: settings, result and metrics, without checkpoint and cache.")
    return notes


def _warnings(scenario: Scenario, baseline: Setting | None, workspace: Workspace) -> list[str]:
    """Where the method fails, with the likely cause and what to type next."""
    found = []
    for setting in scenario.settings:
        if not setting.caches or not setting.finished:
            continue
        label = setting.finished[0].name.removesuffix(f"_s{setting.finished[0].seed}")
        group = Group(label, setting.summaries)
        if baseline is not None and are_counterparts(group.summaries, baseline.summaries):
            found += group_warnings(workspace, group, baseline.group)
        else:
            found += [w for run in setting.finished for w in run_warnings(workspace, run.name)]
    return [f"{warning.run}: {warning.in_words()}" for warning in found]


def _standing(run: SavedRun) -> str:
    if run.running:
        return f"is still {run.standing}; what it has logged so far is shown."
    return (
        f"{run.standing}; what it had logged is shown, its score is not counted. "
        f"Resume it: cep runs resume {run.name}"
    )


def _repeat(run: SavedRun) -> Repeat:
    if not run.finished:
        facts = [("state", run.standing)]
        return Repeat(run.name, f"cep runs resume {run.name}", facts, run.settings_text)
    manifest = run.manifest
    facts = [("created", manifest["created"]), ("host", manifest["host"])]
    facts += [("versions", ", ".join(f"{k} {v}" for k, v in manifest["versions"].items()))]
    facts += [(one["kind"], f"{one['name']} (sha256 {one['sha256'][:12]}…)")
              for one in manifest["inputs"]]  # fmt: skip
    return Repeat(run.name, manifest["command"], facts, run.settings_text)
