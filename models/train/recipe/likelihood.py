"""Likelihood of images by few evaluations of a flow map, in every way that is in use; independent of the SDK.

The many-step reference is :func:`recipe.reference.likelihood`. All functions here take inputs x [N, C, H, W] in model
range and falling times from 1 to 0, and return the latent and the log-determinant, so that
``log p(x) = log N(z) + log_det``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from recipe.divergence import divergence
from recipe.path import per_image

# (x, t, s) -> average velocity [N, C, H, W] and average divergence [N, 1, H, W] or [N], nats per unit of time
Map = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass
class Score:
    """What carrying images along a schedule gave."""

    z: Tensor  # [N, C, H, W]
    log_det: Tensor  # [N], nats, f64
    residual: float = 0.0  # largest distance of an inverted step from its starting point, of :func:`inverted`

    def prior(self) -> Tensor:
        """``-log N(z)`` [N], nats, f64."""
        z = self.z.double().flatten(1)
        return 0.5 * z.square().sum(1) + 0.5 * z.shape[1] * math.log(2 * math.pi)


def native(network: Map, x: Tensor, times: Tensor) -> Score:
    """Asks the map for each step as it is made, t to s: needs a map that was trained in that direction.

    Also carries noise to images, with rising times; the log-determinant is then that of the way there.
    """
    log_det = zeros(x)
    for t, s in steps(times, x):
        u, d = network(x, t, s)
        x = x + per_image(s - t) * u
        log_det += ((s - t) * total(d)).double()
    return Score(x, log_det)


def walked_back(network: Map, x: Tensor, times: Tensor) -> Score:
    """The reference implementation's convention for maps that only sample: ``net(x_t, t, t + h)``, walked back by h.

    The first step would ask for a time above 1, where there is no map, and asks for (1, 1), the diagonal: that one is a
    step of Euler's method. For comparison only: also with a perfect map it is wrong by the change of the field within
    a step.
    """
    log_det = zeros(x)
    for t, s in steps(times, x):
        u, d = network(x, t, (2 * t - s).clamp(max=1.0))
        x = x + per_image(s - t) * u
        log_det += ((s - t) * total(d)).double()
    return Score(x, log_det)


def inverted(network: Map, x: Tensor, times: Tensor, iterations: int = 8, damping: float = 0.7) -> Score:
    """Inverts a map that only samples: solves ``y + (t - s) u(y, s, t) = x`` for y by damped fixed-point iteration.

    The residual is reported, in units of the input: where the map expands by more than about two the iteration does
    not converge, and the result is worthless.
    """
    log_det, worst = zeros(x), 0.0
    for t, s in steps(times, x):
        span = per_image(t - s)
        y = x
        for _ in range(iterations):
            u, d = network(y, s, t)
            residual = x - (y + span * u)
            y = y + damping * residual
        u, d = network(y, s, t)
        residual = x - (y + span * u)
        worst = max(worst, residual.abs().max().nan_to_num(float("inf")).item())
        x = y
        log_det -= ((t - s) * total(d)).double()
    return Score(x, log_det, worst)


def traced(field: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Map:
    """The map of a velocity alone: its divergence is one Hutchinson probe of ``field(x, t, s)`` at x.

    With an instantaneous velocity, ``field(x, t, s) = v(x, t)``, a schedule of these is Euler's method.
    """

    def network(x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return divergence(lambda x: field(x, t, s), x, 1)

    return network


def zeros(x: Tensor) -> Tensor:
    """A sum to begin with for each image of ``x``: [N], f64, on its device."""
    return torch.zeros(len(x), dtype=torch.float64, device=x.device)


def steps(times: Tensor, x: Tensor):
    """Consecutive pairs of times, as f32 tensors [N] on the device of the images ``x``."""
    for t, s in pairwise(times.to(x.device, torch.float32)):
        yield t.expand(len(x)).contiguous(), s.expand(len(x)).contiguous()


def total(d: Tensor) -> Tensor:
    """Divergence of the whole image [N], from either head."""
    return d.reshape(len(d), -1).sum(1)


@dataclass(frozen=True)
class TruncatedNormal:
    """Dequantisation by truncated normal noise at a time short of 1 (Zheng et al., i-DODE, arXiv 2305.03935, eq. 15).

    The network's own path blurs an 8-bit value k by ``(1 - t) n``. At the time t at which ``tau`` deviations of that
    blur are half a bin, nothing need be added at t = 1: ``x_t = t y + (1 - t) n`` with n from N(0, 1) truncated to
    [-tau, tau] and y the centre of the bin, and
    ``log P(k) >= E log p_t(x_t) + d (log(1 - t) + h(tau))`` with h the entropy of the truncated normal.
    """

    tau: float = 3.0
    half_bin: float = 1 / 256  # 8-bit values in model range [-1, 1) lie 1/128 apart

    @property
    def time(self) -> float:
        """The time at which scoring starts: ``(1 - t) / t = half_bin / tau``."""
        return 1 / (1 + self.half_bin / self.tau)

    def entropy(self) -> float:
        """Entropy of the truncated standard normal, nats."""
        z = math.erf(self.tau / math.sqrt(2))
        tail = self.tau * math.exp(-(self.tau**2) / 2) / (math.sqrt(2 * math.pi) * z)
        return 0.5 * math.log(2 * math.pi * math.e) + math.log(z) - tail

    def inputs(self, pixels: Tensor, uniform: Tensor) -> Tensor:
        """x_t for uint8 pixels [N, C, H, W] and numbers in (0, 1) that broadcast to them."""
        z = math.erf(self.tau / math.sqrt(2))
        noise = math.sqrt(2) * torch.erfinv(z * (2 * uniform.double() - 1))
        y = (pixels.double() + 0.5) / 128 - 1
        return (self.time * y + (1 - self.time) * noise).float()

    def bits_per_dim(self, prior: Tensor, divergence: Tensor, dimensions: int) -> Tensor:
        """Upper bound of the bits per dimension, from the terms of ``-log p_t(x_t)`` in nats."""
        nats = (prior + divergence) / dimensions - math.log(1 - self.time) - self.entropy()
        return nats / math.log(2)
