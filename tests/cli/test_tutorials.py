"""Every tutorial, and the page of the API, as a reader follows it, in a workspace of its own.

Console lines run in order, in this process; a block with a file's name is written to that file;
other Python blocks run one after another in one namespace; a block of text is what the commands
before it print, up to the numbers in it. Runs are made short (`SHORT`). Stand-ins take the
place of the language models; marked slow, the same pages run with the real ones.
"""

import contextlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import pytest

from tests.docs_pages import DOCS, TUTORIALS, commands, fences, label, prose
from tests.fakes import FakeScorer
from tests.prior.served import Served, gguf_weights

#: Where the tutorials say that a server listens.
ADDRESS = "http://127.0.0.1:8080"

_EVALUATION = {"eval_episodes": 1, "final_eval_episodes": 1}
_OFFLINE = {**_EVALUATION, "control.hidden": 16, "text.hidden": 16, "text.members": 2}
#: Environments, or their families, whose agents have no `learner`, while others have no `sac`.
CONTROL = {"walker2d", "halfcheetah", "ant", "metaworld"}
#: What makes a command short: options, whose last value counts, then settings, unless typed.
SHORT = {
    "cep train": (("--steps", "40"), {**_EVALUATION, "eval_interval": 40, "eval_lanes": 1,
                  "learner.learning_starts": 20, "learner.hidden": 16, "sac.hidden": 16,
                  "sac.learning_starts": 20, "sac.batch_size": 16}),
    "cep eval": (("--episodes", "1"), {}),
    "cep annotate auto": (("--count", "6"), {"pool": 2}),
    "cep abstract train": ((), {"encoder": "hash", "steps": 10, "rollout_states": 40}),
    "cep cache replay": ((), {}),
    "cep envs check": (("--episodes", "1"), {}),
    "cep prior demos": (("--episodes", "2", "--heldout-episodes", "2"), {}),
    "cep offline collect": (("--transitions", "60"), {}),
    "cep offline cql": (("--steps", "4"), _OFFLINE),
    "cep offline cql-prior": (("--steps", "4"), _OFFLINE),
    "cep offline eval": (("--episodes", "1"), {}),
}  # fmt: skip


def shortened(words):
    """The words of a command with what makes it short."""
    for length in (3, 2):
        options, settings = SHORT.get(" ".join(words[:length]), (None, None))
        if options is not None:
            typed = {word.partition("=")[0] for word in words}
            control = CONTROL & {word.partition("/")[0] for word in words}
            idle = ("learner.",) if control else ("sac.",)
            idle += ("learner.",) if "direct-llm" in words else ()
            kept = {k: v for k, v in settings.items() if k not in typed and not k.startswith(idle)}
            more = (("--set", f"{k}={v}") for k, v in kept.items())
            return [*words, *options, *(word for pair in more for word in pair)]
    return words


class Reader:
    """Someone who does what a page says.

    Attributes:
        printed: what the commands since the last block of text have printed.
        serve: a function that begins a server's command and returns its address.
        install: what `pip install FOLDER` does.
    """

    def __init__(self, cep, capsys, folder, serve, install):
        self.cep, self.capsys, self.folder = cep, capsys, folder
        self.serve, self.install = serve, install
        self.names = {"__name__": "tutorial"}
        self.address = ADDRESS
        self.printed = ""

    def follow(self, text):
        for fence in fences(text):
            if fence.info[:2] == ("console", "server"):
                (line,) = commands(fence)
                self.address = self.serve(shlex.split(line))
            elif fence.file:
                assert f"`{fence.file}`" in prose(text), f"{fence.file} is not introduced"
                (self.folder / fence.file).write_text(fence.body)
            elif fence.language == "console":
                for line in commands(fence):
                    self.run(line)
            elif fence.language == "python":
                self.printed += self.captured(lambda body=fence.body: exec(body, self.names))
            elif fence.language == "text":
                self.compare(fence.body)
                self.printed = ""
            else:
                raise AssertionError(f"nobody runs a block of {fence.info}")

    def run(self, line):
        words = shlex.split(line.replace(ADDRESS, self.address))
        if words[0] == "cep":
            done = self.cep(*shortened(words)[1:])
            assert done.code == 0, f"{line}\n{done.out}{done.err}"
            self.printed += done.out + done.err
        elif words[:2] == ["pip", "install"]:
            self.install(self.folder)
        else:
            program, file = words
            assert program == "python", f"nobody runs `{line}`"
            play = lambda: runpy.run_path(file, run_name="__main__")  # noqa: E731
            self.printed += self.captured(play)

    def captured(self, play):
        self.capsys.readouterr()
        play()
        return self.capsys.readouterr().out

    def compare(self, expected):
        """Every line shown was printed, whatever the numbers; "…" stands for anything."""
        printed = figureless(self.printed).splitlines()
        for line in figureless(expected).splitlines():
            pattern = ".*".join(re.escape(part.strip()) for part in line.split("…"))
            found = any(re.fullmatch(rf"\W*{pattern}\W*", each) for each in printed)
            assert found, f"not printed: {line}\n{self.printed}"


