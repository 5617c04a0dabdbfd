"""Maximum-likelihood self-guidance: does one step on the noise make samples likelier? (arXiv 2512.02636, alg. 2)

``python -m recipe.guidance MODEL.onnx TEACHER.safetensors CONFIG`` draws samples from the same noise without and with
guidance, and with noise that was only shrunk to the norm that guidance gave it: the step pulls every value towards 0,
and that alone changes the likelihood. Samples are scored, as 8-bit images, by the teacher's many steps.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipe import data, stages
from recipe.command import command
from recipe.config import load_config
from recipe.export import read_weights
from recipe.gradient import divergence_gradient
from recipe.likelihood import Map, native
from recipe.loop import device
from recipe.path import clock_grid
from recipe.reference import bits_per_dim, dequantised, likelihood

RATES = (0.01, 0.03, 0.1)
EPSILON = 1e-8


def guided(network: Map, noise: Tensor, rate: float) -> Tensor:
    """``noise`` [N, C, H, W] after one fresh Adam step of size ``rate`` on ``-log p_1 = -log N(x_0) + d(x_0, 0, 1)``.

    The first step of Adam is ``rate * g / (|g| + e)``: the same size for every value.
    """
    n = len(noise)
    gradient = noise + divergence_gradient(network, noise, noise.new_zeros(n), noise.new_ones(n))
    return noise - rate * gradient / (gradient.abs() + EPSILON)


def with_norm_of(noise: Tensor, other: Tensor) -> Tensor:
    """``noise`` with each image scaled to the norm of ``other``'s."""
    norms = [x.flatten(1).norm(dim=1) for x in (noise, other)]
    return noise * (norms[1] / norms[0])[:, None, None, None]


def variants(network: Map, noise: Tensor) -> dict[str, Tensor]:
    """The noise as drawn, and guided, shrunk alike, and guided at the norm as drawn for every rate."""
    found = {"plain": noise}
    for rate in RATES:
        moved = guided(network, noise, rate)
        found[f"guided {rate:g}"] = moved
        found[f"shrunk {rate:g}"] = with_norm_of(noise, moved)
        found[f"guided {rate:g}, norm as drawn"] = with_norm_of(moved, noise)
    return found


def compare(network: Map, score, noise: Tensor, steps: int) -> list[dict]:
    """Bits per dimension of the samples from each noise, and the paired difference from those of the plain noise."""
    rows, plain = [], None
    for name, start in variants(network, noise).items():
        with torch.no_grad():
            drawn = native(network, start, clock_grid(steps).flip(0)).z
        bpd = score(drawn)
        plain = bpd if plain is None else plain
        change = bpd - plain
        rows.append(
            {
                "noise": name,
                "noise_norm": start.square().mean().item(),
                "bpd": bpd.mean().item(),
                "change": change.mean().item(),
                "standard_error": (change.std() / len(change) ** 0.5).item(),
            }
        )
    return rows


@command
def main() -> int:
    parser = argparse.ArgumentParser(prog="recipe.guidance", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--reference-steps", type=int, default=48)
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    config = load_config(args.config)
    network = stages.new_network(config)
    read_weights(args.model, network)
    teacher = stages.frozen_teacher(config, args.teacher, half=False)

    def score(drawn: Tensor) -> Tensor:
        torch.manual_seed(0)  # the same probes for every variant
        x = dequantised(data.to_images(drawn), config.manifest.dequantisation_seed).to(drawn.device)
        prior, divergence = likelihood(teacher, x, clock_grid(args.reference_steps), 1)
        return bits_per_dim(prior, divergence[:, 0], x[0].numel())

    shape = (args.images, config.network.channels, config.network.height, config.network.width)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device())
    rows = compare(network, score, noise, args.steps)
    print(f"| noise of {args.images} samples, K = {args.steps} | its mean square | BPD | change | standard error |")
    print("|---|---|---|---|---|")
    for row in rows:
        figures = f"{row['bpd']:.4f} | {row['change']:+.4f} | {row['standard_error']:.4f}"
        print(f"| {row['noise']} | {row['noise_norm']:.4f} | {figures} |")
    if args.json:
        log = {"images": args.images, "steps": args.steps, "reference_steps": args.reference_steps, "rows": rows}
        args.json.write_text(json.dumps(log, indent=1) + "\n")
    return 0 if np.isfinite([row["bpd"] for row in rows]).all() else 1


if __name__ == "__main__":
    sys.exit(main())
