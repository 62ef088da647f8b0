import json
import threading
import time
from pathlib import Path

import pytest
import typer
from pyarrow import parquet

from cepcli.agents.config import with_presets
from cepcli.cli.main import app
from cepcli.experiments import sweep
from cepcli.experiments.ablation import Ablation, Column, Measurement, Preparation, Setup, Variant
from cepcli.experiments.ablations import ABLATIONS
from cepcli.experiments.plan import plan
from cepcli.report.comparison import FIGURES
from cepcli.workspace.artifacts import Workspace

NAMES = [
    "cache", "controller", "delta", "capacity", "refresh", "kl-bound", "staleness", "annotations",
    "label-noise", "shots", "priors", "prompts", "scoring", "temperature", "candidates", "transfer",
]  # fmt: skip
PLACES = [(one.name, setup.env) for one in ABLATIONS.values() for setup in one.setups]


@pytest.fixture
def space(workspace_root):
    return Workspace(workspace_root)


def test_without_a_name_they_are_listed_with_their_questions(cep):
    listed = cep("ablate", "--json").json["ablations"]
    assert [row["name"] for row in listed] == NAMES
    shown = cep("ablate").out
    for row in listed:
        assert row["question"].endswith(("?", "."))
        assert row["question"] in shown


def test_dry_run_names_the_variants_and_makes_nothing(cep, workspace_root):
    done = cep("ablate", "cache", "--dry-run", "--seeds", "2", "--json")
    assert done.code == 0, done.err
    rows = done.json["steps"]
    variants = [
        "off", "exact", "lru", "lru-plain-rule", "lru-raw-keys", "fifo", "surrogate",
        "surrogate-tighten", "certified", "certified-tau-hits", "certified-tau-reliable",
    ]  # fmt: skip
    assert [row["variant"] for row in rows] == variants * 2
    assert [row["seed"] for row in rows] == [0] * len(variants) + [1] * len(variants)
    assert not any(row["finished"] for row in rows)
    assert not (workspace_root / "run").exists()
    assert "surrogate-tighten" in cep("ablate", "cache", "--dry-run").out


@pytest.mark.parametrize(("name", "env"), PLACES)
def test_every_table_makes_valid_settings_and_commands_that_cep_understands(name, env, space):
    ablation = ABLATIONS[name]
    planned = plan(ablation, [3], space, env=env)
    keys = {task.key for task in planned.tasks}
    [setup] = [one for one in ablation.setups if one.env == env]
    assert setup.baseline in setup.variants
    assert [job.variant for job in planned.jobs] == list(setup.variants)
    for task in planned.tasks:
        assert set(task.needs) <= keys
        assert "{" not in " ".join((*task.command, task.name))
        if task.job is None:
            _parsed(task.command)
    assert all(key in FIGURES for key in ablation.figures)


@pytest.mark.parametrize(("name", "env"), PLACES)
def test_what_the_settings_name_ships_or_is_prepared(name, env, space):
    planned = plan(ABLATIONS[name], [0], space, env=env)
    made = {(task.kind, task.name) for task in planned.tasks}
    for task in planned.tasks:
        if task.job is None:
            continue
        config = with_presets(task.job.config)
        prior = config["prior"]
        assert prior in ("embedded", "uniform", *space.names("prior")) or ("prior", prior) in made
        abstraction = config.get("abstraction")
        if abstraction is not None and prior != "uniform":
            needed = {t.name for t in planned.tasks if t.key in task.needs}
            assert ("abstraction", abstraction) in made
            assert abstraction in needed or config.get("cache", {}).get("start") in needed
        if start := config.get("cache", {}).get("start"):
            assert ("run", start) in made


def _parsed(command):
    group, words = typer.main.get_command(app), list(command)
    while getattr(group, "commands", None):
        group = group.commands[words.pop(0)]
    context = group.make_context("cep", [*words, "--workspace", "w", "--quiet"])
    assert context.params


def test_a_run_of_control_is_longer_than_one_of_text_but_short(space):
    for ablation in ABLATIONS.values():
        for setup in ablation.setups:
            most = 600 if "agent" not in setup.base else 5_000
            assert setup.base["steps"] <= most


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cachex",), "Did you mean `cache`?"),
        (("cache", "--steps", "0"), "expected ≥ 1"),
        (("cache", "--prior", "goto-redbal"), "Did you mean `goto-redball`?"),
        (("cache", "--set", "stepz=1"), "Did you mean `steps`?"),
        (("cache", "--agent", "dqn"), "uses no LLM"),
        (("cache", "--env", "babyai/goto-redbal"), "Did you mean `babyai/goto-redball`?"),
        (("delta", "--set", "cache.threshold=0.9"), "is what the variants"),
        (("annotations", "--env", "textworld/coin"), "is about continuous control"),
        (("cache", "--only", "lru,surogate"), "Did you mean `surrogate`?"),
        (("prompts", "--env", "ant"), "Try --env textworld/coin"),
    ],
)
def test_mistakes_are_named_before_anything_runs(cep, arguments, said):
    done = cep("ablate", *arguments, "--dry-run")
    assert done.code == 2
    assert said in done.err


