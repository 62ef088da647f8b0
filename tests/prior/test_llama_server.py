"""The native llama-server on loopback, serving the weights that the embedded model was made of."""

import contextlib
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from cepcli.prior.base import Prompt
from cepcli.prior.config import ServerConfig
from cepcli.prior.local.hf import HFScorer
from cepcli.prior.local.language_model import load_language_model
from cepcli.prior.server.address import server_address
from cepcli.prior.server.scorer import ServerScorer
from tests.prior.local.test_hf import ACTIONS, PROMPTS
from tests.prior.served import gguf_weights
from tests.prior.tiny import KINDS, save_tiny
from tests.prior.tiny_gguf import save

pytest.importorskip("xllamacpp", reason="the llama-server is in the package xllamacpp")
pytestmark = pytest.mark.slow

#: Prints its address when it listens.
START = """
import sys, time
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[2])
params.n_ctx, params.n_parallel, params.warmup = 1024, 2, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
while True:
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def weights():
    return gguf_weights()


@contextlib.contextmanager
def running(weights, port=0):
    """A llama-server's process and its address."""
    command = [sys.executable, "-c", START, str(weights), str(port)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def llama(weights):
    with running(weights) as (_, url):
        yield url


@pytest.fixture(scope="module")
def scorer(llama):
    found = ServerScorer(
        server_address(f"server:{llama}"), key=None, template="t", config=ServerConfig()
    )
    yield found
    found.close()


def test_scores_agree_with_ours_for_the_same_weights(scorer, embedded_model):
    """To within the 8 bits in which llama.cpp holds activations; the tokens are the same."""
    assert scorer.way == "grammar"
    ours = HFScorer(embedded_model, template="t", row_tokens=512)
    sets = [ACTIONS, ACTIONS[:2], ACTIONS[3:5], ACTIONS[:1]]
    pairs = zip(scorer.score(PROMPTS, sets), ours.score(PROMPTS, sets), strict=True)
    differences = []
    for theirs, mine in pairs:
        assert theirs.lengths.tolist() == mine.lengths.tolist()
        differences += list((theirs.log_likelihood - mine.log_likelihood) / mine.lengths)
    assert np.abs(differences).max() < 0.2
    assert np.abs(differences).mean() < 0.06


def test_tokens_that_no_grammar_forces_are_scored_one_by_one(scorer, embedded_model):
    """Those that end inside a character, and the end of the text."""
    texts = [Prompt("", 'Ein Ärger: "größer" → 3 €.\tNext action:')]
    actions = ["öffne die Tür", "go 日本", "go <|im_end|>", "größer"]
    [theirs] = scorer.score(texts, [actions])
    [mine] = HFScorer(embedded_model, template="t", row_tokens=512).score(texts, [actions])
    assert theirs.lengths.tolist() == mine.lengths.tolist()
    differences = (theirs.log_likelihood - mine.log_likelihood) / mine.lengths
    assert np.abs(differences).max() < 0.25


def test_it_writes_what_comes_after_a_prompt(scorer):
    texts = [Prompt("", "The capital of France is"), Prompt("", "One, two, three,")]
    lines = scorer.complete(texts, 6)
    assert "Paris" in lines[0].text
    assert "four" in lines[1].text
    assert [line.text for line in scorer.complete(texts, 6)] == [line.text for line in lines]


def test_context_of_a_slot_is_known(scorer):
    from cepcli.errors import PriorError

    with pytest.raises(PriorError, match="takes 512"):
        scorer.score([Prompt("", "wall " * 600)], [["go north"]])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_commands_take_a_served_prior(llama, workspace_root):
    from cepcli.cli.main import app

    def cep(*words):
        result = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout.strip().splitlines()[-1])

    env, prior = ("--env", "babyai/goto-redball"), ("--prior", f"server:{llama}")
    shown = cep("prior", "score", *env, *prior, "--json")
    assert sum(np.exp(row["log_prior"]) for row in shown["actions"]) == pytest.approx(1)
    short = [
        "steps=8",
        "eval_interval=8",
        "final_eval_episodes=1",
        "eval_episodes=1",
        "eval_lanes=1",
    ]
    sets = [word for setting in short for word in ("--set", setting)]
    words = (
        "train",
        *env,
        *prior,
        "--agent",
        "direct-llm",
        "--cache",
        "exact",
        "--quiet",
        "--json",
    )
    run = cep(*words, *sets, "--name", "served")
    assert run["queries"]["total"] > 0
    again = cep("eval", run["run"], "--episodes", "1", "--json")
    assert again["eval"]["episodes"] == 1


def test_server_killed_and_started_again_is_taken_up(weights):
    config = ServerConfig(retries=8, backoff=0.25)
    prompt, actions = [Prompt("", "You see a wall.\nNext action:")], [ACTIONS]
    with running(weights) as (process, url):
        scorer = ServerScorer(
            server_address(f"server:{url}"), key=None, template="t", config=config
        )
        [before] = scorer.score(prompt, actions)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with running(weights, port=int(url.rsplit(":", 1)[1])):
        [after] = scorer.score(prompt, actions)
    scorer.close()
    assert after.log_likelihood == pytest.approx(before.log_likelihood, abs=0.05)


def test_a_model_with_bos_and_sentencepiece_scores_as_here(tmp_path):
    """Its /tokenize gives the tokens that transformers gives, and so does what it completes."""
    tokenizer = KINDS["sentencepiece, prefix blank, BOS"]()
    model = load_language_model(str(save_tiny(tmp_path / "tiny", tokenizer)), dtype="float32")
    weights = save(tmp_path / "tiny.gguf", model.model, tokenizer)
    prompts, sets = PROMPTS, [ACTIONS] * len(PROMPTS)
    ours = HFScorer(model, template="t", row_tokens=512)
    with running(weights) as (_, url):
        address = server_address(f"server:{url}")
        scorer = ServerScorer(address, key=None, template="t", config=ServerConfig())
        assert scorer.count_tokens("You see a wall.") == ours.count_tokens("You see a wall.")
        pairs = zip(scorer.score(prompts, sets), ours.score(prompts, sets), strict=True)
        for theirs, mine in pairs:
            assert theirs.lengths.tolist() == mine.lengths.tolist()
            per_token = (theirs.log_likelihood - mine.log_likelihood) / mine.lengths
            assert np.abs(per_token).max() < 0.05
        scorer.close()
