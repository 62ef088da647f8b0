"""Runs on disk that no training has made: what a report reads of them, and no more."""

import json

from cepcli.workspace.artifacts import write_json


def summary(name, seed, score, *, env="e", steps=100, cache="lru", queries=50, prior="p"):
    return {
        "run": f"{name}_s{seed}", "env": env, "agent": "posterior-q", "prior": prior,
        "cache": cache, "steps": steps, "seed": seed, "decisions": 100, "wall_seconds": 9.0,
        "queries": {"total": queries}, "hits": {"exact": 30, "semantic": 20},
        "llm_seconds_recorded": 25.0, "latency_ms": {"p50": 1.0, "p95": 2.0},
        "audited": {"kl_mean": None},
        "eval": {
            "episodes": 4, "success_rate": score, "return_mean": score,
            "curve": [[0, 0.0], [steps // 2, score], [steps, score]],
            "return_curve": [[0, 0.0], [steps // 2, score], [steps, score]],
        },
    }  # fmt: skip


def finished(space, name, seed, score, *, rows=(), settings="", **about):
    """A finished run."""
    found = summary(name, seed, score, **about)
    path = space.begin("run", found["run"])
    config = f'env = "{found["env"]}"\nsteps = {found["steps"]}\nseed = {seed}\n{settings}'
    (path / "config.toml").write_text(config)
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(path / "summary.json", found)
    space.finish("run", found["run"], seed=seed)
    return found


def died(space, name, seed, *, step=40, steps=100, env="e"):
    """A run that was killed while it wrote a row."""
    path = space.begin("run", f"{name}_s{seed}")
    (path / "config.toml").write_text(f'env = "{env}"\nsteps = {steps}\nseed = {seed}\n')
    (path / "metrics.jsonl").write_text(f'{{"step": {step}, "a": 1}}\n{{"step": {step + 1}, "a')
