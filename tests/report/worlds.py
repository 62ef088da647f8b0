"""Runs as their directories would be, written in milliseconds: what a report reads, and no more."""

import json

import numpy as np

from cepcli.workspace.artifacts import Input, write_json

GRID = {"kappa": 0.5, "alpha": 0.1, "confidence": 0.95}


def make_run(
    space, name, seed=0, *, env="babyai/goto-local", steps=400, cache="certified", prior="llm",
    level=0.9, returns=None, dies_at=None, record=False, compared=60, command=None, inputs=(),
    **settings,
):  # fmt: skip
    """A run `name`_s`seed` of `space`, finished or dead, with its checkpoint unless a record.

    `returns` is the last return where nothing can be solved; `level` is the last success elsewhere.
    """
    run = f"{name}_s{seed}"
    path = space.begin("run", run, overwrite=True)
    config = {"env": env, "agent": "posterior-q", "prior": prior, "steps": steps, "seed": seed}
    config |= {"env_options": {}, "cache": {"mode": cache}, **settings}
    (path / "config.toml").write_text(as_toml(config))
    rng = np.random.default_rng(seed + 7)
    rows, counts = metrics(rng, steps, cache, prior, level, returns, dies_at or steps)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (path / "metrics.jsonl").write_text(text + ('{"step": 9' if dies_at else ""))
    if not record:
        checkpoint(path, dies_at or 400, rng, counts, compared if cache == "certified" else 0)
    if dies_at:
        return run
    write_json(path / "summary.json", summary(run, config, rows, counts, level, returns))
    space.finish("run", run, seed=seed, inputs=inputs)
    manifest = json.loads((space.directory("run", run) / "manifest.json").read_text())
    manifest["command"] = command or f"cep train --env {env} --cache {cache} --seed {seed}"
    if record:
        manifest["record_of"] = "0" * 64
    write_json(space.directory("run", run) / "manifest.json", manifest)
    return run


def as_toml(config):
    import tomli_w

    return tomli_w.dumps(config)


