"""A served model as a scorer, against a small server in the test that behaves or misbehaves."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from cepcli.errors import CacheError, ConfigError, PriorError
from cepcli.prior.base import Prompt
from cepcli.prior.config import PriorConfig, ServerConfig
from cepcli.prior.journal import Journal
from cepcli.prior.load import load_prior
from cepcli.prior.local.language_model import load_language_model
from cepcli.prior.server.address import server_address
from cepcli.prior.server.connection import Connection, _retry_after
from cepcli.prior.server.scorer import ServerScorer
from cepcli.types import TextState
from cepcli.workspace.artifacts import Workspace
from tests.prior import served as trouble
from tests.prior.served import BOS, Served, log_likelihood, tokens_of

ACTIONS = ["turn left", "go north", "go north east", "toggle"]
PROMPTS = [
    Prompt("An agent walks.\n", "You see a wall.\nNext action:"),
    Prompt("An agent walks.\n", "You see a red ball.\nNext action:"),
    Prompt("", "You see nothing.\nNext action:"),
]
QUICK = ServerConfig(timeout=60.0, retries=2, backoff=0.01)
#: With a server that takes 1 s or more.
HASTY = replace(QUICK, timeout=0.4)
STATE = TextState("find the ball", "You see a ball.", tuple(ACTIONS))


@pytest.fixture
def serve():
    running = []

    def start(*args, **settings):
        found = Served(*args)
        for name, value in settings.items():
            setattr(found, name, value)
        running.append(found)
        return found

    yield start
    for one in running:
        one.close()


@pytest.fixture
def connect():
    made = []

    def scorer(server, config=QUICK, *, model="", key=None):
        address = server_address(server.name + model)
        made.append(ServerScorer(address, key=key, template="t-1", config=config))
        return made[-1]

    yield scorer
    for one in made:
        one.close()


def hasty(what):
    return HASTY if what in ("hang", "drip") else QUICK


def check(answers, prompts=PROMPTS, actions=ACTIONS, bos=False):
    for prompt, answer in zip(prompts, answers, strict=True):
        expected = [log_likelihood(prompt, action, bos=bos) for action in actions]
        assert answer.log_likelihood.tolist() == pytest.approx([e[0] for e in expected])
        assert answer.lengths.tolist() == [e[1] for e in expected]


@pytest.mark.parametrize("way", ["prompt_logprobs", "echo", "grammar"])
def test_every_way_gives_the_log_likelihoods(serve, connect, way):
    scorer = connect(serve((way,)))
    assert scorer.way == way
    check(scorer.score(PROMPTS, [ACTIONS] * 3))
    check(scorer.score(PROMPTS[2:], [ACTIONS]), PROMPTS[2:])
    assert scorer.score([], []) == []


@pytest.mark.parametrize("way", ["prompt_logprobs", "echo", "grammar"])
@pytest.mark.parametrize("eos", [False, True])
def test_special_tokens_come_before_a_text_and_none_behind_it(serve, connect, way, eos):
    server = serve((way,), bos=True, eos=eos)
    scorer = connect(server)
    check(scorer.score(PROMPTS, [ACTIONS] * 3), bos=True)
    check(scorer.score(PROMPTS, [ACTIONS] * 3), bos=True)
    assert scorer.count_tokens("You see a wall.") == 4
    assert scorer.count_tokens("") == 0
    [line] = scorer.complete([Prompt("One two", " three")], 9)
    assert line.text == "a thought of 4."
    assert line.tokens == 4 + 5
    assert scorer.fingerprint != connect(serve((way,))).fingerprint


@pytest.mark.parametrize("way", ["prompt_logprobs", "echo", "grammar"])
def test_server_that_reads_other_tokens_than_it_tells_is_refused(serve, connect, way):
    with pytest.raises(PriorError, match="as 11 tokens, but /tokenize gives 10"):
        connect(serve((way,), bos=True, forgets=True))
    connect(serve((way,), bos=True, counts=False))


@pytest.mark.parametrize("way", ["prompt_logprobs", "echo", "grammar"])
@pytest.mark.parametrize("stand_in", [-9999.0, -1e9, -100.0])
def test_numbers_that_stand_for_a_log_probability_are_refused(serve, connect, way, stand_in):
    with pytest.raises(PriorError, match=rf"{re.escape(f'{stand_in:g}')} .*not t.l"):
        connect(serve((way,), stand_in=stand_in))


@pytest.mark.parametrize(("way", "first"), [("echo", f"p{BOS}"), ("grammar", "<0xC3>")])
def test_tokens_are_shown_with_what_the_server_writes_for_them(serve, connect, way, first):
    scorer = connect(serve((way,), bos=True))
    read = scorer.tokens(PROMPTS[0], ACTIONS)
    [answer] = scorer.score(PROMPTS[:1], [ACTIONS])
    assert read.prompt[0] == (BOS, first, None)
    assert [token.id for token in read.prompt[1:]] == tokens_of(
        PROMPTS[0].prefix + PROMPTS[0].state
    )
    for action, total, tokens in zip(ACTIONS, answer.log_likelihood, read.actions, strict=True):
        assert sum(token.log_prob for token in tokens) == pytest.approx(total)
        ids = tokens_of(f" {action}\n")
        assert [(token.id, token.piece) for token in tokens] == [(i, f"p{i}") for i in ids]
    assert read.dropped == [0] * 4


def test_a_stand_in_that_comes_later_is_refused(serve, connect):
    server = serve()
    scorer = connect(server)
    server.stand_in = -9999.0
    with pytest.raises(PriorError, match="it answered -9999 where a log-probability should be"):
        scorer.score(PROMPTS, [ACTIONS] * 3)


@pytest.mark.parametrize("way", ["echo", "grammar"])
def test_answers_that_differ_from_one_time_to_the_next_are_refused(serve, connect, way):
    with pytest.raises(PriorError, match="of the same text, asked twice, that differ"):
        connect(serve((way,), drifts=-0.2))


def test_answers_in_another_order_are_refused_and_asked_for_one_by_one(serve, connect):
    server = serve(("echo",), swaps=True)
    check(connect(server).score(PROMPTS, [ACTIONS] * 3))
    assert all(isinstance(body["prompt"][0], int) for body in server.scorings()[-12:])


def test_prompts_may_have_different_actions_and_answers_say_what_they_cost(serve, connect):
    one, two = connect(serve()).score(PROMPTS[:2], [ACTIONS[:1], ACTIONS[1:]])
    check([one], PROMPTS[:1], ACTIONS[:1])
    check([two], PROMPTS[1:2], ACTIONS[1:])
    assert (one.tokens, two.tokens) == (9 + 3, 3 * 10 + 3 + 4 + 2)
    assert one.seconds == one.live_seconds > 0


def test_a_line_is_written_after_each_prompt(serve, connect):
    served = serve()
    scorer = connect(served)
    lines = scorer.complete([Prompt("One two", " three"), Prompt("One two", " three four")], 9)
    assert [line.text for line in lines] == ["a thought of 3.", "a thought of 4."]
    bodies = [body for body in served.scorings() if "stop" in body]
    assert all((body["max_tokens"], body["temperature"]) == (9, 0) for body in bodies)
    assert [line.tokens for line in lines] == [3.0 + 5, 4.0 + 5], "what was written is counted"
    served.usage = {"completion_tokens": 4}
    [line] = scorer.complete([Prompt("One two", " three")], 9)
    assert line.tokens == 3.0 + 4
    assert scorer.complete([], 9) == []


def test_a_line_that_would_not_fit_is_refused(serve, connect):
    served = serve()
    served.context = 10
    with pytest.raises(PriorError, match="takes 10"):
        connect(served).complete([Prompt("One two", " three")], 9)


def test_server_that_ignores_everything_is_refused_with_the_counts(serve, connect):
    with pytest.raises(PriorError, match="cannot say how likely a given text is") as error:
        connect(serve(()))
    assert "0 prompt_logprobs for 14 tokens" in error.value.message
    assert "0 echoed log-probabilities for 14 tokens" in error.value.message
    assert "grammar one by one: 404" in error.value.message
    assert "vllm serve" in error.value.hint
    assert "llama-server" in error.value.hint


def test_shifted_log_probabilities_are_refused(serve, connect):
    with pytest.raises(PriorError, match="so they are shifted"):
        connect(serve(("echo",), shift=1))


def test_probabilities_after_forcing_are_refused(serve, connect):
    with pytest.raises(PriorError, match=r"add up to 2\.00"):
        connect(serve(("grammar",), forced=True))


def test_server_without_tokenize_is_refused(serve, connect, monkeypatch):
    monkeypatch.setattr(trouble, "tokens_of", lambda text: [])
    with pytest.raises(PriorError, match="no token ids at /tokenize"):
        connect(serve())


def test_actions_are_scored_several_in_one_request(serve, connect):
    server = serve()
    scorer = connect(server, ServerConfig(batch=5))
    before = len(server.scorings())
    check(scorer.score(PROMPTS, [ACTIONS] * 3))
    sizes = [len(body["prompt"]) for body in server.scorings()[before:]]
    assert sorted(sizes) == [2, 5, 5]


def test_server_that_takes_one_prompt_only_is_asked_one_by_one(serve, connect):
    server = serve(("echo",), lists=False)
    check(connect(server).score(PROMPTS, [ACTIONS] * 3))
    assert all(isinstance(body["prompt"][0], int) for body in server.scorings()[-12:])


def test_requests_run_side_by_side_up_to_the_bound(serve, connect):
    server = serve(("grammar",), seconds=0.03)
    scorer = connect(server, ServerConfig(concurrency=3))
    server.most = 0
    scorer.score(PROMPTS, [ACTIONS] * 3)
    assert server.most == 3


def test_actions_that_come_again_are_tokenized_once(serve, connect):
    server = serve()
    scorer = connect(server)
    scorer.score(PROMPTS[:2], [ACTIONS] * 2)
    scorer.score(PROMPTS[:2], [ACTIONS] * 2)
    texts = [body["prompt"] for path, body, _ in server.asked if path == "/tokenize"]
    assert [sum(text.endswith(f": {action}\n") for text in texts) for action in ACTIONS] == [1] * 4


@pytest.mark.parametrize(
    "what",
    [
        "limit",
        "fail",
        "page",
        "truncated",
        "wrong_type",
        "too_few",
        "not_numbers",
        "hang",
        "drip",
        "die",
    ],
)
def test_what_passes_is_overcome(serve, connect, what):
    server = serve()
    scorer = connect(server, hasty(what))
    server.troubles = [getattr(trouble, what)] * 2
    check(scorer.score(PROMPTS[:1], [ACTIONS]), PROMPTS[:1])


@pytest.mark.parametrize(
    ("what", "message", "hint"),
    [
        ("limit", r"answered 429 \(rate limit\)", "server.concurrency=1"),
        ("fail", r"answered 500 \(CUDA error: out of memory\)", "Look at the server's log"),
        ("page", r"an HTML page \(title: 502 Bad Gateway\) instead of JSON", "NO_PROXY"),
        ("truncated", r"only a part of it, beginning with `\{\"choices\": \[", "log"),
        ("wrong_type", "JSON of type list", "log"),
        ("too_few", "1 choices for 4 prompts", "log"),
        ("not_numbers", "1 choices for 4 prompts", "log"),
        ("hang", r"no answer within 0\.4 s", "server.timeout=600"),
        ("drip", r"no answer within 0\.4 s", "server.timeout=600"),
        ("die", "the connection broke", "log"),
    ],
)
def test_what_stays_ends_with_a_sentence_after_bounded_attempts(
    serve, connect, what, message, hint
):
    server = serve()
    scorer = connect(server, hasty(what))
    server.troubles = [getattr(trouble, what)] * 99
    with pytest.raises(
        PriorError, match=f"no usable answer to /v1/completions.*{message}"
    ) as error:
        scorer.score(PROMPTS[:1], [ACTIONS])
    assert 99 - len(server.troubles) == 1 + QUICK.retries
    assert hint in error.value.hint
    server.troubles = []
    check(scorer.score(PROMPTS[:1], [ACTIONS]), PROMPTS[:1])


@pytest.fixture
def interruptible():
    """Ctrl-C works as it does in a terminal; what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupted_caller_need_not_wait_and_nothing_goes_on(serve, connect):
    server, caller_left, answered = serve(), threading.Event(), threading.Event()
    scorer = connect(server, QUICK)

    def interrupt(handler):
        os.kill(os.getpid(), signal.SIGINT)
        assert caller_left.wait(50.0)  # the caller, who would wait for 60 s, waits for no answer
        answered.set()

    server.troubles = [interrupt, trouble.hang]
    with pytest.raises(KeyboardInterrupt):
        scorer.score(PROMPTS[:1], [ACTIONS])
    assert not answered.is_set()
    caller_left.set()
    assert answered.wait(60.0)
    time.sleep(0.2)  # another attempt would come after at most 0.015
    assert len(server.troubles) == 1
    server.troubles = []
    check(scorer.score(PROMPTS[:1], [ACTIONS]), PROMPTS[:1])


