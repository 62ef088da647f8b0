"""`cep annotate`: what each command says and leaves, in a terminal and without one."""

import io
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from cepcli.annotate import build
from cepcli.annotate.records import State, read_annotations
from tests.annotate.worlds import observation, row

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def sampled(monkeypatch):
    """Sampling gives walkers at `count` speeds, and takes no time."""

    def fake(env, count, *, pool, seed):
        return [State(env, observation(forward_speed=n / 50), n) for n in range(count)]

    monkeypatch.setattr(build, "sample_states", fake)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def answers(root, source="person", family="walker2d"):
    path = root / "annotations" / family / "annotations.jsonl"
    return [a for a in read_annotations(path, family) if a.source == source]


def test_bare_without_a_terminal_says_first_what_it_does(cep, workspace_root, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    done = cep("annotate")
    assert done.code == 0
    assert "No terminal for questions" in done.out.splitlines()[0]
    assert "walker2d by rules" in done.out.splitlines()[0]
    assert len(answers(workspace_root, "auto")) == 500, "250 that ship, and 250 sampled"


def test_bare_in_a_terminal_asks_for_what_is_missing(cep, workspace_root, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal("\nnobody\nrules\n7\n"))
    done = cep("annotate")
    assert done.code == 0, done.err
    assert "Which environment?" in done.out
    assert "How many states?" in done.out
    assert len(answers(workspace_root, "auto")) == 257


def test_bare_hands_over_to_the_terminal(cep, workspace_root, monkeypatch):
    cep("annotate", "auto", "--count", 2, "--overwrite")
    monkeypatch.setattr(sys, "stdin", Terminal("walker2d\nterminal\n8\n\nq\n"))
    done = cep("annotate")
    assert done.code == 0, done.err
    assert [a.primitive for a in answers(workspace_root)] == ["rise"]


def test_bare_asks_for_an_environment_that_exists(cep, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal("walkr\n"))
    done = cep("annotate")
    assert done.code == 2
    assert "Did you mean `walker2d`?" in done.err


def test_auto_says_what_it_added(cep, workspace_root):
    done = cep("annotate", "auto", "--count", 5, "--json")
    assert (done.code, done.json["added"], done.json["kept"]) == (0, 5, 250)
    assert Path(done.json["path"]) == workspace_root / "annotations/walker2d"
    done = cep("annotate", "auto", "--count", 6)
    assert "1 added, 255 were there" in done.out
    done = cep("annotate", "auto", "--count", 6)
    assert "0 added, 256 were there" in done.out
    assert "choose another --seed" in done.out
    done = cep("annotate", "auto", "--count", 4, "--overwrite")
    assert "4 added, 256 removed" in done.out
    assert "count = 4" in (workspace_root / "annotations/walker2d/config.toml").read_text()


def test_auto_under_a_name_of_its_own(cep, workspace_root):
    assert cep("annotate", "auto", "--count", 3, "--name", "mine", "--set", "pool=2").code == 0
    assert cep("annotate", "stats", "--name", "mine", "--json").json["states"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "walkr"], "Did you mean `walker2d`?"),
        (["--env", "babyai/goto-local"], "continuous control"),
        (["--env", "walker2d,ant"], "several families"),
        (["--count", "0"], "count is 0"),
        (["--set", "pol=2"], "Did you mean `pool`?"),
        (["--name", "a/b"], "cannot name an artifact"),
    ],
)
def test_what_auto_cannot_do_is_said(cep, arguments, message):
    done = cep("annotate", "auto", *arguments)
    assert done.code == 2
    assert message in done.err


def test_import_adds_all_or_nothing(cep, workspace_root, tmp_path):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text(row(source="import", text="from elsewhere") + "\n")
    bad.write_text(row(text="fine") + "\n" + row(primitive="ris") + "\n")
    assert cep("annotate", "import", good, "--json").json["added"] == 1
    done = cep("annotate", "import", bad)
    assert done.code == 2
    assert f"{bad}:2: the primitive `ris` is none of walker2d" in done.err
    assert "Did you mean `rise`?" in done.err
    assert [a.text for a in answers(workspace_root, "import")] == ["from elsewhere"]


def test_stats_of_what_ships(cep):
    for family in ("halfcheetah", "walker2d", "ant", "metaworld"):
        found = cep("annotate", "stats", "--env", family, "--json").json
        assert found["states"] == found["annotations"] == 250
        assert found["sources"] == {"auto": 250}
        assert found["texts_with_several_primitives"] == found["duplicates"] == 0
        assert all(found["primitives"].values()), family
        assert 20 <= found["texts"] <= 120
    assert len(found["envs"]) == 7


