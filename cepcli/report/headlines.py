"""The cards at the top of a section: score, retention, queries and time saved, the certificate."""

from collections.abc import Callable, Sequence
from typing import Any

from cepcli.report.comparison import FIGURES, comparison, queries_saved, seconds_saved
from cepcli.report.document import Card, CardLine
from cepcli.report.selection import Scenario, Setting

_DASH = "–"
#: With more settings a card names their values alone; intervals are in the table.
_FEW = 3
_MOST = 12

#: A value, and its interval or what it was counted from.
Told = tuple[str, str]
#: Rows of a comparison by the labels of their settings.
Rows = dict[str, dict[str, Any]]


def uncached(scenario: Scenario) -> Setting | None:
    """The setting that another one equals but for its cache; None if it is not a single one."""
    found = [
        setting
        for setting in scenario.settings
        if setting.finished and not setting.caches and setting.asks
        and any(other.caches and _prior(other) == _prior(setting) for other in scenario.settings)
    ]  # fmt: skip
    return found[0] if len(found) == 1 else None


def _prior(setting: Setting) -> tuple[Any, Any]:
    """Agent and prior."""
    summary = setting.runs[0].summary or setting.runs[0].config
    return summary.get("agent"), summary.get("prior")


def compared(scenario: Scenario, baseline: Setting | None) -> Rows:
    """The row of each setting with a finished run, by its label."""
    settings = [setting for setting in scenario.settings if setting.finished]
    if not settings:
        return {}
    related = baseline is not None and all(
        summary["eval"]["episodes"] for setting in settings for summary in setting.summaries
    )
    name = baseline.label if baseline is not None and related else None
    return {row["run"]: row for row in comparison([s.group for s in settings], name)}


def cards(scenario: Scenario, rows: Rows, baseline: Setting | None) -> list[Card]:
    """All cards of a section; those that no setting has anything to say to are left out."""
    score = "success" if scenario.solvable else "return"
    asking = [setting for setting in scenario.settings if setting.asks]
    found = [
        _card("Held-out success" if scenario.solvable else "Held-out return", scenario.settings,
              lambda setting: _score(setting, rows, score)),
        _retention_card(scenario, rows, baseline, score),
        _card("Queries saved", asking, lambda setting: _queries(setting, rows)),
        _card("LLM time saved", asking, _seconds),
        _card("Certificate", [s for s in scenario.settings if s.caches], _certificate),
    ]  # fmt: skip
    return [card for card in found if card is not None]


def _card(
    title: str, settings: Sequence[Setting], tell: Callable[[Setting], Told | None]
) -> Card | None:
    told = [(setting, found) for setting in settings if (found := tell(setting)) is not None]
    if not told:
        return None
    lines = [
        CardLine(setting.label, setting.colour, setting.number, *found)
        for setting, found in told[:_MOST]
    ]
    more = len(told) - len(lines)
    note = f"and {more} more in the table below" if more else ""
    return Card(title, lines, compact=len(told) > _FEW, note=note)


def _retention_card(
    scenario: Scenario, rows: Rows, baseline: Setting | None, score: str
) -> Card | None:
    """What is kept of the baseline's score; how to have it told, where caches are without one."""
    if baseline is None:
        caching = [setting for setting in scenario.settings if setting.caches]
        hint = "Report on the same agent without a cache, too, or name a --baseline."
        return _card("Retention", caching[:1], lambda setting: (_DASH, hint))
    others = [setting for setting in scenario.settings if setting is not baseline]
    title = f"Retention against {baseline.label}"
    return _card(title, others, lambda setting: _retention(setting, rows, baseline, score))


def interval(estimate: dict[str, Any], seeds: int, form: str, factor: float = 1.0) -> str:
    """The 95 % interval, or the range of two seeds, and the number of seeds, in words."""
    count = "1 seed" if seeds == 1 else f"{seeds} seeds"
    if estimate["low"] is None:
        return f"{count}, no interval"
    low, high = (format(factor * estimate[end], form) for end in ("low", "high"))
    kind = {"range": "range", "episodes": "95% interval over episodes"}
    return f"{count}, {kind.get(estimate['interval'], '95% interval')} [{low}, {high}]"


def _score(setting: Setting, rows: Rows, score: str) -> Told:
    row = rows.get(setting.label)
    if row is None:
        return _DASH, ", ".join(run.standing for run in setting.runs)
    if row[score] is None:
        return _DASH, "was evaluated in no environment"
    form = FIGURES[score][2] if score == "success" else ",.4g"
    value = row[score]["mean"]
    text = format(value, form) if score == "success" else number(value)
    return text, interval(row[score], row["seeds"], form)


def number(value: float) -> str:
    """A return with as many digits as say something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _retention(setting: Setting, rows: Rows, baseline: Setting, score: str) -> Told | None:
    """Score over the baseline's; where that is not above 0, by how much it is higher."""
    row, reference = rows.get(setting.label), rows.get(baseline.label)
    if row is None or reference is None or row.get("score_to_baseline") is None:
        return None
    found, base = row["score_to_baseline"], reference[score]["mean"]
    seeds = min(row["seeds"], reference["seeds"])
    if base > 0:
        ends = {key: found[key] for key in ("mean", "low", "high")}
        shifted: dict[str, Any] = {k: None if v is None else 1.0 + v for k, v in ends.items()}
        shifted["interval"] = found["interval"]
        return f"{shifted['mean']:.0%}", interval(shifted, seeds, ".0%")
    detail = f"of a return of {number(base)}, which has no ratio; "
    return f"{found['mean']:+.0%}", detail + interval(found, seeds, "+.0%")


def _queries(setting: Setting, rows: Rows) -> Told | None:
    row = rows.get(setting.label)
    if row is None:
        return None
    saved = [queries_saved(summary) for summary in setting.summaries]
    sent = sum(s["queries"]["total"] for s in setting.summaries)
    hits = sum(s["hits"]["exact"] + s["hits"]["semantic"] for s in setting.summaries)
    return f"{sum(saved) / len(saved):.0%}", f"{sent:,} queries for {sent + hits:,} decisions"


def _seconds(setting: Setting) -> Told | None:
    if not setting.summaries:
        return None
    saved = sum(map(seconds_saved, setting.summaries))
    spent = sum(s["llm_seconds_recorded"] for s in setting.summaries)
    return duration(saved), f"of {duration(saved + spent)} that asking every time would take"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}" if seconds < 10 * size else (
                f"{seconds / size:.0f} {unit}"
            )  # fmt: skip
    return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{seconds:.0f} s"


def _certificate(setting: Setting) -> Told | None:
    """What is promised about semantic hits, over the seeds."""
    found = [s["certificate"] for s in setting.summaries if s.get("certificate")]
    if not found:
        return None
    asked = (
        f"at most {found[0]['alpha']:.0%} of semantic hits over {found[0]['kappa']:g} nats, "
        f"confidence {found[0]['confidence']:.0%}"
    )
    proven = [one for one in found if one["threshold"] is not None]
    if not proven:
        return "no proof", f"only the same text answers; asked for: {asked}"
    deltas = sorted({f"{one['threshold']:g}" for one in proven})
    value = f"δ {deltas[0]}" if len(deltas) == 1 else f"δ {deltas[0]} … {deltas[-1]}"
    audits = sum(one["audits"] for one in proven)
    failures = sum(one["failures"] for one in proven)
    seen = f"seen {failures / audits:.1%} of {audits:,} audits" if audits else "no hit audited yet"
    seeds = "" if len(found) == 1 else f", proven in {len(proven)} of {len(found)} seeds"
    return value, f"{asked}; {seen}{seeds}"