def metrics(rng, steps, cache, prior, level, returns, last):
    """Rows every twentieth of the steps, and an evaluation every quarter."""
    rows, counts = [], dict.fromkeys(("exact", "semantic", "audit", "miss"), 0)
    stride = steps // 20
    for step in range(0, last + 1, stride):
        progress = step / steps
        if step:
            shares = [0.0, 0.0, 0.0, 1.0] if cache == "off" else [
                0.3, 0.55 * progress, 0.05 * progress, 0.7 - 0.6 * progress
            ]  # fmt: skip
            asked = 0 if prior == "uniform" else stride
            drawn = rng.multinomial(asked, shares)
            for kind, count in zip(counts, drawn, strict=True):
                counts[kind] += int(count)
            rows.append(training_row(step, progress, counts, cache, level, returns))
        if step % (steps // 4) == 0:
            reached = level * (0.3 + 0.7 * progress) + 0.03 * rng.normal()
            told = {"eval/success_rate": float(np.clip(reached, 0, 1))}
            if returns is not None:
                told = {}
            mean = (returns if returns is not None else reached) * (0.2 + 0.8 * progress)
            rows.append({"step": step, **told, "eval/return_mean": float(mean)})
    return rows, counts


def training_row(step, progress, counts, cache, level, returns):
    hits = counts["exact"] + counts["semantic"]
    row = {
        "step": step, "train/return_mean": (returns or 1.0) * progress,
        "train/episodes": step // 20,
        "posterior/temperature": 0.8 * float(np.exp(-2 * progress)),
        "prior/queries": counts["miss"] + counts["audit"], "train/td_loss": 1.0 / (1 + step),
        "cache/hit_rate": hits / max(sum(counts.values()), 1),
        "cache/hits_exact": counts["exact"], "cache/hits_semantic": counts["semantic"],
    }  # fmt: skip
    if returns is None:
        row["train/success_rate"] = level * progress
    if cache != "off":
        row |= {
            "cache/entries": counts["miss"], "cache/capacity": 10000,
            "cache/threshold": None if progress < 0.3 else 0.98 - 0.04 * progress,
            "cache/refresh_rate": 0.5 - 0.4 * progress, "cache/audits": counts["audit"],
        }  # fmt: skip
    return row


def checkpoint(path, step, rng, counts, compared):
    """What `telemetry.npz` of a checkpoint keeps."""
    folder = path / f"checkpoint-{step:08d}"
    folder.mkdir()
    decisions, queries = sum(counts.values()), counts["miss"] + counts["audit"]
    asked = np.zeros(decisions, bool)
    asked[:queries] = True
    cached = rng.lognormal(-9.5, 0.4, decisions)
    llm = rng.lognormal(-1.2, 0.2, queries)
    latency = cached.copy()
    latency[asked] += llm
    similarity = 1 - rng.beta(1.2, 8, compared) * 0.4
    span = (1 - similarity) * 12 * rng.lognormal(0, 0.5, compared)
    kl = span**2 / 8 * rng.beta(2, 3, compared)
    hit = similarity > 0.94
    rows = np.stack([similarity, span, kl, np.where(hit, 0.1, 1.0), hit], 1).reshape(-1, 5)
    np.savez(folder / "telemetry.npz", cache=cached, latency=latency, llm=llm, comparisons=rows)


def summary(run, config, rows, counts, level, returns):
    evaluations = [row for row in rows if "eval/return_mean" in row]
    solved = returns is None
    curve = [[row["step"], row.get("eval/success_rate")] for row in evaluations]
    return_curve = [[row["step"], row["eval/return_mean"]] for row in evaluations]
    queries = counts["miss"] + counts["audit"]
    asks = bool(sum(counts.values()))
    times = {"p50": 0.08, "p95": 320.0} if asks else {"p50": None, "p95": None}
    certified = config["cache"]["mode"] == "certified"
    certificate = {
        **GRID, "threshold": 0.94, "evidence": 50.0, "audits": 80, "failures": 2, "rate": 0.025,
        "low": 0.003, "high": 0.087,
    }  # fmt: skip
    return {
        "run": run, **{key: config[key] for key in ("env", "agent", "prior", "seed", "steps")},
        "cache": config["cache"]["mode"], "decisions": sum(counts.values()), "warm_entries": 0,
        "queries": {
            "total": queries, "misses": counts["miss"], "partial": 0, "audits": counts["audit"],
        },
        "hits": {"exact": counts["exact"], "semantic": counts["semantic"]}, "llm_tokens": 0,
        "llm_seconds": 0.3 * queries, "llm_seconds_recorded": 0.3 * queries, "cache_seconds": 0.1,
        "control_seconds": 0.1, "wall_seconds": 100.0, "latency_ms": times,
        "cache_ms": {"p50": 0.08, "p95": 0.2}, "llm_ms": {"p50": 300.0, "p95": 400.0},
        "audited": {"count": 80, "kl_mean": 0.02, "kl_max": 0.3, "span_max": 2.0},
        "certificate": certificate if certified else None,
        "eval": {
            "episodes": 30, "success_rate": curve[-1][1] if solved else None,
            "return_mean": return_curve[-1][1], "curve": curve, "return_curve": return_curve,
        },
    }  # fmt: skip


def make_ablation(space, name, variants, seeds=2):
    """An ablation of runs with the levels of `variants`, whose "off" is the baseline."""
    import pyarrow as pa
    from pyarrow import parquet

    runs, rows = [], []
    for seed in range(seeds):
        for variant, level in variants.items():
            cache = variant if variant in ("off", "exact") else "certified"
            run = make_run(space, f"ablate-{name}-{variant}", seed, cache=cache, level=level)
            runs.append({"variant": variant, "seed": seed, "run": run})
    for variant, level in variants.items():
        one = {"mean": level, "low": level - 0.05, "high": level + 0.05}
        rows.append({"variant": variant, "seeds": seeds, "success": one, "retention": one})
    folder = space.begin("ablation", name, overwrite=True)
    (folder / "config.toml").write_text("steps = 400\n")
    write_json(folder / "summary.json", {"ablation": name, "rows": rows})
    parquet.write_table(pa.Table.from_pylist(runs), folder / "runs.parquet")
    made_of = [space.open("run", one["run"]).reference for one in runs]
    return space.finish("ablation", name, seed=None, inputs=made_of)


def make_abstraction(space, name="walker2d/default"):
    """An abstraction that holds nothing but its map; its reference is what a run's manifest has."""
    from matplotlib.figure import Figure

    folder = space.begin("abstraction", name)
    figure = Figure(figsize=(4, 3))
    rng = np.random.default_rng(0)
    axes = figure.add_subplot()
    for _ in range(4):
        axes.scatter(*(rng.normal(size=(2, 40)) + rng.normal(size=(2, 1)) * 3), s=6)
    figure.savefig(folder / "map.png")
    (folder / "config.toml").write_text("")
    return Input(*space.finish("abstraction", name, seed=0).reference)


def make_all(space):
    """Two worlds, several seeds, an uncached baseline, a record, a dead run: everything at once."""
    for seed in range(3):
        make_run(space, "certified", seed, level=0.92)
        make_run(space, "off", seed, cache="off", level=0.95)
    make_run(space, "dqn", 0, cache="off", prior="uniform", level=0.4)
    make_run(space, "certified", 3, level=0.9, dies_at=240)
    used = make_abstraction(space)
    walker = {"env": "walker2d", "steps": 20000, "returns": 420.0}
    make_run(
        space, "walker2d-certified", 0, **walker, abstraction="walker2d/default", inputs=[used]
    )
    make_run(space, "walker2d-off", 0, **walker | {"returns": 300.0}, cache="off", record=True)
