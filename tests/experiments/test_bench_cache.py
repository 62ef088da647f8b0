from cepcli.experiments.bench_cache import bench_cache


def test_every_capacity_is_measured():
    result = bench_cache((1, 20), dim=8, actions=3, repeats=5)
    for name in ("lookup_posterior_us", "exact_posterior_us", "lookup_us"):
        assert set(result[name]) == {"1", "20"}
        assert all(micros > 0 for micros in result[name].values())
    assert result["llm_ms"] > 1.0, "no language model answers within a millisecond"
    assert (result["dim"], result["actions"], result["repeats"]) == (8, 3, 5)
