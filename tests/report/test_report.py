"""What a report says, before it is drawn."""

import csv
import json
import re

import numpy as np
import pytest

from cepcli.errors import ArtifactError, ConfigError
from cepcli.report.build import build_report
from cepcli.report.document import Axis, Figure, Series
from cepcli.report.drawing import number
from cepcli.report.selection import select
from cepcli.report.svg import draw_svg
from cepcli.report.writers import as_csv, as_markdown
from cepcli.workspace.artifacts import Workspace
from tests.report import worlds


@pytest.fixture
def space(tmp_path):
    return Workspace(tmp_path / "w")


def report_of(space, *names, **options):
    return build_report(select(space, names), space, "cep report", **options)


def figures(section):
    return {figure.key: figure for panel in section.panels for figure in panel.figures}


def card(section, title):
    [found] = [one for one in section.cards if one.title.startswith(title)]
    return {line.label: (line.value, line.detail) for line in found.lines}


def column(table, title):
    at = table.columns.index(title)
    return [row[at] for row in table.rows]


def test_seeds_are_averaged_with_a_band_from_the_lowest_to_the_highest(space):
    for seed in range(3):
        worlds.make_run(space, "a", seed)
    [section] = report_of(space, "a_s?").sections
    [line] = figures(section)["learning-curve"].series
    paths = [space.open("run", f"a_s{seed}").path / "summary.json" for seed in range(3)]
    last = [json.loads(path.read_text())["eval"]["curve"][-1][1] for path in paths]
    assert line.x == [0, 100, 200, 300, 400]
    assert line.y[-1] == pytest.approx(np.mean(last))
    assert (line.low[-1], line.high[-1]) == (min(last), max(last))
    assert line.seeds == 3
    assert "lowest to the highest" in figures(section)["learning-curve"].about


def test_one_seed_has_no_band_and_its_interval_is_unknown(space):
    worlds.make_run(space, "a")
    [section] = report_of(space, "a_s0").sections
    [line] = figures(section)["learning-curve"].series
    assert line.low is None
    assert card(section, "Held-out success")["a"][1] == "1 seed, no interval"


def test_a_dead_run_is_shown_to_where_it_got_and_counts_nowhere(space):
    worlds.make_run(space, "a", 0)
    worlds.make_run(space, "a", 1, dies_at=240)
    report = report_of(space, "a_s?")
    [section] = report.sections
    whole, dead = figures(section)["learning-curve"].series
    assert whole.seeds == 1
    assert (dead.label, dead.x[-1]) == ("a_s1 (stopped at step 240 of 400)", 200)
    assert "cep runs resume a_s1" in section.notes[0]
    assert [cell.text for cell in column(section.tables[0], "seeds")] == ["1 + 1 unfinished"]
    assert [cell.text for cell in column(report.runs, "state")] == [
        "finished", "stopped at step 240 of 400"
    ]  # fmt: skip
    assert column(report.runs, "success")[1].sort is None


def test_a_run_that_a_process_works_on_is_running_not_dead(space):
    worlds.make_run(space, "a", 0, dies_at=240)
    with space.lock("run", "a_s0"):
        report = report_of(space, "a_s0")
    assert column(report.runs, "state")[0].text == "running, at step 240 of 400"
    assert "is still running" in report.sections[0].notes[0]


def test_dead_runs_alone_make_a_report(space):
    worlds.make_run(space, "a", 0, dies_at=240)
    [section] = report_of(space, "a_s0").sections
    assert card(section, "Held-out success")["a"] == ("–", "stopped at step 240 of 400")
    assert "–" in as_markdown(report_of(space, "a_s0"))


def test_a_broken_line_of_a_finished_run_is_an_error_that_names_it(space):
    name = worlds.make_run(space, "a")
    file = space.directory("run", name) / "metrics.jsonl"
    manifest = space.directory("run", name) / "manifest.json"
    found = json.loads(manifest.read_text())
    found["outputs"] = [one for one in found["outputs"] if one["file"] != "metrics.jsonl"]
    manifest.write_text(json.dumps(found))
    file.write_text(file.read_text() + "{broken\n")
    with pytest.raises(ArtifactError, match=r"Line 26 of .*metrics\.jsonl"):
        report_of(space, name)


