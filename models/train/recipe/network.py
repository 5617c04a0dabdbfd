"""The network: a small UNet with two times, a velocity head and a per-pixel divergence head.

The network knows nothing of losses. Its forward pass is exactly what is exported:
``(x [N, C, H, W], t [N], s [N]) -> (u [N, C, H, W], d [N, 1, H, W])``, the average velocity and the
average divergence (per pixel, nats per unit of time) of the flow from time t to time s.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipe.path import clock, per_image

# Half a bin of 8-bit data in the model range [-1, 1]: the finest structure that dequantised data has.
HALF_BIN = 1 / 256
SOFT_LIMIT = 4.0
GROUPS = 8


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network; ``height`` and ``width`` must be multiples of 4."""

    channels: int = 1
    height: int = 28
    width: int = 28
    base: int = 64
    middle: int = 128
    embedding: int = 128
    head: int = 64
    divergence_head: str = "per_pixel"  # or scalar: one number for the image, from features averaged over pixels


class ResBlock(nn.Module):
    """Two 3x3 convolutions with group norm and SiLU, modulated by the time embedding."""

    def __init__(self, c_in: int, c_out: int, embedding: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, c_out, affine=False)  # the modulation is its affine
        self.modulation = nn.Linear(embedding, 2 * c_out)
        self.conv2 = zero_init(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(e)[:, :, None, None].chunk(2, 1)
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.skip(x) + h


class Attention(nn.Module):
    """Single-head self-attention over the pixels of the coarsest level."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, 3 * c, h * w).chunk(3, 1)  # [N, C, HW] each
        weights = torch.softmax(q.transpose(1, 2) @ k * c**-0.5, -1)  # [N, HW, HW]
        return x + self.out((v @ weights.transpose(1, 2)).reshape(n, c, h, w))


class TimeEmbedding(nn.Module):
    """Embeds both clocks; the second enters by differences only, so that t = s is a teacher's input."""

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(-1, 5).float())
        self.source = nn.Linear(14, size)
        self.target = zero_init(nn.Linear(15, size, bias=False))
        self.mix = nn.Linear(size, size)

    def forward(self, t: Tensor, s: Tensor) -> Tensor:
        wt, ws = clock(t)[:, None], clock(s)[:, None]
        pt, ps = wt * self.frequencies, ws * self.frequencies
        dt, dw = (s - t)[:, None], ws - wt
        source = torch.cat([torch.sin(pt), torch.cos(pt), t[:, None], wt], 1)
        target = torch.cat([torch.sin(ps) - torch.sin(pt), torch.cos(ps) - torch.cos(pt), dt, dw, dt * dw], 1)
        e = self.source(source) + self.target(target)
        return F.silu(self.mix(F.silu(e)))


