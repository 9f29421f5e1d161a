"""Muon: updates whose singular values are all alike."""

import pytest
import torch

from specterm.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_singular_values_come_near_one(shape):
    torch.manual_seed(0)
    found = orthogonalised(torch.randn(shape))
    assert found.shape == shape
    values = torch.linalg.svdvals(found)
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


def test_the_first_step_is_the_orthogonal_part_of_the_gradient():
    torch.manual_seed(0)
    matrix, gradient = torch.nn.Parameter(torch.zeros(32, 8)), torch.randn(32, 8)
    matrix.grad = gradient.clone()
    Muon([matrix], lr=0.1).step()
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    step = -matrix.detach() / (0.1 * 2.0)  # a tall matrix moves by sqrt(32 / 8) as much
    assert float((step * (u @ v)).sum()) > 0.95 * float(step.norm() * (u @ v).norm())


def test_it_learns_a_matrix():
    torch.manual_seed(0)
    wanted, inputs = torch.randn(12, 12), torch.randn(64, 12)
    matrix = torch.nn.Parameter(torch.zeros(12, 12))
    optimizer, losses = Muon([matrix], lr=0.1), []
    for _ in range(80):
        loss = ((inputs @ (matrix - wanted).T) ** 2).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.05 * losses[0]