def test_many_states_reach_the_server_together_though_each_answer_is_recorded(
    serve, workspace_root
):
    server = serve()
    prior = load(server, workspace_root, limits=ServerConfig())
    before = len(server.scorings())
    states = [replace(STATE, text=f"You see {number} balls.") for number in range(40)]
    prior.log_probs(states)
    sizes = [len(body["prompt"]) for body in server.scorings()[before:]]
    assert sizes == [16] * 10, "40 states of 4 actions, 16 of them a request"


def test_lines_are_written_side_by_side(serve, workspace_root):
    server = serve()
    prior = load(server, workspace_root, limits=ServerConfig())
    server.seconds, server.most = 0.5, 0
    prior.scorer.complete([Prompt("", f"{number} balls") for number in range(8)], 9)
    assert 1 < server.most <= 8
    asked = len(server.scorings())
    prior.scorer.complete([Prompt("", f"{number} balls") for number in range(8)], 9)
    assert len(server.scorings()) == asked


def test_one_failure_calls_off_the_other_requests(serve, connect):
    server = serve()
    scorer = connect(server, ServerConfig(concurrency=1, batch=1))
    server.troubles = [trouble.refuse]
    before = len(server.scorings())
    with pytest.raises(PriorError, match="400"):
        scorer.score(PROMPTS, [ACTIONS] * 3)
    assert len(server.scorings()) - before <= 2


