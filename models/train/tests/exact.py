"""Densities with exact flow maps, standing in for trained networks: a Gaussian, and a mixture of three in the plane."""

import math

import torch
from torch import Tensor, nn

from recipe.network import DivergenceScale
from recipe.path import per_image
from recipe.scale import set_constant


class ExactMap(nn.Module):
    """What the objectives ask of a network, with d in nats instead of a standardised h.

    ``velocity_error`` and ``divergence_error`` perturb the map by a function of x and of both times; with
    ``off_diagonal`` it is times s - t, so that the diagonal stays right. ``scalar`` gives d as of a scalar head.
    """

    scalar = False
    velocity_error = 0.0
    divergence_error = 0.0
    off_diagonal = False

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.scale = DivergenceScale()
        set_constant(self.scale, 1.0, 1)

    def heads(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        u, d = self.average(x, t, s)
        wave = torch.sin(3 * x.flatten(1).sum(1) + 5 * t - 7 * s)
        wave = wave * (s - t) if self.off_diagonal else wave
        d = d.sum((1, 2, 3), keepdim=True) if self.scalar else d
        return self.weight * u + self.velocity_error * per_image(wave), d + self.divergence_error * per_image(wave)

    def forward(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return self.heads(x, t, s)

    def divergence(self, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return h


class GaussianMap(ExactMap):
    """Independent Gaussian values, mean and deviation as given."""

    def __init__(self, mean: float = -0.3, deviation: float = 0.4):
        super().__init__()
        self.mean, self.deviation = mean, deviation

    def data(self, n: int) -> Tensor:
        return self.mean + self.deviation * torch.randn(n, 1, 4, 4)

    def log_density(self, y: Tensor) -> Tensor:
        z = (y.double() - self.mean) / self.deviation
        return (-0.5 * z.square() - math.log(self.deviation * math.sqrt(2 * math.pi))).flatten(1).sum(1)

    def average(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Divided differences of ``sqrt V`` and ``log V``, ``V(t) = t^2 deviation^2 + (1 - t)^2``, smooth at t = s."""
        t, s = per_image(t), per_image(s)
        v_t, v_s = ((self.deviation * a) ** 2 + (1 - a) ** 2 for a in (t, s))
        slope = self.deviation**2 * (t + s) - (2 - t - s)  # (V(s) - V(t)) / (s - t)
        u = self.mean + (x - t * self.mean) * slope / (v_t.sqrt() * (v_t.sqrt() + v_s.sqrt()))
        d = 0.5 * slope / v_t * log1p_ratio((v_s - v_t) / v_t)
        return u, d.expand(-1, 1, *x.shape[2:])


def log1p_ratio(q: Tensor) -> Tensor:
    """``log(1 + q) / q``, differentiable at 0."""
    small = q.abs() < 1e-2
    series = 1 - q * (1 / 2 - q * (1 / 3 - q * (1 / 4 - q / 5)))
    safe = torch.where(small, torch.ones_like(q), q)
    return torch.where(small, series, torch.log1p(safe) / safe)


class MixtureMap(ExactMap):
    """Three Gaussians in the plane, points as images [N, 2, 1, 1]; the map integrates the exact velocity by RK4."""

    CENTRES = ((-0.8, -0.5), (0.7, -0.6), (0.1, 0.8))
    DEVIATION = 0.35
    STEPS = 12

    def data(self, n: int) -> Tensor:
        centres = torch.tensor(self.CENTRES)
        y = centres[torch.randint(len(centres), (n,))] + self.DEVIATION * torch.randn(n, 2)
        return y[:, :, None, None]

    def log_density(self, y: Tensor) -> Tensor:
        y = y.double().flatten(1)
        far = (y[:, None] - torch.tensor(self.CENTRES).double()).square().sum(2)
        each = -0.5 * far / self.DEVIATION**2 - math.log(2 * math.pi * self.DEVIATION**2 * len(self.CENTRES))
        return each.logsumexp(1)

    def field(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The velocity [N, 2] at points [N, 2], and its divergence [N]."""
        t = t[:, None]
        variance = (t * self.DEVIATION) ** 2 + (1 - t) ** 2
        rate = (t * self.DEVIATION**2 - (1 - t)) / variance
        centres = torch.tensor(self.CENTRES, dtype=x.dtype)
        from_each = x[:, None] - t[:, :, None] * centres  # [N, 3, 2]
        share = (-0.5 * from_each.square().sum(2) / variance).softmax(1)[:, :, None]
        towards = centres + rate[:, :, None] * from_each
        pull = -from_each / variance[:, :, None]
        change = share * (pull - (share * pull).sum(1, keepdim=True))  # gradient of the shares
        divergence = 2 * rate[:, 0] + (change * towards).sum((1, 2))
        return (share * towards).sum(1), divergence

    def average(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Averages of the stages of the Runge-Kutta steps: no division by s - t."""
        h = (s - t) / self.STEPS
        y, u, d = x.flatten(1), torch.zeros_like(x).flatten(1), torch.zeros_like(t)
        for i in range(self.STEPS):
            at = t + i * h
            v1, d1 = self.field(y, at)
            v2, d2 = self.field(y + h[:, None] / 2 * v1, at + h / 2)
            v3, d3 = self.field(y + h[:, None] / 2 * v2, at + h / 2)
            v4, d4 = self.field(y + h[:, None] * v3, at + h)
            v = (v1 + 2 * v2 + 2 * v3 + v4) / 6
            y, u, d = y + h[:, None] * v, u + v / self.STEPS, d + (d1 + 2 * d2 + 2 * d3 + d4) / 6 / self.STEPS
        return u[:, :, None, None], d[:, None, None, None]
