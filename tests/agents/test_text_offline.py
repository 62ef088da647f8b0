import numpy as np
import pytest
import torch

from cepcli.agents.bc import TextBC
from cepcli.agents.cql import TextCQL, conservative_loss
from cepcli.agents.iql import TextIQL, expectile_loss
from cepcli.agents.offline_config import OfflineConfig, TextConfig
from cepcli.datasets.batches import TextBatches, TextStates
from cepcli.datasets.dataset import TextData
from cepcli.datasets.text_replay import NO_ACTION
from tests.agents.worlds import HashEncoder
from tests.datasets import slow_cql

LATER = [pytest.param(algorithm, marks=pytest.mark.slow) for algorithm in ("cql", "iql")]


def test_conservative_loss_is_that_of_a_slow_plain_version():
    rng = np.random.default_rng(0)
    q_values = rng.normal(size=(2, 5, 4))
    prior = np.log(rng.dirichlet(np.ones(4), 5))
    prior[1, 3] = prior[4, 2:] = -np.inf
    chosen = np.array([0, 2, 3, 1, 0])
    for temperature in (1.0, 0.1):
        expected = slow_cql.text_gap(q_values, prior, chosen, temperature)
        found = conservative_loss(
            torch.from_numpy(q_values),
            torch.from_numpy(prior),
            torch.from_numpy(chosen),
            temperature,
        )
        assert float(found.loss) == pytest.approx(expected, rel=1e-9)


def test_conservative_loss_ignores_padded_actions():
    q_values = torch.tensor([[[1.0, 2.0, 50.0]]])
    weights = torch.tensor([[0.0, 0.0, -torch.inf]])
    found = conservative_loss(q_values, weights, torch.tensor([1]), 1.0)
    assert float(found.loss) == pytest.approx(np.log(np.e + np.e**2) - 2.0, rel=1e-5)


def test_expectile_is_the_mean_at_one_half():
    values = torch.tensor([0.0, 1.0, 5.0])
    at = torch.tensor(2.0, requires_grad=True)
    expectile_loss(values - at, 0.5).backward()
    assert at.grad is not None
    assert float(at.grad) == pytest.approx(0.0, abs=1e-6)
    high = torch.tensor(2.0, requires_grad=True)
    expectile_loss(values - high, 0.9).backward()
    assert high.grad is not None
    assert float(high.grad) < 0.0  # a higher V would fit better


STRINGS = ["goal", "hall", "room", "go", "wait", "take"]


def world(episodes=200, log_prior=None, behaviour=None, seed=0):
    """Hall → room → end: "go" leads on, "wait" stays, "take" brings 1; chance behaves."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(episodes):
        place = 1
        for step in range(6):
            column = int(rng.integers(2)) if behaviour is None else behaviour(place, rng)
            done = place == 2 and column == 1
            rows.append((place, column, float(done), done, step == 5 and not done))
            if done:
                break
            place = 2 if (place == 1 and column == 1) else place
    place, column, reward, terminated, truncated = map(np.array, zip(*rows, strict=True))
    actions = np.where((place == 1)[:, None], [4, 3, NO_ACTION], [4, 5, NO_ACTION])
    priors = None
    if log_prior is not None:
        priors = np.full(actions.shape, -np.inf, np.float32)
        priors[:, :2] = log_prior
    return TextData(
        env="test/rooms",
        source="two rooms",
        strings=STRINGS,
        goal=np.zeros(len(rows), np.int32),
        text=place.astype(np.int32),
        actions=actions.astype(np.int32),
        chosen=column.astype(np.int64),
        rewards=reward.astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        success=terminated.copy(),
        log_prior=priors,
    )


KINDS = {"cql": TextCQL, "cql-prior": TextCQL, "iql": TextIQL, "bc": TextBC}


def learned(algorithm, data, steps=120, **text):
    settings = OfflineConfig(
        algorithm=algorithm, prior="uniform" if algorithm == "cql-prior" else None,
        text=TextConfig(**{
            "hidden": 32, "members": 2, "target_interval": 10, "learning_rate": 5e-3, **text
        }),
    )  # fmt: skip
    batches = TextBatches(data, HashEncoder(), with_prior=data.log_prior is not None)
    made = KINDS[algorithm](settings, batches, seed=0)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        made.update(batches.sample(64, rng))
    return made, batches


def scores(made, batches, log_prior=(-0.7, -0.7)):
    """Of waiting and of going on, in the hall and in the room."""
    vectors = torch.from_numpy(batches.vectors)
    states = TextStates(
        vectors[torch.tensor([0, 0])], vectors[torch.tensor([1, 2])],
        vectors[torch.tensor([[4, 3], [4, 5]])],
        torch.tensor([log_prior, log_prior], dtype=torch.float32),
    )  # fmt: skip
    return made.scores(states)


@pytest.mark.parametrize("algorithm", ["cql-prior", *LATER])
def test_learns_from_chance_behaviour_what_is_best(algorithm):
    found = scores(*learned(algorithm, world(), steps=400, weight=0.1))
    assert (found.argmax(-1) == 1).all()


def test_cloning_does_what_was_done_though_it_is_worse():
    data = world(behaviour=lambda place, rng: int(rng.random() < 0.2))
    found = scores(*learned("bc", data))
    assert float(found[0].softmax(-1)[1]) == pytest.approx(0.2, abs=0.08)
    assert (found.argmax(-1) == 0).all()


def test_the_prior_is_asked_where_the_data_say_nothing():
    """The data only ever wait; under cql-prior what the prior forbids is not done either."""
    data = world(log_prior=np.log([0.05, 0.95]), behaviour=lambda place, rng: 0, episodes=40)
    made, batches = learned("cql-prior", data, weight=0.0, steps=50)
    towards, away = np.log([0.05, 0.95]), np.log([0.95, 0.05])
    assert (scores(made, batches, tuple(towards)).argmax(-1) == 1).all()
    assert (scores(made, batches, tuple(away)).argmax(-1) == 0).all()


def test_truncated_decisions_are_no_transitions():
    data = world(behaviour=lambda place, rng: 0, episodes=3)
    batches = TextBatches(data, HashEncoder(), with_prior=False)
    batch = batches.sample(200, np.random.default_rng(0))
    assert bool((batch.continues == 1.0).all())
    assert set(batches._rows.tolist()).isdisjoint(np.flatnonzero(data.truncated).tolist())


@pytest.mark.parametrize("algorithm", ["cql", "iql", "bc"])
def test_restored_learner_goes_on_to_the_bit(algorithm):
    data = world(episodes=20)
    first, batches = learned(algorithm, data, steps=7)
    tensors, scalars = first.state()
    second, _ = learned(algorithm, data, steps=0)
    second.restore(tensors, scalars)
    for made in (first, second):
        rng = np.random.default_rng(5)
        for _ in range(25):
            made.update(batches.sample(16, rng))
    one, two = first.state()[0], second.state()[0]
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
