"""The examples run as a reader would run them, and what they print is so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(example, folder):
    """What the example prints; a warning is an error, and so is taking longer than 40 s."""
    done = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "examples" / example],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(pattern, text):
    found = re.search(pattern, text)
    assert found, (pattern, text)
    return float(found.group(1))


@pytest.mark.slow
def test_a_loop_of_ones_own_is_mostly_answered_by_a_certified_cache(tmp_path):
    printed = run("own_loop.py", tmp_path)
    solved, decisions = number(r"(\d+) of", printed), number(r"(\d+) decisions", printed)
    queries, hit_rate = number(r"(\d+) queries", printed), number(r"hit rate ([\d.]+)", printed)
    exact, semantic = (number(rf"'{kind}': (\d+)", printed) for kind in ("exact", "semantic"))
    assert solved > 0.9 * number(r"of (\d+) episodes", printed)
    assert exact + semantic + queries == decisions
    assert hit_rate == pytest.approx((exact + semantic) / decisions, abs=1e-3)
    assert semantic > 0
    assert queries < 0.5 * decisions
    assert 0.5 <= number(r"Certificate\(.*threshold=([\d.]+)", printed) < 1.0


@pytest.mark.slow
def test_an_agent_of_another_library_learns_behind_the_cache(tmp_path):
    printed = run("sb3_agent.py", tmp_path)
    without, alone, both = (
        number(rf"success {what}: ([\d.]+)", printed)
        for what in ("without prior", "of the prior alone", "with prior")
    )
    assert both > max(without, alone) + 0.2
    decisions, queries = number(r"(\d+) decisions", printed), number(r"(\d+) queries", printed)
    assert decisions > 2000  # those of learning are among them
    assert queries + number(r"(\d+) saved", printed) == decisions
    assert queries < 0.5 * decisions
    assert number(r"Certificate\(.*confidence=([\d.]+)", printed) == 0.95  # proven or not yet


def test_own_loop_fits_on_a_page():
    assert len((ROOT / "examples/own_loop.py").read_text().splitlines()) <= 40


def test_the_lines_in_the_guide_run():
    section = (ROOT / "docs/cache.md").read_text().split("## In your own loop\n")[1]
    (snippet,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len([line for line in snippet.splitlines() if line]) == 3
    given = {
        "score": lambda state: [0.0, -1.0],
        "goal": "go home",
        "text": "You are out.",
        "actions": ("go", "stay"),
    }
    exec(snippet, given)
    prior, answer = given["prior"], given["answer"]
    assert answer.log_prior[0] > answer.log_prior[1]
    assert np.exp(answer.log_prior).sum() == pytest.approx(1.0)
    assert prior.telemetry.summary()["queries"]["total"] == 1
    assert prior.certificate.threshold is None
    for example in re.findall(r"\]\(\.\./(examples/\w+\.py)\)", section):
        assert (ROOT / example).is_file()


def test_only_asking_for_the_constructor_loads_torch():
    code = (
        "import sys, cepcli; cepcli.TextState('g', 't', ('a',)); print('torch' in sys.modules);"
        "from cepcli import cached; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == ["False", "True"]
