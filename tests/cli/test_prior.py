"""`cep prior` as typed."""

import json
from dataclasses import asdict, dataclass

import pytest
from typer.testing import CliRunner

from cepcli.cli.prior import app
from cepcli.errors import ArtifactError, ConfigError, EnvError, PriorError
from cepcli.workspace.artifacts import Workspace, write_json
from tests.prior.tiny import KINDS, save_tiny

ENV = "babyai/goto-redball"
WARNINGS = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning"
)


def run(*args):
    return CliRunner().invoke(app, list(args), catch_exceptions=False)


def last_json(result):
    return json.loads(result.stdout.strip().splitlines()[-1])


def record(*more):
    return run("demos", "--env", ENV, "--episodes", "3", "--heldout-episodes", "2", *more)


def test_demos_are_recorded_and_counted(workspace_root):
    result = record("--json", "--quiet", "--name", "d", "--seed", "4")
    assert result.exit_code == 0
    found = last_json(result)
    assert found["train"]["episodes"] == 3
    assert Workspace(workspace_root).open("demos", "d").manifest["seed"] == 4
    assert "unsolved" not in record("--name", "e").stdout


def test_score_shows_the_actions_of_a_state():
    result = run("score", "--env", ENV, "--prior", "uniform")
    assert result.exit_code == 0
    assert "go forward  " in result.stdout
    assert " 0.167  " in result.stdout
    found = last_json(
        run("score", "--env", ENV, "--prior", "uniform", "--text", "t", "--goal", "g", "--json")
    )
    assert (found["goal"], found["text"]) == ("g", "t")
    assert len(found["actions"]) == 6


def test_score_shows_the_tokens_of_a_model_with_bos(tmp_path):
    folder = save_tiny(tmp_path / "tiny", KINDS["byte-level, BOS"]())
    command = ("score", "--env", ENV, "--prior", str(folder), "--text", "a\nwall", "--tokens")
    shown = run(*command).stdout
    assert "tokens:\n  1 `<s>`  " in shown
    assert "  go forward:  " in shown
    found = last_json(run(*command, "--json"))
    tokens = found["tokens"]
    assert tokens["prompt"][0] == {"id": 1, "piece": "<s>"}
    assert tokens["prompt"][-1]["piece"] == ":"
    scores = {row["action"]: row["score"] for row in found["actions"]}
    for row in tokens["actions"]:
        values = [token["log_prob"] for token in row["tokens"]]
        assert sum(values) / len(values) == pytest.approx(scores[row["action"]], abs=1e-3)
        assert row["tokens"][-1]["piece"] == "Ċ"
    with pytest.raises(PriorError, match="`uniform` reads no text"):
        run("score", "--env", ENV, "--prior", "uniform", "--tokens")


def test_score_says_which_tokens_are_joined_to_the_prompts_last(tmp_path):
    folder = save_tiny(tmp_path / "tiny", KINDS["merges over the border"]())
    shown = run("score", "--env", ENV, "--prior", str(folder), "--tokens").stdout
    assert "in place of the prompt's last" in shown
    assert "\\nNext" in shown


def test_eval_of_the_uniform_prior_is_chance():
    record("--quiet", "--name", "d")
    result = run("eval", "uniform", "--env", ENV, "--demos", "d", "--json", "--quiet")
    found = last_json(result)
    assert found["top1"] == pytest.approx(1 / 6)
    assert "uniform" in run("eval", "uniform", "--env", ENV, "--demos", "d").stdout


def test_eval_judges_the_half_that_no_tuning_was_stopped_on(workspace_root):
    from cepcli.datasets.demonstrations import demos_decisions
    from cepcli.prior.tuning.lessons import split_heldout

    record("--quiet", "--name", "d")
    heldout = demos_decisions(Workspace(workspace_root).open("demos", "d"), "heldout")
    args = ("eval", "uniform", "--env", ENV, "--demos", "d", "--quiet")
    assert last_json(run(*args, "--json"))["decisions"] == len(split_heldout(heldout)[1])
    assert len(split_heldout(heldout)[1]) < len(heldout)
    assert "reporting half" in run(*args).stdout


