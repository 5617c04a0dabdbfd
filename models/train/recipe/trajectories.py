"""Teacher trajectories: the joint flow of the frozen teacher, integrated finely and kept at a few times.

A trajectory from t = 1 starts at a dequantised image, one from t = 0 at Gaussian noise. Kept at each knot: the state,
the per-pixel divergence integrated since the start, and the teacher's velocity and divergence there. From these
follow the targets of a flow map between any two knots, in both directions: ``u = (x_s - x_t) / (s - t)`` and
``d = (I_s - I_t) / (s - t)``, the defining integrals of average velocity and average divergence.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from recipe.config import Config, RecipeError, fingerprint
from recipe.data import draw_data
from recipe.integrate import adams
from recipe.loop import check_origin, seed_step
from recipe.path import LONGEST_SCHEDULE, clock_grid
from recipe.teacher import Teacher

# The share of scoring trajectories that start at an altered normal image: the map must be right off the data, too.
ALTERED_SHARE = 0.2
# One shard in this many starts at noise, if the map is to sample.
NOISE_EVERY = 5
# The flow bends on the data side of t = 1/2: three quarters of the steps go there.
DATA_SIDE = 0.75
# Images lie in [-1, 1] and noise within a few units: a state beyond this has run away from the teacher's flow.
FAR = 20.0


def fine_grid(steps: int) -> Tensor:
    """``steps + 1`` times from 1 to 0, uniform in the clock on either side of t = 1/2, eighths included."""
    data_side = round(steps * DATA_SIDE)
    return torch.cat([clock_grid(data_side, 1.0, 0.5)[:-1], clock_grid(steps - data_side, 0.5, 0.0)])


def draw_knots(grid: Tensor, knots: int) -> list[int]:
    """Indices of the kept times of ``grid``: both ends, the eighths of the clock, random others."""
    nearest = (grid[None, :] - clock_grid(LONGEST_SCHEDULE)[:, None]).abs().min(1)
    fixed = {0, len(grid) - 1} | {int(i) for i, gap in zip(nearest.indices, nearest.values, strict=True) if gap < 1e-9}
    fixed = fixed if len(fixed) <= knots else {0, len(grid) - 1}
    others = [i for i in torch.randperm(len(grid)).tolist() if i not in fixed]
    return sorted(fixed | set(others[: knots - len(fixed)]))


def altered(y: Tensor, fade_to: str) -> Tensor:
    """Normal images changed at random: mixed with another by rows, faded (to a grey or black), inverted, noised."""
    kind = torch.randint(0, 4, (len(y), 1, 1, 1), device=y.device)
    amount = torch.rand(len(y), 1, 1, 1, device=y.device)
    rows = torch.rand(len(y), 1, y.shape[2], 1, device=y.device) < amount
    mixed = torch.where(rows, y, y.flip(0))
    black = fade_to == "black"
    grey, left = (-1, amount) if black else (2 * torch.rand_like(amount) - 1, amount.square())
    faded = grey + left * (y - grey)
    noised = (y + 0.5 * amount * torch.randn_like(y)).clamp(-1, 1)
    return torch.where(kind == 0, mixed, torch.where(kind == 1, faded, torch.where(kind == 2, -y, noised)))


def write(config: Config, teacher: Teacher, images: Tensor, folder: Path, where: torch.device) -> None:
    """Writes the shards that are missing in ``folder``; each depends on the configuration and its number alone.

    A shard that another configuration wrote raises RecipeError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = config.trajectories
    for shard in tqdm(range(settings.shards), unit="shard", desc="trajectories", mininterval=10):
        path = folder / f"{shard:04}.safetensors"
        if path.exists():
            check_origin(path, config, "trajectories")
            continue
        seed_step(config, "trajectories", shard)
        grid = fine_grid(settings.steps)
        knots = draw_knots(grid, settings.knots)
        from_noise = config.distill.direction != "scoring" and shard % NOISE_EVERY == NOISE_EVERY - 1
        parts = []
        for _ in range(settings.per_shard // settings.batch):
            y = draw_data(images, settings.batch, where)
            y = torch.where(torch.rand(len(y), 1, 1, 1, device=where) < ALTERED_SHARE, altered(y, settings.fade_to), y)
            points = adams(teacher, torch.randn_like(y), grid.flip(0)) if from_noise else adams(teacher, y, grid)
            parts.append([point for i, point in enumerate(points) if i in knots])
        save(path, parts, fingerprint(config, "trajectories"))


def save(path: Path, parts: list, config: str) -> None:
    """Writes one shard beside ``path`` and moves it there: [trajectories, knots, ...] per tensor, times [knots].

    ``config`` is the fingerprint of what wrote it. Trajectories that ran away are left out; RecipeError if they are
    more than half.
    """

    def knots(key: str) -> Tensor:
        return torch.cat([torch.stack([getattr(point, key) for point in part], 1) for part in parts])

    stayed = knots("x").abs().flatten(1).amax(1) <= FAR  # not so of NaN
    if 2 * stayed.sum() < len(stayed):
        raise RecipeError(f"{int((~stayed).sum())} of {len(stayed)} teacher trajectories run away: train it longer")
    tensors = {"t": torch.tensor([point.t for point in parts[0]])}
    for key, kind in {
        "x": torch.float32,
        "integral": torch.float32,
        "velocity": torch.half,
        "divergence": torch.half,
    }.items():
        tensors[key] = knots(key)[stayed].to(kind).cpu().contiguous()
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, {"config": config})
    partial.replace(path)
