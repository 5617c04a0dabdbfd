"""The SDK's reproducible noise: Philox4x32-10 (Salmon et al. 2011), a function of (seed, stream, index) alone.

Word i is lane ``i % 4`` of block ``i / 4``, with the block number and the stream in the counter and the seed in the
key. The same numbers come out of ``f2d2::preprocess::noise``.
"""

import numpy as np

DEQUANTISATION = 0
NOISE_FLOOR = 0x100
SAMPLE = 0x1_0000  # plus the position of the sample
GOLDEN = 0x2

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = np.uint64(0xFFFFFFFF)


def words(seed: int, stream: int, n: int) -> np.ndarray:
    """The first ``n`` words, uint32 held in uint64."""
    blocks = -(-n // 4)
    c0 = np.arange(blocks, dtype=np.uint64)
    c1 = np.full(blocks, stream, np.uint64)
    c2, c3 = np.zeros(blocks, np.uint64), np.zeros(blocks, np.uint64)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        high0, high1 = p0 >> np.uint64(32), p1 >> np.uint64(32)
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint64(k0), p1 & _MASK, high0 ^ c3 ^ np.uint64(k1), p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], 1).reshape(-1)[:n]


def uniform(seed: int, stream: int, n: int) -> np.ndarray:
    """``n`` f32 values uniform in (0, 1): the upper 23 bits, centred."""
    return (((words(seed, stream, n) >> np.uint64(9)).astype(np.float32) + np.float32(0.5)) / np.float32(2**23)).astype(
        np.float32
    )


def normal(seed: int, stream: int, n: int) -> np.ndarray:
    """``n`` f32 standard normal values by the Box-Muller transform of f64 uniforms."""
    pairs = -(-n // 2)
    u = (words(seed, stream, 2 * pairs).astype(np.float64) + 0.5) / 2.0**32
    radius, angle = np.sqrt(-2 * np.log(u[0::2])), 2 * np.pi * u[1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)[:n].astype(np.float32)
