"""PyTorch with the benchmark networks, and the table of scoring with it beside f2d2."""

import statistics
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from engines import F2d2, Peer, title
from networks import random_network
from timing import THREADS, in_turn, median_time, ratio

from recipe.path import clock_grid

# Of a score, on either side.
STEPS = 2


class PyTorch(Peer):
    """PyTorch as one would write it; the number of threads is the whole process's."""

    def __init__(self, model: Path, batch: int, threads: int):
        super().__init__(model, batch)
        torch.set_num_threads(threads)
        self.network = random_network(title(model))
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(0, 256, self.shape, generator=generator, dtype=torch.uint8)
        self.dequantisation = torch.rand(self.shape[1:], generator=generator)

    @torch.no_grad()
    def evaluate(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [result.numpy() for result in self.network(*(torch.from_numpy(feed[name]) for name in "xts"))]

    @torch.no_grad()
    def score(self) -> torch.Tensor:
        """Bits per dimension of every image."""
        x = (self.pixels.float() + self.dequantisation) / 128 - 1
        log_det = torch.zeros(len(x), dtype=torch.float64)
        for t, s in pairwise(clock_grid(STEPS).tolist()):
            u, d = self.network(x, torch.full((len(x),), t), torch.full((len(x),), s))
            x = x + (s - t) * u
            log_det += (s - t) * d.double()
        prior = 0.5 * (x.double().square() + np.log(2 * np.pi)).flatten(1).sum(1)
        return (prior - log_det) / (x[0].numel() * np.log(2)) + 7

    def images_per_second(self, seconds: float) -> float:
        """From pixels to scores."""
        return len(self.pixels) / median_time(self.score, seconds)


def scoring(models: list[Path], seconds: float, rounds: int) -> list[str]:
    """From pixels to likelihoods with PyTorch, beside f2d2."""
    lines = ["| network | batch | threads | f2d2, images/s | PyTorch, images/s | time of f2d2 / PyTorch |"]
    lines.append("|---|---|---|---|---|---|")
    for model in models:
        for threads in THREADS:
            for batch in (1, 8):
                ours, theirs = F2d2(model, batch, threads, steps=STEPS), PyTorch(model, batch, threads)
                # The first call allocates.
                if not theirs.score().isfinite().all():
                    raise RuntimeError(f"PyTorch's scores of {model} are not finite")
                engines = {"f2d2": ours.images_per_second, "PyTorch": theirs.images_per_second}
                done = in_turn(engines, seconds, rounds)
                rates = " | ".join(f"{statistics.median(row[name] for row in done):.1f}" for name in engines)
                beside = ratio(done, "PyTorch", "f2d2")
                lines.append(f"| {title(model)} | {batch} | {threads} | {rates} | {beside:.2f} |")
    return lines