def test_another_environment_takes_the_prior_that_was_tuned_for_it(space):
    for env, prior in (("textworld/coin", "coin"), ("alfworld/heat", "embedded"), ("ant", "ant")):
        planned = plan(ABLATIONS["cache"], [0], space, env=env)
        assert {job.config["prior"] for job in planned.jobs} == {prior}
        assert {job.config["env"] for job in planned.jobs} == {env}
    planned = plan(ABLATIONS["priors"], [0], space, prior="goto-local")
    priors = {job.variant: job.config["prior"] for job in planned.jobs}
    assert (priors["tuned"], priors["uniform"]) == ("goto-local", "uniform")


def test_some_of_the_variants_are_the_same_runs_but_another_result(space):
    whole = plan(ABLATIONS["cache"], [0], space)
    part = plan(ABLATIONS["cache"], [0], space, only=["lru"])
    assert [job.variant for job in part.jobs] == ["off", "lru"]
    assert {job.run for job in part.jobs} < {job.run for job in whole.jobs}
    assert (whole.name, part.name) == ("cache", "cache-part")
    controller = plan(ABLATIONS["controller"], [0], space, only=["fixed"])
    assert all(task.job is not None for task in controller.tasks)  # nothing is prepared for it


def test_other_settings_are_other_runs_and_another_result(space):
    usual = plan(ABLATIONS["cache"], [0], space)
    other = plan(ABLATIONS["cache"], [0], space, changes={"learner": {"hidden": 8}})
    prior = plan(ABLATIONS["cache"], [0], space, prior="embedded")
    elsewhere = plan(ABLATIONS["cache"], [0], space, env="textworld/coin")
    runs = [{job.run for job in one.jobs} for one in (usual, other, prior, elsewhere)]
    assert len(set().union(*runs)) == sum(map(len, runs))
    assert usual.name == "cache"
    assert len({one.name for one in (usual, other, prior, elsewhere)}) == 4
    assert usual.jobs[0].run == "ablate-cache-goto-redball-300-off_s0"


RANDOM = {
    "env": "babyai/goto-redball", "agent": "random", "prior": "uniform", "steps": 5,
    "eval_episodes": 1, "final_eval_episodes": 2,
}  # fmt: skip
VARIANTS = {"sampled": Variant(), "greedy": Variant({"eval_greedy": True})}


def tiny(variants=None, preparations=None, base=RANDOM, **more):
    setup = Setup(base["env"], base, variants or VARIANTS, "sampled", preparations or {})
    return Ablation(
        name="tiny", question="Does it matter?", setups=(setup,),
        figures=("success", "wall_seconds"), **more,
    )  # fmt: skip


@pytest.fixture
def table(monkeypatch):
    return lambda one: monkeypatch.setitem(ABLATIONS, "tiny", one)


@pytest.mark.slow
def test_a_sweep_makes_its_runs_once_and_leaves_table_data_and_picture(
    cep, table, monkeypatch, workspace_root
):
    table(tiny(frontier=True))
    done = cep("ablate", "tiny", "--seeds", "1", "--json")
    assert done.code == 0, done.err
    assert [row["variant"] for row in done.json["rows"]] == ["sampled", "greedy"]
    assert any(row["unbeaten"] for row in done.json["rows"])
    folder = workspace_root / "ablation" / "tiny"
    assert parquet.read_table(folder / "runs.parquet").num_rows == 2
    for picture in ("tradeoff.png", "frontier.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")

    def forbidden(*given):
        raise AssertionError(given)

    monkeypatch.setattr(sweep.Commands, "call", forbidden)
    again = cep("ablate", "tiny", "--seeds", "1")
    assert again.code == 0, again.err
    assert "0 of 2 steps" in again.err
    assert "Nothing is left to make." in again.err
    assert "retention of sampled" in again.out
    assert "unbeaten" in again.out


def test_a_run_that_fails_is_said_with_its_own_words(cep, table):
    table(tiny(base={**RANDOM, "env_options": {"siize": 3}}))
    done = cep("ablate", "tiny", "--seeds", "1")
    assert done.code == 2
    assert "siize" in done.err
    assert "exit code 2" in done.err
    assert "go on with what is missing" in done.err


