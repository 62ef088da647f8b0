"""Ablations: variants of one training run, declared as data, each played with several seeds.

Every run is an ordinary run of the workspace, made by `cep train --resume` in a process of its own;
so a sweep that was killed goes on where it stopped, and each of its runs can be looked at.

Example: cep ablate cache
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import tomli_w

from cepcli.agents.config import TrainConfig
from cepcli.artifacts import Artifact, Workspace, write_json, writing
from cepcli.config import build, merge
from cepcli.errors import CepError, ConfigError
from cepcli.registry import suggest
from cepcli.report.comparison import FIGURES, Group, estimated, load_groups, score
from cepcli.report.curves import plot_tradeoff


@dataclass(frozen=True, slots=True)
class Ablation:
    """A table of variants.

    Attributes:
        name: what `cep ablate` calls it.
        question: what it answers, in one line.
        base: configuration that all variants share, as nested plain values.
        variants: by name, the configuration on top of it.
        baseline: the variant that retention is measured against.
        figures: keys of `FIGURES` to show.
    """

    name: str
    question: str
    base: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    baseline: str
    figures: tuple[str, ...] = field(
        default=(
            "success",
            "queries_per_decision",
            "latency_ms",
            "latency_p95_ms",
            "audit_kl",
            "overhead",
        )
    )

    def config(self, variant: str, **changes: Any) -> dict[str, Any]:
        """One variant's configuration as nested plain values, checked."""
        values = merge(merge(self.base, self.variants[variant]), changes)
        build(TrainConfig, values)
        return values


#: τ is the same for all, since it would follow the hit rate otherwise; more hits than usual are
#: audited, so that their KL is known.
_CACHE_BASE = {
    "env": "babyai/goto-redball",
    "prior": "goto-redball",
    "steps": 300,
    "eval_interval": 300,
    "eval_episodes": 1,
    "final_eval_episodes": 30,
    "checkpoint_interval": 100,
    "posterior": {"schedule": "constant", "temperature": 0.3},
    "cache": {"refresh_rate": 0.1},
}
#: What a semantic cache is without learning: raw sentence embeddings, a goal at a time.
_RAW_KEYS = {"encoder": "minilm", "focus": False, "per_goal": True, "learn_head": False}

ABLATIONS = {
    ablation.name: ablation
    for ablation in (
        Ablation(
            name="cache",
            question="What does each way of caching cost, and what does it keep?",
            base=_CACHE_BASE,
            variants={
                "off": {"cache": {"mode": "off"}},
                "exact": {"cache": {"mode": "exact"}},
                "lru": {"cache": {"mode": "lru"}},
                "lru-raw-keys": {"cache": {"mode": "lru", **_RAW_KEYS}},
                "fifo": {"cache": {"mode": "fifo"}},
                "surrogate": {"cache": {"mode": "surrogate"}},
                "surrogate-tighten": {
                    "cache": {"mode": "surrogate", "surrogate": {"td_error_sign": "tighten"}}
                },
                "certified": {"cache": {"mode": "certified"}},
                "certified-tau-hits": {
                    "cache": {"mode": "certified"},
                    "posterior": {"schedule": "hit-rate"},
                },
                "certified-tau-reliable": {
                    "cache": {"mode": "certified"},
                    "posterior": {"schedule": "reliable-hit-rate"},
                },
            },
            baseline="off",
        ),
    )
}


class Job(NamedTuple):
    """One run of a sweep."""

    variant: str
    seed: int
    run: str
    config: dict[str, Any]


def ablation_named(name: str) -> Ablation:
    """The ablation `name`.

    Raises:
        ConfigError: if there is none.
    """
    if name not in ABLATIONS:
        raise ConfigError(f"There is no ablation `{name}`.", suggest(name, ABLATIONS))
    return ABLATIONS[name]


def plan(
    ablation: Ablation, seeds: Sequence[int], changes: Mapping[str, Any] | None = None
) -> list[Job]:
    """All runs of a sweep, one seed of every variant before the next seed."""
    jobs = []
    for seed in seeds:
        for variant in ablation.variants:
            config = ablation.config(variant, **(changes or {}), seed=seed)
            env = config["env"].rpartition("/")[2]
            label = f"ablate-{ablation.name}-{env}-{config['steps']}-{variant}"
            jobs.append(Job(variant, seed, f"{label}_s{seed}", config))
    return jobs


