"""`--prior server:URL` as typed, against a small server in the test."""

import pytest

from cepcli.errors import PriorError
from cepcli.prior import load
from tests.prior import served as trouble
from tests.prior.served import Served

ENV = ("--env", "babyai/goto-redball")
SHORT = ("--agent", "direct-llm", "--cache", "exact", "--quiet", "--json", "--name", "r",
         "--set", "steps=30", "--set", "eval_interval=30", "--set", "eval_episodes=1",
         "--set", "final_eval_episodes=1", "--set", "eval_lanes=1",
         "--set", "checkpoint_interval=500", "--set", "llm.server.retries=1",
         "--set", "llm.server.backoff=0.01")  # fmt: skip


@pytest.fixture
def server():
    found = Served()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("CEP_SERVER_KEY", raising=False)


def test_key_comes_from_the_environment(cep, server, monkeypatch):
    server.key = "sk-secret"
    words = ("prior", "score", *ENV, "--prior", server.name, "--json")
    refused = cep(*words)
    assert refused.code == 2
    assert "CEP_SERVER_KEY" in refused.err
    monkeypatch.setenv("CEP_SERVER_KEY", "sk-secret")
    assert len(cep(*words).json["actions"]) == 6


AWAY = "server:http://10.0.0.7:8000"
ASKING = [
    ("train", *ENV, "--prior", AWAY),
    ("prior", "score", *ENV, "--prior", AWAY),
    ("prior", "eval", AWAY, *ENV),
    ("cache", "warm", *ENV, "--prior", AWAY, "--demos", "1", "-o", "WARM"),
    ("abstract", "train", "--env", "walker2d", "--prior", AWAY),
    ("offline", "label", "--dataset", "babyai-goto-redball-random", "--prior", AWAY),
    ("offline", "cql-prior", "--dataset", "babyai-goto-redball-random", "--prior", AWAY),
]


@pytest.mark.parametrize("words", ASKING, ids=lambda words: " ".join(words[:2]))
def test_key_goes_over_plain_http_only_where_that_is_allowed(cep, monkeypatch, tmp_path, words):
    words = [str(tmp_path / "warm") if word == "WARM" else word for word in words]
    monkeypatch.setenv("CEP_SERVER_KEY", "sk-secret")
    if words[0] == "offline":
        cep("offline", "collect", *ENV, "--recipe", "random", "--transitions", "30", "--quiet")
    refused = cep(*words)
    assert refused.code == 2
    assert "unencrypted" in refused.err
    assert "--insecure" in refused.err

    def served(name, template, config, journal_path):
        raise PriorError(f"asked {name}, insecure {config.server.insecure}")

    monkeypatch.setattr(load, "_served", served)
    assert f"asked {AWAY}, insecure True" in cep(*words, "--insecure").err


def test_name_that_is_no_address_is_refused_by_every_command(cep):
    for words in (
        ("prior", "score", *ENV, "--prior", "server:nowhere"),
        ("prior", "eval", "server:nowhere", *ENV),
        ("train", *ENV, "--prior", "server:nowhere"),
    ):
        done = cep(*words, "--quiet") if words[1] != "score" else cep(*words)
        assert done.code == 2
        assert "`server:nowhere` is not a server address" in done.err


@pytest.mark.slow
def test_run_goes_on_after_its_server_failed(cep, server, workspace_root):
    server.troubles = [None] * 15 + [trouble.limit] * 99
    words = ("train", *ENV, "--prior", server.name, *SHORT)
    stopped = cep(*words)
    assert stopped.code == 2
    assert "answered 429" in stopped.err
    assert "cep runs resume r" in stopped.err
    [kept] = (workspace_root / "run" / "r_s0.partial").glob("checkpoint-*")
    assert int(kept.name.rpartition("-")[2]) > 0, "not only where the interval says"
    paid = {tuple(row) for row in server.rows()[4:]}
    probed, server.troubles = len(server.rows()), []

    done = cep(*words, "--resume", "--set", "llm.server.concurrency=1")
    assert done.code == 0, done.err
    assert done.json["queries"]["total"] > 5
    asked = [tuple(row) for row in server.rows()[probed + 4 :]]
    assert len(asked) == len(set(asked))
    unanswered = {tuple(row) for row in server.rows()[probed - 6 : probed]}
    assert set(asked) & paid <= unanswered


@pytest.mark.slow
def test_labelling_says_how_it_goes_on_after_its_server_failed(cep, server):
    cep("offline", "collect", *ENV, "--recipe", "random", "--transitions", "60", "--quiet")
    words = ("offline", "label", "--dataset", "babyai-goto-redball-random", "--cache", "exact",
             "--prior", server.name, "--set", "batch=4", "--set", "llm.server.retries=0",
             "--quiet")  # fmt: skip
    server.troubles = [None] * 5 + [trouble.fail] * 99
    stopped = cep(*words)
    assert stopped.code == 2
    assert "asked once: it answered 500" in stopped.err
    assert stopped.err.strip().endswith(
        "The answers so far are saved; type the command again to go on."
    )
    server.troubles = []
    assert cep(*words).code == 0


def test_a_server_that_fails_from_the_first_is_not_taken_for_one_that_cannot(cep, server):
    server.troubles = [trouble.fail] * 99
    done = cep("prior", "score", *ENV, "--prior", server.name)
    assert done.code == 2
    assert "It failed (500): look at its log first" in done.err


def test_unfinished_run_is_named_by_the_model():
    from cepcli.agents.config import TrainConfig
    from cepcli.runs.engine import default_name

    for address, label in (("http://h:8000/v1#org/m-7B", "m-7B"), ("http://h:8000", "h-8000")):
        name = default_name(TrainConfig(prior=f"server:{address}"))
        assert name == f"babyai-goto-redball_posterior-q_{label}_{TrainConfig().cache.mode}_s0"