@pytest.fixture
def scorers(monkeypatch):
    """No language model is loaded; what would be asked of it goes to fake scorers, in order."""
    from tests.fakes import FakeScorer

    made = []

    def scorer(*args, **kwargs):
        made.append(FakeScorer())
        return made[-1]

    monkeypatch.setattr(
        "cepcli.prior.local.language_model.load_language_model", lambda *a, **k: None
    )
    monkeypatch.setattr("cepcli.prior.local.hf.HFScorer", scorer)
    return made


@pytest.mark.parametrize("command", [("eval", "embedded"), ("score", "--prior", "embedded")])
def test_what_the_llm_answered_is_not_asked_again(scorers, workspace_root, command):
    record("--quiet", "--name", "d")
    demos = ("--demos", "d") if command[0] == "eval" else ()
    args = (*command, "--env", ENV, *demos)
    assert run(*args, "--no-journal").exit_code == 0
    assert not (workspace_root / "journal.sqlite").exists()
    first, second, live = run(*args), run(*args), run(*args, "--no-journal")
    assert (workspace_root / "journal.sqlite").is_file()
    assert first.stdout == second.stdout == live.stdout
    assert [bool(scorer.calls) for scorer in scorers] == [True, True, False, True]
    if command[0] == "score":
        assert ["journal" in shown.stderr for shown in (first, second)] == [False, True]


def test_demos_of_another_environment_are_refused():
    record("--quiet", "--name", "d")
    for command in (("eval", "uniform"), ("finetune",)):
        with pytest.raises(ArtifactError, match="are of `babyai/goto-redball`"):
            run(*command, "--env", "babyai/goto-local", "--demos", "d")


@pytest.fixture
def quick_demos(monkeypatch):
    """Demonstrations recorded by default are few."""
    from cepcli.datasets.demonstrations import DemosConfig

    @dataclass(frozen=True, slots=True)
    class FewDemos(DemosConfig):
        episodes: int = 4
        heldout_episodes: int = 2

    monkeypatch.setattr("cepcli.datasets.lessons.DemosConfig", FewDemos)


@pytest.fixture
def tunings(monkeypatch):
    """Tuning only writes its report; which configurations were tuned, on which demos."""
    from cepcli.config import write_toml
    from cepcli.prior.tuning.evaluate import PriorQuality
    from cepcli.prior.tuning.tuned import Measured

    quality = PriorQuality(2, 0.5, 1.0, 0.1, 0.5, 0.25, 1.4, 0.1)
    made = []

    def tune(data, config, workspace, name, **kwargs):
        made.append((config.shots, data[0].source.name))
        folder = workspace.begin("prior", name, overwrite=kwargs["overwrite"])
        write_json(folder / "report.json", {"after": asdict(quality)})
        write_json(folder / "prior.json", {"templates": {"babyai": "babyai-1"}})
        write_toml(folder / "config.toml", config)
        inputs = [one.source for one in data]
        return workspace.finish("prior", name, seed=config.seed, inputs=inputs)

    monkeypatch.setattr("cepcli.experiments.tuning.tune_prior", tune)
    monkeypatch.setattr(
        "cepcli.experiments.tuning.measure_untuned", lambda *args: Measured(quality, [])
    )
    return made


def finetune(*more):
    return run("finetune", "--env", ENV, "--quiet", *more)


def test_shots_come_from_the_flag_else_the_configuration(tunings, quick_demos, tmp_path):
    record("--quiet", "--episodes", "6", "--name", "d")
    (tmp_path / "c.toml").write_text("shots = 2\n")
    config = ("--config", str(tmp_path / "c.toml"))
    for more in ((), config, ("--set", "shots=3"), (*config, "--shots", "4"), ("--shots", "0")):
        assert finetune("--demos", "d", *more).exit_code == 0
    assert [shots for shots, _ in tunings] == [5, 2, 3, 4]


def test_the_command_that_uses_a_prior_has_the_options_of_its_demonstrations(tunings):
    options = ("--set", "env_options.products=40", "--set", "env_options.item_links=title")
    few = ("--episodes", "2", "--heldout-episodes", "2", "--name", "d", "--quiet")
    assert run("demos", "--env", "webshop", *few, *options).exit_code == 0
    result = run("finetune", "--env", "webshop", "--quiet", "--demos", "d", "--shots", "2")
    use = result.stdout.splitlines()[-1]
    assert use.startswith("Use it: cep train --env webshop --prior webshop-2shot --set ")
    assert set(use.split(" --set ")[1:]) == {
        "env_options.products=40", "env_options.item_links=title"
    }  # fmt: skip