def figureless(text):
    """`text` with # for every number, and single blanks."""
    return re.sub(r"[ \t]+", " ", re.sub(r"-?\d[\d.,]*\d|-?\d|nan", "#", text))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the reader works; artifacts go to `$CEP_HOME`, and no datasets are there but cep's."""
    made = tmp_path / "work"
    made.mkdir()
    monkeypatch.chdir(made)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.delenv("D4RL_DATASET_DIR", raising=False)
    monkeypatch.delenv("CEP_SERVER_KEY", raising=False)
    return made


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder that packages are imported from, until the test is over."""
    from cepcli.envs import catalog

    found = tmp_path / "packages"
    found.mkdir()
    monkeypatch.syspath_prepend(found)
    loaded = set(sys.modules)
    catalog.plugins.cache_clear()
    yield found
    for name in set(sys.modules) - loaded:
        if str(found) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]
    catalog.plugins.cache_clear()


@pytest.fixture
def stand_ins(monkeypatch):
    """Scores and vectors from hashes in place of language model and sentence encoder."""
    from cepcli.keys import key_encoder
    from cepcli.keys.hashing import HashEncoder
    from cepcli.runs import assembly

    monkeypatch.setattr(
        "cepcli.prior.local.language_model.load_language_model",
        lambda *given, **more: SimpleNamespace(revision=""),
    )
    monkeypatch.setattr("cepcli.prior.local.hf.HFScorer", lambda *given, **more: FakeScorer())
    for module in (key_encoder, assembly):
        monkeypatch.setattr(module, "MiniLM", lambda *given: HashEncoder())


def unpack(packages):
    """`pip install FOLDER` without pip: the modules, and the entry points of its pyproject.toml."""

    def install(folder):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        for module in folder.glob("*.py"):
            shutil.copy(module, packages)
        info = packages / f"{project['name']}-{project['version']}.dist-info"
        info.mkdir()
        lines = [f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"]
        (info / "METADATA").write_text("".join(lines))
        points = [
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
            for group, named in project["entry-points"].items()
        ]
        (info / "entry_points.txt").write_text("\n".join(points))
        refresh()

    return install


def pip(packages):
    """The real thing, into a folder of its own."""

    def install(folder):
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
             "--no-build-isolation", "--disable-pip-version-check", "--target", packages, folder],
            check=True,
        )  # fmt: skip
        refresh()

    return install


def refresh():
    """Entry points are looked for again."""
    import importlib

    from cepcli.envs import catalog

    importlib.invalidate_caches()
    catalog.plugins.cache_clear()


QUICK = [DOCS / "tutorials/first-run.md", DOCS / "api.md"]


@pytest.mark.usefixtures("stand_ins", "short_search")
@pytest.mark.parametrize(
    "page",
    [*QUICK, *(pytest.param(p, marks=pytest.mark.slow) for p in TUTORIALS if p not in QUICK)],
    ids=label,
)
def test_tutorial_runs(page, cep, capsys, folder, packages):
    with contextlib.closing(Served()) as server:
        Reader(cep, capsys, folder, lambda words: server.url, unpack(packages)).follow(
            page.read_text()
        )


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", [*TUTORIALS, DOCS / "api.md"], ids=label)
def test_tutorial_runs_with_the_real_models(page, cep, capsys, folder, packages):
    with contextlib.ExitStack() as running:

        def serve(words):
            (folder / "model.gguf").symlink_to(gguf_weights())
            process = running.enter_context(
                subprocess.Popen(
                    [sys.executable, *words[1:-1], "0"], stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL, text=True,
                )
            )  # fmt: skip
            running.callback(process.kill)
            assert process.stdout is not None
            return process.stdout.readline().split()[-1]

        Reader(cep, capsys, folder, serve, pip(packages)).follow(page.read_text())


def test_every_line_of_a_tutorial_that_is_shortened_is_known():
    """A name that no tutorial uses is a rest of an older one."""
    lines = [
        line
        for page in TUTORIALS
        for fence in fences(page.read_text())
        if fence.language == "console"
        for line in commands(fence)
    ]
    for name in SHORT:
        assert any(line.startswith(f"{name} ") for line in lines), name
