import pytest
from pyarrow import parquet

from cepcli.experiments import ablation as module
from cepcli.experiments.ablation import ABLATIONS, Ablation


def test_dry_run_names_the_variants_and_makes_nothing(cep, workspace_root):
    done = cep("ablate", "cache", "--dry-run", "--seeds", "2", "--json")
    assert done.code == 0, done.err
    runs = done.json["runs"]
    variants = [
        "off", "exact", "lru", "lru-raw-keys", "fifo", "surrogate", "surrogate-tighten",
        "certified", "certified-tau-hits", "certified-tau-reliable",
    ]  # fmt: skip
    assert [row["variant"] for row in runs] == variants * 2
    assert [row["seed"] for row in runs] == [0] * len(variants) + [1] * len(variants)
    assert not any(row["finished"] for row in runs)
    assert not (workspace_root / "run").exists()
    assert "surrogate-tighten" in cep("ablate", "cache", "--dry-run").out


def test_every_variant_of_every_ablation_is_a_valid_configuration():
    for ablation in ABLATIONS.values():
        assert ablation.baseline in ablation.variants
        for variant in ablation.variants:
            ablation.config(variant, seed=3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cachex",), "Did you mean `cache`?"),
        (("cache", "--steps", "0"), "expected ≥ 1"),
        (("cache", "--set", "stepz=1"), "Did you mean `steps`?"),
        (("cache", "--agent", "dqn"), "uses no LLM"),
    ],
)
def test_mistakes_are_named_before_anything_runs(cep, arguments, said):
    done = cep("ablate", *arguments, "--dry-run")
    assert done.code == 2
    assert said in done.err


TINY = Ablation(
    name="tiny",
    question="Does it matter?",
    base={"env": "babyai/goto-redball", "agent": "random", "prior": "uniform", "steps": 5,
          "eval_episodes": 1, "final_eval_episodes": 2},
    variants={"sampled": {}, "greedy": {"eval_greedy": True}},
    baseline="sampled",
    figures=("success", "wall_seconds"),
)  # fmt: skip


def test_a_sweep_makes_its_runs_once_and_leaves_table_data_and_picture(
    cep, monkeypatch, workspace_root
):
    monkeypatch.setitem(ABLATIONS, "tiny", TINY)
    done = cep("ablate", "tiny", "--seeds", "1", "--json")
    assert done.code == 0, done.err
    assert [row["variant"] for row in done.json["rows"]] == ["sampled", "greedy"]
    folder = workspace_root / "ablation" / "tiny"
    assert parquet.read_table(folder / "runs.parquet").num_rows == 2
    assert (folder / "tradeoff.png").read_bytes().startswith(b"\x89PNG")

    def forbidden(job, workspace):
        raise AssertionError(job)

    monkeypatch.setattr(module, "_run", forbidden)
    again = cep("ablate", "tiny", "--seeds", "1")
    assert again.code == 0
    assert "0 of 2 runs" in again.err
    assert "retention of sampled" in again.out


def test_a_run_that_fails_is_said_with_its_own_words(cep, monkeypatch):
    broken = Ablation(
        "tiny", "?", {**TINY.base, "env": "babyai/goto-nowhere"}, {"one": {}}, "one", ("success",)
    )
    monkeypatch.setitem(ABLATIONS, "tiny", broken)
    done = cep("ablate", "tiny", "--seeds", "1")
    assert done.code == 2
    assert "goto-nowhere" in done.err
    assert "exit code 2" in done.err
