"""Checks a shipped model folder: ``python -m recipe.check FOLDER`` fails where the model is not what its card says.

A part of the reference images is scored through the f2d2 command at K = 1 and 8, and must reproduce the teacher's
likelihoods image by image. Those that the teacher drew are farther from what the model was trained on.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recipe.command import command
from recipe.fidelity import table

IMAGES = 60


@dataclass(frozen=True)
class Bounds:
    """What must be reached; looser than the figures in the cards, since these are of fewer images."""

    spearman: dict[str, float]
    difference: dict[int, float]  # by the number of steps


OF_THE_SET = Bounds({"normal": 0.97, "anomalous": 0.93}, {1: 0.15, 8: 0.08})
DRAWN = Bounds({"normal": 0.9, "anomalous": 0.8}, {1: 0.2, 8: 0.2})


def failures(rows: list[dict], bounds: Bounds) -> list[str]:
    """What is outside the bounds; empty if nothing is. NaN is outside."""
    found = []
    for row in rows:
        for kind, least in bounds.spearman.items():
            if not row[kind]["spearman"] >= least:
                found.append(
                    f"K = {row['steps']}: Spearman on {kind} images is {row[kind]['spearman']:.4f}, need {least}"
                )
        if not row["normal"]["mae"] <= bounds.difference[row["steps"]]:
            found.append(f"K = {row['steps']}: mean difference is {row['normal']['mae']:.4f} bits/dim")
    return found


@command
def main() -> int:
    folder = Path(sys.argv[1])
    reference = folder / "reference.npz"
    bounds = DRAWN if "drawn" in np.load(reference) else OF_THE_SET
    rows = table(folder / "model.onnx", reference, list(bounds.difference), IMAGES)
    problems = failures(rows, bounds)
    figures = ", ".join(f"{row['normal']['mae']:.3f} at K = {row['steps']}" for row in rows)
    for line in problems or [f"{folder.name}: few steps reproduce the reference; mean difference {figures}"]:
        print(line)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
