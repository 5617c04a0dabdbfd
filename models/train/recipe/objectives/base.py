"""What all objectives share: pairs of times, targets on the diagonal, and the squared errors.

Notation: u and d are the average velocity and the average divergence from time t to time s. The papers write
D = -d / scale; here d is in nats per unit of time, and :class:`recipe.network.DivergenceScale` is the scale.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recipe.config import DistillConfig
from recipe.divergence import divergence
from recipe.loop import Losses, mixed_precision
from recipe.path import clock_rate, interpolate, per_image, sample_times
from recipe.teacher import Teacher

# A pixel's target is one Hutchinson probe, mostly noise: its squared error is large however good the network is.
PIXEL_WEIGHT = 0.1
# Share of the pairs that go all the way, and of those that start at noise where scoring is trained as well.
TO_END_SHARE = 0.15
FROM_NOISE_SHARE = 0.1
# Share of the batch with t = s, where the instantaneous velocity and divergence are learnt.
DIAGONAL_SHARE = 0.5

Data = Callable[[int], Tensor]


@dataclass
class Targets:
    """What the network should answer at (x, t, s): u [N, C, H, W], and d [N, 1, H, W] or [N, 1, 1, 1] (scalar head)."""

    x: Tensor
    t: Tensor
    s: Tensor
    u: Tensor
    d: Tensor | None  # None: the divergence is not trained


class Objective(ABC):
    """Losses of a student, and what all kinds of them are made of.

    ``data(n)`` draws n data points [n, C, H, W] on the training device. ``velocity`` and ``divergence`` are where the
    diagonal's targets come from: the data, the teacher, the student itself, or nothing.
    """

    velocity = "data"
    divergence: str | None = None
    exponent = 0.0  # of the adaptive weight of the velocity

    def __init__(
        self,
        network,
        settings: DistillConfig,
        data: Data,
        teacher: Teacher | None = None,
        heads: Callable | None = None,
    ):
        self.network, self.settings, self.data, self.teacher = network, settings, data, teacher
        self.heads = heads or network.heads
        self.where = next(network.parameters()).device
        if self.divergence and settings.anchor:
            self.divergence = settings.anchor
        if settings.velocity:
            self.velocity = settings.velocity

    @abstractmethod
    def __call__(self, batch: int) -> Losses:
        """The losses at ``batch`` points, to be summed."""

    def velocity_loss(self, error: Tensor) -> Tensor:
        """Mean square; with an exponent p, each image weighted by ``1 / (error + c)^p`` (arXiv 2505.13447, eq. 22)."""
        each = error.square().flatten(1).mean(1)
        return (each / (each.detach() + 1e-3) ** self.exponent).mean()

    def divergence_losses(self, error: Tensor, t: Tensor, s: Tensor) -> Losses:
        """Mean squares of errors (nats per unit of time) per pixel and summed, in units of their spread over [t, s]."""
        _, spread, sum_spread = self.network.scale(t, s)
        total = error.sum((1, 2, 3)) / sum_spread
        losses = {"sum": total.square().mean() * self.settings.sum_weight}
        if error[0].numel() > 1:
            losses["pixels"] = (error / per_image(spread)).square().mean() * PIXEL_WEIGHT
        return losses

    def cycle_loss(self, x: Tensor, u: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``|x - X(X(x, t, s), s, t)|^2`` (FALCON, arXiv 2512.09914): there and back again is where one was."""
        span = per_image(s - t)
        moved = x + span * u
        with mixed_precision(self.where):
            back, _ = self.heads(moved, s, t)
        return (moved - span * back - x).square().mean()

    def draw(self, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
        """Points x_t, times t and s, conditional velocities ``y - n``, and how many of the first have t = s."""
        y = self.data(batch)
        n = torch.randn_like(y)
        t, s = self.draw_pairs(batch)
        diagonal = round(batch * DIAGONAL_SHARE)
        s = torch.cat([t[:diagonal], s[diagonal:]])
        return interpolate(y, n, t), t, s, y - n, diagonal

    def draw_pairs(self, n: int) -> tuple[Tensor, Tensor]:
        """Random pairs of times [n], ordered as the trained direction wants them; scoring often starts at t = 1."""
        direction = self.settings.direction
        t, s = sample_times(n, self.where), sample_times(n, self.where)
        if direction == "scoring":
            t, s = torch.maximum(t, s), torch.minimum(t, s)
        if direction == "sampling":
            t, s = torch.minimum(t, s), torch.maximum(t, s)
        pick = torch.rand(n, device=self.where)
        start = 1.0 if direction != "sampling" else 0.0
        from_start = pick < self.settings.from_data_share
        t = torch.where(from_start, torch.full_like(t, start), t)
        s = torch.where(pick < TO_END_SHARE, torch.full_like(s, 1 - start), s)
        if direction == "both":
            t = torch.where(pick > 1 - FROM_NOISE_SHARE, torch.zeros_like(t), t)
            s = torch.where(pick > 1 - FROM_NOISE_SHARE / 2, torch.ones_like(s), s)
        return t, s

    def instantaneous(self, x: Tensor, t: Tensor, conditional: Tensor) -> tuple[Tensor, Tensor | None]:
        """Velocity and divergence at (x, t), from where the objective takes them."""
        if "teacher" in (self.velocity, self.divergence) and self.teacher is None:
            raise ValueError("this objective needs a teacher")
        v, d = conditional, None
        if self.divergence == "teacher":
            field, d = self.teacher.velocity_and_divergence(x, t)
            v = field if self.velocity == "teacher" else v
        elif self.velocity == "teacher":
            v = self.teacher.velocity(x, t)
        if self.divergence == "self":
            d = self.own_diagonal(x, t)[1]
        if d is not None and self.network.scalar:
            d = d.sum((1, 2, 3), keepdim=True)
        return v, d

    def own_diagonal(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The student's own velocity at t = s, and one probe of its divergence; no gradient flows through them.

        As a target the latter is unstable in training: dequantised data is ``1/128`` wide, so that next to t = 1 an
        error of the velocity that its loss cannot see is one of the divergence that is hundreds of times as large. That
        becomes the target, and its gradient fills the norm limit and disturbs the velocity further.
        """

        def field(x: Tensor) -> Tensor:
            with mixed_precision(self.where):
                return self.heads(x, t, t)[0]

        return divergence(field, x, 1)

    def answer(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """u and d of the student as it is; no gradient flows through them."""
        with torch.no_grad(), mixed_precision(self.where):
            u, h = self.heads(x, t, s)
        return u, self.network.divergence(h, t, s)


class Regression(Objective):
    """Squared errors against :meth:`targets`; subclasses say what these are."""

    @abstractmethod
    def targets(self, batch: int) -> Targets:
        """What the network should answer at ``batch`` points."""

    def __call__(self, batch: int) -> Losses:
        wanted = self.targets(batch)
        x, t, s = wanted.x, wanted.t, wanted.s
        with mixed_precision(self.where):
            u, h = self.heads(x, t, s)
        losses = {"velocity": self.velocity_loss(u - wanted.u)}
        if wanted.d is not None:
            losses |= self.divergence_losses(self.network.divergence(h, t, s) - wanted.d, t, s)
        if self.settings.cycle_weight:
            losses["cycle"] = self.cycle_loss(x, u, t, s) * self.settings.cycle_weight
        return losses | self.further_losses(wanted, u)

    def further_losses(self, wanted: Targets, u: Tensor) -> Losses:
        """What an objective adds; ``u`` is the network's answer to ``wanted``."""
        return {}


def bounded(t: Tensor, s: Tensor) -> Tensor:
    """What derivatives with respect to ``t`` are multiplied with, [N]: 1 at t = s, and no more than the clock allows.

    The network is smooth in the clock w, not in t: ``(s - t) d/dt = (s - t) / (dt/dw) d/dw`` grows a thousandfold
    towards t = 1. This factor, ``(dt/dw) / (dt/dw + |s - t|)``, keeps the product bounded.
    """
    rate = clock_rate(t)
    return rate / (rate + (s - t).abs())