@pytest.mark.parametrize(
    ("what", "words"), [("refuse", r"400 \(logprobs are"), ("cannot", r"501 \(not implemented")]
)
def test_what_no_retry_will_mend_is_not_tried_again(serve, connect, what, words):
    server = serve()
    scorer = connect(server)
    server.troubles = [getattr(trouble, what)] * 9
    with pytest.raises(PriorError, match=rf"refused /v1/completions: {words}"):
        scorer.score(PROMPTS[:1], [ACTIONS])
    assert len(server.troubles) == 8


def test_redirect_is_named_and_not_followed(serve, connect):
    server = serve(key="sk-secret")
    scorer = connect(server, key="sk-secret")
    server.troubles = [trouble.redirect] * 9
    with pytest.raises(PriorError, match="308") as error:
        scorer.score(PROMPTS[:1], [ACTIONS])
    assert "redirects /v1/completions to https://other.example/deep/v1/comp" in error.value.message
    assert error.value.hint.endswith("--prior server:https://other.example/deep")
    assert len(server.troubles) == 8


@pytest.mark.parametrize(
    "location", ["/v2/v1/models", "//host/v1/models", "v1/models/", "", "http://[bad/"]
)
def test_redirect_of_any_form_is_a_sentence(serve, connect, location):
    def moved(handler):
        handler.raw(b"", "text/plain", 302, [("Location", location)])

    server = serve()
    scorer = connect(server)
    server.troubles = [moved]
    with pytest.raises(PriorError, match="302"):
        scorer.score(PROMPTS[:1], [ACTIONS])


