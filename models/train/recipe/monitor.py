"""Early stopping on the error of single images: the mean can match the teacher while every image is wrong."""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from recipe.config import Config, RecipeError, fingerprint
from recipe.likelihood import native
from recipe.loop import check_origin
from recipe.network import FlowMap
from recipe.path import clock_grid
from recipe.reference import bits_per_dim, dequantised, likelihood
from recipe.teacher import Teacher


class Monitor:
    """Mean absolute difference, per image, of few-step bits per dimension from the teacher's many-step ones.

    Measured on normal images that nothing is trained on every ``monitor.every`` steps, written to ``monitor.jsonl``;
    training stops once ``monitor.patience`` measurements in a row were no better than the best one, whose average is
    kept in ``student.best.safetensors``.
    """

    def __init__(self, config: Config, network: FlowMap, teacher: Teacher, images: Tensor, folder: Path):
        self.config, self.settings, self.network = config, config.monitor, network
        self.log, self.kept = folder / "monitor.jsonl", folder / "student.best.safetensors"
        pixels = images.permute(0, 2, 3, 1).numpy()
        self.x = dequantised(pixels, config.manifest.dequantisation_seed).to(next(network.parameters()).device)
        torch.manual_seed(config.seed)
        terms = likelihood(teacher, self.x, clock_grid(self.settings.reference_steps), 1)
        self.dimensions = self.x[0].numel()
        self.wanted = bits_per_dim(terms[0], terms[1][:, 0], self.dimensions)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "student.safetensors").exists():  # what lies here is of a student that is no more
            for path in (self.log, self.kept):
                path.unlink(missing_ok=True)
        meta = check_origin(self.kept, config, "student") if self.kept.exists() else {}
        self.best_step, self.best_error = int(meta.get("step", 0)), float(meta.get("mae", "inf"))

    def due(self, step: int) -> bool:
        return step % self.settings.every == 0

    def measure(self, step: int, average: dict[str, Tensor]) -> bool:
        """Measures the averaged parameters after ``step`` steps; whether training should stop.

        RecipeError if the error is not finite.
        """
        error = self.error(average)
        if not math.isfinite(error):
            raise RecipeError(f"student: the monitored error is {error} after {step} steps")
        with open(self.log, "a") as log:
            log.write(json.dumps({"step": step, "mae": error}) + "\n")
        if error < self.best_error:
            self.best_step, self.best_error = step, error
            self.keep(average)
        return step - self.best_step >= self.settings.patience * self.settings.every

    def error(self, average: dict[str, Tensor]) -> float:
        """Mean absolute difference per image, bits per dimension, of the network with these parameters."""

        def network(x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
            return torch.func.functional_call(self.network, average, (x, t, s))

        with torch.no_grad():
            score = native(network, self.x, clock_grid(self.settings.steps))
        found = bits_per_dim(score.prior(), -score.log_det, self.dimensions)
        return (found - self.wanted).abs().mean().item()

    def keep(self, average: dict[str, Tensor]) -> None:
        """Writes the best average beside its file and moves it there."""
        meta = {"config": fingerprint(self.config, "student"), "step": self.best_step, "mae": self.best_error}
        partial = self.kept.with_suffix(".partial")
        save_file({k: v.contiguous() for k, v in average.items()}, partial, {k: str(v) for k, v in meta.items()})
        partial.replace(self.kept)

    def best(self) -> dict[str, Tensor]:
        """The averaged parameters with the least error so far."""
        return load_file(self.kept)
