"""`cep cache warm`, and `cep train --cache-from`."""

import shlex

import pytest

from cepcli.cache.disk import storage
from tests.agents import worlds
from tests.cli.test_train import SMALL, train
from tests.fakes import FakeScorer

__all__ = ["train"]

EARLY = ("--set", "head_from=3", "--set", "learned.steps=20")
STEADY = ("--set", "posterior.schedule=constant")


@pytest.fixture
def scorers(monkeypatch):
    """The fake scorers that are made, in order."""
    made = []

    def scorer():
        made.append(FakeScorer())
        return made[-1]

    monkeypatch.setattr(worlds, "FakeScorer", scorer)
    return made


@pytest.fixture
def traced(train, made_once, workspace_root):
    def make():
        assert train("--name", "t", "--cache", "off", "--trace", *STEADY).code == 0

    made_once("traced-steady", workspace_root, make)
    return "t_s0"


def asked(scorers):
    return sum(len(prompts) for scorer in scorers for prompts in scorer.calls)


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_asked(
    cep, corridor, scorers, tmp_path
):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "warm"
    done = cep("cache", "warm", "--env", "test/corridor", "--prior", "embedded", "-o", place)
    assert done.code == 2
    assert f"Cannot write to `{place}`" in done.err
    assert not asked(scorers)


def test_warm_from_a_trace_asks_no_llm_and_a_run_from_it_decides_the_same(
    traced, train, cep, scorers, tmp_path
):
    warm = tmp_path / "warm"
    done = cep("cache", "warm", "--trace", traced, "-o", warm, "--json", *EARLY)
    assert done.code == 0, done.err
    found = done.json
    assert (found["entries"], found["texts"], found["queries"], found["paid"]) == (4, 4, 0, 0)
    assert found["head"] is True
    assert not scorers
    assert cep("cache", "verify", warm).code == 0
    assert storage.read(warm).mode == "certified"

    flags = ("--no-journal", "--cache", "exact", "--json", *STEADY)
    cold = train("--name", "cold", *flags).json
    begun = train("--name", "warm", *flags, "--cache-from", warm).json
    assert begun["decisions_sha256"] == cold["decisions_sha256"]
    assert (cold["queries"]["total"], begun["queries"]["total"]) == (4, 0)
    assert begun["warm_entries"] == 4
    assert "cache of 4 entries" in cep("runs", "show", "warm_s0").out


def test_the_command_it_prints_starts_a_run_that_adopts_the_head(traced, cep, tmp_path):
    warm = tmp_path / "warm"
    done = cep("cache", "warm", "--trace", traced, "-o", warm, *EARLY, "--capacity", "3")
    assert f"{warm}: 3 entries, and a key head learned from them; no LLM was asked" in done.out
    command = shlex.split(done.out.split("Use it: ")[1])
    assert command[:6] == ["cep", "train", "--env", "test/corridor", "--prior", "embedded"]
    run = cep(*command[1:], *SMALL, "--name", "r", "--json")
    assert run.code == 0, run.err
    assert run.json["warm_entries"] == 3
    config = cep("cache", "stats", "r_s0", "--json").json
    assert config["mode"] == "certified"


def test_warm_from_demonstrations_pays_once_though_it_was_killed(
    cep, corridor, scorers, tmp_path, monkeypatch
):
    warm = tmp_path / "warm"
    command = ("cache", "warm", "--env", "test/corridor", "--prior", "embedded", "--demos", "3",
               "-o", warm, *EARLY)  # fmt: skip
    real = FakeScorer.score

    def killed(self, prompts, action_sets):
        if asked(scorers) >= 2:
            raise SystemExit(9)
        return real(self, prompts, action_sets)

    with monkeypatch.context() as patch:
        patch.setattr(FakeScorer, "score", killed)
        patch.setattr(FakeScorer, "prompts_at_once", 1)
        assert cep(*command).code == 9
    assert not warm.exists()
    assert asked(scorers) == 2
    done = cep(*command, "--json")
    assert done.code == 0, done.err
    assert (done.json["entries"], done.json["queries"], done.json["paid"]) == (4, 4, 2)
    assert asked(scorers) == 4
    assert "Asking embedded: 4/4" in done.err
    assert "Recording" not in done.err  # the demonstrations of the first time
    again = cep(*command[: -len(EARLY) - 1], tmp_path / "again", "--quiet")
    assert "4 LLM queries, 0 of them paid now" in again.out
    assert again.err == ""


def test_demonstrations_are_as_many_episodes_as_asked_for(cep, corridor, tmp_path):
    """One episode sees fewer tiles than fifty."""
    warm = tmp_path / "warm"
    flags = ("--env", "test/corridor", "--prior", "embedded", "--set", "mode=lru", "-o", warm)
    done = cep("cache", "warm", *flags, "--demos", "1", "--set", "learn_head=false", "--json")
    assert done.json["texts"] < 4
    assert done.json["head"] is False
    assert "--cache lru" in done.json["next"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "Add --trace"),
        (("--trace", "t_s0", "--env", "test/corridor"), "`--env` has no meaning beside `--trace`"),
        (("--trace", "t_s0", "--demos", "3"), "`--demos`"),
        (("--trace", "t_s0", "--prior", "coin"), "is of the prior `embedded`, not of `coin`"),
        (("--trace", "nowhere"), "no run `nowhere`"),
        (("--env", "test/corridor"), "--prior"),
        (("--env", "test/corridor", "--prior", "uniform"), "asks no LLM"),
        (("--trace", "t_s0", "--set", "mode=off"), "holds nothing"),
        (("--trace", "t_s0", "--set", "start=a"), "`start` is for runs"),
        (("--trace", "t_s0", "--set", "encodr=hash"), "encoder"),
        (("--trace", "t_s0", "--capacity", "0"), "cache.capacity is 0, expected ≥ 1"),
    ],
)
def test_what_cannot_be_is_one_sentence(traced, cep, tmp_path, flags, said):
    done = cep("cache", "warm", *flags, "-o", tmp_path / "warm")
    assert done.code == 2, done.out
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "warm").exists()


def test_a_damaged_trace_or_a_taken_place_is_one_sentence(traced, cep, tmp_path, workspace_root):
    warm = tmp_path / "warm"
    warm.mkdir()
    done = cep("cache", "warm", "--env", "test/corridor", "--prior", "embedded", "-o", warm)
    assert (done.code, "exists already" in done.err) == (2, True)
    assert "Recording" not in done.err  # said before anything is done for it
    trace = workspace_root / "run" / traced / "trace.jsonl"
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(trace.read_bytes()[:-20])
    done = cep("cache", "warm", "--trace", copy, "-o", tmp_path / "new")
    assert (done.code, "truncated" in done.err) == (2, True)
    copy.write_bytes(trace.read_bytes())
    done = cep("cache", "warm", "--trace", copy, "-o", tmp_path / "new")
    assert "--prior NAME" in done.out


def test_a_foreign_start_is_one_sentence_and_leaves_no_run(train, cep, tmp_path, workspace_root):
    train("--name", "r", "--cache", "lru")
    done = train("--name", "new", "--cache", "exact", "--cache-from", tmp_path / "nowhere")
    assert (done.code, "There is no prior cache" in done.err) == (2, True)
    assert not list((workspace_root / "run").glob("new*"))