def test_environments_and_budgets_are_apart(space):
    worlds.make_run(space, "a")
    worlds.make_run(space, "b", steps=200)
    worlds.make_run(space, "w", env="walker2d", returns=100.0)
    report = report_of(space, "a_s0", "b_s0", "w_s0")
    assert [section.title for section in report.sections] == [
        "babyai/goto-local, 200 steps", "babyai/goto-local, 400 steps", "walker2d"
    ]  # fmt: skip
    assert len(report.overview.rows) == 3
    assert figures(report.sections[2])["learning-curve"].y.label == "held-out return"


def test_the_run_without_a_cache_is_the_baseline_unless_another_is_named(space):
    for seed in range(2):
        worlds.make_run(space, "a", seed, level=0.5)
        worlds.make_run(space, "off", seed, cache="off", level=1.0)
    worlds.make_run(space, "dqn", cache="off", prior="uniform", level=0.2)
    names = ("a_s?", "off_s?", "dqn_s0")
    [section] = report_of(space, *names).sections
    told = card(section, "Retention against off")
    share = int(told["a"][0].removesuffix("%"))
    assert 40 < share < 60
    assert told["a"][1].startswith("2 seeds, range [")
    assert told["dqn"][1] == "1 seed, no interval"
    [section] = report_of(space, *names, baseline="a").sections
    assert int(card(section, "Retention against a")["off"][0].removesuffix("%")) > 150
    with pytest.raises(ConfigError, match="None of the runs is a `of`") as error:
        report_of(space, *names, baseline="of")
    assert "off" in error.value.hint


def test_without_a_baseline_the_report_says_how_to_have_one(space):
    worlds.make_run(space, "a")
    [section] = report_of(space, "a_s0").sections
    assert card(section, "Retention")["a"][0] == "–"
    assert "--baseline" in card(section, "Retention")["a"][1]


def test_a_return_below_zero_has_a_difference_and_no_ratio(space):
    worlds.make_run(space, "a", env="ant", returns=-50.0)
    worlds.make_run(space, "off", env="ant", returns=-100.0, cache="off")
    [section] = report_of(space, "a_s0", "off_s0").sections
    value, detail = card(section, "Retention against off")["a"]
    assert value == "+50%"
    assert "no ratio" in detail


def test_answers_of_every_interval_are_shares_of_one(space):
    worlds.make_run(space, "a")
    [section] = report_of(space, "a_s0").sections
    figure = figures(section)["answers-0"]
    shares = np.array([one.y for one in figure.series], float)
    assert shares.shape == (4, 20)
    assert shares.sum(0) == pytest.approx(np.ones(20))
    assert figure.series[0].x[0] == 0
    assert figure.series[0].x[-1] == 400


def test_a_threshold_that_lets_no_similar_text_answer_is_a_gap(space):
    worlds.make_run(space, "a")
    [section] = report_of(space, "a_s0").sections
    [line] = figures(section)["threshold"].series
    assert line.y[0] is None
    assert line.y[-1] == pytest.approx(0.94)


def test_kl_lies_under_its_bound_and_what_does_not_is_counted(space):
    name = worlds.make_run(space, "a", compared=100)
    [section] = report_of(space, name).sections
    assert "0 of 100 lie above" in figures(section)["kl-bound"].about
    file = space.directory("run", name) / "checkpoint-00000400" / "telemetry.npz"
    with np.load(file) as archive:
        arrays = dict(archive)
    arrays["comparisons"][3, 2] = arrays["comparisons"][3, 1] ** 2
    np.savez(file, **arrays)
    manifest = space.directory("run", name) / "manifest.json"
    found = json.loads(manifest.read_text())
    found["outputs"] = []
    manifest.write_text(json.dumps(found))
    [section] = report_of(space, name).sections
    assert "1 of 100 lie above" in figures(section)["kl-bound"].about


def test_hits_and_misses_are_told_apart_in_the_scatter(space):
    worlds.make_run(space, "a", compared=100)
    [section] = report_of(space, "a_s0").sections
    figure = figures(section)["similarity-span"]
    filled, hollow = sorted(figure.series, key=lambda one: one.shape)
    assert min(filled.x) > 0.94 >= max(hollow.x)
    assert len(filled.x) + len(hollow.x) == 100
    assert [guide.label for guide in figure.guides] == ["κ = 0.5", "δ = 0.94"]
    assert figure.guides[0].value == pytest.approx(2.0), "span²/8 = 0.5"


