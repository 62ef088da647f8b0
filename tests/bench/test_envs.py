"""`cep bench envs`: rates and resets of text environments."""

from cepcli.bench.envs import bench_envs


def test_what_is_played_is_timed(tmp_path):
    (row,) = bench_envs(["babyai/goto-redball"], tmp_path, resets=3, rounds=2)
    assert (row["env"], row["options"]) == ("babyai/goto-redball", {})
    assert row["steps"] % 2 == 0  # both rounds play the same
    assert row["steps"] >= 6
    assert row["steps_per_s"] > 0
    assert 0 < row["reset_ms"]["p50"] <= row["reset_ms"]["p95"]
