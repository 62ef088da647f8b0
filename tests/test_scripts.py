"""What the scripts of this project measure, on packages and runs that are made up here."""

import importlib.util
import json
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


def load(name):
    """A script as a module: its name has no suffix by which Python would know it."""
    loader = SourceFileLoader(f"script_{name}", str(SCRIPTS / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing beside the scripts
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


@pytest.fixture(scope="module")
def house():
    return load("house")


@pytest.fixture(scope="module")
def script():
    return load("decisions")


@pytest.fixture
def package(tmp_path):
    """Writes a package of these modules."""

    def write(**modules):
        folder = tmp_path / "made"
        for name, text in modules.items():
            file = folder / (name.replace(".", "/") + ".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            (file.parent / "__init__.py").touch()
            file.write_text(text)
        (folder / "__init__.py").touch()
        return folder

    return write


@pytest.mark.parametrize("name", ["house", "decisions"])
def test_help_loads_no_heavy_library(name):
    code = (
        "import runpy, sys\n"
        "sys.argv = ['script', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(SCRIPTS / name)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "print({'torch', 'numpy', 'cepcli'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: .venv/bin/python scripts/" + name in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


def test_unknown_measures_and_runs_are_refused(house, script, capsys):
    for module, typed in ((house, "kitchen"), (script, "chess")):
        with pytest.raises(SystemExit) as ended:
            module.main(["--only", typed])
        assert ended.value.code == 2
        assert typed in capsys.readouterr().err


def test_circles_at_module_level_and_those_of_deferred_imports_are_told_apart(house, package):
    folder = package(
        **{
            "a": "from made.b import x",
            "b": "from made import c",
            "c": "import made.a",
            "inner.d": "from . import e\nimport os",
            "inner.e": "def f():\n    from ..inner.d import g",
            "h": "if TYPE_CHECKING:\n    import made.i",
            "i": "from made.h import j",
            "alone": "from made.a import x\nimport made.inner.d",
        }
    )
    found = house.import_circles(folder)
    assert found == {
        "module_level": [["made.a", "made.b", "made.c"]],
        "with_deferred": [["made.h", "made.i"], ["made.inner.d", "made.inner.e"]],
    }


def test_a_circle_that_deferred_imports_enlarge_is_shown_in_both_sizes(house, package):
    folder = package(
        a="import made.b\ndef f():\n    import made.c", b="import made.a", c="import made.a"
    )
    assert house.import_circles(folder) == {
        "module_level": [["made.a", "made.b"]],
        "with_deferred": [["made.a", "made.b", "made.c"]],
    }


def test_class_names_of_two_modules_are_found_and_those_of_one_are_not(house, package):
    folder = package(
        **{
            "a": "class Plan: ...\nclass Only: ...",
            "inner.b": "def f():\n    class Plan: ...\nclass Twice: ...\nclass Twice: ...",
        }
    )
    assert house.duplicate_classes(folder) == {"Plan": ["made.a", "made.inner.b"]}


def test_size_counts_python_files_of_the_package_and_the_tests(house, tmp_path):
    for name, text in (("cepcli/a.py", "x\ny\n"), ("cepcli/b/c.py", "z"), ("tests/t.py", "1\n")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "cepcli/page.html").write_text("no\nPython\n")
    assert house.size(tmp_path) == {
        "cepcli": {"files": 2, "lines": 3},
        "tests": {"files": 1, "lines": 1},
    }


#: A loop with an evaluation, an environment of another package, and a decision over two files.
WORLD = {
    "made/__init__.py": "",
    "made/loop.py": """
from made import agent
from other import world
def evaluate(env):
    for _ in range(3):
        agent.decide()
        env.step()
def turn(env):
    agent.decide()
    env.step()
def train():
    env = world.Env()
    evaluate(env)
    for _ in range(3):
        turn(env)
    evaluate(env)
""",
    "made/agent.py": """
from made import prior
def decide():
    for _ in range(2):
        prior.ask()
    return list(prior.answers())
""",
    "made/prior.py": """
def ask():
    return inner()
def inner():
    return 1
def answers():
    yield 1
    yield 2
""",
    "other/__init__.py": "",
    "other/world.py": """
class Env:
    def step(self):
        return 1
""",
}


@pytest.fixture
def recorder(house, tmp_path, monkeypatch):
    """A run of WORLD, recorded."""
    for name, text in WORLD.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    recorder = house.Recorder(f"{tmp_path}/made/", "/other/")
    before = sys.getprofile()
    sys.setprofile(recorder)
    try:
        from made.loop import train

        train()
    finally:
        sys.setprofile(before)
    for name in [name for name in sys.modules if name.split(".")[0] in ("made", "other")]:
        del sys.modules[name]
    return recorder


def test_a_decision_of_training_is_told_from_those_of_evaluations(house, recorder):
    found = house.decisions(recorder, "decide")
    turns = [i for i, call in enumerate(recorder.calls) if call.function == "turn"]
    assert [first for first, _ in found] == [turn + 1 for turn in turns[1:]]
    assert house.decisions(recorder, "nobody") == []


def test_moves_count_a_pair_of_functions_once_and_calls_count_each(house, recorder):
    first, end = house.decisions(recorder, "decide")[0]
    found = house.walk(recorder.calls, range(first, end))
    assert found["through"] == ["agent.py", "prior.py"]
    # decide → ask twice, decide → answers once though it is resumed; ask → inner stays in the file
    assert (found["moves"], found["calls"]) == (2, 3)


def test_the_loop_is_the_innermost_call_that_all_steps_share(house, recorder):
    depth = house._loop(recorder.marks)
    assert recorder.calls[recorder.marks[0].open[depth - 1]].function == "train"


def test_a_step_of_an_optimiser_is_marked_whether_it_is_torch_s_own_or_its_kernel(house):
    import torch

    weights = torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.SGD([weights], lr=0.1)
    weights.grad = torch.ones(2)
    kernel = torch.ops.aten._fused_adam_.default
    vectors = [[torch.ones(2)] for _ in range(4)]
    given = {"lr": 0.1, "beta1": 0.9, "beta2": 0.9, "weight_decay": 0.0, "eps": 1e-8}
    recorder = house.Recorder("/nowhere/", "/torch/optim/", "_fused_adam_")
    sys.setprofile(recorder)
    try:
        optimiser.step()
        after_one = len(recorder.marks)
        kernel(*vectors, [], [torch.ones(())], **given, amsgrad=False, maximize=False)
    finally:
        sys.setprofile(None)
    assert (after_one, len(recorder.marks)) == (1, 2)


def made_run(folder, seconds=1.0, loss=0.5, names=("actor", "critic")):
    folder.mkdir()
    row = {"step": 1, "train/td_loss": loss, "prior/llm_seconds_recorded": seconds}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "summary.json").write_text(json.dumps({"decisions_sha256": "ab"}))
    tensors = dict(zip(names, (np.zeros(2, np.float32), np.ones(3, np.float32)), strict=True))
    save_file(tensors, folder / "learner.safetensors")
    return folder


def test_hashes_depend_neither_on_times_nor_on_names_of_tensors(script, tmp_path):
    first = script.hashes(made_run(tmp_path / "first"))
    other = script.hashes(made_run(tmp_path / "other", seconds=2.0, names=("pi", "q")))
    assert first == other
    assert first["decisions"] == "ab"


def test_another_loss_is_another_hash(script, tmp_path):
    first = script.hashes(made_run(tmp_path / "first"))
    other = script.hashes(made_run(tmp_path / "other", loss=0.5000000001))
    assert first["metrics"] != other["metrics"]
    assert first["parameters"] == other["parameters"]


def test_a_run_whose_hashes_change_when_it_is_played_again_is_an_error(
    script, tmp_path, monkeypatch, capsys
):
    losses = iter((0.5, 0.25))
    monkeypatch.setattr(
        script, "play", lambda arguments, workspace: made_run(workspace, loss=next(losses))
    )
    with pytest.raises(SystemExit, match="`text` came out differently"):
        script.main(["--only", "text", "--twice"])
    names = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert names == [["text", "decisions"], ["text", "metrics"], ["text", "parameters"]]
