"""Early stopping on the error of single images: the mean can match the teacher while every image is wrong."""

import json
from pathlib import Path

import torch
from torch import Tensor

from recipe.config import Config
from recipe.likelihood import native
from recipe.network import FlowMap
from recipe.path import clock_grid
from recipe.reference import bits_per_dim, dequantised, likelihood
from recipe.teacher import Teacher


class Monitor:
    """Mean absolute difference, per image, of few-step bits per dimension from the teacher's many-step ones.

    Measured on held-out normal images every ``monitor.every`` steps, written to ``monitor.jsonl``; training stops once
    ``monitor.patience`` measurements in a row were no better than the best one.
    """

    def __init__(self, config: Config, network: FlowMap, teacher: Teacher, held_out: Tensor, folder: Path):
        self.settings, self.network, self.path = config.monitor, network, folder / "monitor.jsonl"
        images = held_out[: self.settings.images].permute(0, 2, 3, 1).numpy()
        self.x = dequantised(images, config.manifest.dequantisation_seed).to(next(network.parameters()).device)
        torch.manual_seed(config.seed)
        terms = likelihood(teacher, self.x, clock_grid(self.settings.reference_steps), 1)
        self.dimensions = self.x[0].numel()
        self.wanted = bits_per_dim(terms[0], terms[1][:, 0], self.dimensions)
        folder.mkdir(parents=True, exist_ok=True)
        earlier = self.path.read_text().splitlines() if self.path.exists() else []
        self.errors = {row["step"]: row["mae"] for row in map(json.loads, earlier)}

    def due(self, step: int) -> bool:
        return step % self.settings.every == 0

    def measure(self, step: int, average: dict[str, Tensor]) -> bool:
        """Measures the averaged parameters after ``step`` steps; whether training should stop."""

        def network(x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
            return torch.func.functional_call(self.network, average, (x, t, s))

        with torch.no_grad():
            score = native(network, self.x, clock_grid(self.settings.steps))
        found = bits_per_dim(score.prior(), -score.log_det, self.dimensions)
        self.errors[step] = (found - self.wanted).abs().mean().item()
        with open(self.path, "a") as log:
            log.write(json.dumps({"step": step, "mae": self.errors[step]}) + "\n")
        best = min(self.errors, key=self.errors.__getitem__)
        later = sum(other > best for other in self.errors)
        return later >= self.settings.patience
