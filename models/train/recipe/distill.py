"""F2D2 distillation: one network learns average velocity and average divergence between any two times.

:class:`TrajectoryDistillation` regresses both heads on the integrals that define them (average velocity and average
divergence over [t, s], arXiv 2512.02636), taken from the frozen teacher's trajectories, and on the teacher itself where
t = s. Unlike bootstrapped targets these have no error of the student's own in them, and every pair of times, in either
direction, is trained.
"""

from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from recipe.config import Config, RecipeError
from recipe.loop import Losses, mixed_precision
from recipe.network import FlowMap
from recipe.path import per_image

# A pixel's target is one Hutchinson probe, mostly noise: its squared error is large however good the network is.
PIXEL_WEIGHT = 0.1


class Shards:
    """The trajectories on disk; what is drawn depends on torch's generator and the files alone."""

    def __init__(self, folder: Path, held: int = 32):
        self.folder = folder
        self.load = lru_cache(held)(load_file)

    def draw(self, n: int) -> dict[str, Tensor]:
        """``n`` trajectories of one shard: t [knots], the others [n, knots, ...]."""
        paths = sorted(self.folder.glob("*.safetensors"))
        if not paths:
            raise RecipeError(f"no trajectories in {self.folder}: run the stage that writes them first")
        shard = self.load(paths[int(torch.randint(len(paths), ()))])
        pick = torch.randint(len(shard["x"]), (n,))
        return {k: v if k == "t" else v[pick] for k, v in shard.items()}


class TrajectoryDistillation:
    """Squared errors of u (per value), of the standardised divergence per pixel, and of its sum over pixels."""

    def __init__(self, network: FlowMap, shards: Shards, config: Config, heads=None):
        self.network, self.shards, self.settings = network, shards, config.distill
        self.heads = heads or network.heads
        self.where = next(network.parameters()).device

    def __call__(self, batch: int) -> Losses:
        # A quarter of the batch from each of four draws mixes shards within every step.
        parts = [self.targets(batch // 4) for _ in range(4)]
        x, t, s, u, d = (torch.cat(column).to(self.where) for column in zip(*parts, strict=True))
        mean, spread = self.network.scale(t, s)
        sum_spread = (self.network.scale.basis(t, s) * self.network.scale.sum_spread).sum(1)
        with mixed_precision(self.where):
            u_hat, h_hat = self.heads(x, t, s)
        h = (d - per_image(mean)) / per_image(spread)
        error = (per_image(spread) * (h_hat - h)).sum((1, 2, 3)) / sum_spread
        return {
            "velocity": (u_hat - u).square().mean(),
            "pixels": (h_hat - h).square().mean() * PIXEL_WEIGHT,
            "sum": error.square().mean() * self.settings.sum_weight,
        }

    def targets(self, n: int) -> tuple[Tensor, ...]:
        """Random pairs of times and their targets: x, t [n], s [n], u, d."""
        shard = self.shards.draw(n)
        knots = len(shard["t"])
        i, j = torch.randint(knots, (n,)), torch.randint(knots, (n,))
        start = int(shard["t"].argmax())  # the knot at t = 1
        if self.settings.direction != "sampling":
            i = torch.where(torch.rand(n) < self.settings.from_data_share, start, i)
        i, j = self.directed(shard["t"], i, j)
        row = torch.arange(n)
        t, s = shard["t"][i], shard["t"][j]
        same = per_image(i == j)
        span = torch.where(same, torch.ones(n, 1, 1, 1), per_image(s - t))
        along = (shard["x"][row, j] - shard["x"][row, i]) / span
        volume = (shard["integral"][row, j] - shard["integral"][row, i]) / span
        u = torch.where(same, shard["velocity"][row, i].float(), along)
        d = torch.where(same, shard["divergence"][row, i].float(), volume)
        return shard["x"][row, i], t, s, u, d

    def directed(self, times: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
        """Orders the knots of each pair as the trained direction wants them."""
        rising = times[i] < times[j]
        swap = {"scoring": rising, "sampling": times[i] > times[j], "both": torch.zeros_like(rising)}
        mask = swap[self.settings.direction]
        return torch.where(mask, j, i), torch.where(mask, i, j)
