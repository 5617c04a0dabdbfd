"""How well few steps of the SDK reproduce the teacher's many: image by image, never by the mean alone.

``python -m recipe.fidelity MODEL REFERENCE`` scores the reference images with the f2d2 command.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from recipe import sdk
from recipe.command import command
from recipe.config import RecipeError

# Bits per dimension; dequantised 8-bit images beyond it are where the teacher's flow, not the image, has gone astray.
RUNAWAY = 100.0


def compare(found: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Mean absolute difference, mean difference (both in bits per dimension) and Spearman correlation."""
    if not np.isfinite(found).all():
        raise RecipeError("the scores are not all finite")
    difference = found - reference
    return {
        "mae": float(np.abs(difference).mean()),
        "bias": float(difference.mean()),
        "spearman": float(spearmanr(found, reference).statistic),
    }


def stayed(data: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which images of a reference have one: bool [N]."""
    return np.abs(data["bpd_reference"]) <= RUNAWAY  # not so of NaN


def table(model: Path, reference: Path, steps: list[int], limit: int = 0) -> list[dict]:
    """One row per number of steps; ``limit`` takes only so many normal and anomalous images each.

    Images whose reference ran away are left out.
    """
    data = np.load(reference)
    normal, sound = data["kind"] == "normal", stayed(data)
    keep = np.concatenate([np.flatnonzero(mask & sound)[: limit or None] for mask in (normal, ~normal)])
    dimensions = int(np.prod(data["images"].shape[1:]))
    nats = dimensions * np.log(2)
    rows = []
    for k in steps:
        records = sdk.score(model, f"{reference}:images", "--steps", k)
        bpd = np.array([record["bpd"] for record in records])[keep]
        norm = np.array([record["statistics"]["latent_norm@1"] for record in records])[keep]
        prior = 0.5 * dimensions * (norm + np.log(2 * np.pi)) / nats
        divergence = np.array([record["statistics"]["divergence@1"] for record in records])[keep] / np.log(2)
        row: dict = {"steps": k}
        for name, mask in (("normal", normal[keep]), ("anomalous", ~normal[keep])):
            row[name] = compare(bpd[mask], data["bpd_reference"][keep][mask])
            row[name]["prior_bias"] = float((prior - data["prior_nats"][keep] / nats)[mask].mean())
            row[name]["divergence_bias"] = float((divergence - data["divergence_nats"][keep] / nats)[mask].mean())
            row[name]["latent_norm"] = float(norm[mask].mean())
        rows.append(row)
    return rows


def of_reference(reference: Path) -> dict:
    """What the many steps of the teacher gave: by kind the images, their mean bits per dimension and ``norm²(z)/d``;
    the standard error of one image, and how many are left out.
    """
    data = np.load(reference)
    sound = stayed(data)
    dimensions = int(np.prod(data["images"].shape[1:]))
    about: dict = {"standard_error": float(np.sqrt(np.square(data["bpd_se"][sound]).mean()))}
    about["left_out"] = int((~sound).sum())
    for name, mask in (("normal", data["kind"] == "normal"), ("anomalous", data["kind"] != "normal")):
        prior = data["prior_nats"][mask & sound]
        norm = float((2 * prior / dimensions - np.log(2 * np.pi)).mean())
        bpd = float(data["bpd_reference"][mask & sound].mean())
        about[name] = {"images": int((mask & sound).sum()), "bpd": bpd, "latent_norm": norm}
    return about


def digest(path: Path) -> str:
    """The sha256 of the file ``path``."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lines(rows: list[dict], about: dict) -> list[str]:
    """The rows as Markdown, above them the figures of :func:`of_reference`."""
    normal, anomalous = about["normal"], about["anomalous"]
    text = [
        f"Reference: {normal['bpd']:.4f} bits/dim on {normal['images']} normal images, {anomalous['bpd']:.4f} on",
        f"{anomalous['images']} anomalous ones; standard error of one image {about['standard_error']:.4f}.",
        *(
            [f"Left out: {about['left_out']} images on which the teacher's many steps run away."]
            if about["left_out"]
            else []
        ),
        "",
        "| K | images | mean abs. difference | bias | of the prior | of the divergence | Spearman | ‖z‖²/d |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for name in ("normal", "anomalous"):
            r = row[name]
            text.append(
                f"| {row['steps']} | {name} | {r['mae']:.4f} | {r['bias']:+.4f} | {r['prior_bias']:+.4f} "
                f"| {r['divergence_bias']:+.4f} | {r['spearman']:.4f} | {r['latent_norm']:.3f} |"
            )
    return text


@command
def main() -> int:
    parser = argparse.ArgumentParser(prog="recipe.fidelity", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--limit", type=int, default=0, help="normal and anomalous images each (default: all)")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    args = parser.parse_args()
    rows, about = table(args.model, args.reference, args.steps, args.limit), of_reference(args.reference)
    if args.json:
        digests = {"model": digest(args.model), "reference": digest(args.reference)}
        log = {"model": args.model.resolve().parent.name, "sha256": digests, "reference": about, "rows": rows}
        args.json.write_text(json.dumps(log, indent=1) + "\n")
    print("\n".join(lines(rows, about)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
