"""The linear path between noise (t = 0) and data (t = 1), its clock, and time grids.

``x_t = (1 - t) n + t y`` with ``n ~ N(0, I)`` and data ``y``; velocity target ``y - n``.
Every network sees time through the log-SNR-like clock ``w(t) = log((t + e) / (1 - t + e))``,
because the divergence of the velocity changes by three decades between t = 0.5 and t = 1.
"""

import math

import torch
from torch import Tensor

CLOCK_EPSILON = 1e-3
CLOCK_RANGE = math.log((1 + CLOCK_EPSILON) / CLOCK_EPSILON)
# Steps of the longest schedule all of whose times trajectories keep; those of 1, 2 and 4 steps are among them.
LONGEST_SCHEDULE = 8


def clock(t: Tensor) -> Tensor:
    """The clock of times ``t`` in [0, 1], scaled to [-1, 1]; any shape."""
    return torch.log((t + CLOCK_EPSILON) / (1 - t + CLOCK_EPSILON)) / CLOCK_RANGE


def time_of_clock(w: Tensor) -> Tensor:
    """The inverse of :func:`clock`: times in [0, 1] of clock values ``w`` in [-1, 1]."""
    ratio = torch.exp(w.double() * CLOCK_RANGE)
    t = (ratio * (1 + CLOCK_EPSILON) - CLOCK_EPSILON) / (1 + ratio)
    return t.clamp(0, 1).to(w.dtype)


def clock_grid(steps: int, t_from: float = 1.0, t_to: float = 0.0) -> Tensor:
    """``steps + 1`` times uniform in the clock from ``t_from`` to ``t_to``, end points exact, f64."""
    ends = clock(torch.tensor([t_from, t_to], dtype=torch.float64))
    grid = time_of_clock(torch.linspace(float(ends[0]), float(ends[1]), steps + 1, dtype=torch.float64))
    grid[0], grid[-1] = t_from, t_to
    return grid


def clock_rate(t: Tensor) -> Tensor:
    """dt/dw of the unscaled clock ``ln((t + e) / (1 - t + e))``; any shape."""
    return (t + CLOCK_EPSILON) * (1 - t + CLOCK_EPSILON) / (1 + 2 * CLOCK_EPSILON)


def per_image(t: Tensor) -> Tensor:
    """Times [N] as [N, 1, 1, 1], to broadcast over images [N, C, H, W]."""
    return t[:, None, None, None]


def interpolate(y: Tensor, n: Tensor, t: Tensor) -> Tensor:
    """``x_t`` for data ``y`` [N, C, H, W], noise ``n`` of the same shape and times ``t`` [N]."""
    return per_image(t) * y + (1 - per_image(t)) * n


def sample_times(n: int, where: torch.device) -> Tensor:
    """Training times [n]: a half uniform in the clock (both ends get detail), a half uniform in t, 1 in 32 at t = 1."""
    pick = torch.rand(n, device=where)
    t = torch.rand(n, device=where)
    t = torch.where(pick < 0.5, time_of_clock(2 * t - 1), t)
    return torch.where(pick > 1 - 1 / 32, torch.ones_like(t), t)
