"""Sets up the :class:`recipe.network.DivergenceScale` of a student to its teacher.

To standardise: at times spread over the clock, two independent probes of the teacher's divergence give its mean over
pixels and images, the spread of a pixel, and the spread of the sum over pixels; the product of two independent probes
has the probes' own noise in neither. Each is then fitted by a sum of poles with relative weights.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import LinearConstraint, lsq_linear, minimize
from torch import Tensor

from recipe.config import Config, RecipeError
from recipe.network import DivergenceScale
from recipe.path import interpolate, time_of_clock
from recipe.teacher import Teacher

TIMES = 33


def set_up(scale: DivergenceScale, config: Config, teacher: Callable[[], Teacher], data: Callable, where) -> None:
    """Writes into ``scale`` what ``distill.scaling`` asks for; only ``standardised`` needs the teacher.

    ``per-dimension`` divides the divergence by the number of dimensions, ``constant`` multiplies the divergence of the
    whole image with ``distill.constant``, 5e-5 in the reference implementation.
    """
    pixels = config.network.height * config.network.width
    if config.distill.scaling == "standardised":
        fit(scale, *measure(teacher(), data, where, config.distill.scaling_images), pixels=pixels)
    else:
        dimensions = float(pixels * config.network.channels)
        set_constant(scale, 1 / config.distill.constant if config.distill.scaling == "constant" else dimensions, pixels)


def set_constant(scale: DivergenceScale, size: float, pixels: int) -> None:
    """One size for the divergence of the whole image at all times, no mean: the last pole is a constant to 0.1 %."""
    for poles in (scale.mean, scale.spread, scale.sum_spread):
        poles.zero_()
    scale.sum_spread[-1] = size * (0.5 + scale.poles[-1])
    scale.spread[-1] = scale.sum_spread[-1] / pixels


def measure(teacher: Teacher, data: Callable, where: torch.device, n: int) -> tuple[Tensor, ...]:
    """Times [T], mean of a pixel's divergence [T], its spread [T], and the spread of the sum over pixels [T]."""
    times = time_of_clock(torch.linspace(-1, 1, TIMES, dtype=torch.float64)).float()
    mean, spread, sum_spread = [], [], []
    for t in times:
        y = data(n)
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


def fit(scale: DivergenceScale, times: Tensor, mean: Tensor, spread: Tensor, sum_spread: Tensor, pixels: int) -> None:
    """Writes the fitted poles into ``scale``.

    Near t = 0 every image has the same divergence and the spreads all but vanish: there they are held at a share
    of the mean, which costs nothing, since little of the likelihood arises there.
    """
    size = mean.abs().clamp(min=1.0)
    scale.mean.copy_(fit_poles(scale, times, mean))
    scale.spread.copy_(fit_poles(scale, times, torch.maximum(spread, 0.2 * size), positive=True))
    scale.sum_spread.copy_(fit_poles(scale, times, torch.maximum(sum_spread, 0.05 * pixels * size), positive=True))


def fit_poles(scale: DivergenceScale, times: Tensor, target: Tensor, positive: bool = False) -> Tensor:
    """Least-squares coefficients [poles] of ``target`` [T], relative errors weighted alike.

    ``positive`` bounds the fit from below by a tenth of the target's smallest value on a dense grid of times.
    """
    basis = values(scale, times)
    target = target.cpu().numpy().astype(np.float64)
    weight = 1 / np.maximum(np.abs(target), 1e-3)
    unit = np.abs(basis * weight[:, None]).max(0)  # the poles differ in size by orders of magnitude
    constraints = ()
    if positive:
        dense = values(scale, time_of_clock(torch.linspace(-1, 1, 400, dtype=torch.float64)))
        constraints = LinearConstraint(dense / unit, 0.1 * target.min(), np.inf)
    matrix = basis * weight[:, None] / unit
    start = lsq_linear(matrix, target * weight).x
    if positive:
        start = minimize(
            lambda a: 0.5 * np.square(matrix @ a - target * weight).sum(),
            start,
            jac=lambda a: matrix.T @ (matrix @ a - target * weight),
            constraints=constraints,
            method="SLSQP",
            options={"maxiter": 1000},
        ).x
        if (dense @ (start / unit)).min() <= 0:
            raise RecipeError("the spread of the teacher's divergence cannot be fitted: train the teacher longer")
    return torch.from_numpy(start / unit)


def values(scale: DivergenceScale, times: Tensor) -> np.ndarray:
    """The poles ``1 / (1 - t + e_k)`` at each time, [T, poles]."""
    times = times.float().to(scale.poles.device)
    return scale.basis(times, times).double().cpu().numpy()
