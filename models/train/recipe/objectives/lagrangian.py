"""Lagrangian self-distillation: the end point of a flow map moves with the flow there."""

import torch
from torch.func import jvp

from recipe.loop import Losses
from recipe.objectives.base import Objective, bounded
from recipe.path import per_image


class LagrangianF2D2(Objective):
    """LSD-F2D2 (arXiv 2505.18825 for u, 2512.02636 for d): with ``X = x + (s - t) u(x, t, s)``,

    ``u + (s - t) d_s u = sg[v(X, s)]`` and ``d + (s - t) d_s d = sg[div v(X, s)]``; on the diagonal u = v and
    d = div v. Gradients flow through both derivatives: the reference implementation stops that of d, which diverges
    here. Errors are weighted by :func:`bounded`, because d_s is a derivative in t.
    """

    velocity = "teacher"
    divergence = "teacher"

    def __call__(self, batch: int) -> Losses:
        x, t, s, conditional, diagonal = self.draw(batch)

        def student(s):
            u, h = self.network.heads(x, t, s)
            return u, self.network.divergence(h, t, s)

        # Autocast does not reach tangents: this product is computed in f32.
        (u, d), (u_rate, d_rate) = jvp(student, (s,), (torch.ones_like(s),))
        span = per_image(s - t)
        arrival = (x + span * u).detach()
        # On the diagonal the conditional velocity belongs to the arrival as well, elsewhere only a field does.
        v, div = self.instantaneous(arrival, s, conditional)
        if self.velocity == "data":
            v = torch.cat([conditional[:diagonal], self.own_diagonal(arrival[diagonal:], s[diagonal:])[0]])
        weight = per_image(bounded(s, t))
        losses = {"velocity": self.velocity_loss(weight * (u + span * u_rate - v))}
        if div is not None:
            losses |= self.divergence_losses(weight * (d + span * d_rate - div), t, s)
        if self.settings.cycle_weight:
            losses["cycle"] = self.cycle_loss(x, u, t, s) * self.settings.cycle_weight
        return losses