class Commands:
    """In place of processes: what would be called, and what each leaves."""

    def __init__(self, monkeypatch, failing=(), side_by_side=1):
        self.called, self.failing, self.running, self.most = [], list(failing), 0, 0
        self.meeting = threading.Barrier(side_by_side, timeout=60)
        monkeypatch.setattr(
            sweep.Commands, "call",
            lambda commands, what, command: self(what, command, commands.workspace),
        )  # fmt: skip

    def __call__(self, what, command, space):
        self.running += 1
        self.most = max(self.most, self.running)
        self.meeting.wait()
        if command[0] == "annotate":
            time.sleep(0.3)  # what needs it would be done before
        self.running -= 1
        self.called.append(what)
        if what in self.failing:
            self.failing.remove(what)
            raise sweep.CepError(f"`{what}` stopped")
        if command[0] == "train":
            name = f"{command[command.index('--name') + 1]}_s{what[-1]}"
            run = space.begin("run", name)
            values = (space.root / "ablation/.configs" / f"{name}.toml").read_text()
            (run / "config.toml").write_text(values)
            (run / "summary.json").write_text(json.dumps(summary(name)))
            space.finish("run", name, seed=0)
        elif command[0] == "annotate":
            space.begin("annotations", command[-1])
            space.finish("annotations", command[-1], seed=0)
        else:
            rows = [{"case": "all", "nats": len(self.called)}]
            Path(command[-1]).write_text(json.dumps({"rows": rows}))


def summary(name):
    return {
        "run": name, "env": "babyai/goto-redball", "agent": "random", "prior": "uniform",
        "cache": "off", "seed": int(name[-1]), "steps": 5, "decisions": 5, "wall_seconds": 2.0,
        "queries": {"total": 3}, "hits": {"exact": 1, "semantic": 1},
        "eval": {"episodes": 4, "success_rate": 0.5, "return_mean": 1.0},
    }  # fmt: skip


PREPARED = {
    "states": Preparation("annotations", "toy", ("annotate", "auto", "--name", "toy")),
    "unused": Preparation("annotations", "unused", ("annotate", "auto", "--name", "unused")),
}
MEASURED = Measurement(("measure", "{run}", "{baseline}"), "Measured", (
    Column("nats", ("nats",), ".1f"), Column("missing", ("nothing",), ".1f"),
), on=("greedy",))  # fmt: skip


def test_what_runs_need_comes_first_once_and_what_is_measured_last(cep, table, monkeypatch):
    one = Variant({"eval_greedy": True}, ("states",))
    table(
        tiny({"sampled": Variant({}, ("states",)), "greedy": one}, PREPARED, measurement=MEASURED)
    )
    commands = Commands(monkeypatch)
    done = cep("ablate", "tiny", "--seeds", "2", "--jobs", "3")
    assert done.code == 0, done.err
    assert commands.called[0] == "annotations `toy`"
    for seed in (0, 1):
        at = commands.called.index(f"measuring greedy, seed {seed}")
        assert at > commands.called.index(f"greedy, seed {seed}")
        assert at > commands.called.index(f"sampled, seed {seed}")
    assert len(commands.called) == 7
    assert commands.most <= 3
    assert "│ greedy" in done.out.split("Measured")[1]
    assert "missing" in done.out


def test_runs_are_made_side_by_side_as_many_as_asked_for(cep, table, monkeypatch):
    table(tiny())
    commands = Commands(monkeypatch, side_by_side=2)  # each waits for another one
    done = cep("ablate", "tiny", "--seeds", "2", "--jobs", "2")
    assert done.code == 0, done.err
    assert len(commands.called) == 4


def test_a_sweep_that_stopped_goes_on_with_what_is_missing(cep, table, monkeypatch):
    table(tiny({"sampled": Variant({}, ("states",)), "greedy": VARIANTS["greedy"]}, PREPARED))
    commands = Commands(monkeypatch, failing=["greedy, seed 1"])
    first = cep("ablate", "tiny", "--seeds", "2", "--jobs", "1")
    assert first.code == 2
    assert "`greedy, seed 1` stopped" in first.err
    assert commands.most == 1
    made = [what for what in commands.called if what != "greedy, seed 1"]
    commands.called.clear()
    second = cep("ablate", "tiny", "--seeds", "2", "--jobs", "1")
    assert second.code == 0, second.err
    assert sorted(made + commands.called) == sorted(
        ["annotations `toy`", *(f"{v}, seed {s}" for v in VARIANTS for s in (0, 1))]
    )


