import json
import signal

import pytest

SHORT = (
    "--steps", "60", "--set", "eval_interval=30", "--set", "eval_episodes=2",
    "--set", "final_eval_episodes=3", "--set", "checkpoint_interval=20",
)  # fmt: skip
SMALL = (*SHORT, "--set", "learner.learning_starts=20", "--set", "learner.hidden=16")
UNTAUGHT = {"expert", "react", "direct-llm", "random"}
KEYS = {
    "run", "env", "agent", "prior", "cache", "seed", "steps", "decisions", "queries", "hits",
    "llm_tokens", "llm_seconds", "llm_seconds_recorded", "cache_seconds", "control_seconds",
    "wall_seconds",
    "latency_ms", "eval", "device", "versions",
}  # fmt: skip


@pytest.fixture
def train(cep, corridor):
    def call(*flags):
        settings = SHORT if UNTAUGHT & set(flags) else SMALL
        return cep("train", "--env", "test/corridor", *settings, *flags)

    return call


@pytest.fixture
def finished(train, made_once, workspace_root):
    """In the workspace is the run `r_s0`."""
    made_once("finished", workspace_root, lambda: train("--name", "r"))


@pytest.fixture
def cached(train, made_once, workspace_root):
    """In the workspace is the run `r_s0`, of a cache that compares texts."""
    made_once("cached", workspace_root, lambda: train("--name", "r", "--cache", "lru"))


def test_last_line_under_json_is_the_summary(train):
    done = train("--json", "--quiet")
    assert done.code == 0, done.err
    summary = done.json
    assert set(summary) >= KEYS
    assert set(summary["queries"]) >= {"total", "misses", "partial", "audits"}
    assert set(summary["hits"]) >= {"exact", "semantic"}
    assert set(summary["latency_ms"]) == {"p50", "p95"}
    assert set(summary["eval"]) >= {"episodes", "success_rate", "return_mean"}
    assert summary["decisions"] == 60
    assert done.err == ""


def test_run_directory_holds_everything(finished, workspace_root):
    run = workspace_root / "run" / "r_s0"
    files = {path.name for path in run.iterdir()}
    assert files >= {
        "config.toml", "manifest.json", "metrics.jsonl", "tensorboard", "summary.json",
        "curve.png", "cache", "checkpoint-00000060",
    }  # fmt: skip
    assert "cep train" in json.loads((run / "manifest.json").read_text())["command"]


def test_seeds_make_a_run_each_and_compare_gives_one_row(train, cep, tmp_path):
    done = train("--seeds", "2", "--name", "r", "--json")
    assert [s["seed"] for s in done.json["runs"]] == [0, 1]
    picture = tmp_path / "deep" / "p.png"
    compared = cep("runs", "compare", "r_s0", "r_s1", "-o", picture, "--json")
    assert compared.json["rows"][0]["seeds"] == 2
    assert picture.stat().st_size > 10_000
    assert "r" in cep("runs", "compare", "r_s0", "r_s1").out


def test_runs_are_listed_and_shown_with_the_command_that_made_them(finished, cep):
    assert "r_s0" in cep("runs", "list").out
    shown = cep("runs", "show", "r_s0")
    assert "made by: cep train" in shown.out
    assert cep("runs", "show", "r_s0", "--json").json["run"] == "r_s0"


def test_progress_tells_of_the_llm_only_where_there_is_one(train):
    asking = train("--name", "r", "--cache", "lru").err
    assert "exact hits" in asking
    alone = train("--name", "d", "--agent", "dqn").err
    assert "steps/s" in alone
    assert "hits" not in alone
    assert "LLM" not in alone


def test_evaluation_leaves_the_run_alone(cached, cep, workspace_root):
    files = sorted(p for p in (workspace_root / "run/r_s0").rglob("*") if p.is_file())
    before = {p: p.read_bytes() for p in files}
    live = cep("eval", "r_s0", "--episodes", "4", "--json").json
    frozen = cep("eval", "r_s0", "--episodes", "4", "--frozen-cache", "--json").json
    assert live["eval"]["episodes"] == frozen["eval"]["episodes"] == 4
    both = cep("eval", "r_s0", "--episodes", "4", "--against", "off", "--json").json
    for name, alone in (("off", live), ("cached", frozen)):
        assert both[name]["eval"] == alone["eval"]
        assert both[name]["queries"] == alone["queries"]
    assert both["retention"]["low"] <= both["retention"]["mean"] <= both["retention"]["high"]
    trained = cep("runs", "show", "r_s0", "--json").json
    asked = trained["queries"]["total"] / trained["decisions"]
    assert both["training_query_reduction"] == pytest.approx(1 / asked)
    shown = cep("eval", "r_s0", "--episodes", "4", "--against", "off").out
    assert "Retention of success" in shown
    assert "fewer queries in training" in shown
    assert live["hits"] == {"exact": 0, "semantic": 0}
    assert live["queries"]["total"] == live["decisions"]
    assert frozen["queries"]["total"] < frozen["decisions"]
    assert {p: p.read_bytes() for p in before} == before


