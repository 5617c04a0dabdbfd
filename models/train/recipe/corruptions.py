"""Eight ways to make a normal image anomalous, seeded; uint8 [N, H, W, C] in and out."""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

Corruption = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise, standard deviation 0.1 of the range."""
    return (images + 25.5 * rng.standard_normal(images.shape)).round().clip(0, 255).astype(np.uint8)


def blur(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur, standard deviation 1 pixel."""
    return gaussian_filter(images.astype(np.float32), (0, 1, 1, 0)).round().clip(0, 255).astype(np.uint8)


def constant(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One random grey over the whole image."""
    grey = rng.integers(0, 256, (len(images), 1, 1, 1), dtype=np.uint8)
    return np.broadcast_to(grey, images.shape).copy()


def vertical_flip(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Upside down."""
    return images[:, ::-1].copy()


def patch(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An 8x8 patch of another image at a random place."""
    out, (n, h, w, _) = images.copy(), images.shape
    for i in range(n):
        top, left, from_top, from_left = rng.integers(0, [h - 7, w - 7, h - 7, w - 7])
        other = images[(i + 1 + rng.integers(n - 1)) % n] if n > 1 else images[i]
        out[i, top : top + 8, left : left + 8] = other[from_top : from_top + 8, from_left : from_left + 8]
    return out


def scratch(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An inverted horizontal line, one pixel wide and half the image long, through the middle half."""
    out, (n, h, w, _) = images.copy(), images.shape
    for i in range(n):
        row, left = rng.integers(h // 4, h - h // 4), rng.integers(0, w - w // 2 + 1)
        out[i, row, left : left + w // 2] = 255 - out[i, row, left : left + w // 2]
    return out


def cut_out(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An 8x8 black square inside the middle half."""
    out, (n, h, w, _) = images.copy(), images.shape
    for i in range(n):
        top, left = rng.integers(h // 4, h - h // 4 - 7), rng.integers(w // 4, w - w // 4 - 7)
        out[i, top : top + 8, left : left + 8] = 0
    return out


def contrast(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Contrast halved about middle grey."""
    return ((images.astype(np.float32) - 127.5) / 2 + 127.5).round().astype(np.uint8)


CORRUPTIONS: dict[str, Corruption] = {
    "noise": noise,
    "blur": blur,
    "constant": constant,
    "vertical_flip": vertical_flip,
    "patch": patch,
    "scratch": scratch,
    "cut_out": cut_out,
    "contrast": contrast,
}