@pytest.mark.parametrize("shots", ["2,0", "0,2", "2"])
def test_the_prior_to_use_is_one_that_was_tuned(tunings, shots):
    record("--quiet", "--name", "d")
    result = finetune("--demos", "d", "--shots", shots)
    use = f"Use it: cep train --env {ENV} --prior babyai-goto-redball-2shot"
    assert result.stdout.splitlines()[-1] == use
    assert "reporting half" in result.stdout


def test_seeds_and_choices_make_a_table_with_intervals(tunings, workspace_root):
    record("--quiet", "--name", "d")
    args = ("--demos", "d", "--shots", "2", "--choice", "random,diverse", "--seeds", "0,1")
    result = finetune(*args)
    names = [f"babyai-goto-redball-2shot-{c}_s{s}" for c in ("random", "diverse") for s in (0, 1)]
    assert [row for row in Workspace(workspace_root).names("prior") if "2shot" in row] == sorted(
        names
    )
    lines = [line.split("│") for line in result.stdout.splitlines() if "2shot" in line][:2]
    assert [[part.strip() for part in line[1:4]] for line in lines] == [
        [f"babyai-goto-redball-2shot-{choice}", "2", "2"] for choice in ("random", "diverse")
    ]
    rows = last_json(finetune(*args, "--overwrite", "--json"))["rows"]
    tuned = [row for row in rows if "seed" in row]
    assert [(row["prior"], row["choice"], row["seed"]) for row in tuned] == [
        (name, choice, seed)
        for name, (choice, seed) in zip(
            names, [(c, s) for c in ("random", "diverse") for s in (0, 1)], strict=True
        )
    ]


def test_a_named_prior_keeps_its_name_and_a_choice_joins_the_default_one(tunings, workspace_root):
    record("--quiet", "--name", "d")
    made = ("--demos", "d", "--shots", "2")
    assert finetune(*made, "--choice", "diverse", "--name", "mine").exit_code == 0
    assert finetune(*made, "--choice", "stratified").exit_code == 0
    assert finetune(*made, "--seeds", "3", "--name", "other").exit_code == 0
    assert finetune(*made[:2], "--shots", "1,2", "--name", "n").exit_code == 0
    names = set(Workspace(workspace_root).names("prior"))
    assert {"mine", "babyai-goto-redball-2shot-stratified", "other", "n-1shot", "n-2shot"} <= names


def test_several_environments_give_to_one_adapter(tunings, quick_demos, workspace_root):
    result = run("finetune", "--env", ENV, "--env", "babyai/goto-local", "--shots", "2", "--quiet")
    assert "of babyai/goto-redball, babyai/goto-local" in result.stdout
    assert "babyai-goto-redball_babyai-goto-local-2shot" in result.stdout.splitlines()[-1]
    with pytest.raises(ConfigError, match="1 times and `--env` 2 times"):
        run("finetune", "--env", ENV, "--env", "babyai/goto-local", "--demos", "d")
    with pytest.raises(ConfigError, match="an environment twice"):
        run("finetune", "--env", ENV, "--env", ENV)


def test_demonstrations_come_from_a_file(tunings, tmp_path):
    record("--quiet", "--name", "d", "--heldout-episodes", "9")
    (source,) = tmp_path.rglob("heldout.jsonl")
    mine = source.rename(tmp_path / "mine.jsonl")
    assert finetune("--demos", str(mine), "--shots", "2").exit_code == 0
    assert tunings == [(2, str(mine))]
    lines = mine.read_text().splitlines()
    row = json.loads(lines[4]) | {"action": "fly"}
    mine.write_text("\n".join([*lines[:4], json.dumps(row), *lines[5:]]))
    with pytest.raises(ArtifactError, match=r"mine\.jsonl:5: the action `fly` is not among"):
        finetune("--demos", str(mine), "--shots", "2")
    with pytest.raises(ArtifactError, match=r"Cannot read `absent\.jsonl`"):
        finetune("--demos", "absent.jsonl")