def test_evaluation_shows_every_decision_and_what_it_was_made_from(cached, train, cep):
    plain = cep("eval", "r_s0", "--episodes", "2", "--json").json
    found = cep("eval", "r_s0", "--episodes", "2", "--show", "--json").json
    assert found["eval"] == plain["eval"], "looking on changes nothing"
    assert [one["episode"] for one in found["shown"]] == [0, 1]
    decisions = [decision for one in found["shown"] for decision in one["decisions"]]
    assert len(decisions) == found["decisions"]
    for decision in decisions:
        assert set(decision["prior"]) == {"go left", "go right"}
        assert sum(decision["prior"].values()) == pytest.approx(1)
        assert len(decision["q_values"]) == 2
        assert (decision["thought"], decision["answered"]) == ("", "miss")
    shown = cep("eval", "r_s0", "--episodes", "2", "--show").out
    assert "Episode 1. Goal: walk to the end" in shown
    assert shown.count("Action: ") == len(decisions)
    assert shown.count("   Q: ") == len(decisions)
    train("--agent", "expert", "--name", "e")
    assert "agent `expert` uses no prior" in cep("eval", "e_s0", "--show").err
    refused = cep("eval", "r_s0", "--show", "--against", "off")
    assert "exclude each other" in refused.err


def test_react_thinks_before_each_decision_and_shows_its_thoughts(train, cep):
    run = train("--agent", "react", "--name", "r", "--json").json
    assert run["queries"]["total"] == run["decisions"] == 60
    direct = train("--agent", "direct-llm", "--cache", "off", "--name", "d", "--json").json
    assert run["llm_tokens"] == direct["llm_tokens"] + 7 * 60
    shown = cep("eval", "r_s0", "--episodes", "1", "--show").out
    assert shown.count("Thought: thought 0.") == shown.count("Action: ") > 0
    refused = train("--agent", "react", "--prior", "uniform")
    assert "needs an LLM" in refused.err


def test_evaluation_against_another_run_plays_its_agent_without_its_cache(cached, train, cep):
    train("--name", "other", "--cache", "off", "--steps", "20")
    alone = cep("eval", "other_s0", "--episodes", "4", "--json").json
    both = cep("eval", "r_s0", "--episodes", "4", "--against", "other_s0", "--json").json
    assert both["off"]["run"] == "other_s0"
    assert both["cached"]["run"] == "r_s0"
    assert both["off"]["eval"] == alone["eval"]
    asked = cep("runs", "show", "r_s0", "--json").json
    saved = asked["decisions"] / asked["queries"]["total"]
    assert both["training_query_reduction"] == pytest.approx(saved)


def test_evaluation_against_a_run_of_other_episodes_is_refused(cached, train, cep):
    train("--name", "other", "--seed", "1")
    found = cep("eval", "r_s0", "--against", "other_s1")
    assert found.code == 2
    assert "`seed` is 0 and 1" in found.err
    assert "There is no run" in cep("eval", "r_s0", "--against", "othre_s1").err


