"""How well a calibrated model tells anomalous images from normal ones: foreign sets and the eight corruptions.

``python -m recipe.detection MODEL CALIBRATION --normal SOURCE --foreign SOURCE...`` writes the image sets to a
temporary folder and lets ``f2d2 evaluate`` measure. Sources are those of :func:`recipe.data.load`.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from recipe import data, sdk
from recipe.command import command
from recipe.corruptions import CORRUPTIONS

SEED = 17


def image_sets(normal: np.ndarray, foreign: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """At most ``n`` images of each foreign set and of each corruption, by name."""
    rng = np.random.default_rng(SEED)
    sets = {name: images[:n] for name, images in foreign.items()}
    # Corruptions are made from normal images that are not among the normal ones compared with, if there are enough.
    return sets | {name: corrupt(normal[-n:], rng) for name, corrupt in CORRUPTIONS.items()}


def measure(model: Path, calibration: Path, normal: np.ndarray, sets: dict[str, np.ndarray], *options: object) -> dict:
    """What ``f2d2 evaluate --json`` finds for uint8 images [N, H, W, C]; its ``anomalous`` is in the order of ``sets``.

    ``options`` are further options of that command.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        inputs = [save(path / f"{name}.npy", images) for name, images in {"normal": normal, **sets}.items()]
        options = (*options, "--calibration", calibration, "--json", "--normal", inputs[0])
        options += tuple(part for file in inputs[1:] for part in ("--anomalous", file))
        return json.loads(sdk.run("evaluate", model, *options))


def save(path: Path, images: np.ndarray) -> Path:
    np.save(path, images[..., 0] if images.shape[-1] == 1 else images)
    return path


def lines(figures: dict, normal: np.ndarray, sets: dict[str, np.ndarray]) -> list[str]:
    """The figures as a Markdown table, beside what the brightness, the deviation or the gradient alone would reach."""
    text = [
        "| set | images | AUROC | 95 % interval | FPR at 95 % TPR | flagged | best trivial statistic |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, images), row in zip(sets.items(), figures["anomalous"], strict=True):
        low, high = row["auroc_interval"]
        text.append(
            f"| {name} | {row['images']} | {row['auroc']:.4f} | {low:.4f} to {high:.4f} | {row['fpr_at_95_tpr']:.4f} "
            f"| {row['flagged']:.4f} | {trivial(normal, images)} |"
        )
    return text


def trivial(normal: np.ndarray, anomalous: np.ndarray) -> str:
    """The best of three statistics of single images that need no model, in either direction, and its AUROC."""
    statistics = {
        "brightness": lambda x: x.mean((1, 2, 3)),
        "deviation": lambda x: x.std((1, 2, 3)),
        "gradient": lambda x: np.abs(np.diff(x, axis=1)).mean((1, 2, 3)) + np.abs(np.diff(x, axis=2)).mean((1, 2, 3)),
    }
    areas = {}
    for name, of in statistics.items():
        area = auroc(of(normal.astype(np.float64)), of(anomalous.astype(np.float64)))
        areas[name] = max(area, 1 - area)
    best = max(areas, key=areas.__getitem__)
    return f"{best} {areas[best]:.4f}"


def auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Chance that an anomalous value is above a normal one, ties a half (Mann-Whitney)."""
    ranks = rankdata(np.concatenate([normal, anomalous]))[len(normal) :]
    return float((ranks.sum() - len(anomalous) * (len(anomalous) + 1) / 2) / (len(normal) * len(anomalous)))


def set_name(source: str) -> str:
    """What a source of :func:`recipe.data.load` is called in tables."""
    return Path(source.rstrip("/")).name.replace(".npz", "").replace(":", "_")


@command
def main() -> int:
    parser = argparse.ArgumentParser(prog="recipe.detection", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--normal", required=True, help="normal images that nothing was trained or calibrated on")
    parser.add_argument("--foreign", nargs="*", default=[], help="sets of other images")
    parser.add_argument("--images", type=int, default=1000, help="images per set (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=0, help="default: the model's recommendation")
    parser.add_argument("--report", type=Path, help="HTML report to write")
    args = parser.parse_args()
    normal = data.load(args.normal)
    sets = image_sets(normal, {set_name(source): data.load(source) for source in args.foreign}, args.images)
    normal = normal[: args.images]
    options: list = ["--steps", args.steps] if args.steps else []
    options += ["--report", args.report] if args.report else []
    figures = measure(args.model, args.calibration, normal, sets, *options)
    print("\n".join(lines(figures, normal, sets)))
    areas = {name: row["auroc"] for name, row in zip(sets, figures["anomalous"], strict=True)}
    mean = np.mean([areas[name] for name in CORRUPTIONS])
    print(f"\nmean AUROC over the eight corruptions: {mean:.4f}; K = {figures['steps']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
