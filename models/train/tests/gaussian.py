"""Gaussian data: the exact teacher, flow map and density (design of every closed-form test)."""

import math

import torch
from torch import Tensor

MEAN, DEVIATION = -0.3, 0.4


def variance(t: float) -> float:
    return (t * DEVIATION) ** 2 + (1 - t) ** 2


def exact_map(x: Tensor, t: float, s: float) -> tuple[Tensor, float]:
    """The state at s, and the log-determinant per value."""
    ratio = variance(s) / variance(t)
    return s * MEAN + (x - t * MEAN) * math.sqrt(ratio), 0.5 * math.log(ratio)


def log_density(x: Tensor, t: float) -> Tensor:
    """log p_t per image, [N], f64."""
    v = variance(t)
    each = -0.5 * (x.double() - t * MEAN) ** 2 / v - 0.5 * math.log(2 * math.pi * v)
    return each.sum((1, 2, 3))


class ExactNetwork(torch.nn.Module):
    """Stands in for a trained teacher: ``heads(x, t, t)`` is the exact velocity."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def heads(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        t = t[:, None, None, None]
        v = (t * DEVIATION) ** 2 + (1 - t) ** 2
        return MEAN + (t * DEVIATION**2 - (1 - t)) / v * (x - t * MEAN), torch.zeros_like(x[:, :1])
