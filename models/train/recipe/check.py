"""Checks a shipped model folder: ``python -m recipe.check FOLDER`` fails where the model is not what its card says.

A part of the reference images is scored through the f2d2 command at K = 1 and 8, and must reproduce the teacher's
likelihoods image by image.
"""

import sys
from pathlib import Path

from recipe.command import command
from recipe.fidelity import table

IMAGES = 60
# Looser than the figures in the cards: these are of fewer images.
SPEARMAN = {"normal": 0.97, "anomalous": 0.93}
DIFFERENCE = {1: 0.15, 8: 0.08}


def failures(rows: list[dict]) -> list[str]:
    """What is outside the bounds; empty if nothing is. NaN is outside."""
    found = []
    for row in rows:
        for kind, least in SPEARMAN.items():
            if not row[kind]["spearman"] >= least:
                found.append(
                    f"K = {row['steps']}: Spearman on {kind} images is {row[kind]['spearman']:.4f}, need {least}"
                )
        if not row["normal"]["mae"] <= DIFFERENCE[row["steps"]]:
            found.append(f"K = {row['steps']}: mean difference is {row['normal']['mae']:.4f} bits/dim")
    return found


@command
def main() -> int:
    folder = Path(sys.argv[1])
    rows = table(folder / "model.onnx", folder / "reference.npz", list(DIFFERENCE), IMAGES)
    problems = failures(rows)
    for line in problems or [f"{folder.name}: {IMAGES} normal and {IMAGES} anomalous images reproduce the reference"]:
        print(line)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
