"""What the live display watches for while a run trains: see `cepcli.report.warnings`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cepcli.report.warnings import RunWarning
    from cepcli.runs.online import OnlineRun
    from cepcli.runs.run import Progress
    from cepcli.workspace.artifacts import Workspace

_APART = 25  # decisions between the rows that are kept, at first
_MOST_ROWS = 256


class LiveWarnings:
    """Gathers rows and evaluations of a run, and judges them.

    Args:
        run: its name.
        workspace: where it trains, and where the same run without a cache may be.
    """

    def __init__(self, run: str, workspace: "Workspace") -> None:
        self._run = run
        self._workspace = workspace
        self._rows: list[dict[str, Any]] = []
        self._apart = _APART
        self._curves: dict[str, list[list[Any]]] = {"curve": [], "return_curve": []}
        self._uncached: dict[str, Any] | None = None
        self._sought = False

    def evaluated(self, step: int, summary: dict[str, Any]) -> None:
        """An evaluation has ended."""
        self._curves["curve"].append([step, summary["success_rate"]])
        self._curves["return_curve"].append([step, summary["return_mean"]])

    def judge(self, parts: "OnlineRun", progress: "Progress") -> "list[RunWarning]":
        """What there is to warn of now."""
        from cepcli.config import to_dict
        from cepcli.report.advice import Subject, as_typed
        from cepcli.report.warnings import LEAST, WARM_UP, answer_warnings, performance_warning

        if parts.cache is None or parts.cache.config.mode == "off":
            return []
        self._keep(parts.prior_metrics(), parts.telemetry.decisions)
        if progress.decisions < WARM_UP + LEAST:
            return []
        mode = parts.cache.config.mode
        # where it lies once the run has ended, which is when the next command is typed
        config = as_typed(self._workspace.directory("run", self._run) / "config.toml")
        subject = Subject(self._run, mode, self._rows, to_dict(parts.config), config)
        found = answer_warnings(subject)
        uncached = self._until(progress.step, mode)
        if uncached is not None and self._curves["curve"]:
            lost = performance_warning(
                self._run, [self._so_far(parts, mode)], [uncached], config
            )  # fmt: skip
            found += [lost] if lost else []
        return found

    def _keep(self, row: dict[str, Any], decisions: int) -> None:
        """Add a row in place of the last one, unless that is far enough from the one before."""
        row["decisions"] = decisions
        if len(self._rows) > 1 and decisions - self._rows[-2]["decisions"] < self._apart:
            self._rows.pop()
        self._rows.append(row)
        if len(self._rows) > _MOST_ROWS:
            self._apart *= 2
            self._rows = [*self._rows[:-1:2], row]

    def _so_far(self, parts: "OnlineRun", mode: str) -> dict[str, Any]:
        """The part of a run's summary by which its score is judged."""
        config, (_, success) = parts.config, self._curves["curve"][-1]
        return {
            "run": self._run, "env": config.env, "agent": config.agent, "prior": config.prior,
            "cache": mode, "seed": config.seed, "steps": config.steps,
            "eval": {"success_rate": success, **self._curves},
        }  # fmt: skip

    def _until(self, step: int, mode: str) -> dict[str, Any] | None:
        """The same run without a cache, as it stood after as many steps; None without one."""
        from cepcli.report.warnings import uncached_of

        if not self._sought:
            self._sought = True
            self._uncached = uncached_of(self._workspace, self._run, mode)
        if self._uncached is None:
            return None
        evaluation = self._uncached["eval"]
        curves = {
            name: [point for point in evaluation[name] if point[0] <= step]
            for name in self._curves
        }  # fmt: skip
        return {**self._uncached, "eval": {**evaluation, **curves}}
