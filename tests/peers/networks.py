"""Flow maps of four sizes with random weights, for benchmarks: S and M, L of the size that papers use on CIFAR-10, and
T, so small that its time is that of the calls and not of the arithmetic.

    .venv/bin/python tests/peers/networks.py T S M L --out FOLDER

DDPM++-like UNets of (x, t, s) with a scalar divergence head: residual blocks modulated by the times, attention at one
level, average pooling down and nearest-neighbour up.
"""

import argparse
import json
import math
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipe import golden
from recipe.export import FORMAT_VERSION, flatten_affines, graph
from recipe.path import CLOCK_EPSILON, clock_grid

SIZES = {
    "T": {"size": 8, "channels": 1, "base": 8, "levels": (1, 2), "blocks": 1, "attention": 4},
    "S": {"size": 28, "channels": 1, "base": 32, "levels": (1, 2, 2), "blocks": 1, "attention": 14},
    "M": {"size": 32, "channels": 3, "base": 64, "levels": (1, 2, 2), "blocks": 2, "attention": 16},
    "L": {"size": 32, "channels": 3, "base": 128, "levels": (2, 2, 2), "blocks": 4, "attention": 16},
}
SCALE = math.sqrt(0.5)


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels // 4), channels)


class Attention(nn.Module):
    """Single-head self-attention over all pixels."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = norm(channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, 3 * c, h * w).chunk(3, 1)
        weights = torch.softmax(q.transpose(1, 2) @ k * c**-0.5, -1)
        return (x + self.out((v @ weights.transpose(1, 2)).reshape(n, c, h, w))) * SCALE


class Block(nn.Module):
    """A residual block; ``resample`` halves (-1) or doubles (1) the size."""

    def __init__(self, inputs: int, outputs: int, embedding: int, resample: int = 0, attention: bool = False):
        super().__init__()
        self.resample = resample
        self.norm1, self.conv1 = norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.norm2, self.conv2 = norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.attention = Attention(outputs) if attention else nn.Identity()

    def sized(self, x: Tensor) -> Tensor:
        if self.resample < 0:
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.resample > 0 else x

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.conv1(self.sized(F.silu(self.norm1(x))))
        scale, shift = self.modulation(e)[:, :, None, None].chunk(2, 1)
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.attention((self.skip(self.sized(x)) + h) * SCALE)


class UNet(nn.Module):
    """The flow map; ``config`` holds the shape of an image."""

    def __init__(self, size: int, channels: int, base: int, levels: tuple[int, ...], blocks: int, attention: int):
        super().__init__()
        self.config = SimpleNamespace(channels=channels, height=size, width=size)
        e = 4 * base
        self.register_buffer("frequencies", 100 * torch.exp(-math.log(1e4) * torch.arange(base // 2) / (base // 2)))
        self.embed1, self.embed2 = nn.Linear(2 * base, e), nn.Linear(e, e)
        self.stem = nn.Conv2d(channels, base, 3, padding=1)
        self.down, self.up, widths, c = nn.ModuleList(), nn.ModuleList(), [base], base
        for level, factor in enumerate(levels):
            if level:
                size //= 2
                self.down.append(Block(c, c, e, -1))
                widths.append(c)
            for _ in range(blocks):
                self.down.append(Block(c, factor * base, e, 0, size == attention))
                c = factor * base
                widths.append(c)
        self.middle = nn.ModuleList([Block(c, c, e, 0, True), Block(c, c, e)])
        self.head1, self.head2 = nn.Linear(c, c), nn.Linear(c, 1)
        for level, factor in reversed(list(enumerate(levels))):
            if level < len(levels) - 1:
                size *= 2
                self.up.append(Block(c, c, e, 1))
            for i in range(blocks + 1):
                at = size == attention and i == blocks
                self.up.append(Block(c + widths.pop(), factor * base, e, 0, at))
                c = factor * base
        self.norm, self.out = norm(c), nn.Conv2d(c, channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        angles = [v[:, None] * self.frequencies for v in (t, s)]
        e = torch.cat([f(a) for a in angles for f in (torch.cos, torch.sin)], 1)
        e = F.silu(self.embed2(F.silu(self.embed1(e))))
        h = self.stem(x)
        skips = [h]
        for block in self.down:
            h = block(h, e)
            skips.append(h)
        for block in self.middle:
            h = block(h, e)
        d = self.head2(F.silu(self.head1(h.mean((2, 3)))))[:, 0]
        for block in self.up:
            h = block(h if block.resample else torch.cat([h, skips.pop()], 1), e)
        return self.out(F.silu(self.norm(h))), d


def manifest(name: str, network: UNet) -> dict:
    """What f2d2 wants to know about the file."""
    shape = network.config
    return {
        "format_version": FORMAT_VERSION,
        "name": f"benchmark network {name}",
        "licence": "MIT OR Apache-2.0",
        "provenance": {"data": "none: random weights", "recipe": "tests/peers/networks.py", "seed": 0},
        "preprocess": {
            "shape": {"channels": shape.channels, "height": shape.height, "width": shape.width},
            "resize": "bilinear",
            "dequantization": {"kind": "uniform", "seed": 0},
            "scale": 1 / 128,
            "offset": -1.0,
        },
        "head": "scalar",
        "directions": {"scoring": True, "sampling": True},
        "time": "pair",
        "clock": {"kind": "log_snr", "epsilon": CLOCK_EPSILON},
        "schedules": {},
        "noise_floors": [1.0],
        "noise_seed": 0,
        "default_steps": 2,
        "golden": [golden.vector(network, "uniform", 0, clock_grid(1).tolist())],
    }


def random_network(name: str) -> UNet:
    """The network ``name``, always with the same weights."""
    torch.manual_seed(0)
    return UNet(**SIZES[name]).eval().requires_grad_(False)


def write(name: str, folder: Path) -> Path:
    """Writes the network ``name``; returns the file."""
    network = random_network(name)
    model = graph(network)
    flatten_affines(model)
    entry = model.metadata_props.add()
    entry.key, entry.value = "f2d2.manifest", json.dumps(manifest(name, network))
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=SIZES)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.names:
        path = write(name, args.out)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