def test_a_record_says_what_it_does_not_hold(space):
    worlds.make_run(space, "a", record=True)
    [section] = report_of(space, "a_s0").sections
    shown = figures(section)
    for key in ("kl-bound", "similarity-span", "latency"):
        assert "a_s0 is a record: it holds no checkpoint and no cache" in shown[key].empty
    assert shown["latency-percentiles"].empty is None
    assert shown["learning-curve"].empty is None


def test_nothing_compared_is_said_and_not_drawn(space):
    worlds.make_run(space, "a", compared=0)
    [section] = report_of(space, "a_s0").sections
    assert "nothing similar" in figures(section)["kl-bound"].empty


def test_runs_without_a_prior_have_no_figures_of_one(space):
    worlds.make_run(space, "a", cache="off", prior="uniform")
    [section] = report_of(space, "a_s0").sections
    assert [one.title for one in section.cards] == ["Held-out success"]
    assert [panel.title for panel in section.panels] == [
        "Learning", "How decisions were answered", "Cache and temperature over time", "Losses"
    ]  # fmt: skip
    assert "No run here asks an LLM." in figures(section)["queries"].empty


def test_latencies_split_at_the_llm(space):
    worlds.make_run(space, "a")
    [section] = report_of(space, "a_s0").sections
    cached, asked = figures(section)["latency-0"].series
    assert sum(cached.y) + sum(asked.y) == pytest.approx(1.0)
    middle = [edge for edge, share in zip(cached.x, cached.y, strict=False) if share]
    assert max(middle) < 5.0
    assert min(edge for edge, share in zip(asked.x, asked.y, strict=False) if share) > 50.0


def test_a_map_is_shown_only_of_the_abstraction_that_was_used(space):
    used = worlds.make_abstraction(space)
    walker = {"env": "walker2d", "returns": 9.0, "abstraction": "walker2d/default"}
    worlds.make_run(space, "a", **walker, inputs=[used])
    worlds.make_run(space, "b", **walker | {"abstraction": "walker2d/other"})
    [section] = report_of(space, "a_s0", "b_s0").sections
    assert figures(section)["map-walker2d-default"].image[:4] == b"\x89PNG"
    assert "not in this workspace" in figures(section)["map-walker2d-other"].empty
    worlds.make_run(space, "a", **walker, inputs=[used._replace(sha256="0" * 64)])
    [section] = report_of(space, "a_s0").sections
    assert "has changed since a_s0" in figures(section)["map-walker2d-default"].empty


def test_an_ablation_is_its_variants_in_order_even_where_runs_are_gone(space):
    worlds.make_ablation(space, "cache", {"off": 0.9, "certified": 0.8, "exact": 0.9})
    report = report_of(space, "cache")
    [section] = report.sections
    assert [row[0].text for row in section.tables[0].rows] == ["off", "certified", "exact"]
    assert report.title == "Ablation cache"
    assert card(section, "Retention against off").keys() == {"certified", "exact"}
    import shutil

    shutil.rmtree(space.directory("run", "ablate-cache-exact_s1"))
    report = report_of(space, "cache")
    assert report.notes[0].startswith("1 runs of the ablation cache are not in this workspace")
    assert [row[0].text for row in report.sweeps[0].rows] == ["off", "certified", "exact"]


def test_variants_do_not_mix_with_runs_that_are_called_the_same(space):
    worlds.make_ablation(space, "cache", {"off": 0.9, "certified": 0.8}, seeds=1)
    worlds.make_run(space, "certified")
    [section] = report_of(space, "certified_s0", "cache").sections
    labels = [row[0].text for row in section.tables[0].rows]
    assert labels == ["certified", "cache: off", "cache: certified"]


def test_where_the_method_fails_the_section_says_so(space):
    worlds.make_run(space, "a", level=0.5)
    worlds.make_run(space, "off", level=1.0, cache="off")
    [section] = report_of(space, "a_s0", "off_s0").sections
    [loss] = [note for note in section.notes if "below the uncached run's" in note]
    assert loss.startswith("a: ")
    assert "Likely cause: " in loss
    assert "Next: cep " in loss