def test_stats_as_tables(cep, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(row(source="person") + "\n" + row(source="auto", primitive="brake") + "\n")
    cep("annotate", "import", path)
    done = cep("annotate", "stats")
    assert done.code == 0
    assert "States by primitive" in done.out
    assert "person and auto" in done.out


def test_stats_of_an_environment_without_annotations_says_so(cep):
    done = cep("annotate", "stats", "--env", "metaworld/hammer")
    assert done.code == 2
    assert "no annotation of metaworld/hammer in" in done.err
    assert "cep annotate auto --env metaworld/hammer" in done.err


def test_stats_of_a_file_with_a_wrong_line_names_it(cep, workspace_root):
    cep("annotate", "auto", "--count", 2, "--overwrite")
    path = workspace_root / "annotations/walker2d/annotations.jsonl"
    path.write_text(path.read_text() + row(text="") + "\n")
    done = cep("annotate", "stats")
    assert done.code == 2
    assert f"{path}:3: the text is empty" in done.err


def test_annotating_in_the_terminal(cep, workspace_root, monkeypatch):
    cep("annotate", "auto", "--count", 4, "--overwrite")
    typed = iter(["8", "", "t", "in my words", "7", "", "u", "", "nonsense", "s", "q"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    done = cep("annotate", "terminal")
    assert done.code == 0, done.err
    # the second answer was undone, and given again as suggested
    first, second = answers(workspace_root)
    assert first.primitive == "rise"
    assert second.text != "in my words"
    assert "Undone: in my words" in done.out
    assert "2 of 4 states are annotated by a person" in done.out
    assert list(typed) == []


def test_the_terminal_ends_when_all_is_answered(cep, workspace_root, monkeypatch):
    cep("annotate", "auto", "--count", 2, "--overwrite")
    monkeypatch.setattr("builtins.input", lambda prompt: "")
    done = cep("annotate", "terminal")
    assert "Every state is annotated." in done.out
    assert len(answers(workspace_root)) == 2


def test_the_terminal_shows_what_was_edited_by_hand_meanwhile(cep, workspace_root, monkeypatch):
    cep("annotate", "auto", "--count", 1, "--overwrite")
    path = workspace_root / "annotations/walker2d/annotations.jsonl"
    typed = iter(["", ""])

    def edited_meanwhile(prompt):
        if "person" not in path.read_text():
            path.write_text(path.read_text() + row(source="person", text="by hand") + "\n")
        return next(typed, "q")

    monkeypatch.setattr("builtins.input", edited_meanwhile)
    done = cep("annotate", "terminal")
    assert "The file was edited meanwhile" in done.out
    assert len(answers(workspace_root)) == 1


def test_a_terminal_without_input_ends_with_a_sentence(cep, monkeypatch):
    cep("annotate", "auto", "--count", 2, "--overwrite")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    done = cep("annotate", "terminal")
    assert done.code == 0
    assert "0 of 2 states are annotated" in done.out


@pytest.fixture
def served(workspace_root):
    """`cep annotate serve` as a process of its own, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cepcli", "annotate", "serve", "--no-frames"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    line = process.stdout.readline()
    assert line.startswith("Open http://127.0.0.1:"), line + process.stderr.read()
    yield process, line.split()[1]
    if process.poll() is None:
        process.kill()
    process.communicate()


def call(address, path, body=None):
    base, _, token = address.partition("?token=")
    request = urllib.request.Request(
        base + path,
        None if body is None else json.dumps(body).encode(),
        {"X-Cep-Token": token, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def give(address):
    state = call(address, "api/overview")["states"][0]["id"]
    shown = call(address, f"api/state/{state}")
    body = {"state": state, "revision": shown["revision"], "text": "mine", "primitive": "rise"}
    return call(address, "api/answer", body)


def test_ctrl_c_ends_the_page_with_a_sentence(served, workspace_root):
    process, address = served
    give(address)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "1 of 250 states are annotated by a person" in out
    assert [a.text for a in answers(workspace_root)] == ["mine"]
    manifest = json.loads((workspace_root / "annotations/walker2d/manifest.json").read_text())
    assert manifest["command"] == "cep annotate serve --no-frames"


def test_a_kill_loses_no_answer(served, workspace_root):
    process, address = served
    give(address)
    process.kill()
    process.communicate()
    assert [a.text for a in answers(workspace_root)] == ["mine"]
    assert len(answers(workspace_root, "auto")) == 250


def test_a_second_page_on_the_same_annotations_is_refused(served, cep):
    done = cep("annotate", "serve")
    assert done.code == 2
    assert "Another process is working on the annotations `walker2d`" in done.err
