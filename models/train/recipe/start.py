"""Where the many-step reference starts, and how finely it goes: what that does to the length of its latents.

``python -m recipe.start TEACHER.safetensors CONFIG`` carries normal images to noise by Heun's steps of the teacher,
from the SDK's dequantised values, from those of truncated-normal dequantisation and from noise floors, and prints the
mean of ``|z|^2 / d``, which is 1 for an ideal model.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from recipe import data, noise, stages
from recipe.command import command
from recipe.config import load_config
from recipe.integrate import heun_end
from recipe.likelihood import TruncatedNormal
from recipe.path import clock_grid
from recipe.reference import dequantised

FLOORS = (0.97, 0.9)
STEPS = (64, 256)
REFERENCE_STEPS = 128


def starts(pixels: Tensor, x: Tensor, seed: int) -> dict[str, tuple[Tensor, float, int]]:
    """By name: where a transport of uint8 ``pixels``, dequantised ``x``, begins, [N, C, H, W], at which time, and in
    how many steps it goes on.
    """
    found = {f"uniform dequantisation, {n} steps": (x, 1.0, n) for n in sorted({REFERENCE_STEPS, *STEPS})}
    field = torch.from_numpy(noise.uniform(seed, noise.DEQUANTISATION, x[0].numel())).reshape(x.shape[1:])
    truncated = TruncatedNormal()
    name = f"truncated-normal dequantisation, {REFERENCE_STEPS} steps"
    found[name] = (truncated.inputs(pixels, field.clamp(1e-6, 1 - 1e-6)), truncated.time, REFERENCE_STEPS)
    normal = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    for t in FLOORS:
        found[f"noise floor {t}, {REFERENCE_STEPS} steps"] = (t * x + (1 - t) * normal, t, REFERENCE_STEPS)
    return found


@command
def main() -> int:
    parser = argparse.ArgumentParser(prog="recipe.start", description=__doc__)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    config = load_config(args.config)
    teacher = stages.frozen_teacher(config, args.teacher, half=False)
    images = data.split(config).test[: args.images]
    seed, rows = config.manifest.dequantisation_seed, []
    print("| start | mean of ‖z‖²/d | standard error |\n|---|---|---|")
    for name, (x, t, steps) in starts(data.to_tensor(images), dequantised(images, seed), seed).items():
        with torch.no_grad():
            z = heun_end(teacher, x, clock_grid(steps, t))
        lengths = z.double().square().flatten(1).mean(1)
        error = (lengths.std() / len(lengths) ** 0.5).item()
        rows.append({"start": name, "latent_norm": lengths.mean().item(), "standard_error": error})
        print(f"| {name} | {rows[-1]['latent_norm']:.4f} | {error:.4f} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"images": len(images), "rows": rows}, indent=1) + "\n")
    return 0 if torch.tensor([row["latent_norm"] for row in rows]).isfinite().all() else 1


if __name__ == "__main__":
    sys.exit(main())
