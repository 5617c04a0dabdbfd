"""MeanFlow: where a flow map takes a point does not change along the point's own path."""

import torch
from torch.func import jvp

from recipe.objectives.base import Regression, Targets, bounded
from recipe.path import per_image


class MeanFlow(Regression):
    """The MeanFlow identity for the velocity (arXiv 2505.13447, eq. 6 and 11), adaptively weighted.

    ``u = sg[v + (s - t) du/dt]`` with the total derivative ``d/dt = d_t + v . d_x`` as one forward-mode product.
    The step from u to its target is shortened by :func:`bounded`, which leaves the identity as the fixed point.
    """

    exponent = 0.75

    def targets(self, batch: int) -> Targets:
        x, t, s, conditional, diagonal = self.draw(batch)
        v, d = self.instantaneous(x, t, conditional)
        x2, t2, s2, v2 = x[diagonal:], t[diagonal:], s[diagonal:], v[diagonal:]

        def student(x, t):
            u, h = self.network.heads(x, t, s2)
            return u, self.network.divergence(h, t, s2)

        with torch.no_grad():
            # Autocast does not reach tangents: this product is computed in f32.
            (u, average), (u_rate, d_rate) = jvp(student, (x2, t2), (v2, torch.ones_like(t2)))
        span, step = per_image(s2 - t2), per_image(bounded(t2, s2))
        wanted = torch.cat([v[:diagonal], u + step * (v2 + span * u_rate - u)])
        if d is not None:
            d = torch.cat([d[:diagonal], average + step * (d[diagonal:] + span * d_rate - average)])
        return Targets(x, t, s, wanted, d)


class MeanFlowF2D2(MeanFlow):
    """MeanFlow-F2D2 (arXiv 2512.02636, eq. 3.11 to 3.13): the same identity for the divergence.

    ``d = sg[div u(., t, t) + (s - t) dd/dt]``, the divergence a Hutchinson estimate on the student's own diagonal.
    """

    divergence = "self"
