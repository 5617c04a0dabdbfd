"""A checkerboard in the plane, where a density can be looked at: ``python -m recipe.checkerboard PNG``.

Trains a teacher and one student per objective on four by four squares, and draws the log-density and the samples of
each at a few steps beside the teacher's at many. Points are images [N, 2, 1, 1]; the divergence is exact.
"""

import argparse
from pathlib import Path

import matplotlib
import torch
from torch import Tensor, nn

from recipe import scale
from recipe.config import Config, DistillConfig, StageConfig
from recipe.integrate import adams
from recipe.likelihood import native
from recipe.loop import train
from recipe.network import DivergenceScale, TimeEmbedding, zero_init
from recipe.objectives import OBJECTIVES
from recipe.path import clock_grid, per_image
from recipe.reference import likelihood
from recipe.teacher import Teacher

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SHOWN = {
    "ours": "trajectory-regression",
    "Shortcut-Distill-F2D2": "shortcut-distill-f2d2",
    "MeanFlow-F2D2": "meanflow-f2d2",
    "LSD-F2D2": "lsd-f2d2",
}
STEPS = (1, 2, 8)
# Squares are blurred by this deviation: a density with steps in it has no likelihood to agree on.
BLUR = 0.04
WIDTH = 192


class PlaneMap(nn.Module):
    """The flow map of points in the plane: a perceptron with both times, in f32."""

    scalar = False

    def __init__(self):
        super().__init__()
        self.time = TimeEmbedding(WIDTH)
        self.scale = DivergenceScale()
        self.register_buffer("frequencies", torch.pi * 2.0 ** torch.arange(3))
        self.first = nn.Linear(2 + 2 * 2 * 3, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.head_out = zero_init(nn.Linear(WIDTH, 3))

    def heads(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Average velocity [N, 2, 1, 1] and standardised divergence [N, 1, 1, 1]."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.flatten(1)
            phases = (x[:, :, None] * self.frequencies).flatten(1)
            g = self.first(torch.cat([4 * x, torch.sin(phases), torch.cos(phases)], 1)) + self.time(t, s)
            for layer in self.layers:
                g = g + nn.functional.silu(layer(g))
            out = self.head_out(g)[:, :, None, None]
        return out[:, :2], out[:, 2:]

    def divergence(self, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Average divergence in nats per unit of time of its standardised form, [N, 1, 1, 1]."""
        mean, spread, _ = self.scale(t, s)
        return per_image(mean) + per_image(spread) * h

    def forward(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Average velocity and average divergence, [N, 2, 1, 1] and [N, 1, 1, 1]."""
        u, h = self.heads(x, t, s)
        return u, self.divergence(h, t, s)


class Trajectories:
    """Trajectories of the teacher in memory, from data and from noise, in the form of ``Shards``."""

    def __init__(self, teacher: Teacher, n: int = 8192):
        grid = clock_grid(48)
        self.sets = []
        for start, times in ((checkerboard(n), grid), (torch.randn(n // 4, 2, 1, 1), grid.flip(0))):
            points = [point for i, point in enumerate(adams(teacher, start, times)) if i % 3 == 0]
            columns = {k: torch.stack([getattr(p, k) for p in points], 1) for k in ("x", "integral", "velocity")}
            divergence = torch.stack([p.divergence for p in points], 1)
            self.sets.append(columns | {"t": torch.tensor([p.t for p in points]), "divergence": divergence})

    def draw(self, n: int) -> dict[str, Tensor]:
        chosen = self.sets[int(torch.rand(()) < 0.25)]
        pick = torch.randint(len(chosen["x"]), (n,))
        return {k: v if k == "t" else v[pick] for k, v in chosen.items()}


def checkerboard(n: int) -> Tensor:
    """Points [n, 2, 1, 1] on the dark squares of a 4x4 board on [-1, 1]."""
    column, half = torch.randint(4, (n,)), torch.randint(2, (n,))
    corner = torch.stack([column, 2 * half + column % 2], 1)
    return ((corner + torch.rand(n, 2)) / 2 - 1 + BLUR * torch.randn(n, 2))[:, :, None, None]


def learn(config: Config, name: str, network: PlaneMap, objective, folder: Path) -> PlaneMap:
    """Trains ``network`` and returns it with its averaged weights, frozen."""
    images = config.teacher.images if name == "teacher" else config.student.images
    settings = StageConfig(images=images, batch=512, learning_rate=2e-3, warmup=50)
    average = train(config, name, settings, network, objective, folder)
    network.load_state_dict(average, strict=False)
    return network.requires_grad_(False)


def board(size: int = 100) -> Tensor:
    """The centres of ``size`` by ``size`` cells of [-1.2, 1.2] squared, [size^2, 2, 1, 1], rows from the top."""
    axis = (torch.arange(size) + 0.5) / size * 2.4 - 1.2
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), 2).flip(0).reshape(-1, 2, 1, 1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="recipe.checkerboard", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--points",
        type=int,
        default=400_000,
        help="training points of every student; the teacher sees four times as many",
    )
    parser.add_argument("--runs", type=Path, default=Path(__file__).parent.parent / "runs" / "checkerboard")
    args = parser.parse_args()
    config = Config(
        name="checkerboard", teacher=StageConfig(images=4 * args.points), student=StageConfig(images=args.points)
    )
    torch.manual_seed(config.seed)
    network = PlaneMap()
    teacher = learn(
        config, "teacher", network, OBJECTIVES["flow-matching"](network, config.distill, checkerboard), args.runs
    )
    weights, frozen = teacher.state_dict(), Teacher(teacher, half=False)
    trajectories = Trajectories(frozen)
    fitted = DivergenceScale()
    scale.fit(fitted, *scale.measure(frozen, checkerboard, torch.device("cpu"), n=1024), pixels=1)

    x, held_out, z = board(), checkerboard(2000), torch.randn(2000, 2, 1, 1)
    prior, divergence = likelihood(frozen, torch.cat([x, held_out]), clock_grid(128), 1)
    wanted = -(prior + divergence[:, 0])
    figure, axes = plt.subplots(1 + len(SHOWN), 2 * len(STEPS), figsize=(12, 10.5), layout="constrained")
    show_density(axes[0, 0], wanted[: len(x)], "teacher, 128 steps")
    show_points(axes[0, 1], held_out, "data")
    for axis in axes[0, 2:]:
        axis.axis("off")
    for row, (title, name) in enumerate(SHOWN.items(), start=1):
        student = PlaneMap()
        student.load_state_dict(weights)
        student.requires_grad_(True)
        student.scale.load_state_dict(fitted.state_dict())
        data = trajectories if name == "trajectory-regression" else checkerboard
        student = learn(config, name, student, build(name, student, data, frozen), args.runs)
        for column, steps in enumerate(STEPS):
            score = native(student, torch.cat([x, held_out]), clock_grid(steps))
            found = score.log_det - score.prior()
            error = (found - wanted)[len(x) :].abs().mean()
            caption = f"{title}, K = {steps}\nmean |Δ log p| {error:.3f}"
            show_density(axes[row, 2 * column], found[: len(x)], caption)
            drawn = native(student, z, clock_grid(steps).flip(0)).z
            show_points(axes[row, 2 * column + 1], drawn, f"samples, K = {steps}")
            print(f"{title}, K = {steps}: mean absolute difference of log p from the teacher's {error:.4f} nats")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=80, metadata={"Software": None})
    return 0


def build(name: str, student: PlaneMap, data, teacher: Teacher):
    """The objective ``name`` for ``student``."""
    return OBJECTIVES[name](student, DistillConfig(objective=name), data, teacher)


def show_density(axis, log_density: Tensor, title: str) -> None:
    size = int(len(log_density) ** 0.5)
    axis.imshow(log_density.clamp(-6, 1).reshape(size, size), vmin=-6, vmax=1, cmap="magma", interpolation="nearest")
    decorate(axis, title)


def show_points(axis, points: Tensor, title: str) -> None:
    axis.scatter(*points.flatten(1).T, s=0.5, color="black")
    axis.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
    decorate(axis, title)


def decorate(axis, title: str) -> None:
    axis.set_title(title, fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])


if __name__ == "__main__":
    raise SystemExit(main())
