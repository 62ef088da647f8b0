import pytest

from tests.agents import control_worlds
from tests.experiments import test_kl_bound, test_staleness

traced = test_staleness.space
walker = test_kl_bound.space


def test_a_run_that_recorded_no_decisions_says_how_to(traced, cep):
    space, run = traced
    run("untraced", "lru", trace=False)
    done = cep("cache", "staleness", "untraced", "--workspace", space.root)
    assert done.code == 2
    assert "--trace" in done.err


def test_staleness_shows_and_writes_what_was_measured(traced, cep, tmp_path):
    space, run = traced
    run("lru", "lru")
    file = tmp_path / "new" / "found.json"
    done = cep(
        "cache", "staleness", "lru", "--states-of", "off", "--points", "2", "--episodes", "3",
        "-o", file, "--workspace", space.root,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "50% of training" in done.out
    assert "KL of semantic hits" in done.out
    assert '"rows"' in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a", "--flip", "0.1;0.2"), "is not a comma list of numbers"),
        (("a", "--flip", "2"), "must be probabilities"),
        (("a", "--jitter", "-1"), "must be lengths above 0"),
        (("b",), "no run `b`"),
        (("plain",), "asks no LLM"),
    ],
)
def test_what_cannot_be_measured_is_said(walker, cep, arguments, said):
    control_worlds.run(walker.root, "plain", agent="sac")
    done = cep("bench", "kl-bound", *arguments, "--workspace", walker.root)
    assert done.code == 2
    assert said in done.err


def test_kl_bound_shows_what_was_measured(walker, cep):
    done = cep("bench", "kl-bound", "a", "--episodes", "2", "--workspace", walker.root)
    assert done.code == 0, done.err
    assert "jitter 0.3" in done.out
    assert "over L²(1−δ)" in done.out
