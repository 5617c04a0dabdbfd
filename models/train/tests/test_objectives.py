"""Every objective on densities with exact flow maps: zero at the exact map, above zero at any other."""

import pytest
import torch

from recipe.config import DistillConfig
from recipe.objectives import OBJECTIVES, Shards
from recipe.teacher import Teacher
from tests.exact import GaussianMap, MixtureMap

SELF_CONSISTENT = ["shortcut", "shortcut-f2d2", "shortcut-distill-f2d2", "meanflow", "meanflow-f2d2", "lsd-f2d2"]
WITH_DIVERGENCE = [name for name in SELF_CONSISTENT if name.endswith("f2d2")]
DENSITIES = {"gaussian": GaussianMap, "mixture": MixtureMap}


def losses(name: str, density: str, velocity_error: float = 0.0, divergence_error: float = 0.0, **settings):
    """The objective's losses with the exact teacher on the diagonal, for a perturbed map."""
    torch.manual_seed(0)
    student = DENSITIES[density]()
    student.velocity_error, student.divergence_error = velocity_error, divergence_error
    settings = {"velocity": "teacher", **settings}
    teacher = Teacher(DENSITIES[density](), half=False)
    objective = OBJECTIVES[name](student, DistillConfig(**settings), student.data, teacher)
    with torch.enable_grad():
        found = objective(64)
    return {key: value.item() for key, value in found.items()}


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("name", SELF_CONSISTENT)
@pytest.mark.parametrize("direction", ["scoring", "sampling", "both"])
def test_losses_are_zero_at_the_exact_map_and_nowhere_else(name, density, direction):
    exact = losses(name, density, direction=direction)
    assert set(exact) == ({"velocity", "sum"} | ({"pixels"} if density == "gaussian" else set())) & (
        {"velocity", "sum", "pixels"} if name in WITH_DIVERGENCE else {"velocity"}
    )
    assert all(value < 1e-4 for value in exact.values()), exact
    for bad in (0.1, float("nan")):
        perturbed = losses(name, density, velocity_error=bad, direction=direction)
        assert not perturbed["velocity"] < 10 * exact["velocity"] + 1e-4, perturbed
        if name in WITH_DIVERGENCE:
            perturbed = losses(name, density, divergence_error=bad, direction=direction)
            assert not perturbed["sum"] < 10 * exact["sum"] + 1e-4, perturbed
