"""Golden vectors: what the network computes in PyTorch for seeded inputs, for every engine to reproduce."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from recipe import noise
from recipe.gradient import divergence_gradient
from recipe.network import FlowMap
from recipe.path import clock_grid

SAMPLES = 32


def vectors(network: FlowMap, directions: dict[str, bool]) -> list[dict]:
    """Seeded inputs and the results of their transport in PyTorch, one scoring and one sampling schedule."""
    schedules = []
    if directions["scoring"]:
        schedules.append(("uniform", clock_grid(2)))
    if directions["sampling"]:
        schedules.append(("normal", clock_grid(2).flip(0)))
    return [vector(network, start, seed, times.tolist()) for seed, (start, times) in enumerate(schedules)]


def vector(network: FlowMap, start: str, seed: int, times: list[float]) -> dict:
    """One golden vector; the state is carried in f32, the log-determinant in f64, as in the SDK."""
    x, log_det = seeded(network, start, seed), 0.0
    for t, s in pairwise(times):
        u, d = network(x, torch.tensor([t]), torch.tensor([s]))
        x = (x.double() + (s - t) * u.double()).float()
        log_det += (s - t) * float(d.double().sum())
    return {"start": start, "seed": seed, "schedule": times, "log_det": log_det} | sampled(x)


def gradient(network: FlowMap, seed: int = 0) -> dict:
    """``grad_d`` of seeded noise over the whole jump from noise to data."""
    x = seeded(network, "normal", seed)
    return {"seed": seed} | sampled(divergence_gradient(network, x, torch.zeros(1), torch.ones(1)))


def seeded(network: FlowMap, start: str, seed: int) -> Tensor:
    """The input [1, C, H, W] of a golden vector."""
    shape = (1, network.config.channels, network.config.height, network.config.width)
    n = int(np.prod(shape))
    values = noise.normal(seed, noise.GOLDEN, n) if start == "normal" else 2 * noise.uniform(seed, noise.GOLDEN, n) - 1
    return torch.from_numpy(values).reshape(shape)


def sampled(values: Tensor) -> dict:
    """The mean square of an image's values, and some of them at even distances."""
    values = values.detach().flatten()
    kept = min(SAMPLES, len(values))
    samples = [float(values[i * len(values) // kept]) for i in range(kept)]
    return {"mean_square": float(values.double().square().mean()), "samples": samples}
