from pathlib import Path

import pytest

from cepcli.errors import ArtifactError, ConfigError, Interrupted
from cepcli.runs.engine import Hooks, resume_run
from cepcli.runs.settings import read_config
from cepcli.workspace.artifacts import Workspace, sha256

RECORD = Path(__file__).resolve().parents[2] / "results/run/reach-off_s0"


def test_settings_of_a_run_from_before_the_gate_are_read():
    assert "per_goal = false" in (RECORD / "config.toml").read_text()
    cache = read_config(RECORD).cache
    assert (cache.pool_goals, cache.gate) == (True, "off")


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("[cache\n", ConfigError, r"config\.toml` is not valid TOML"),
        ("cache = 3\n", ArtifactError, r"config\.toml` has settings .* `cache` is a section"),
        ("stepz = 3\n", ArtifactError, r"config\.toml` has settings .* `stepz` doesn't exist\.$"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, error, said):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(error, match=said):
        read_config(tmp_path)


def test_a_run_from_before_the_gate_goes_on_without_and_is_not_told_of_it(corridor, tmp_path):
    with pytest.raises(Interrupted):
        corridor.run(tmp_path, "a", stop=iter([False] * 40 + [True] * 9).__next__)
    settings = tmp_path / "run/a.partial/config.toml"
    was, text = sha256(settings), settings.read_text()
    assert 'gate = "words"' in text
    settings.write_text(text.replace('gate = "words"', "per_goal = true"))
    (state,) = settings.parent.glob("checkpoint-*/state.json")
    state.write_text(state.read_text().replace(was, sha256(settings)))
    told = []
    resume_run(Workspace(tmp_path), "a", Hooks(), told.append)
    assert not [line for line in told if "earlier version" in line]
