"""Fits the :class:`recipe.network.DivergenceScale` of a student to its teacher.

At times spread over the clock, two independent probes of the teacher's divergence give its mean over pixels and
images, the spread of a pixel, and the spread of the sum over pixels; the product of two independent probes has the
probes' own noise in neither. Each is then fitted by a sum of poles with relative weights.
"""

import numpy as np
import torch
from scipy.optimize import lsq_linear, nnls
from torch import Tensor

from recipe.network import DivergenceScale
from recipe.path import interpolate, time_of_clock
from recipe.teacher import Teacher, draw_data

TIMES = 33


def measure(teacher: Teacher, images: Tensor, where: torch.device, n: int = 128) -> tuple[Tensor, ...]:
    """Times [T], mean of a pixel's divergence [T], its spread [T], and the spread of the sum over pixels [T]."""
    times = time_of_clock(torch.linspace(-1, 1, TIMES, dtype=torch.float64)).float()
    mean, spread, sum_spread = [], [], []
    for t in times:
        y = draw_data(images, n, where)
        t = t.to(where).expand(n).contiguous()
        x = interpolate(y, torch.randn_like(y), t)
        a, b = (teacher.velocity_and_divergence(x, t)[1].double() for _ in range(2))
        mean.append((a + b).mean() / 2)
        spread.append(root_covariance(a.flatten(), b.flatten()))
        sum_spread.append(root_covariance(a.sum((1, 2, 3)), b.sum((1, 2, 3))))
    return times, torch.stack(mean), torch.stack(spread), torch.stack(sum_spread)


def root_covariance(a: Tensor, b: Tensor) -> Tensor:
    """Square root of the covariance of two independent estimates of one quantity, floored at 1 % of their spread."""
    covariance = ((a - a.mean()) * (b - b.mean())).mean()
    return covariance.clamp(min=1e-4 * a.var().item()).sqrt()


def fit(scale: DivergenceScale, times: Tensor, mean: Tensor, spread: Tensor, sum_spread: Tensor) -> None:
    """Writes the fitted poles into ``scale``; spreads are sums of non-negative poles, so they stay positive."""
    basis = scale.basis(times, times).double().numpy()  # at t = s: the values 1 / (1 - t + e_k)

    def relative(target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weight = 1 / np.maximum(np.abs(target), 1e-3)
        return basis * weight[:, None], target * weight

    scale.mean.copy_(torch.from_numpy(lsq_linear(*relative(mean.cpu().numpy())).x))
    scale.spread.copy_(torch.from_numpy(nnls(*relative(spread.cpu().numpy()))[0]))
    scale.sum_spread.copy_(torch.from_numpy(nnls(*relative(sum_spread.cpu().numpy()))[0]))