def test_a_prior_worse_than_chance_does_not_stop_the_others(tunings, monkeypatch):
    from cepcli.experiments import tuning
    from cepcli.prior.tuning import tuned

    tune = tuning.tune_prior

    def refusing(data, config, workspace, name, **kwargs):
        if config.shots == 1 and not kwargs["force"]:
            worse = tuned.PriorQuality(2, 0, 2.5, 0, 0, 0, 1.4, 0)
            raise tuned.WorseThanChanceError(name, ENV, worse, worse)
        return tune(data, config, workspace, name, **kwargs)

    monkeypatch.setattr(tuning, "tune_prior", refusing)
    record("--quiet", "--name", "d")
    args = ["finetune", "--env", ENV, "--quiet", "--demos", "d", "--shots", "1,2"]
    result = CliRunner().invoke(app, args)
    assert isinstance(result.exception, PriorError)
    assert "1shot` is worse than chance" in result.exception.message
    assert "--force" in result.exception.hint
    assert "1shot (refused)" in result.stdout
    assert "2shot" in result.stdout
    assert run(*args, "--force").exit_code == 0


def test_untuned_only_names_no_prior_to_use(tunings):
    record("--quiet", "--name", "d")
    assert "Use it" not in finetune("--demos", "d", "--shots", "0").stdout
    assert tunings == []


@pytest.mark.parametrize("shots", ["5,5", "5,0,0,0"])
def test_a_number_of_shots_given_twice_is_refused(tunings, shots):
    with pytest.raises(ConfigError, match="twice"):
        finetune("--shots", shots)
    with pytest.raises(ConfigError, match="`--seeds 0,00` names a number twice"):
        finetune("--shots", "1", "--seeds", "0,00")


def test_too_many_shots_are_said_before_anything_is_tuned(tunings, monkeypatch):
    def measure(*args):
        raise AssertionError("the model was asked")

    monkeypatch.setattr("cepcli.experiments.tuning.measure_untuned", measure)
    record("--quiet", "--name", "d", "--episodes", "3")
    with pytest.raises(PriorError, match="4 shots need as many demonstrated episodes; there are 3"):
        finetune("--demos", "d", "--shots", "2,4")
    assert tunings == []


def test_a_prior_of_more_environments_is_not_taken_for_one_of_fewer(tunings):
    record("--quiet", "--name", "d")
    run("demos", "--env", "babyai/goto-local", "--episodes", "4", "--heldout-episodes", "2",
        "--quiet", "--name", "e")  # fmt: skip
    both = ("--env", "babyai/goto-local", "--demos", "d", "--demos", "e")
    made = ("--shots", "2", "--name", "p")
    assert finetune(*both, *made).exit_code == 0
    assert finetune(*both, *made).exit_code == 0
    assert len(tunings) == 1, "it was made so"
    with pytest.raises(ArtifactError, match="exists"):
        finetune("--demos", "d", *made)


def test_demos_of_the_default_name_are_never_replaced(tunings, quick_demos, workspace_root):
    record("--quiet", "--seed", "9")
    space = Workspace(workspace_root)
    before = space.open("demos", "babyai-goto-redball").manifest
    assert finetune("--shots", "3").exit_code == 0
    result = run("finetune", "--env", ENV, "--shots", "4", "--overwrite")
    assert (
        "Leaving the demonstrations `babyai-goto-redball` as they are: 3 episodes" in result.stderr
    )
    assert "as `babyai-goto-redball-4`" in result.stderr
    assert space.open("demos", "babyai-goto-redball").manifest == before
    again = run("finetune", "--env", ENV, "--shots", "4", "--name", "again")
    assert "Recording" not in again.stderr
    expected = [(3, "babyai-goto-redball"), *[(4, "babyai-goto-redball-4")] * 2]
    assert tunings == expected


def test_demos_of_the_default_name_may_be_of_another_environment(
    tunings, quick_demos, workspace_root
):
    record("--quiet", "--name", "babyai-goto-local")
    result = run("finetune", "--env", "babyai/goto-local", "--shots", "2")
    assert "they are not of babyai/goto-local" in result.stderr
    assert tunings == [(2, "babyai-goto-local-4")]


def test_list_names_what_there_is():
    assert {row["name"] for row in last_json(run("list", "--json"))} >= {"uniform", "embedded"}
    assert "embedded" in run("list").stdout


