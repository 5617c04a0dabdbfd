"""Exports shortcut models of other projects: a network of (x, t, dt) that only goes forward, from noise to data.

The SDK draws with such a file as it is, and scores with it by inverting each step (``"time": "step"``). The network
must use this project's path, noise at t = 0 and data in [-1, 1) at t = 1, and its divergence must be that of the
velocity, positive where the flow expands, as the reference implementation of F2D2 (arXiv 2512.02636) has it.
"""

import dataclasses
from pathlib import Path

from torch import Tensor, nn

from recipe.config import Config
from recipe.export import export


class StepNetwork(nn.Module):
    """A network of (x, t, dt) as one of (x, t, s): average velocity [N, C, H, W] and divergence [N], nats per time.

    ``network`` returns the average velocity and the average divergence times ``constant``, of any shape with N
    numbers; ``constant`` is 5e-5 in the reference implementation.
    """

    def __init__(self, config: Config, network: nn.Module, constant: float):
        super().__init__()
        self.config, self.network, self.constant = config.network, network, constant

    def forward(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        u, h = self.network(x, t, s - t)
        return u, h.flatten() / self.constant


def export_step(config: Config, network: nn.Module, constant: float, path: Path) -> None:
    """Writes ``path``; RecipeError, and no file, if it does not reproduce ``network``."""
    scalar = dataclasses.replace(config.network, divergence_head="scalar")
    both = dataclasses.replace(config.distill, direction="both")
    config = dataclasses.replace(config, network=scalar, distill=both)
    export(config, StepNetwork(config, network, constant), path, time="step")