@pytest.mark.parametrize(
    "stop",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_with_its_exit_code_and_the_way_on(train, cep, monkeypatch, stop):
    from cepcli.runs.online import OnlineRun

    real = OnlineRun._text_step

    def interrupted(run, progress, tau):
        if progress.step == 25:
            signal.raise_signal(stop)
        return real(run, progress, tau)

    monkeypatch.setattr(OnlineRun, "_text_step", interrupted)
    done = train("--name", "r")
    assert done.code == 128 + stop
    assert "cep runs resume r_s0" in done.err
    monkeypatch.setattr(OnlineRun, "_text_step", real)
    way_on = "r_s0 stopped at step 26 of 60: cep runs resume r_s0"
    assert way_on in cep("runs", "list").out
    assert way_on in cep("runs", "show", "r_s0").out
    shown = cep("runs", "show", "r_s0", "--json").json
    assert (shown["finished"], shown["step"]) == (False, 26)
    assert shown["resume"] == "cep runs resume r_s0"
    resumed = cep("runs", "resume", "r_s0", "--json")
    assert "Going on at step 26 of 60, 34 are left" in resumed.err
    assert resumed.code == 0
    assert resumed.json["decisions"] == 60


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--agent", "posteriorq"), "posterior-q"),
        (("--cache", "lru2"), "lru"),
        (("--set", "learner.discont=0.9"), "learner.discount"),
        (("--set", "learner.discount=2"), "[0, 1)"),
        (("--agent", "dqn", "--prior", "embedded"), "uses no LLM"),
        (("--config", "missing.toml"), "missing.toml"),
        (("--steps", "0"), "expected ≥ 1"),
        (("--devise", "cpu"), "--device"),
        (("--name", "../x"), "cannot name"),
        (("--name", ""), "cannot name"),
        (("--env", ""), "`env` is empty"),
        (("--prior", ""), "`prior` is empty"),
        (("--agent", "yan", "--cache", "certified"), "certified is the error of the posterior"),
        (("--agent", "random", "--set", "learner.hidden=8"), "agent `random` does not use it"),
        (("--set", "sac.hidden=8"), "`sac.hidden` has no effect here"),
        (("--set", "cache.threshold=0.9"), "`cache.mode` is exact"),
        (("--set", "posterior.candidates=3"), "`posterior.mode` is exact"),
        (("--set", "posterior.final_temperature=0.1"), "`posterior.schedule` is hit-rate"),
        (("--agent", "dqn", "--set", "posterior.temperature=0.1"), "is epsilon-greedy"),
        (("--prior", "uniform", "--set", "cache.capacity=9"), "no LLM is asked"),
        (("--set", "learner.members=1", "--set", "learner.doubt=2"), "cannot disagree"),
    ],
)
def test_bad_input_is_one_clear_sentence(train, flags, expected):
    done = train(*flags)
    assert done.code == 2
    assert expected in done.err
    assert "Traceback" not in done.err


def test_unknown_environment_and_prior_suggest_the_nearest(cep):
    done = cep("train", "--env", "babyai/goto-redbal", "--agent", "random")
    assert (done.code, "babyai/goto-redball" in done.err) == (2, True)
    done = cep("train", "--prior", "embeded", "--steps", "5")
    assert (done.code, "embedded" in done.err) == (2, True)
    done = cep("train", "--prior", "./no/such/model", "--steps", "5")
    assert (done.code, "no/such/model" in done.err) == (2, True)


def test_finished_run_is_not_overwritten_unasked(finished, train):
    again = train("--name", "r")
    assert again.code == 2
    assert "--overwrite" in again.err
    assert train("--name", "r", "--overwrite").code == 0


def test_config_file_reproduces_a_run(train, cep, workspace_root):
    first = train("--name", "r", "--json").json
    config = workspace_root / "run/r_s0/config.toml"
    second = cep("train", "--config", config, "--name", "again", "--json").json
    assert second["decisions_sha256"] == first["decisions_sha256"]


def test_read_only_workspace_is_one_sentence(cep, corridor, tmp_path):
    (tmp_path / "file").write_text("")
    done = cep(
        "train", "--env", "test/corridor", "--agent", "random", "--steps", "5",
        "--workspace", tmp_path / "file" / "w",
    )  # fmt: skip
    assert done.code == 2
    assert "Cannot write" in done.err


def test_doctor_reports_every_part(cep):
    checks = {check["what"]: check for check in cep("doctor", "--json").json["checks"]}
    assert checks["torch"]["ok"]
    assert {"device", "workspace", "shipped data", "model minilm", "model gemma-3-270m"} <= set(
        checks
    )


def test_comparison_shows_the_columns_asked_for_as_markdown(finished, cep):
    done = cep("runs", "compare", "r_s0", "--columns", "success,queries", "--markdown")
    header, rule, row = done.out.splitlines()[:3]
    assert header == "| run | seeds | success | LLM queries |"
    assert set(rule) == set("| -")
    assert row.startswith("| r | 1 | ")
    wrong = cep("runs", "compare", "r_s0", "--columns", "sucess")
    assert (wrong.code, "success" in wrong.err) == (2, True)


def test_a_workspace_that_is_not_there_is_said_to_be_none(cep, workspace_root, tmp_path):
    away = tmp_path / "no such"
    listed = cep("runs", "list", "--workspace", away)
    assert (listed.code, listed.out.splitlines()) == (
        0,
        [
            f"There is no workspace `{away}`.",
            f"A first run makes it: cep train --env ID --workspace '{away}'",
        ],
    )
    nothing = {"finished": [], "unfinished": [], "broken": {}}
    assert cep("runs", "list", "--workspace", away, "--json").json == nothing
    assert cep("runs", "list").out.endswith("A first run makes it: cep train --env ID\n")
    workspace_root.mkdir()
    assert cep("runs", "list").out.startswith(f"Runs in {workspace_root}\n")


