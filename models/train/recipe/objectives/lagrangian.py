"""Lagrangian self-distillation: the end point of a flow map moves with the flow there."""

import torch
from torch.func import jvp

from recipe.loop import Losses, mixed_precision
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
        x1, t1, x2, t2, s2 = x[:diagonal], t[:diagonal], x[diagonal:], t[diagonal:], s[diagonal:]
        with mixed_precision(self.where):
            u1, h1 = self.heads(x1, t1, t1)

        def student(s):
            u, h = self.network.heads(x2, t2, s)
            return u, self.network.divergence(h, t2, s)

        # Autocast does not reach tangents: this product is computed in f32.
        (u2, d2), (u_rate, d_rate) = jvp(student, (s2,), (torch.ones_like(s2),))
        span, weight = per_image(s2 - t2), per_image(bounded(s2, t2))
        arrival = torch.cat([x1, (x2 + span * u2).detach()])
        # On the diagonal the conditional velocity belongs to the arrival as well, elsewhere only a field does.
        v, div = self.instantaneous(arrival, s, conditional)
        if self.velocity == "data":
            v = torch.cat([conditional[:diagonal], self.own_diagonal(arrival[diagonal:], s2)[0]])
        error = torch.cat([u1 - v[:diagonal], weight * (u2 + span * u_rate - v[diagonal:])])
        losses = {"velocity": self.velocity_loss(error)}
        if div is not None:
            d1 = self.network.divergence(h1, t1, t1)
            error = torch.cat([d1 - div[:diagonal], weight * (d2 + span * d_rate - div[diagonal:])])
            losses |= self.divergence_losses(error, t, s)
        if self.settings.cycle_weight:
            losses["cycle"] = self.cycle_loss(x, torch.cat([u1, u2]), t, s) * self.settings.cycle_weight
        return losses
