import torch

from recipe.path import CLOCK_RANGE, clock, clock_grid, clock_rate, time_of_clock


def test_clock_inverts_and_its_rate_is_its_derivative():
    t = torch.linspace(0, 1, 41, dtype=torch.float64)
    assert torch.allclose(time_of_clock(clock(t)), t, atol=1e-9)
    w = torch.linspace(-0.9, 0.9, 19, dtype=torch.float64)
    step = 1e-5
    slope = (time_of_clock(w + step) - time_of_clock(w - step)) / (2 * step * CLOCK_RANGE)
    assert torch.allclose(slope, clock_rate(time_of_clock(w)), rtol=1e-5)


def test_grids_have_exact_ends_and_fall():
    grid = clock_grid(8)
    assert grid[0] == 1 and grid[-1] == 0 and (grid.diff() < 0).all()
    assert abs(float(grid[4]) - 0.5) < 1e-12
