"""Gathers a finished run into a model folder: model, calibration, reference, teacher weights, sample images.

Of data that may not be passed on, the folder holds no images; its reference is of images that the teacher drew.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from safetensors import safe_open
from safetensors.torch import save_file

from recipe import data, sdk
from recipe.config import Config
from recipe.corruptions import CORRUPTIONS
from recipe.loop import average_prefix, check_finished

NORMAL_SAMPLES = 8
DRAWN, DRAWN_STEPS = 64, 8


def package(config: Config, run: Path, target: Path) -> None:
    """Writes the model folder ``target`` from the run's folder, calibrating on the held-out normal images."""
    check_finished(run / "teacher.safetensors", config, "teacher")
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(run / "model.onnx", target / "model.onnx")
    with safe_open(run / "teacher.safetensors", "pt") as file:
        keys = list(file.keys())
        prefix = average_prefix(keys)
        weights = {key.removeprefix(prefix): file.get_tensor(key) for key in keys if key.startswith(prefix)}
    save_file(weights, target / "teacher.safetensors")
    calibrate(config, target)
    if config.data.redistributable:
        shutil.copy(run / "reference.npz", target / "reference.npz")
        write_samples(data.split(config).test, target / "samples", config.seed)
        write_gallery(target)
    elif (run / "drawn.npz").exists():
        shutil.copy(run / "drawn.npz", target / "reference.npz")
    if config.distill.direction != "scoring":
        sdk.run("sample", target / "model.onnx", "--out", target / "drawn.png", "-n", DRAWN, "--steps", DRAWN_STEPS)


def calibrate(config: Config, target: Path) -> None:
    """Writes ``calibration.json`` from the held-out normal images."""
    images = data.split(config).calibration
    alpha, delta = config.calibration.alpha, config.calibration.delta
    with tempfile.TemporaryDirectory() as folder:
        held_out = Path(folder) / "held_out.npy"
        np.save(held_out, images[..., 0] if images.shape[-1] == 1 else images)
        out = target / "calibration.json"
        print(sdk.run("calibrate", target / "model.onnx", held_out, "--out", out, "--alpha", alpha, "--delta", delta))


def write_samples(images: np.ndarray, folder: Path, seed: int) -> None:
    """A few normal test images and one of each corruption, as PNG files."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    chosen = images[rng.choice(len(images), NORMAL_SAMPLES + len(CORRUPTIONS), replace=False)]
    named = {f"normal_{i + 1}": image for i, image in enumerate(chosen[:NORMAL_SAMPLES])}
    # A patch needs a second image to come from: corrupt all, keep one each.
    for i, (name, corrupt) in enumerate(CORRUPTIONS.items()):
        named[f"anomalous_{name}"] = corrupt(chosen[NORMAL_SAMPLES:], rng)[i]
    for name, image in named.items():
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(folder / f"{name}.png")


def write_gallery(target: Path, columns: int = 4) -> None:
    """``gallery.png``: the sample images with heat map, verdict and p-value, as ``f2d2 score`` gives them."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--calibration", target / "calibration.json", "--heatmaps", folder]
        records = sdk.score(target / "model.onnx", str(target / "samples"), *options)
        panels = [(record, Image.open(record["heatmap"]).convert("RGB")) for record in records]
    width, height = panels[0][1].size
    caption = 44
    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * width, rows * (height + caption)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(20)
    for i, (record, panel) in enumerate(panels):
        left, top = i % columns * width, i // columns * (height + caption)
        sheet.paste(panel, (left, top + caption))
        name = Path(record["input"]).stem.replace("_", " ")
        colour = "#b00020" if record["verdict"] == "anomalous" else "#1b5e20"
        draw.text((left + 8, top + 10), f"{name}: {record['verdict']}, p = {record['p_value']:.4f}", colour, font)
    sheet.thumbnail((1600, 1600))
    sheet.save(target / "gallery.png")
