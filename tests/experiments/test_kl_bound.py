import numpy as np
import pytest

from cepcli.abstraction.annotated import SentenceForm
from cepcli.abstraction.state_encoder import StateEncoder
from cepcli.abstraction.states import Abstraction, Bank
from cepcli.errors import ConfigError
from cepcli.experiments import kl_bound as module
from cepcli.experiments.kl_bound import Pair, _row, measure_kl_bound
from cepcli.experiments.visits import PriorErrors
from cepcli.workspace.artifacts import Workspace
from tests.agents import control_worlds

PHRASES = (("left", "right"), ("slow", "fast", "very fast"))


def abstraction():
    """Four quarters of the plane of place and speed, each with its phrases."""
    random = np.random.default_rng(0)

    def drawn(*shape):
        return random.standard_normal(shape).astype(np.float32)

    nothing = np.zeros(8, np.float32)
    encoder = StateEncoder.of(
        {
            "pairs": np.zeros((0, 2), np.float32), "mean": np.zeros(2, np.float32),
            "scale": np.ones(2, np.float32), "first": drawn(8, 2), "first_bias": nothing + 0.1,
            "second": drawn(8, 8), "second_bias": nothing + 0.1, "output": drawn(4, 8),
            "text": drawn(4, 3),
        }
    )  # fmt: skip
    states = random.uniform(-1, 1, (40, 2))
    codes = np.stack([states[:, 0] > 0, states[:, 1] > 0, np.zeros(40)], 1).astype(np.int64)
    bank = Bank(encoder.keys(states), codes, np.ones(40, bool), (2, 3, 3), neighbours=3)
    form = SentenceForm(("side", "pace"), ("the point is ", " and ", "."), capitalised=True)
    features = ("place", "speed")
    return Abstraction(
        "babyai", features, control_worlds.SPEC.feature_sha256, encoder, bank, form, PHRASES,
        tuple(control_worlds.SPEC.actions),
    )  # fmt: skip


@pytest.fixture
def space(tmp_path, monkeypatch, made_once):
    monkeypatch.setattr(control_worlds, "Describer", abstraction)
    control_worlds.install(monkeypatch.setattr)
    flags = {"cache.mode": "lru", "cache.threshold": 0.9}
    made_once("point", tmp_path, lambda: control_worlds.run(tmp_path, "a", **flags))
    return Workspace(tmp_path)


def test_no_pair_exceeds_the_proven_bound_and_every_text_changes(space):
    found = measure_kl_bound(space, "a", flips=(0.3, 1.0), jitters=(1.0,), episodes=4)
    cases = {row["case"]: row for row in found["rows"]}
    assert list(cases) == ["flip 0.3", "flip 1", "jitter 1"]
    assert cases["flip 1"]["changed"] == 1.0
    assert cases["flip 1"]["pairs"] == found["states"] > 5
    assert 0 < cases["flip 0.3"]["changed"] < 1
    for row in found["rows"]:
        assert row["span_violations"] == 0
        assert 0 < row["span_tightness"] <= 1
        assert 0 < row["kl_mean"] <= row["kl_max"]
        assert row["lipschitz"] > 0
        assert 0 <= row["key_violations"] <= 1


def test_a_bound_that_is_too_small_is_exceeded(space, monkeypatch):
    monkeypatch.setattr(module, "kl_bound", lambda span: span * span / 8000.0)
    found = measure_kl_bound(space, "a", flips=(1.0,), jitters=(), episodes=4)
    assert found["rows"][0]["span_violations"] == found["rows"][0]["pairs"]


def test_noise_that_changes_no_text_says_nothing(space):
    found = measure_kl_bound(space, "a", flips=(), jitters=(1e-9,), episodes=2)
    assert found["rows"] == [
        {"case": "jitter 1e-09", "changed": 0.0, "pairs": 0, "kl_mean": None, "kl_max": None,
         "span_violations": 0, "span_tightness": None, "judged": 0, "lipschitz": 0.0,
         "key_violations": None, "key_tightness": None}
    ]  # fmt: skip


def pair(calibrates, similarity, gap, span, kl):
    return Pair("flip 1", calibrates, similarity, PriorErrors(gap, span, kl=9.0, posterior_kl=kl))


def test_the_lipschitz_constant_is_judged_by_pairs_that_it_does_not_know():
    learned = pair(True, 0.5, 2.0, 3.0, 0.5)
    assert learned.lipschitz == pytest.approx(2.0)  # ‖z − z′‖ = 1
    held = pair(False, 0.5, 2.0, 4.0, 1.0)
    over = pair(False, 0.9, 2.0, 4.0, 1.0)
    row = _row("flip 1", [learned, held, over], learned.lipschitz, 4)
    assert (row["pairs"], row["judged"], row["changed"]) == (3, 2, 0.75)
    assert row["key_violations"] == 0.5  # 4·0.5 = 2 holds, 4·0.1 = 0.4 does not
    assert row["key_tightness"] == pytest.approx((1.0 / 2.0 + 1.0 / 0.4) / 2)
    assert row["span_violations"] == 0
    assert row["span_tightness"] == pytest.approx((0.5 / (9 / 8) + 0.5 + 0.5) / 3)
    same_key = pair(True, 1.0, 2.0, 3.0, 0.5)
    assert same_key.lipschitz == float("inf")
    assert _row("flip 1", [same_key], same_key.lipschitz, 1)["lipschitz"] is None


def test_a_run_of_text_has_no_abstraction(tmp_path, corridor):
    corridor.run(tmp_path, "text", steps=40)
    with pytest.raises(ConfigError, match="describes no states"):
        measure_kl_bound(Workspace(tmp_path), "text", episodes=2)
