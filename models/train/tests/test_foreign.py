"""A shortcut model of another project, from PyTorch to scores of the f2d2 command."""

import json
import math
import subprocess

import numpy as np
import onnx
import pytest
import torch

from recipe import sdk
from recipe.config import Config, ManifestConfig, RecipeError
from recipe.foreign import export_step
from recipe.network import NetworkConfig
from recipe.reference import bits_per_dim, dequantised

CONSTANT = 5e-5
CONFIG = Config(
    name="foreign",
    network=NetworkConfig(height=4, width=4),
    manifest=ManifestConfig(noise_floors=(1.0,), licence="none", provenance="none"),
)


class Shortcut(torch.nn.Module):
    """The exact forward map of Gaussian pixels, asked by (t, dt)."""

    MEAN, DEVIATION = 0.1, 0.4

    def forward(self, x, t, dt):
        a, b = t[:, None, None, None], (t + dt)[:, None, None, None]
        v_a, v_b = ((self.DEVIATION * time) ** 2 + (1 - time) ** 2 for time in (a, b))
        moved = b * self.MEAN + (x - a * self.MEAN) * (v_b / v_a).sqrt()
        step = dt[:, None, None, None]
        divergence = 0.5 * torch.log(v_b / v_a) / step * x[0].numel()
        return (moved - x) / step, CONSTANT * divergence[:, :, 0, 0]


def f2d2_is_built() -> bool:
    try:
        return bool(sdk.command())
    except RecipeError:
        return False


def test_manifest_says_step_and_the_divergence_is_unscaled(tmp_path):
    path = tmp_path / "model.onnx"
    export_step(CONFIG, Shortcut(), CONSTANT, path)
    manifest = json.loads(onnx.load(path).metadata_props[0].value)
    assert manifest["time"] == "step" and manifest["head"] == "scalar"
    (golden,) = manifest["golden"]
    assert golden["start"] == "normal"
    # All the way from noise to data: every pixel's scale changes from 1 to the deviation.
    assert abs(golden["log_det"] - 16 * math.log(Shortcut.DEVIATION)) < 1e-3


@pytest.mark.skipif(not f2d2_is_built(), reason="the f2d2 command is not built")
def test_the_sdk_scores_it_by_inversion_and_refuses_where_that_does_not_converge(tmp_path):
    path = tmp_path / "model.onnx"
    export_step(CONFIG, Shortcut(), CONSTANT, path)
    images = np.random.default_rng(0).integers(60, 200, (6, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    records = sdk.score(path, str(tmp_path / "images.npy"), "--steps", 8)
    found = torch.tensor([record["bpd"] for record in records], dtype=torch.float64)
    y = dequantised(images[..., None], CONFIG.manifest.dequantisation_seed).double().flatten(1)
    z = (y - Shortcut.MEAN) / Shortcut.DEVIATION
    nats = (0.5 * z.square() + math.log(Shortcut.DEVIATION * math.sqrt(2 * math.pi))).sum(1)
    wanted = bits_per_dim(nats, torch.zeros(6, dtype=torch.float64), 16)
    assert (found - wanted).abs().max() < 5e-3
    for bad in (0.02, float("nan")):
        assert not (found - wanted + bad).abs().max() < 5e-3

    class Wide(Shortcut):
        DEVIATION = 6.0

    export_step(CONFIG, Wide(), CONSTANT, path)
    command = [sdk.command(), "score", path, tmp_path / "images.npy", "--steps", "1", "--json"]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert run.returncode != 0
    assert "not invertible" in run.stdout + run.stderr and "residual" in run.stdout + run.stderr
