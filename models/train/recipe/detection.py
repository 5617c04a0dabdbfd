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

from recipe import data, sdk
from recipe.config import RecipeError
from recipe.corruptions import CORRUPTIONS

SEED = 17


def write_sets(folder: Path, normal: np.ndarray, foreign: list[str], n: int) -> dict[str, str]:
    """Writes ``anomalous.npz``, one array of ``n`` images per set; its inputs by name."""
    rng = np.random.default_rng(SEED)
    sets = {
        Path(source.rstrip("/")).name.replace(".npz", "").replace(":", "_"): data.load(source) for source in foreign
    }
    sets = {name: images[:n] for name, images in sets.items()}
    # Corruptions are made from normal images that are not among the normal ones compared with.
    sets |= {name: corrupt(normal[-n:], rng) for name, corrupt in CORRUPTIONS.items()}
    squeeze = {name: images[..., 0] if images.shape[-1] == 1 else images for name, images in sets.items()}
    path = folder / "anomalous.npz"
    np.savez(path, **squeeze)
    return {name: f"{path}:{name}" for name in squeeze}


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
    try:
        normal = data.load(args.normal)
        with tempfile.TemporaryDirectory() as folder:
            inputs = write_sets(Path(folder), normal, args.foreign, args.images)
            kept = normal[: args.images]
            path = Path(folder) / "normal.npy"
            np.save(path, kept[..., 0] if kept.shape[-1] == 1 else kept)
            options: list = ["--calibration", args.calibration, "--json", "--normal", path]
            options += [part for source in inputs.values() for part in ("--anomalous", source)]
            options += ["--steps", args.steps] if args.steps else []
            options += ["--report", args.report] if args.report else []
            figures = json.loads(sdk.run("evaluate", args.model, *options))
    except RecipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("| set | images | AUROC | 95 % interval | FPR at 95 % TPR | flagged |")
    print("|---|---|---|---|---|---|")
    areas = {}
    for name, row in zip(inputs, figures["anomalous"], strict=True):
        low, high = row["auroc_interval"]
        areas[name] = row["auroc"]
        rates = f"{row['fpr_at_95_tpr']:.4f} | {row['flagged']:.4f}"
        print(f"| {name} | {row['images']} | {row['auroc']:.4f} | {low:.4f} to {high:.4f} | {rates} |")
    mean = np.mean([areas[name] for name in CORRUPTIONS])
    print(f"\nmean AUROC over the eight corruptions: {mean:.4f}; K = {figures['steps']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
