"""Shortcut models: what two steps do, one step must do as well."""

import torch
from torch import Tensor

from recipe.objectives.base import Regression, Targets
from recipe.path import clock, per_image, time_of_clock


class Shortcut(Regression):
    """The semigroup identity for the velocity, the data's velocity on the diagonal (Frans et al., arXiv 2410.12557).

    ``u(x, t, s) = sg[l u(x, t, r) + (1 - l) u(x_r, r, s)]`` with ``x_r = x + (r - t) u(x, t, r)``,
    ``l = (r - t) / (s - t)``, and ``u(x_t, t, t) = y - n``. r is the middle in time or in the clock.
    """

    def targets(self, batch: int) -> Targets:
        x, t, s, conditional, diagonal = self.draw(batch)
        u, d = self.instantaneous(x[:diagonal], t[:diagonal], conditional[:diagonal])
        x2, t2, s2 = x[diagonal:], t[diagonal:], s[diagonal:]
        share = middle(t2, s2)
        r = t2 + share * (s2 - t2)
        u1, d1 = self.answer(x2, t2, r)
        u2, d2 = self.answer(x2 + per_image(r - t2) * u1, r, s2)
        share = per_image(share)
        u = torch.cat([u, share * u1 + (1 - share) * u2])
        d = None if d is None else torch.cat([d, share * d1 + (1 - share) * d2])
        return Targets(x, t, s, u, d)


class ShortcutF2D2(Shortcut):
    """Shortcut-F2D2 (arXiv 2512.02636): the same identity for the divergence, ``d(x, t, t) = div u(., t, t)`` at x.

    ``d(x, t, s) = sg[l d(x, t, r) + (1 - l) d(x_r, r, s)]``; the diagonal is a Hutchinson estimate on the student.
    """

    divergence = "self"


class ShortcutDistillF2D2(Shortcut):
    """Shortcut-Distill-F2D2 (arXiv 2512.02636): as Shortcut-F2D2 with the frozen teacher v on the diagonal.

    ``u(x, t, t) = v(x, t)`` and ``d(x, t, t) = div v(x, t)``.
    """

    velocity = "teacher"
    divergence = "teacher"


def middle(t: Tensor, s: Tensor) -> Tensor:
    """The share of the way from t to s [N] at which it is split: one half of the time, or of the clock."""
    span = s - t
    tiny = span.abs() < 1e-3
    r = time_of_clock((clock(t) + clock(s)) / 2)
    share = ((r - t) / torch.where(tiny, torch.ones_like(span), span)).clamp(0, 1)
    half = tiny | (torch.rand_like(t) < 0.5)
    return torch.where(half, torch.full_like(t, 0.5), share)
