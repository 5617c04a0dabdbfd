"""Sample quality as a Fréchet distance on the features of a small classifier that is trained here.

This is not the Inception FID of the literature: other features, other images, fewer samples. It compares rows of one
table with each other, and with the distance of real images from real images that is printed beside them.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from scipy.linalg import sqrtm
from torch import Tensor, nn

FEATURES = 64


class Classifier(nn.Module):
    """Three strided convolutions and one hidden layer of ``FEATURES`` values."""

    def __init__(self, channels: int, classes: int = 10):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(256, FEATURES),
        )
        self.out = nn.Linear(FEATURES, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [N, classes] of uint8 pixels [N, C, H, W]."""
        return self.out(F.silu(self.features(pixels)))

    def features(self, pixels: Tensor) -> Tensor:
        """[N, FEATURES]."""
        return self.body(pixels.float() / 127.5 - 1)


def trained(path: Path, images: Tensor, labels: Tensor, passes: int = 3, batch: int = 128) -> Classifier:
    """The classifier of uint8 images [N, C, H, W] and their labels [N]: from ``path``, trained first if need be."""
    torch.manual_seed(0)
    network = Classifier(images.shape[1])
    if path.exists():
        network.load_state_dict(load_file(path))
        return network.eval()
    total = passes * len(images) // batch
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total)
    for _ in range(total):
        pick = torch.randint(len(images), (batch,))
        loss = F.cross_entropy(network(images[pick]), labels[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), path)
    return network.eval()


@torch.no_grad()
def features(network: Classifier, pixels: Tensor) -> np.ndarray:
    """Features [N, FEATURES] in f64 of uint8 pixels [N, C, H, W]."""
    return torch.cat([network.features(part) for part in pixels.split(500)]).double().numpy()


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features (Dowson & Landau 1982)."""
    (mean_a, cov_a), (mean_b, cov_b) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (a, b))
    root = sqrtm(cov_a @ cov_b).real
    return float(np.square(mean_a - mean_b).sum() + np.trace(cov_a + cov_b - 2 * root))
