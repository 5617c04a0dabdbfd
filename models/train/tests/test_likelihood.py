"""Few-step likelihoods of exact maps against exact densities, and the conventions that cannot be exact."""

import math

import pytest
import torch

from recipe.likelihood import TruncatedNormal, inverted, native, traced, walked_back
from recipe.path import clock_grid
from recipe.reference import bits_per_dim, likelihood
from recipe.teacher import Teacher
from tests.exact import GaussianMap, MixtureMap


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def error(score, density, x) -> float:
    return float((score.log_det - score.prior() - density.log_density(x)).abs().max())


@pytest.mark.parametrize("kind", [GaussianMap, MixtureMap])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_exact_map_gives_the_exact_density_at_any_number_of_steps(kind, steps):
    density = kind()
    x = density.data(32)
    with torch.no_grad():
        score = native(density, x, clock_grid(steps))
        assert error(score, density, x) < 2e-3
        # There and back again, with the opposite log-determinant.
        back = native(density, score.z, clock_grid(steps).flip(0))
        assert (back.z - x).abs().max() < 1e-3
        assert (back.log_det + score.log_det).abs().max() < 2e-3
        for bad in (0.05, float("nan")):
            density.divergence_error = bad
            assert not error(native(density, x, clock_grid(steps)), density, x) < 2e-3


def test_many_steps_with_the_exact_trace_give_the_density_of_the_mixture():
    density = MixtureMap()
    x = density.data(8)
    prior, divergence = likelihood(Teacher(density, half=False), x, clock_grid(64), 2)
    assert (prior + divergence[:, 0] + density.log_density(x)).abs().max() < 0.01
    assert (divergence[:, 0] == divergence[:, 1]).all()


def test_walking_back_is_wrong_with_a_perfect_map_and_inverting_it_is_not():
    density = GaussianMap(deviation=0.7)
    x = density.data(32)
    with torch.no_grad():
        assert error(walked_back(density, x, torch.linspace(1, 0, 9)), density, x) > 0.3
        solved = inverted(density, x, clock_grid(8), iterations=40)
        assert solved.residual < 1e-5
        assert error(solved, density, x) < 1e-3


@pytest.mark.parametrize("evaluate", [native, walked_back, inverted])
def test_scores_are_computed_where_the_images_are(evaluate, monkeypatch):
    # The meta device holds no values, but refuses to mix with another.
    monkeypatch.setattr(torch.Tensor, "item", lambda self: 0.0)
    density = GaussianMap().to("meta")
    for field in (density, traced(lambda x, t, s: density.heads(x, t, t)[0])):
        score = evaluate(field, torch.empty(3, 1, 4, 4, device="meta"), clock_grid(2))
        assert score.log_det.device.type == score.prior().device.type == "meta"
        assert score.log_det.shape == score.prior().shape == (3,) and score.log_det.dtype == torch.float64


def test_inversion_that_does_not_converge_says_so():
    wide = GaussianMap(deviation=6.0)  # the map expands sixfold: the iteration cannot hold it
    with torch.no_grad():
        assert inverted(wide, wide.data(8), clock_grid(1)).residual > 1.0
        wide.velocity_error = float("nan")
        assert inverted(wide, wide.data(8), clock_grid(1)).residual == float("inf")


def test_euler_with_a_traced_velocity_tends_to_the_density():
    density = GaussianMap(deviation=0.7)
    x = density.data(32)
    euler = traced(lambda x, t, s: density.heads(x, t, t)[0])
    coarse, fine = (error(native(euler, x, torch.linspace(1, 0, k + 1)), density, x) for k in (8, 512))
    assert fine < 0.1 < coarse


def test_truncated_normal_bound_is_tight_for_a_known_density():
    # Data uniform over two neighbouring bins, convolved with the path's noise: log p_t is known in closed form.
    start = TruncatedNormal()
    t, width = start.time, 1 / 128
    pixels = torch.randint(100, 102, (4000, 1, 1, 1), dtype=torch.uint8)
    x = start.inputs(pixels, torch.rand(4000, 1, 1, 1).clamp(1e-6, 1 - 1e-6)).double()
    low = t * (100 / 128 - 1)
    normal = torch.distributions.Normal(0.0, 1.0)
    inside = normal.cdf((x - low) / (1 - t)) - normal.cdf((x - low - 2 * width * t) / (1 - t))
    log_p = torch.log(inside / (2 * width * t)).flatten()
    found = start.bits_per_dim(-log_p, torch.zeros(4000), 1).mean()
    # One bit tells the two values apart; uniform density in a bin loses KL(truncated normal || uniform) against it.
    loss = math.log2(2 * start.tau) - start.entropy() / math.log(2)
    assert abs(float(found) - 1 - loss) < 0.03
    assert (x / t - ((pixels.double() + 0.5) / 128 - 1)).abs().max() <= start.half_bin * 1.0001
    uniform = bits_per_dim(torch.tensor(math.log(2 * width)), torch.tensor(0.0), 1)
    assert abs(float(uniform) - 1) < 1e-9
