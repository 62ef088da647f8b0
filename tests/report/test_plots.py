from cepcli.report.plots import plot_frontier, unbeaten


def test_a_setting_is_unbeaten_unless_another_is_as_good_in_both_and_better_in_one():
    points = [(0.9, 0.1), (0.5, 0.5), (0.5, 0.4), (0.1, 0.9), (0.1, 0.9), (0.0, 0.8)]
    assert unbeaten(points) == [0, 1, 3, 4]
    assert unbeaten([]) == []


def test_the_picture_is_drawn_with_and_without_beaten_settings(tmp_path):
    for points in ({"a": (0.1, 0.9), "b": (0.0, 0.5)}, {"a": (0.1, 0.9)}):
        picture = plot_frontier(points, tmp_path / "f.png")
        assert picture.read_bytes().startswith(b"\x89PNG")
