import numpy as np
import pytest

from recipe.check import DRAWN, OF_THE_SET, failures
from recipe.config import RecipeError
from recipe.fidelity import compare

GOOD = {"normal": {"spearman": 0.99, "mae": 0.05}, "anomalous": {"spearman": 0.98, "mae": 0.3}, "steps": 8}


def test_bounds_reject_perturbed_and_nan_figures():
    assert failures([GOOD], OF_THE_SET) == []
    assert failures([GOOD], DRAWN) == []
    for kind, key, value in (("normal", "spearman", 0.9), ("anomalous", "spearman", 0.9), ("normal", "mae", 0.2)):
        for bad in (value, float("nan")):
            assert failures([GOOD | {kind: GOOD[kind] | {key: bad}}], OF_THE_SET), (kind, key, bad)


def test_comparison_is_per_image():
    reference = np.array([1.0, 2.0, 3.0])
    figures = compare(np.array([2.0, 2.0, 2.0 + 1e-9]), reference)
    assert abs(figures["bias"]) < 1e-6 and figures["mae"] > 0.6
    with pytest.raises(RecipeError):
        compare(np.array([1.0, np.nan, 3.0]), reference)