class DivergenceScale(nn.Module):
    """Mean and spread of the per-pixel divergence over time, as sums of poles.

    ``g(t) = sum_k a_k / (1 - t + e_k)`` has the closed-form average over [t, s] that the flow map needs,
    smooth at t = s; the last pole is a constant. Fitted to the teacher once (:mod:`recipe.scale`).
    """

    POLES = (5e-4, 2e-3, 8e-3, 3e-2, 1e-1, 4e-1, 1e3)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("poles", torch.tensor(self.POLES))
        for name in ("mean", "spread", "sum_spread"):
            self.register_buffer(name, torch.zeros(len(self.POLES)))

    def basis(self, t: Tensor, s: Tensor) -> Tensor:
        """Averages over [t, s] of ``1 / (1 - tau + e_k)``: [N, poles]."""
        reach = 1 - t[:, None] + self.poles
        z = (s - t)[:, None] / reach  # in (-inf, 1)
        small = z.abs() < 1e-2
        series = 1 + z * (1 / 2 + z * (1 / 3 + z / 4))
        exact = -torch.log1p(-torch.where(small, -1.0, z))
        exact = exact / torch.where(small, 1.0, z)
        return torch.where(small, series, exact) / reach

    def forward(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Averages over [t, s], [N] each: mean and spread of one pixel's divergence, spread of the sum over pixels."""
        basis = self.basis(t, s)
        return tuple((basis * poles).sum(1) for poles in (self.mean, self.spread, self.sum_spread))


class FlowMap(nn.Module):
    """The flow map of F2D2: average velocity and per-pixel average divergence from t to s."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        c, m, e = config.base, config.middle, config.embedding
        colours = config.channels
        self.maps = 3 * colours  # x, and the noise that a black or a white pixel would have had
        self.time = TimeEmbedding(e)
        self.scale = DivergenceScale()
        self.stem = nn.Conv2d(4 * self.maps, c, 3, padding=1)
        self.down1, self.down2 = ResBlock(c, c, e), ResBlock(c, c, e)
        self.shrink = nn.Conv2d(c, m, 3, stride=2, padding=1)
        self.middle1, self.attention, self.middle2 = ResBlock(m, m, e), Attention(m), ResBlock(m, m, e)
        self.grow = nn.ConvTranspose2d(m, c, 2, stride=2)
        self.up1, self.up2 = ResBlock(2 * c, c, e), ResBlock(2 * c, c, e)
        self.out_norm = nn.GroupNorm(GROUPS, c)
        self.gates = zero_init(nn.Conv2d(c, 4 * (self.maps + colours), 3, padding=1))
        self.scalar = config.divergence_head == "scalar"
        if self.scalar:
            self.head_mix = nn.Linear(2 * (c + m) + e, 3 * config.head)
            self.head_out = zero_init(nn.Linear(3 * config.head, 1))
            return
        inner = c + 4 * (2 * self.maps + 2 * colours)
        self.head_in = nn.Conv2d(inner, config.head, 1)
        self.head_modulation = nn.Linear(e, 2 * config.head)
        self.head_mix = nn.Conv2d(config.head, config.head, 3, padding=1)
        self.head_out = zero_init(nn.Conv2d(config.head, 4, 1))

    def forward(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Average velocity [N, C, H, W] and average divergence [N, 1, H, W] ([N] if scalar), nats per unit of time."""
        u, h = self.heads(x, t, s)
        d = self.divergence(h, t, s)
        return u, d[:, 0, 0, 0] if self.scalar else d

    def divergence(self, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Average divergence in nats per unit of time of its standardised form ``h``, of the same shape."""
        mean, spread, sum_spread = map(per_image, self.scale(t, s))
        if self.scalar:
            return self.config.height * self.config.width * mean + sum_spread * h
        return mean + spread * h

    def heads(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Average velocity [N, C, H, W], and the divergence standardised by :class:`DivergenceScale`; f32.

        The divergence is [N, 1, H, W], or [N, 1, 1, 1] (of the whole image) from a scalar head.
        """
        maps = self.input_maps(x, t)
        e = self.time(t, s)
        z = F.pixel_unshuffle(maps, 2)
        h1 = self.down1(self.stem(z), e)
        h2 = self.down2(h1, e)
        m = self.middle2(self.attention(self.middle1(self.shrink(h2), e)), e)
        h = self.up1(torch.cat([self.grow(m), h2], 1), e)
        h = self.up2(torch.cat([h, h1], 1), e)
        q = F.silu(self.out_norm(h))
        gates = self.gates(q)
        full = F.pixel_shuffle(gates.float(), 2)  # [N, maps + C, H, W]
        gain, offset = full[:, : self.maps], full[:, self.maps :]
        u = offset + (gain * maps).unflatten(1, (3, -1)).sum(1)
        if self.scalar:
            g = F.silu(self.head_mix(torch.cat([*moments(q.float()), *moments(m.float()), e.float()], 1)))
            return u, self.head_out(g).float()[:, :, None, None]
        feature = torch.cat([q, z.to(q.dtype), gates, F.pixel_unshuffle(u, 2).to(q.dtype)], 1)
        a, b = self.head_modulation(e)[:, :, None, None].chunk(2, 1)
        g = F.silu(self.head_in(feature) * (1 + a) + b)
        return u, F.pixel_shuffle(self.head_out(F.silu(self.head_mix(g))).float(), 2)

    def input_maps(self, x: Tensor, t: Tensor) -> Tensor:
        """x, and the noise in each pixel if its data value were black (-1) or white (+1): [N, 3C, H, W].

        Dequantised saturated pixels differ by less than one 8-bit bin, far below the resolution of bf16;
        these maps carry that difference at unit scale.
        """
        t = per_image(t)
        reach = 1 / (1 - t + HALF_BIN)
        black, white = (x + t) * reach, (x - t) * reach
        x = x * torch.rsqrt(0.5 * t**2 + (1 - t) ** 2)
        soft = [SOFT_LIMIT * torch.tanh(a / SOFT_LIMIT) for a in (black, white)]
        return torch.cat([x, *soft], 1)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the pixels of each channel: [N, C] each."""
    mean = x.mean((2, 3))
    return mean, ((x - mean[:, :, None, None]).square().mean((2, 3)) + 1e-4).sqrt()


def zero_init(module):
    """Sets a layer's parameters to zero and returns it."""
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module
