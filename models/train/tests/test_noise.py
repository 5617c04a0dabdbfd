import numpy as np

from recipe import noise


def test_words_match_the_random123_known_answer():
    assert noise.words(0, 0, 4).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_fields_are_functions_of_seed_and_stream():
    a = noise.normal(7, noise.NOISE_FLOOR, 40_001)
    assert a.dtype == np.float32 and len(a) == 40_001
    assert abs(a.mean()) < 0.02 and abs(np.square(a).mean() - 1) < 0.03
    assert (noise.normal(7, noise.NOISE_FLOOR, 8) == a[:8]).all()
    assert not (noise.normal(8, noise.NOISE_FLOOR, 8) == a[:8]).any()
    u = noise.uniform(7, noise.DEQUANTISATION, 1000)
    assert (u > 0).all() and (u < 1).all()
