import pytest
import torch

from cepcli.agents.networks import td_loss
from cepcli.agents.posterior_q import next_state_value

LOG_PRIOR = torch.log(torch.tensor([[0.5, 0.25, 0.25]]))
ONLINE = torch.tensor([[0.0, 1.0, 2.0]])
TARGET = torch.tensor([[[1.0, 10.0, 100.0]]])


def test_expected_backup_chooses_by_online_and_values_by_target():
    weights = torch.tensor([0.5, 0.25 * 2.718281828, 0.25 * 2.718281828**2])
    expected = (weights / weights.sum() * TARGET[0, 0]).sum()
    value = next_state_value("expected", LOG_PRIOR, ONLINE, TARGET, 1.0)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_soft_backup_is_the_log_mean_exp_of_target_values():
    q = TARGET / 100
    expected = 2.0 * torch.log((LOG_PRIOR.exp() * torch.exp(q[0] / 2.0)).sum())
    value = next_state_value("soft", LOG_PRIOR, ONLINE, q, 2.0)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_max_candidates_backup_is_the_target_networks_best_of_what_was_drawn():
    drawn = torch.tensor([[True, True, False]])
    for online in (ONLINE, -ONLINE):
        value = next_state_value("max-candidates", LOG_PRIOR, online, TARGET, 1.0, drawn)
        assert value.item() == 10.0


def test_max_backup_values_the_online_networks_choice_by_the_target_network():
    assert next_state_value("max", LOG_PRIOR, ONLINE, TARGET, 1.0).item() == 100.0
    assert next_state_value("max", LOG_PRIOR, -ONLINE, TARGET, 1.0).item() == 1.0
    padded = torch.tensor([[0.0, 0.0, -torch.inf]])
    assert next_state_value("max", padded, ONLINE, TARGET, 1.0).item() == 10.0


def test_padded_actions_carry_no_value():
    padded = torch.tensor([[0.0, 0.0]]).log_softmax(-1)
    padded = torch.cat([padded, torch.tensor([[-torch.inf]])], dim=1)
    q = torch.tensor([[1.0, 3.0, 1000.0]])
    assert next_state_value("expected", padded, q * 0, q[None], 1.0).item() == pytest.approx(2.0)


def test_every_member_of_the_ensemble_has_a_value_of_its_own():
    target = torch.cat([TARGET, 2 * TARGET])
    drawn = torch.tensor([[True, True, False]])
    values = next_state_value("max-candidates", LOG_PRIOR, ONLINE, target, 1.0, drawn)
    assert values[:, 0].tolist() == [10.0, 20.0]


def test_members_losses_add_up_so_that_each_learns_as_if_alone():
    q = torch.tensor([[[1.0, 5.0], [2.0, 0.0]]])
    action, target = torch.tensor([1, 0]), torch.tensor([[5.5, 5.0]])
    one = td_loss(q, action, target).loss
    two = td_loss(q.repeat(2, 1, 1), action, target.repeat(2, 1)).loss
    assert two.item() == pytest.approx(2 * one.item())


def test_td_loss_by_hand():
    q = torch.tensor([[[1.0, 5.0], [2.0, 0.0]]])
    losses = td_loss(q, torch.tensor([1, 0]), torch.tensor([[5.5, 5.0]]))
    assert losses.td_error.item() == pytest.approx((0.5 + 3.0) / 2)
    assert losses.loss.item() == pytest.approx((0.5 * 0.25 + (3.0 - 0.5)) / 2)
    assert losses.q_mean.item() == pytest.approx(3.5)
