"""The integrators and the reference likelihood against the exact flow of Gaussian data."""

from itertools import pairwise

import pytest
import torch

from recipe.integrate import adams, heun, quadrature
from recipe.path import clock_grid
from recipe.reference import bits_per_dim, likelihood
from recipe.teacher import Teacher
from tests.gaussian import DEVIATION, MEAN, ExactNetwork, exact_map, log_density


@pytest.fixture
def data():
    torch.manual_seed(0)
    return MEAN + DEVIATION * torch.randn(16, 1, 4, 4)


@pytest.fixture
def teacher():
    return Teacher(ExactNetwork(), half=False)


@pytest.mark.parametrize(("method", "steps", "tolerance"), [(heun, 128, 3e-3), (adams, 96, 3e-3)])
def test_integrators_follow_the_exact_map(method, steps, tolerance, data, teacher):
    for start, times in ((data, clock_grid(steps)), (torch.randn(16, 1, 4, 4), clock_grid(steps).flip(0))):
        for point in method(teacher, start, times):
            end = point
        expected, log_det = exact_map(start, float(times[0]), float(times[-1]))
        assert (end.x - expected).abs().max() < tolerance
        # The Jacobian is diagonal: one Rademacher probe is exact.
        assert (end.integral - log_det).abs().max() < tolerance


def test_adams_needs_fewer_evaluations_than_euler(data, teacher):
    *_, end = adams(teacher, data, clock_grid(24))
    expected, _ = exact_map(data, 1.0, 0.0)
    x, times = data, clock_grid(24).tolist()
    for t, s in pairwise(times):
        x = x + (s - t) * teacher.velocity(x, torch.full((len(x),), t))
    assert (end.x - expected).abs().max() < 0.2 * (x - expected).abs().max()


def test_likelihood_is_the_exact_density(data, teacher):
    prior, divergence = likelihood(teacher, data, clock_grid(128), 1)
    assert (prior + divergence[:, 0] + log_density(data, 1.0)).abs().max() < 0.02
    assert not ((prior - divergence[:, 0] + log_density(data, 1.0)).abs().max() < 0.02), "the sign matters"


def test_semigroup_round_trip_and_sign():
    x = torch.randn(3, 1, 2, 2)
    half, first = exact_map(x, 1.0, 0.4)
    whole, both = exact_map(x, 1.0, 0.0)
    second_state, second = exact_map(half, 0.4, 0.0)
    assert torch.allclose(whole, second_state, atol=1e-6)
    assert abs(first + second - both) < 1e-12
    back, log_det = exact_map(whole, 0.0, 1.0)
    assert torch.allclose(back, x, atol=1e-6)
    assert abs(log_det + both) < 1e-12
    # Noise is wider than this data: towards noise the flow expands and the density falls.
    assert both > 0
    assert (log_density(whole, 0.0) < log_density(x, 1.0)).all()
    assert torch.allclose(log_density(x, 1.0), log_density(whole, 0.0) + 4 * both)


def test_quadrature_is_exact_for_polynomials():
    nodes = [0.2, 0.5, 0.55]
    weights = quadrature(nodes, 0.5, 0.55)
    for power in range(3):
        exact = (0.55 ** (power + 1) - 0.5 ** (power + 1)) / (power + 1)
        assert abs(sum(w * x**power for w, x in zip(weights, nodes, strict=True)) - exact) < 1e-12


def test_uniform_8_bit_data_has_8_bits_per_dimension():
    d = 784
    log_density_of_uniform = -d * torch.log(torch.tensor(2.0, dtype=torch.float64))
    assert abs(float(bits_per_dim(-log_density_of_uniform, torch.zeros(()), d)) - 8) < 1e-9
