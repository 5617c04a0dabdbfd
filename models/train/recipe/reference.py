"""Reference likelihoods: the teacher's many-step bits per dimension for exactly the inputs that the SDK feeds.

128 Heun steps (256 evaluations) in the log-SNR clock with two Rademacher probes per evaluation, in f32, from t0 = 1
with the SDK's dequantisation noise. Written to ``reference.npz``: ``images`` (uint8, half normal, half anomalous),
``kind``, ``bpd_reference``, ``bpd_se`` (its standard error, from the spread between the probes), and the two terms
that the sum hides, ``prior_nats`` = -log N(z) and ``divergence_nats`` = -log_det.

Of data that may not be passed on there is a second one, of images that the teacher draws, with the key ``drawn``: it
lets anybody check the model, but says nothing about real images.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from recipe import noise
from recipe.config import Config
from recipe.corruptions import CORRUPTIONS
from recipe.data import to_images, to_model_range, to_tensor
from recipe.integrate import heun, heun_end
from recipe.loop import device
from recipe.path import clock_grid
from recipe.teacher import Teacher

PROBES = 2
BIN = 1 / 128


def dequantised(images: np.ndarray, seed: int) -> Tensor:
    """uint8 [N, H, W, C] as the SDK's input values [N, C, H, W]: the same noise field for every image."""
    pixels = to_tensor(images)
    field = noise.uniform(seed, noise.DEQUANTISATION, pixels[0].numel()).reshape(pixels.shape[1:])
    return to_model_range(pixels, torch.from_numpy(field))


def likelihood(teacher: Teacher, x: Tensor, times: Tensor, probes: int) -> tuple[Tensor, Tensor]:
    """``-log N(z)`` [N] and each probe's ``-log_det`` [N, probes], nats in f64, by Heun steps through ``times``."""
    for point in heun(teacher, x, times, probes):
        end = point
    z = end.x.double().flatten(1)
    prior = 0.5 * z.square().sum(1) + 0.5 * z.shape[1] * math.log(2 * math.pi)
    return prior, -end.integral.double().sum((2, 3))


def bits_per_dim(prior: Tensor, divergence: Tensor, dimensions: int) -> Tensor:
    """Bits per dimension of 8-bit data in model range [-1, 1)."""
    return (prior + divergence - dimensions * math.log(BIN)) / (dimensions * math.log(2))


def drawn(teacher: Teacher, config: Config, normal: np.ndarray, n: int) -> np.ndarray:
    """``n`` images that the teacher draws: uint8 [N, H, W, C].

    From noise as long as the ends of ``normal`` images: a model of few images leads them to ends shorter than noise,
    and from longer ones it draws what is unlike all of them.
    """
    times, size = clock_grid(config.trajectories.steps), config.network
    x = dequantised(normal, config.manifest.dequantisation_seed).to(device())
    generator = torch.Generator().manual_seed(config.seed)
    z = torch.randn(n, size.channels, size.height, size.width, generator=generator).to(device())
    length = heun_end(teacher, x, times).square().mean().sqrt()
    return to_images(heun_end(teacher, length * z, times.flip(0)))


def test_set(normal: np.ndarray, foreign: dict[str, np.ndarray], half: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``half`` normal images, then ``half`` anomalous ones in equal shares of foreign sets and corruptions."""
    rng = np.random.default_rng(seed)
    sources = list(foreign) + list(CORRUPTIONS)
    images, kinds = [normal[:half]], ["normal"] * half
    for i, kind in enumerate(sources):
        n = (half * (i + 1)) // len(sources) - (half * i) // len(sources)
        chosen = (
            foreign[kind][:n] if kind in foreign else CORRUPTIONS[kind](normal[half + i * n : half + (i + 1) * n], rng)
        )
        images.append(chosen)
        kinds += [kind] * n
    return np.concatenate(images), np.array(kinds)


def write(
    teacher: Teacher, images: np.ndarray, kinds: np.ndarray, seed: int, path: Path, batch: int, steps: int, **further
) -> None:
    """Scores all images with the teacher and writes ``path`` atomically, with ``further`` values in it; an interrupted
    run goes on where it was.
    """
    x = dequantised(images, seed)
    dimensions = x[0].numel()
    columns: list[np.ndarray] = []
    part = path.with_suffix(".part.npy")
    if part.exists():
        columns = [c for c in np.load(part)]
    times = clock_grid(steps)
    for start in tqdm(range(len(columns) * batch, len(x), batch), unit="batch", desc="reference", mininterval=10):
        torch.manual_seed(seed + start)
        prior, divergence = likelihood(
            teacher, x[start : start + batch].to(next(teacher.network.parameters()).device), times, PROBES
        )
        columns.append(torch.cat([prior[:, None], divergence], 1).T.cpu().numpy())  # [1 + probes, batch]
        np.save(part, np.stack(columns))
    prior, *probes = (torch.from_numpy(row) for row in np.concatenate(columns, 1))
    each = torch.stack([bits_per_dim(prior, probe, dimensions) for probe in probes])
    divergence = torch.stack(probes).mean(0)
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(
        partial,
        images=images[..., 0] if images.shape[-1] == 1 else images,
        kind=kinds,
        bpd_reference=each.mean(0).numpy(),
        bpd_se=(each.std(0) / len(each) ** 0.5).numpy(),
        prior_nats=prior.numpy(),
        divergence_nats=divergence.numpy(),
        **further,
    )
    partial.replace(path)
    part.unlink()