def test_a_name_of_two_kinds_has_to_say_which(space):
    worlds.make_ablation(space, "cache", {"off": 0.9, "exact": 0.9}, seeds=1)
    source = space.directory("run", "ablate-cache-off_s0")
    source.rename(source.with_name("cache"))
    with pytest.raises(ConfigError, match="is a run and an ablation") as error:
        select(space, ["cache"])
    assert "ablation/cache" in error.value.hint
    assert select(space, ["run/cache"]).sweeps == []
    assert select(space, ["ablation/cache"]).sweeps[0].name == "cache"


def test_unknown_names_suggest_the_nearest(space):
    worlds.make_run(space, "walker")
    with pytest.raises(ArtifactError, match="no run and no ablation `wlaker_s0`") as error:
        select(space, ["wlaker_s0"])
    assert "walker_s0" in error.value.hint
    with pytest.raises(ArtifactError, match="matches `x\\*`"):
        select(space, ["x*"])


def test_settings_tell_what_they_differ_in_and_nothing_else(space):
    worlds.make_run(space, "a", 0)
    worlds.make_run(space, "b", 1, cache="off")
    [section] = report_of(space, "a_s0", "b_s1").sections
    assert [[cell.text for cell in row] for row in section.tables[1].rows] == [
        ["cache.mode", "certified", "off"]
    ]


def test_csv_has_a_row_a_run_and_numbers_as_they_are(space):
    worlds.make_all(space)
    rows = list(csv.DictReader(as_csv(report_of(space, "*_s?")).splitlines()))
    assert len(rows) == 10
    [dead] = [row for row in rows if row["state"].startswith("stopped")]
    assert dead["success"] == ""
    success = float(next(row["success"] for row in rows if row["run"] == "off_s0"))
    path = space.open("run", "off_s0").path / "summary.json"
    assert success == json.loads(path.read_text())["eval"]["success_rate"]


def test_markdown_has_headlines_tables_and_commands(space):
    worlds.make_all(space)
    text = as_markdown(report_of(space, "*_s?"))
    assert "## walker2d" in text
    assert "- Retention against off (certified): **" in text
    assert "> certified_s3 stopped at step 240 of 400" in text
    assert "cep train --env walker2d --cache certified --seed 0" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| babyai")}
    assert len(widths) == 2, "the overview and every run"


def test_a_picture_holds_every_figure_there_is(space, tmp_path):
    from cepcli.report.drawing import save_report_picture

    worlds.make_run(space, "a")
    path = save_report_picture(report_of(space, "a_s0"), tmp_path / "r.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert path.stat().st_size > 100_000


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (20000, "20k"), (1500, "1500"), (2.5e6, "2.5M"), (0.00001, "1e-5"), (-3, "-3")],
)
def test_numbers_on_axes_are_short(value, text):
    assert number(value) == text


def drawn(axis, values):
    """The words in a figure with these values along its vertical axis."""
    line = Series("a", "g0", 0, [0.0, 1.0], values)
    svg = draw_svg(Figure("k", "T", "", "lines", Axis("step"), axis, [line]), "u")
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_ticks_are_round_and_lie_within_the_axis():
    shares = drawn(Axis("share", 0.0, 1.0, share=True), [0.2, 0.3])
    assert [text for text in shares if "%" in text] == ["0%", "20%", "40%", "60%", "80%", "100%"]
    decades = drawn(Axis("ms", log=True), [0.03, 700.0])
    assert {"0.01", "1000"} < {*decades}
    assert "0.0001" in drawn(Axis("nats", log=True), [0.0002, 0.5])
    assert "5" in drawn(Axis("flat"), [5.0, 5.0])


def test_a_figure_has_no_style_of_its_own_and_ids_that_are_of_its_page():
    line = Series("a<b", "g1", 0, [0.0, 1.0], [1.0, None], [0.5, 1.0], [1.5, 1.0], end="stopped")
    svg = draw_svg(Figure("k", "T", "How.", "lines", Axis("step"), Axis("y"), [line]), "u")
    assert "style" not in svg
    assert "var(--g1)" in svg
    assert "a&lt;b: 1 (0.5 … 1.5, 1 seeds)" in svg
    assert '<desc id="u-desc">How. a&lt;b: 1 at 0, 1 at 0.</desc>' in svg
    assert all(name.startswith("u-") for name in re.findall(r' id="([^"]+)"', svg))
