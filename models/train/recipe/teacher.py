"""The frozen teacher: an instantaneous velocity and its divergence, for everything that follows."""

from collections.abc import Callable

import torch
from torch import Tensor

from recipe.divergence import divergence
from recipe.loop import mixed_precision


class Teacher:
    """A frozen network (or anything with ``heads``) as a velocity field, with estimates of its per-pixel divergence."""

    def __init__(self, network, half: bool = True, heads: Callable | None = None):
        self.network = network.requires_grad_(False).eval()
        self.heads = heads or network.heads
        self.half = half

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """v(x, t) [N, C, H, W]."""
        with torch.no_grad():
            return self.evaluate(x, t)

    def velocity_and_divergence(self, x: Tensor, t: Tensor, probes: int = 1) -> tuple[Tensor, Tensor]:
        """v [N, C, H, W], and one estimate of the per-pixel divergence for each probe, [N, probes, H, W]."""
        return divergence(lambda x: self.evaluate(x, t), x, probes)

    def evaluate(self, x: Tensor, t: Tensor) -> Tensor:
        if not self.half:
            return self.heads(x, t, t)[0]
        with mixed_precision(x.device):
            return self.heads(x, t, t)[0]
