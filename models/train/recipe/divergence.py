"""The divergence of a vector field at given points, by Hutchinson's estimate or exactly."""

from collections.abc import Callable

import torch
from torch import Tensor

# Up to this many values per image the divergence is computed exactly.
EXACT_DIMENSIONS = 16

Field = Callable[[Tensor], Tensor]


def divergence(field: Field, x: Tensor, probes: int) -> tuple[Tensor, Tensor]:
    """v [N, C, H, W], and an estimate of the per-pixel divergence for each probe, [N, probes, H, W].

    Exact, and the same for every probe, for up to ``EXACT_DIMENSIONS`` values per image.
    """
    if x[0].numel() > EXACT_DIMENSIONS:
        return hutchinson(field, x, probes)
    v, d = exact(field, x)
    return v, d.expand(-1, probes, -1, -1)


def hutchinson(field: Field, x: Tensor, probes: int) -> tuple[Tensor, Tensor]:
    """v [N, C, H, W], and one unbiased estimate of the per-pixel divergence for each probe, [N, probes, H, W].

    Each is ``e * (J^T e)`` for a Rademacher probe e, summed over colours (Hutchinson 1989).
    """
    v, products = pull_back(field, x, (torch.randint(0, 2, x.shape, device=x.device) * 2.0 - 1 for _ in range(probes)))
    return v, torch.cat(products, 1)


def exact(field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
    """v [N, C, H, W], and the per-pixel divergence [N, 1, H, W] from one product per value: for small dimensions."""
    basis = torch.eye(x[0].numel(), device=x.device, dtype=x.dtype).reshape(-1, *x.shape[1:])
    v, products = pull_back(field, x, (e.expand_as(x) for e in basis))
    return v, torch.stack(products).sum(0)


def pull_back(field: Field, x: Tensor, probes) -> tuple[Tensor, list[Tensor]]:
    """``field(x)``, and ``e * (J^T e)`` summed over colours, [N, 1, H, W], for every e of ``probes``."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        v = field(x)
        products = []
        for e in probes:
            (g,) = torch.autograd.grad((v * e).sum(), x, retain_graph=True)
            products.append((g * e).sum(1, keepdim=True).detach())
    return v.detach(), products