def test_mistakes_are_named():
    with pytest.raises(EnvError, match="doesn't exist"):
        run("score", "--env", "babyai/goto-redbal", "--prior", "uniform")
    with pytest.raises(PriorError, match="no prior"):
        run("score", "--env", ENV, "--prior", "unifrom")
    with pytest.raises(ConfigError, match="not a list of numbers"):
        run("finetune", "--env", ENV, "--shots", "5,x")
    with pytest.raises(ConfigError, match="exclude each other"):
        run("finetune", "--env", ENV, "--seed", "1", "--seeds", "1,2")
    with pytest.raises(ConfigError, match="`choice` is 'divers'"):
        run("finetune", "--env", ENV, "--choice", "divers")
    with pytest.raises(ConfigError, match="annotated states"):
        run("demos", "--env", "walker2d")
    with pytest.raises(ConfigError, match="smothing"):
        run("score", "--env", ENV, "--prior", "uniform", "--set", "smothing=1")


@pytest.mark.parametrize("model", ["/nowhere", "./nowhere", "server:http://127.0.0.1:1"])
def test_what_is_no_model_is_said_before_anything_is_recorded_for_it(workspace_root, model):
    with pytest.raises(PriorError, match=r"is not a directory|is served elsewhere"):
        run("finetune", "--env", ENV, "--shots", "1", "--set", f"model={model}")
    assert not (workspace_root / "demos").exists()


def test_interrupt_says_how_to_go_on(monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("cepcli.datasets.lessons.record_demos", interrupted)
    result = record()
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


@WARNINGS
@pytest.mark.slow
def test_finetune_makes_a_prior_that_loads(workspace_root):
    record("--quiet", "--name", "d")
    sets = [
        f"--set={item}"
        for item in ("max_steps=1", "rank=2", "batch_decisions=1", "validation_decisions=2")
    ]
    result = run("finetune", "--env", ENV, "--shots", "0,2", "--demos", "d", "--json", *sets)
    rows = last_json(result)["rows"]
    name = "babyai-goto-redball-2shot"
    assert [row["prior"] for row in rows] == ["uniform", "embedded (untuned)", name]
    manifest = Workspace(workspace_root).open("prior", name).manifest
    assert [i["name"] for i in manifest["inputs"]] == ["d"]
    files = {output["file"] for output in manifest["outputs"]}
    assert files == {
        "adapter_config.json", "adapter_model.safetensors", "config.toml", "prior.json",
        "report.json",
    }  # fmt: skip
    assert run("score", "--env", ENV, "--prior", name).exit_code == 0
    adapter = Workspace(workspace_root).open("prior", name).path / "adapter_model.safetensors"
    made = adapter.stat().st_mtime_ns
    again = run("finetune", "--env", ENV, "--shots", "0,2", "--demos", "d", "--json", *sets)
    assert f"Using the existing prior `{name}`" in again.stderr
    assert last_json(again)["rows"][-1] == rows[-1]
    assert adapter.stat().st_mtime_ns == made
    with pytest.raises(ArtifactError, match="exists already"):
        run("finetune", "--env", ENV, "--shots", "2", "--demos", "d", *sets, "--set=alpha=4")


@pytest.fixture
def annotated_walker(workspace_root):
    """Annotations of 60 states, 30 of them different in words."""
    space = Workspace(workspace_root)
    folder = space.begin("annotations", "walker2d")
    rows = [
        {"observation": [round(0.1 * number, 5)] * 17, "text": f"It is {number % 30} steps on.",
         "primitive": ("brake", "rise")[number % 2], "source": "auto", "env": "walker2d"}
        for number in range(60)
    ]  # fmt: skip
    (folder / "annotations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return space.finish("annotations", "walker2d", seed=0)


def test_shots_of_continuous_control_are_annotated_states(tunings, annotated_walker):
    result = run("finetune", "--env", "walker2d", "--shots", "3", "--quiet")
    assert (
        result.stdout.splitlines()[-1] == "Use it: cep train --env walker2d --prior walker2d-3shot"
    )
    assert tunings == [(3, "walker2d")]
    with pytest.raises(PriorError, match="40 groups of 5 annotated states") as error:
        run("finetune", "--env", "walker2d", "--shots", "40", "--quiet")
    assert "pass --shots " in error.value.hint


def test_priors_of_continuous_control_are_judged_by_annotations(annotated_walker):
    found = last_json(run("eval", "uniform", "--env", "walker2d", "--json", "--quiet"))
    assert found["top1"] == pytest.approx(1 / 8)
    shown = last_json(
        run("score", "--env", "walker2d", "--prior", "uniform", "--seed", "4", "--json")
    )
    assert shown["text"] == "It is 4 steps on."
    assert shown["goal"].startswith("walk forward")
    assert len(shown["actions"]) == 8
