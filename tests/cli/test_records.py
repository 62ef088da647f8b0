import json

import pytest


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def run(corridor, cep, made_once, workspace_root):
    def make():
        done = cep(
            "train", "--env", "test/corridor", "--steps", 40, "--name", "r", "--quiet",
            "--set", "eval_episodes=2", "--set", "final_eval_episodes=2",
        )  # fmt: skip
        assert done.code == 0, done.err

    made_once("recorded", workspace_root, make)
    return "r_s0"


def test_a_record_is_compared_as_its_run_is(run, cep, results, tmp_path):
    done = cep("runs", "export", run, "-o", results)
    assert done.code == 0, done.err
    assert str(results / "run" / run) in done.out
    here, there = (
        cep("runs", "compare", run, "--json", "-o", tmp_path / "c.png", *where).json["rows"]
        for where in ([], ["--workspace", results])
    )
    assert here == there


def test_a_record_says_what_made_its_run_and_holds_nothing_to_go_on_from(
    run, cep, results, workspace_root
):
    cep("runs", "export", run, "-o", results)
    made, kept = (
        json.loads((root / "run" / run / "manifest.json").read_text())
        for root in (workspace_root, results)
    )
    for key in ("command", "created", "host", "versions", "seed"):
        assert kept[key] == made[key]
    files = {path.name for path in (results / "run" / run).rglob("*") if path.is_file()}
    assert files == {"config.toml", "summary.json", "metrics.jsonl", "manifest.json"}
    assert "a record" in cep("runs", "show", run, "--workspace", results).out


@pytest.mark.parametrize("given", ["--workspace '/home/me/my runs'", "--workspace=/home/me/runs"])
def test_a_record_does_not_name_the_folder_in_which_its_run_lay(
    run, cep, results, workspace_root, given
):
    manifest = workspace_root / "run" / run / "manifest.json"
    made = json.loads(manifest.read_text())
    words = "--env test/corridor --set 'a=[\"b\"]'"
    manifest.write_text(json.dumps({**made, "command": f"cep train {given} {words}"}))
    assert cep("runs", "export", run, "-o", results).code == 0
    kept = json.loads((results / "run" / run / "manifest.json").read_text())
    assert kept["command"] == f"cep train {words}"


def test_a_record_is_not_evaluated(run, cep, results):
    cep("runs", "export", run, "-o", results)
    done = cep("eval", run, "--workspace", results)
    assert done.code == 2
    assert "a record of a run" in done.err
    assert "cep train --env test/corridor" in done.err


def test_a_record_may_be_made_again_but_not_of_another_run(run, cep, results, workspace_root):
    for _ in range(2):
        assert cep("runs", "export", run, "-o", results).code == 0
    manifest = results / "run" / run / "manifest.json"
    manifest.write_text(manifest.read_text().replace("cep train", "cep  train"))
    assert "--overwrite" in cep("runs", "export", run, "-o", results).err
    assert cep("runs", "export", run, "-o", results, "--overwrite").code == 0
    assert "cep  train" not in manifest.read_text()


def test_a_record_goes_into_another_workspace(run, cep, workspace_root):
    done = cep("runs", "export", run, "-o", workspace_root)
    assert done.code == 2
    assert "--output DIR" in done.err
    assert cep("eval", run, "--episodes", 1).code == 0


def test_a_run_that_does_not_exist_leaves_nothing(run, cep, results):
    done = cep("runs", "export", "r_s1", "-o", results)
    assert done.code == 2
    assert "r_s0" in done.err
    assert not list(results.rglob("manifest.json"))


def test_runs_are_named_by_patterns_too(run, cep, results):
    assert cep("runs", "export", "r_*", "-o", results).code == 0
    compared = cep("runs", "compare", "r_s?", "r_s0", "--json", "--workspace", results)
    assert [row["seeds"] for row in compared.json["rows"]] == [1]
    done = cep("runs", "compare", "q_*", "--workspace", results)
    assert done.code == 2
    assert "matches `q_*`" in done.err


def test_what_to_relate_needs_what_to_relate_it_to(run, cep):
    done = cep("runs", "compare", run, "--by", "auc")
    assert done.code == 2
    assert "--baseline" in done.err
    assert "auc" in cep("runs", "compare", run, "--by", "acu", "--baseline", "r").err
    assert (
        "against the baseline" in cep("runs", "compare", run, "--by", "auc", "--baseline", "r").out
    )
