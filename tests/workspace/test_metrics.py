"""Rows of metrics that earlier versions wrote are read as they would be written now."""

from cepcli.workspace.metrics import read_metrics


def test_no_threshold_is_none_however_it_was_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "cache/threshold": 2.0}\n{"step": 2, "cache/threshold": null}\n'
        '{"step": 3, "cache/threshold": 0.98}\n{"step": 4}\n'
    )
    rows = read_metrics(path)
    assert [row.get("cache/threshold", "-") for row in rows] == [None, None, 0.98, "-"]