def test_one_broken_run_does_not_hide_the_others(train, cep, workspace_root):
    train("--name", "good")
    train("--name", "bad")
    (workspace_root / "run/bad_s0/manifest.json").write_text("{")
    listed = cep("runs", "list", "--json")
    assert [run["run"] for run in listed.json["finished"]] == ["good_s0"]
    assert list(listed.json["broken"]) == ["bad_s0"]
    assert "bad_s0" in cep("runs", "list").out


def test_a_run_named_twice_is_one_seed(finished, cep):
    assert cep("runs", "compare", "r_s0", "r_s0", "--json").json["rows"][0]["seeds"] == 1


@pytest.mark.parametrize("target", ["picture.txt", "folder.png"])
def test_pictures_replace_nothing_but_pictures(finished, cep, tmp_path, target):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "picture.txt").write_text("mine")
    done = cep("runs", "compare", "r_s0", "-o", tmp_path / target)
    assert (done.code, "Cannot write a picture" in done.err) == (2, True)
    assert (tmp_path / "picture.txt").read_text() == "mine"


@pytest.mark.parametrize("numbers", ["0", "4,-1", "x", ""])
def test_benchmarks_refuse_numbers_that_make_no_sense(cep, numbers):
    assert cep("bench", "cache", "--capacities", numbers).code == 2


CONTROL = (
    "--steps", "30", "--set", "eval_episodes=1", "--set", "final_eval_episodes=1",
    "--set", "eval_lanes=1", "--set", "eval_interval=30",
)  # fmt: skip


def test_an_environment_of_control_is_played_by_the_agent_of_control(cep):
    done = cep("train", "--env", "walker2d", "--prior", "uniform", "--name", "w", *CONTROL)
    assert done.code == 0, done.err
    assert "training hybrid-sac" in done.err
    assert cep("runs", "show", "w_s0", "--json").json["agent"] == "hybrid-sac"
    plain = cep("train", "--env", "walker2d", "--agent", "sac", "--name", "p", "--json", *CONTROL)
    assert plain.json["agent"] == "sac"
    assert plain.json["queries"]["total"] == 0


def test_an_agent_of_text_is_refused_in_control(cep):
    done = cep("train", "--env", "walker2d", "--agent", "posterior-q", "--prior", "uniform")
    assert done.code == 2
    assert "is an environment of continuous control" in done.err


def test_a_misspelt_abstraction_is_refused(cep):
    done = cep("train", "--env", "walker2d", "--set", "abstraction=walker2d/mine", *CONTROL)
    assert done.code == 2
    assert "walker2d/mine" in done.err


@pytest.mark.parametrize(
    "typed", [["--trace"], ["--cache", "lru"], ["--set", "abstraction=walker2d/default"]]
)
def test_what_is_typed_for_an_llm_is_refused_where_none_is_asked(cep, typed):
    done = cep("train", "--env", "walker2d", "--agent", "sac", *typed)
    assert done.code == 2
    assert "has no effect here: no LLM is asked" in done.err


def test_what_no_run_begins_with_is_said_before_an_abstraction_is_made_for_it(cep, workspace_root):
    done = cep("train", "--env", "walker2d", "--set", "posterior.mode=k-candidates", *CONTROL)
    assert done.code == 2
    assert "`posterior.mode` is k-candidates" in done.err
    assert not (workspace_root / "abstraction").exists()


def test_a_misspelt_prior_is_said_before_an_abstraction_is_made_for_it(cep, workspace_root):
    done = cep("train", "--env", "walker2d", "--prior", "walkr2d", *CONTROL)
    assert done.code == 2
    assert "`walkr2d`" in done.err
    assert "making it" not in done.err
    assert not (workspace_root / "abstraction").exists()


def test_eval_takes_options_of_the_environment(finished, cep, monkeypatch):
    from cepcli.runs import assembly
    from tests.agents.worlds import Corridor

    made = []

    def longer(env_id, *, split, workspace, options=None, progress=None):
        made.append((split, options))
        return Corridor(first=0 if split == "train" else 1000)

    monkeypatch.setattr(assembly, "make_env", longer)
    done = cep("eval", "r_s0", "--episodes", "2", "--set", "length=9")
    assert done.code == 0, done.err
    assert done.out.endswith("  played with length=9\n")
    assert ("heldout", {"length": 9}) in made
    assert ("train", {"length": 9}) not in made, "its own episodes are where they were"
    wrong = cep("eval", "r_s0", "--set", "length=9", "--against", "off")
    assert (wrong.code, "`--set` and `--against` exclude" in wrong.err) == (2, True)
