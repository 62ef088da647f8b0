import shlex

import pytest

from tests.agents import control_worlds
from tests.experiments import test_kl_bound, test_staleness

traced = test_staleness.space
walker = test_kl_bound.space


@pytest.mark.parametrize(
    ("mode", "said", "measured"),
    [
        ("lru", "The run `a_s0` recorded no trace", "a_s0"),
        ("exact", "The run `a_s0` has no cache that compares texts", "a-lru_s0"),
    ],
)
def test_what_is_to_be_typed_can_be_pasted_as_it_stands(
    corridor, cep, tmp_path, mode, said, measured
):
    root = tmp_path / "the runs"
    corridor.run(root, "a_s0", steps=40, **{"cache.mode": mode})
    measure = ("cache", "staleness", "--episodes", "2", "--workspace", root)
    done = cep(*measure, "a_s0")
    assert done.code == 2
    assert said in done.err
    program, *arguments = shlex.split(done.err.splitlines()[1].partition(": ")[2])
    assert program == "cep"
    again = cep(*arguments)
    assert again.code == 0, again.err
    assert cep(*measure, measured).code == 0


def test_without_an_llm_other_runs_are_to_be_looked_for(corridor, cep, tmp_path):
    root = tmp_path / "the runs"
    corridor.run(root, "a_s0", steps=30, agent="dqn", prior="uniform")
    done = cep("cache", "staleness", "a_s0", "--workspace", root)
    assert done.code == 2
    assert f"cep runs list --workspace '{root}'" in done.err


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
        (("a", "--flip", "0.1;0.2"), "is not a comma-separated list of numbers"),
        (("a", "--flip", "2"), "must be probabilities"),
        (("a", "--jitter", "-1"), "must be lengths above 0"),
        (("b",), "no run `b`"),
        (("plain",), "asks no LLM"),
    ],
)
def test_what_cannot_be_measured_is_said(walker, cep, arguments, said):
    if arguments == ("plain",):
        control_worlds.run(walker.root, "plain", agent="sac", steps=20)
    done = cep("bench", "kl-bound", *arguments, "--workspace", walker.root)
    assert done.code == 2
    assert said in done.err


def test_kl_bound_shows_what_was_measured(walker, cep):
    done = cep("bench", "kl-bound", "a", "--episodes", "2", "--workspace", walker.root)
    assert done.code == 0, done.err
    assert "jitter 0.3" in done.out
    assert "over L²(1−δ)" in done.out
