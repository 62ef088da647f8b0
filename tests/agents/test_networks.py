import pytest
import torch

from cepcli.agents.networks import EnsembleLinear, TextQNetwork, shrunk_advantage


def test_members_of_an_ensemble_do_not_touch_each_other():
    layer = EnsembleLinear(3, 4, 2)
    rows = torch.randn(3, 5, 4)
    alone = torch.stack([rows[m] @ layer.weight[m] + layer.bias[m] for m in range(3)])
    assert torch.allclose(layer(rows), alone, atol=1e-6)


def test_untrained_network_says_nothing():
    network = TextQNetwork(6, 8, members=2)
    q = network(torch.randn(3, 6), torch.randn(3, 6), torch.randn(3, 4, 6))
    assert q.shape == (2, 3, 4)
    assert (q == 0).all()


def test_standardiser_takes_out_what_all_texts_share():
    network = TextQNetwork(3, 8, members=1)
    texts = torch.tensor([[1.0, 0.0, 5.0], [1.0, 0.2, 5.0]])
    network.fit_standardiser("text", texts)
    standard = network._standard("text", texts)
    assert standard.mean(0) == pytest.approx(torch.zeros(3), abs=1e-5)
    assert standard.square().mean().item() == pytest.approx(1.0, rel=1e-4)
    network.fit_standardiser("goal", texts[:1])
    assert network._standard("goal", texts[:1]).abs().max() < 1e-6, "one goal is only centred"


def test_agreement_keeps_an_advantage_and_disagreement_takes_it_away():
    agree = torch.tensor([[[1.0, -1.0]], [[1.0, -1.0]]])
    differ = torch.tensor([[[3.0, -3.0]], [[-3.0, 3.0]]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    assert shrunk_advantage(agree, valid, 1.0)[0].tolist() == [1.0, -1.0]
    assert shrunk_advantage(differ, valid, 1.0)[0].tolist() == [0.0, 0.0]


def test_shrinkage_by_hand():
    q = torch.tensor([[[3.0, -3.0]], [[1.0, -1.0]]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    gain = 4.0 / (4.0 + 2.0)  # mean 2, sample variance 2
    assert shrunk_advantage(q, valid, 1.0)[0].tolist() == pytest.approx([2 * gain, -2 * gain])


def test_a_constant_added_to_q_and_padded_actions_change_nothing():
    q = torch.tensor([[[1.0, 2.0, 77.0]], [[2.0, 4.0, -5.0]]])
    valid = torch.tensor([[True, True, False]])
    found = shrunk_advantage(q, valid, 1.0)
    assert torch.allclose(found, shrunk_advantage(q + 100.0, valid, 1.0), atol=1e-4)
    assert found[0, 2] == 0.0
    assert torch.allclose(found[:, :2], shrunk_advantage(q[..., :2], valid[:, :2], 1.0))
