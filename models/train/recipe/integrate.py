"""Integrators of the teacher's joint flow: the state, and the per-pixel divergence accumulated on the way.

Both step the state in t, in which the paths of resolved pixels are straight, and integrate the divergence in the
log-SNR clock, in which it stays bounded up to t = 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from recipe.path import CLOCK_RANGE, clock, clock_rate
from recipe.teacher import Teacher


@dataclass
class Point:
    """The joint flow at one time."""

    t: float
    x: Tensor  # [N, C, H, W]
    integral: Tensor  # [N, probes, H, W]: divergence integrated since the first time, nats
    velocity: Tensor  # [N, C, H, W]
    divergence: Tensor  # [N, probes, H, W], nats per unit of time


def heun(teacher: Teacher, x: Tensor, times: Tensor, probes: int = 1) -> Iterator[Point]:
    """Heun's method at ``times`` (f64, monotone): second order, two evaluations per step; the reference."""
    w, rate = (clock(times) * CLOCK_RANGE).tolist(), clock_rate(times).tolist()
    times = times.tolist()
    integral = torch.zeros_like(x[:, :1]).expand(-1, probes, -1, -1)
    for i, t in enumerate(times):
        v, d = evaluate(teacher, x, t, probes)
        yield Point(t, x, integral, v, d)
        if i + 1 == len(times):
            return
        step = times[i + 1] - t
        v2, d2 = evaluate(teacher, x + step * v, times[i + 1], probes)
        x = x + step / 2 * (v + v2)
        integral = integral + (w[i + 1] - w[i]) / 2 * (rate[i] * d + rate[i + 1] * d2)


def heun_end(teacher: Teacher, z: Tensor, times: Tensor) -> Tensor:
    """Heun's method without the divergence, [N, C, H, W] at the last time."""
    for t, s in pairwise(times.to(z)):
        n = len(z)
        v = teacher.velocity(z, t.expand(n))
        z = z + (s - t) / 2 * (v + teacher.velocity(z + (s - t) * v, s.expand(n)))
    return z


def adams(teacher: Teacher, x: Tensor, times: Tensor, probes: int = 1) -> Iterator[Point]:
    """A third-order Adams predictor-corrector at ``times`` (f64, monotone) with one evaluation per step.

    The corrector's polynomial runs through the last two points and the predicted one, whose evaluation is then
    the next step's; for many trajectories at a fraction of Heun's cost.
    """
    w, rate = (clock(times) * CLOCK_RANGE).tolist(), clock_rate(times).tolist()
    times = times.tolist()
    integral = torch.zeros_like(x[:, :1]).expand(-1, probes, -1, -1)
    history = [evaluate(teacher, x, times[0], probes)]
    yield Point(times[0], x, integral, *history[-1])
    for i in range(1, len(times)):
        known, nodes = history[-2:], range(max(0, i - 2), i + 1)
        predict = quadrature(times[max(0, i - 2) : i], times[i - 1], times[i])
        guess = x + sum(a * v for a, (v, _) in zip(predict, known, strict=True))
        history.append(evaluate(teacher, guess, times[i], probes))
        correct = quadrature([times[j] for j in nodes], times[i - 1], times[i])
        spread = quadrature([w[j] for j in nodes], w[i - 1], w[i])
        points = history[-len(correct) :]
        x = x + sum(a * v for a, (v, _) in zip(correct, points, strict=True))
        integral = integral + sum(a * rate[j] * d for a, j, (_, d) in zip(spread, nodes, points, strict=True))
        yield Point(times[i], x, integral, *points[-1])


def quadrature(nodes: list[float], start: float, end: float) -> list[float]:
    """Weights of the values at ``nodes`` whose sum is the integral of their polynomial from ``start`` to ``end``."""
    powers = np.arange(len(nodes))
    # Around `start` the Vandermonde system stays well conditioned for the short steps next to t = 1.
    scale = end - start
    matrix = ((np.array(nodes) - start) / scale)[None, :] ** powers[:, None]
    return (np.linalg.solve(matrix, 1 / (powers + 1)) * scale).tolist()


def evaluate(teacher: Teacher, x: Tensor, t: float, probes: int) -> tuple[Tensor, Tensor]:
    """Velocity and per-pixel divergence of the teacher at one time."""
    return teacher.velocity_and_divergence(x, torch.full((len(x),), t, device=x.device), probes)