def test_a_run_of_an_earlier_table_is_not_taken_for_one_of_this(cep, table, monkeypatch):
    base = {**RANDOM, "prior": "embedded", "agent": "direct-llm"}
    table(tiny(base=base))
    Commands(monkeypatch)
    assert cep("ablate", "tiny", "--seeds", "1").code == 0
    table(tiny(base={**base, "eval_episodes": 7}))
    done = cep("ablate", "tiny", "--seeds", "1")
    assert done.code == 2
    assert "was made with eval_episodes = 1, this ablation has 7" in done.err


def test_a_run_from_before_the_gate_is_compared_as_what_it_would_be_today(
    cep, table, space, monkeypatch
):
    base = {**RANDOM, "prior": "embedded", "agent": "direct-llm"}
    wanted = {**base, "cache": {"mode": "lru", "pool_goals": False, "gate": "off"}}
    table(tiny(base=wanted))
    Commands(monkeypatch)
    assert cep("ablate", "tiny", "--seeds", "1").code == 0
    for name in space.names("run"):
        text = (space.open("run", name).path / "config.toml").read_text()
        run = space.begin("run", name, overwrite=True)
        old = text.replace("pool_goals = false\n", "per_goal = true\n").replace(
            'gate = "off"\n', ""
        )
        assert "per_goal" in old
        assert "gate" not in old
        (run / "config.toml").write_text(old)
        (run / "summary.json").write_text(json.dumps(summary(name)))
        space.finish("run", name, seed=0)
    again = cep("ablate", "tiny", "--seeds", "1")
    assert again.code == 0, again.err
    table(tiny(base={**wanted, "cache": {**wanted["cache"], "gate": "words"}}))
    other = cep("ablate", "tiny", "--seeds", "1")
    assert "was made with cache.gate = 'off', this ablation has 'words'" in other.err


def test_prepared_settings_lie_between_the_table_and_the_variant(space, table, monkeypatch):
    own = Variant({"eval_episodes": 3}, settings="{label}.toml")
    planned = plan(tiny({"sampled": own}), [0], space)
    [job] = planned.jobs
    job.settings.parent.mkdir(parents=True)
    job.settings.write_text("eval_episodes = 9\nfinal_eval_episodes = 9\n")
    Commands(monkeypatch)
    sweep.make(planned.tasks, space, 1)
    written = (space.root / "ablation/.configs" / f"{job.run}.toml").read_text()
    assert "final_eval_episodes = 9" in written
    assert "\neval_episodes = 3" in written


def test_the_time_is_told_by_finished_runs_or_not_at_all(cep, table, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    table(tiny({"sampled": Variant({}, ("states",)), "greedy": VARIANTS["greedy"]}, PREPARED))
    unknown = cep("ablate", "tiny", "--dry-run")
    assert "How long it takes is unknown" in unknown.out
    assert unknown.out.count("unknown") >= 7
    Commands(monkeypatch)
    assert cep("ablate", "tiny", "--seeds", "1").code == 0
    told = cep("ablate", "tiny", "--seeds", "3", "--jobs", "2", "--dry-run", "--json").json
    waiting = [row for row in told["steps"] if row["needed"]]
    assert [row["seconds"] for row in waiting] == [2.0] * 4
    assert (told["seconds"], told["unknown"]) == (4.0, 0)
    longer = cep("ablate", "tiny", "--steps", "500", "--dry-run", "--json").json
    assert [row["seconds"] for row in longer["steps"] if row["variant"]] == [200.0] * 6
    assert "about 10 min" in cep("ablate", "tiny", "--steps", "500", "--dry-run").out


def test_records_of_published_runs_tell_the_time_too(cep, table, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    table(tiny())
    record = tmp_path / "results/run/published_s0"
    record.mkdir(parents=True)
    (record / "summary.json").write_text(json.dumps(summary("published_s0")))
    told = cep("ablate", "tiny", "--seeds", "1", "--dry-run", "--json").json
    assert (told["seconds"], told["unknown"]) == (2.0, 0)
    assert "estimated from 1 finished run" in cep("ablate", "tiny", "--seeds", "1", "--dry-run").out


@pytest.mark.parametrize(("name", "env"), PLACES)
def test_what_is_compared_has_one_temperature_unless_that_is_the_question(name, env, space):
    own = {"temperature": None, "cache": {"certified-tau-hits", "certified-tau-reliable"}}
    for job in plan(ABLATIONS[name], [0], space, env=env).jobs:
        excepted = name in own and (own[name] is None or job.variant in own[name])
        posterior = with_presets(job.config)["posterior"]
        expected = ("constant", 0.3) if not excepted else (posterior["schedule"], 0.8)
        if job.variant not in ("constant-0.3", "constant-0.1"):
            assert (posterior["schedule"], posterior["temperature"]) == expected, job.variant
