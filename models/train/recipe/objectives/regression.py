"""Regression on teacher trajectories: the average velocity and the average divergence as the integrals they are."""

from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from recipe.config import Config, DistillConfig, RecipeError
from recipe.loop import Losses, check_origin
from recipe.objectives.base import Regression, Targets
from recipe.path import LONGEST_SCHEDULE, clock_grid, per_image

TINY = 1e-6


class Shards:
    """The trajectories that ``config`` wrote; what is drawn depends on torch's generator and the files alone."""

    def __init__(self, config: Config, folder: Path):
        self.config, self.folder = config, folder
        # Files are mapped, not copied: to hold all costs no memory that the system could not take back.
        self.load = cache(self.read)

    def read(self, path: Path) -> dict[str, Tensor]:
        """One shard; RecipeError if another configuration wrote it."""
        check_origin(path, self.config, "trajectories")
        return load_file(path)

    def draw(self, n: int) -> dict[str, Tensor]:
        """``n`` trajectories of one shard: t [knots], the others [n, knots, ...]."""
        paths = sorted(self.folder.glob("*.safetensors"))
        if not paths:
            raise RecipeError(f"no trajectories in {self.folder}: run the stage that writes them first")
        shard = self.load(paths[int(torch.randint(len(paths), ()))])
        pick = torch.randint(len(shard["x"]), (n,))
        return {k: v if k == "t" else v[pick] for k, v in shard.items()}


class TrajectoryRegression(Regression):
    """``u = 1 / (s - t) int_t^s v dr`` and ``d = 1 / (s - t) int_t^s div v dr`` along the teacher's trajectories.

    These are the definitions of u and d (arXiv 2512.02636), and v and div v where t = s. Unlike bootstrapped targets
    they have no error of the student's own in them. Every pair of times of a trajectory, in either direction, is a
    training point; those that are a step of a schedule are drawn more often.
    """

    velocity = "teacher"
    divergence = "teacher"

    def __init__(self, network, settings: DistillConfig, shards: Shards, teacher=None, heads=None):
        super().__init__(network, settings, shards.draw, teacher, heads)

    def targets(self, batch: int) -> Targets:
        # A quarter of the batch from each of four draws mixes shards within every step.
        parts = [self.pairs(batch // 4) for _ in range(4)]
        x, t, s, u, d = (torch.cat(column).to(self.where) for column in zip(*parts, strict=True))
        return Targets(x, t, s, u, d.sum((1, 2, 3), keepdim=True) if self.network.scalar else d)

    def further_losses(self, wanted: Targets, u: Tensor) -> Losses:
        """Mean square of the error of the length ``|X(x, t, s)| / sqrt(d)`` towards noise; the prior term of the
        likelihood is half of its square at s = 0.

        A regression that is not finished answers with means, which are too short: too likely under the prior. Making
        them longer by a few per cent costs next to nothing in the squared error of u. The length, not its square:
        images far from all others must not outweigh them.
        """
        if not self.settings.length_weight:
            return {}
        span = per_image(wanted.s - wanted.t)
        got, need = ((wanted.x + span * v).square().flatten(1).mean(1) for v in (u, wanted.u))
        error = (got + TINY).sqrt() - (need + TINY).sqrt()  # the slope of the root at 0 is infinite
        error = torch.where(wanted.s < wanted.t, error, torch.zeros_like(error))
        return {"length": error.square().mean() * self.settings.length_weight}

    def pairs(self, n: int) -> tuple[Tensor, ...]:
        """Random pairs of times and their targets: x, t [n], s [n], u, d."""
        shard = self.data(n)
        knots = len(shard["t"])
        i, j = torch.randint(knots, (n,)), torch.randint(knots, (n,))
        start = int(shard["t"].argmax())  # the knot at t = 1
        if self.settings.direction != "sampling":
            i = torch.where(torch.rand(n) < self.settings.from_data_share, start, i)
        # Without a share nothing is drawn, so that runs from before there was one can be repeated.
        if self.settings.schedule_share:
            scheduled = torch.rand(n) < self.settings.schedule_share
            step = self.steps(shard["t"], n)
            i, j = torch.where(scheduled, step[0], i), torch.where(scheduled, step[1], j)
        i, j = self.directed(shard["t"], i, j)
        row = torch.arange(n)
        t, s = shard["t"][i], shard["t"][j]
        same = per_image(i == j)
        span = torch.where(same, torch.ones(n, 1, 1, 1), per_image(s - t))
        along = (shard["x"][row, j] - shard["x"][row, i]) / span
        volume = (shard["integral"][row, j] - shard["integral"][row, i]) / span
        u = torch.where(same, shard["velocity"][row, i].float(), along)
        d = torch.where(same, shard["divergence"][row, i].float(), volume)
        return shard["x"][row, i], t, s, u, d

    def steps(self, times: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Knots of ``n`` random steps of random schedules of 1, 2, 4 or 8 steps, in a random direction."""
        knots = torch.stack([(times - t).abs().argmin() for t in clock_grid(LONGEST_SCHEDULE)])
        length = 2 ** torch.randint(LONGEST_SCHEDULE.bit_length(), (n,))
        first = (torch.rand(n) * (LONGEST_SCHEDULE / length)).long() * length
        earlier, later = knots[first], knots[first + length]
        onward = torch.rand(n) < 0.5
        return torch.where(onward, earlier, later), torch.where(onward, later, earlier)

    def directed(self, times: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
        """Orders the knots of each pair as the trained direction wants them."""
        rising = times[i] < times[j]
        swap = {"scoring": rising, "sampling": times[i] > times[j], "both": torch.zeros_like(rising)}
        mask = swap[self.settings.direction]
        return torch.where(mask, j, i), torch.where(mask, i, j)