def waiting(jobs: Sequence[Job], workspace: Workspace) -> list[Job]:
    """The jobs whose run is not finished."""
    return [job for job in jobs if not workspace.exists("run", job.run)]


def run_jobs(
    jobs: Sequence[Job],
    workspace: Workspace,
    parallel: int,
    on_done: Callable[[Job, int], None] = lambda job, done: None,
) -> None:
    """Make the runs, `parallel` at a time, one thread each.

    Raises:
        CepError: what the first run that failed said; the others are finished or can be resumed.
    """
    with ThreadPoolExecutor(parallel) as pool:
        waits = {pool.submit(_run, job, workspace): job for job in jobs}
        try:
            for done, future in enumerate(as_completed(waits), 1):
                future.result()
                on_done(waits[future], done)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def groups_of(jobs: Sequence[Job], workspace: Workspace) -> list[Group]:
    """The finished runs of each variant, in the order of the variants."""
    by_variant: dict[str, list[str]] = {}
    for job in jobs:
        by_variant.setdefault(job.variant, []).append(job.run)
    groups = []
    for variant, runs in by_variant.items():
        [group] = load_groups(workspace, runs)
        groups.append(Group(variant, group.summaries))
    return groups


def table(ablation: Ablation, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """One row per variant: figures with 95 % intervals, and retention against the baseline.

    Retention is the score of each seed over that of the baseline with the same seed.
    """
    [baseline] = [group for group in groups if group.label == ablation.baseline]
    reference = {s["seed"]: score(s) for s in baseline.summaries}
    rows = []
    for group in groups:
        row: dict[str, Any] = {"variant": group.label, "seeds": len(group.summaries)}
        for key in ablation.figures:
            row[key] = estimated(group.values(key))
        row["retention"] = estimated(
            [score(s) / reference[s["seed"]] for s in group.summaries if reference.get(s["seed"])]
        )
        rows.append(row)
    return rows


def run_rows(ablation: Ablation, groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    """One row per run, for a data file."""
    for group in groups:
        for summary in group.summaries:
            figures = {key: FIGURES[key][1](summary) for key in ablation.figures}
            yield {
                "variant": group.label, "seed": summary["seed"], "run": summary["run"], **figures
            }  # fmt: skip


def store(
    ablation: Ablation,
    jobs: Sequence[Job],
    groups: Sequence[Group],
    rows: Sequence[dict[str, Any]],
    workspace: Workspace,
) -> Artifact:
    """The result as an artifact: a row per run (parquet), the table (JSON), the picture (PNG)."""
    import pyarrow as pa
    from pyarrow import parquet

    with workspace.lock("ablation", ablation.name):
        folder = workspace.begin("ablation", ablation.name, overwrite=True)
        with writing(workspace.root):
            base = {key: value for key, value in jobs[0].config.items() if key != "seed"}
            (folder / "config.toml").write_text(tomli_w.dumps(base), encoding="utf-8")
            write_json(folder / "summary.json", {"ablation": ablation.name, "rows": list(rows)})
            data = pa.Table.from_pylist(list(run_rows(ablation, groups)))
            parquet.write_table(data, folder / "runs.parquet")
            plot_tradeoff(groups, folder / "tradeoff.png")
        runs = [workspace.open("run", job.run).reference for job in jobs]
        return workspace.finish("ablation", ablation.name, seed=None, inputs=runs)


def _run(job: Job, workspace: Workspace) -> None:
    folder = workspace.root / "ablation" / ".configs"
    with writing(workspace.root):
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{job.run}.toml"
        file.write_text(tomli_w.dumps(job.config), encoding="utf-8")
    name = job.run.removesuffix(f"_s{job.seed}")
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "cepcli", "train", "--config", str(file), "--name", name,
         "--workspace", str(workspace.root), "--resume", "--quiet", "--json"],
        env={**os.environ, **threads}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise CepError(
            f"The run `{job.run}` stopped with exit code {done.returncode}: "
            f"{' '.join(said[-2:]) or 'it said nothing'}",
            "Type the same command again to go on with what is missing.",
        )
