"""The flow-matching teacher: regression of the velocity ``y - n`` on the diagonal t = s (Lipman et al. 2023).

Once trained it is frozen, and :class:`Teacher` gives its velocity and divergence to everything that follows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from recipe.data import to_model_range
from recipe.loop import Losses, mixed_precision
from recipe.network import FlowMap
from recipe.path import interpolate, time_of_clock


def sample_times(n: int, where: torch.device) -> Tensor:
    """Training times [n]: a half uniform in the clock (both ends get detail), a half uniform in t, 1 in 32 at t = 1."""
    pick = torch.rand(n, device=where)
    t = torch.rand(n, device=where)
    t = torch.where(pick < 0.5, time_of_clock(2 * t - 1), t)
    return torch.where(pick > 1 - 1 / 32, torch.ones_like(t), t)


def draw_data(images: Tensor, n: int, where: torch.device) -> Tensor:
    """``n`` random images [n, C, H, W] with fresh uniform dequantisation noise, in model range."""
    pixels = images[torch.randint(len(images), (n,))].to(where)
    return to_model_range(pixels, torch.rand(pixels.shape, device=where))


class FlowMatching:
    """``E |u(x_t, t, t) - (y - n)|^2`` over data y, noise n and time t."""

    def __init__(self, network: FlowMap, images: Tensor, heads: Callable | None = None):
        self.heads = heads or network.heads
        self.images = images
        self.where = next(network.parameters()).device

    def __call__(self, batch: int) -> Losses:
        y = draw_data(self.images, batch, self.where)
        n = torch.randn_like(y)
        t = sample_times(batch, self.where)
        with mixed_precision(self.where):
            u, _ = self.heads(interpolate(y, n, t), t, t)
        return {"velocity": (u - (y - n)).square().mean()}


class Teacher:
    """A frozen network as a velocity field with a Hutchinson estimate of its per-pixel divergence."""

    def __init__(self, network: FlowMap, half: bool = True, heads: Callable | None = None):
        self.network = network.requires_grad_(False).eval()
        self.heads = heads or network.heads
        self.half = half

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """v(x, t) [N, C, H, W]."""
        with torch.no_grad():
            return self.evaluate(x, t)

    def velocity_and_divergence(self, x: Tensor, t: Tensor, probes: int = 1) -> tuple[Tensor, Tensor]:
        """v [N, C, H, W], and one estimate of the per-pixel divergence for each probe, [N, probes, H, W].

        Each is ``e * (J^T e)`` for a Rademacher probe e, summed over colours (Hutchinson).
        """
        estimates = []
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            v = self.evaluate(x, t)
            for probe in range(probes):
                e = torch.randint(0, 2, x.shape, device=x.device).float() * 2 - 1
                (g,) = torch.autograd.grad((v * e).sum(), x, retain_graph=probe + 1 < probes)
                estimates.append((g * e).sum(1, keepdim=True))
        return v.detach(), torch.cat(estimates, 1).detach()

    def evaluate(self, x: Tensor, t: Tensor) -> Tensor:
        if not self.half:
            return self.heads(x, t, t)[0]
        with mixed_precision(x.device):
            return self.heads(x, t, t)[0]