def test_time_to_wait_may_be_told_as_a_date():
    def wait(**headers):
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return _retry_after(httpx.Response(503, headers=told))

    assert wait(retry_after="7") == 7.0
    late, sent = "Wed, 21 Oct 2065 07:28:00 GMT", "Wed, 21 Oct 2065 07:27:30 GMT"
    assert wait(retry_after=late, date=sent) == 30.0
    assert wait(retry_after="Wednesday, 21-Oct-65 07:28:00 GMT", date=sent) == 30.0
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert wait(retry_after=soon) == pytest.approx(20.0, abs=2.0)
    assert wait(retry_after="Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert [wait(retry_after=text) for text in ("soon", "-3", "")] == [None] * 3
    assert wait() is None


def test_server_that_is_gone_is_named(serve, connect):
    server = serve()
    scorer = connect(server)
    server.close()
    with pytest.raises(PriorError, match=rf"{server.url}.*no connection") as error:
        scorer.score(PROMPTS[:1], [ACTIONS])
    assert "Start it" in error.value.hint


def test_waits_grow_are_spread_and_obey_the_server(serve, connect):
    connection = connect(serve())._model.connection
    waits = [[connection._pause(n, None) for _ in range(50)] for n in range(3)]
    for n, drawn in enumerate(waits):
        assert 0.01 * 2**n <= min(drawn) < max(drawn) <= 0.015 * 2**n
    assert connection._pause(0, 7.0) >= 7.0
    assert connection._pause(0, 1e6) <= 90.0


def test_key_is_sent_and_shown_nowhere(serve, connect, caplog):
    caplog.set_level(0)
    server = serve(key="sk-very-secret")
    scorer = connect(server, key="sk-very-secret")
    check(scorer.score(PROMPTS[:1], [ACTIONS]), PROMPTS[:1])
    assert server.asked[-1][2]["Authorization"] == "Bearer sk-very-secret"
    assert "secret" not in str(scorer.fingerprint)
    server.key = "another"
    with pytest.raises(PriorError, match="refuses the key: 401") as error:
        scorer.score(PROMPTS[:1], [ACTIONS])
    assert "secret" not in error.value.message + error.value.hint + caplog.text
    with pytest.raises(PriorError, match="without a key"):
        connect(server)


def test_key_that_cannot_be_sent_is_refused_unseen(serve, connect):
    with pytest.raises(ConfigError, match="CEP_SERVER_KEY") as error:
        connect(serve(), key="sk-secret\nX-Header: 1")
    assert "secret" not in error.value.message + error.value.hint


@pytest.mark.parametrize(
    "host", ["example.org", "10.0.0.7:8000", "[fd00::1]", "localhost.evil.org"]
)
def test_key_goes_to_no_other_machine_in_the_clear(host):
    url = f"http://{host}"
    with pytest.raises(ConfigError, match="unencrypted, where others can read it") as error:
        Connection(url, "sk-secret", QUICK)
    assert url in error.value.message
    assert "--insecure" in error.value.hint
    assert "--set llm.server.insecure=true" in error.value.hint
    assert "secret" not in error.value.message + error.value.hint.replace("--insecure", "")
    Connection(url, None, QUICK)
    Connection(url, "sk-secret", replace(QUICK, insecure=True))
    Connection(f"https://{host}", "sk-secret", QUICK)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2:80", "[::1]", "0.0.0.0:8000"])
def test_key_may_stay_on_this_machine(host):
    Connection(f"http://{host}", "sk-secret", QUICK)


def test_no_proxy_gets_what_is_for_this_machine(serve, connect, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    check(connect(serve(), key="sk-secret").score(PROMPTS[:1], [ACTIONS]), PROMPTS[:1])


def test_which_of_several_models_must_be_said(serve, connect):
    server = serve(("echo",), [{"id": "org/one", "aliases": ["uno"]}, {"id": "org/two"}])
    with pytest.raises(PriorError, match="serves 2 models: org/one, org/two") as error:
        connect(server)
    assert f"--prior {server.name}#org/one" in error.value.hint
    with pytest.raises(PriorError, match="no model `org/tow`") as error:
        connect(server, model="#org/tow")
    assert "Did you mean `org/two`?" in error.value.hint
    assert connect(server, model="#org/two").fingerprint.model == "org/two"
    assert connect(server, model="#uno").fingerprint.model == "org/one"
    assert {body["model"] for body in server.scorings()} == {"org/one", "org/two"}


@pytest.mark.parametrize("way", ["echo", "grammar"])
def test_prompt_longer_than_the_context_is_refused_unasked(serve, connect, way):
    server = serve((way,), context=30)
    scorer = connect(server)
    check(scorer.score(PROMPTS[:1], [ACTIONS]), PROMPTS[:1])
    before = len(server.scorings())
    long = Prompt("", "wall " * 40)
    with pytest.raises(PriorError, match=r"41 tokens needs 46 with its actions, but `m`.*takes 30"):
        scorer.score([PROMPTS[0], long], [ACTIONS] * 2)
    assert len(server.scorings()) == before


def test_empty_prompt_is_an_error(serve, connect):
    with pytest.raises(PriorError, match="empty"):
        connect(serve()).score([Prompt("", "")], [["toggle"]])


def test_fingerprint_is_the_models_not_the_addresses(serve, connect):
    here, there = connect(serve()), connect(serve())
    assert here.fingerprint == there.fingerprint
    assert (here.fingerprint.backend, here.fingerprint.model) == ("server", "m")
    other = connect(serve(("echo",), [{"id": "m", "root": "org/other"}]))
    assert other.fingerprint != here.fingerprint
    same = connect(serve(("echo",), [{"id": "m", "root": "org/m", "created": 5}]))
    assert same.fingerprint == here.fingerprint


def test_other_weights_under_the_same_name_are_refused(serve, connect, tmp_path):
    server = serve()
    with Journal(tmp_path / "j") as journal:
        connect(server).check_unchanged(journal)
        connect(server).check_unchanged(journal)
        server.salt = "tuned"
        with pytest.raises(CacheError, match="other weights under the name `m`"):
            connect(server).check_unchanged(journal)


def load(server, workspace_root, limits=QUICK, **config):
    return load_prior(
        server.name, family="babyai", workspace=Workspace(workspace_root),
        config=PriorConfig(server=limits, **config), device="cpu",
        journal_path=workspace_root / "journal.sqlite",
    )  # fmt: skip


@pytest.mark.parametrize("normalisation", ["sum", "mean", "pmi"])
def test_prior_normalises_as_for_a_local_model(serve, workspace_root, normalisation):
    prior = load(serve(), workspace_root, normalisation=normalisation)
    [answer] = prior.log_probs([STATE])
    prompt = prior.template.render(STATE)
    expected = []
    for action in ACTIONS:
        score, length = log_likelihood(prompt, action)
        neutral = log_likelihood(prior.template.neutral(), action)[0]
        expected.append(
            {"sum": score, "mean": score / length, "pmi": score - neutral}[normalisation]
        )
    assert answer.scores.tolist() == pytest.approx(expected)
    assert "backend=server model=m" in str(prior.namespace("k", "babyai"))


def test_journal_answers_what_was_paid_for(serve, workspace_root):
    server = serve()
    [first] = load(server, workspace_root).log_probs([STATE])
    again = load(server, workspace_root)
    asked = len(server.rows())
    [second] = again.log_probs([STATE])
    assert len(server.rows()) == asked
    assert second.scores.tolist() == first.scores.tolist()
    assert (second.live_seconds, second.seconds) == (0.0, first.seconds)


SCORE_MANY = """
import sys
from pathlib import Path
from cepcli.workspace.artifacts import Workspace
from cepcli.prior.config import PriorConfig
from cepcli.prior.load import load_prior
from cepcli.types import TextState

name, root = sys.argv[1], Path(sys.argv[2])
actions = ("turn left", "go north", "go north east", "toggle")
prior = load_prior(
    name, family="babyai", workspace=Workspace(root), config=PriorConfig(), device="cpu",
    journal_path=root / "journal.sqlite",
)
for number in range(20):
    prior.log_probs([TextState("find the ball", f"You see {number} balls.", actions)])
assert "torch" not in sys.modules
print("done")
"""


def test_killed_client_pays_again_for_its_last_question_only(serve, workspace_root):
    server, client = serve(), []
    server.troubles = [None] * 12 + [lambda handler: os.kill(client[0].pid, signal.SIGKILL)]
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", SCORE_MANY, server.name, str(workspace_root)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL) as killed:
        client.append(killed)
    assert killed.returncode == -signal.SIGKILL
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"
    states, probes, lost = 20 * len(ACTIONS), 2 * 4, len(ACTIONS)
    assert len(server.rows()) == states + probes + lost


def test_served_model_cannot_be_tuned():
    with pytest.raises(PriorError, match="served elsewhere"):
        load_language_model("server:http://127.0.0.1:1")


@pytest.mark.parametrize(
    "values",
    [{"concurrency": 0}, {"batch": 0}, {"timeout": 0.0}, {"retries": -1}, {"backoff": -1.0}],
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        ServerConfig(**values)
