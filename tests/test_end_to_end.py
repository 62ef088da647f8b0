import json
import os
import signal
import subprocess
import sys
import time

import pytest

FLAGS = (
    "train", "--env", "babyai/goto-redball", "--prior", "goto-redball", "--cache", "lru",
    "--steps", "60", "--json", "--quiet", "--name", "r", "--resume",
    "--set", "env_options.max_episode_steps=16", "--set", "eval_episodes=2",
    "--set", "final_eval_episodes=4", "--set", "eval_interval=30", "--set", "eval_lanes=1",
    "--set", "checkpoint_interval=10", "--set", "learner.learning_starts=20",
)  # fmt: skip
SAME = ("decisions", "decisions_sha256", "queries", "hits", "llm_tokens", "eval", "audited")


def start(root):
    code = "from cepcli.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *FLAGS],
        env={**os.environ, "CEP_HOME": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def decided(summary):
    """What must be the same, whatever time the LLM took."""
    found = {key: summary[key] for key in SAME}
    told = {name: value for name, value in summary["eval"].items() if "seconds" not in name}
    return {**found, "eval": told}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_llm_run_killed_twice_ends_as_one_never_killed(tmp_path):
    whole = finish(start(tmp_path / "whole"))
    for wanted in ("checkpoint-00000010", "checkpoint-00000040"):
        process = start(tmp_path / "killed")
        partial = tmp_path / "killed/run/r_s0.partial"
        deadline = time.monotonic() + 200
        while not any(p.name >= wanted for p in partial.glob("checkpoint-????????")):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.communicate()
    resumed = finish(start(tmp_path / "killed"))
    assert decided(resumed) == decided(whole)
    assert resumed["queries"]["total"] > 0
    assert resumed["llm_seconds_recorded"] >= resumed["llm_seconds"] - 1e-6  # sums of floats
