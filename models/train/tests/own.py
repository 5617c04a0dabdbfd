"""A set of images in a file, and a configuration that trains a very small model on it."""

from pathlib import Path

import numpy as np

from recipe.config import CalibrationConfig, Config, DataConfig, DistillConfig, StageConfig, TrajectoryConfig
from recipe.network import NetworkConfig

SMALL = NetworkConfig(height=8, width=8, base=8, middle=16, embedding=16, head=8)
STAGE = StageConfig(images=16, batch=8, warmup=2, checkpoint_every=1)


def own_images(folder: Path, n: int = 450, value: int = 0, **parts) -> Config:
    """A configuration of ``n`` images in ``folder``, each with a pixel of ``value``; ``parts`` replace its parts."""
    images = np.arange(n * 64, dtype=np.uint32).view(np.uint8)[::4].reshape(n, 8, 8).copy()
    images[:, 0, 0], images[:, 0, 1], images[:, 0, 2] = np.arange(n) % 256, np.arange(n) // 256, value
    folder.mkdir(exist_ok=True)
    np.save(folder / "own.npy", images)
    settings = {"dataset": "own.npy", "holdout": 0.4, "test": "", "root": str(folder)} | parts.pop("data", {})
    return Config(
        **{
            "name": "x",
            "compile": False,
            "network": SMALL,
            "data": DataConfig(**settings),
            "teacher": STAGE,
            "student": STAGE,
            "trajectories": TrajectoryConfig(shards=2, per_shard=4, batch=4, steps=12, knots=7),
            "distill": DistillConfig(scaling="constant"),
            "calibration": CalibrationConfig(alpha=0.05),
        }
        | parts
    )
