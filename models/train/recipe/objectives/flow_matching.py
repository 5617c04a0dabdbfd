"""Flow matching, which makes the teacher."""

import torch

from recipe.objectives.base import Regression, Targets
from recipe.path import interpolate, sample_times


class FlowMatching(Regression):
    """``E |u(x_t, t, t) - (y - n)|^2`` over data y, noise n and time t (Lipman et al., arXiv 2210.02747, eq. 23)."""

    def targets(self, batch: int) -> Targets:
        y = self.data(batch)
        n = torch.randn_like(y)
        t = sample_times(batch, self.where)
        return Targets(interpolate(y, n, t), t, t, y - n, None)
