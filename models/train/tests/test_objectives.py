"""Every objective on densities with exact flow maps: zero at the exact map, above zero at any other."""

from itertools import pairwise

import pytest
import torch

from recipe.config import DistillConfig
from recipe.network import FlowMap, NetworkConfig
from recipe.objectives import OBJECTIVES
from recipe.path import clock_grid, interpolate
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
    assert ("sum" in exact) == (name in WITH_DIVERGENCE)
    assert all(value < 1e-4 for value in exact.values()), exact
    for bad in (0.1, float("nan")):
        perturbed = losses(name, density, velocity_error=bad, direction=direction)
        assert not perturbed["velocity"] < 10 * exact["velocity"] + 1e-4, perturbed
        if name in WITH_DIVERGENCE:
            perturbed = losses(name, density, divergence_error=bad, direction=direction)
            assert not perturbed["sum"] < 10 * exact["sum"] + 1e-4, perturbed


@pytest.mark.parametrize("name", SELF_CONSISTENT)
def test_the_exact_map_is_the_best_when_the_diagonal_is_learnt_from_data(name):
    exact = losses(name, "gaussian", velocity="data")["velocity"]
    for bad in (0.2, float("nan")):
        assert not losses(name, "gaussian", velocity="data", velocity_error=bad)["velocity"] <= exact


@pytest.mark.parametrize("anchor", ["self", "teacher"])
def test_divergence_of_the_diagonal_comes_from_the_student_or_the_teacher(anchor):
    for name in WITH_DIVERGENCE:
        assert losses(name, "mixture", anchor=anchor)["sum"] < 1e-4
    # A student with a wrong velocity has another divergence than it learnt: only its own field shows that here.
    wrong = losses("shortcut-f2d2", "mixture", anchor=anchor, velocity_error=0.1)["sum"]
    alone = losses("shortcut-f2d2", "mixture", anchor="teacher", velocity_error=0.1)["sum"]
    assert (wrong > 1.5 * alone) == (anchor == "self")


def test_own_divergence_of_data_is_hundreds_of_times_as_sensitive_as_the_velocity():
    """Why anchors on the student itself diverge: what the velocity loss cannot see becomes the divergence's target."""
    network = FlowMap(NetworkConfig(height=8, width=8, base=8, middle=16, embedding=16, head=8))
    objective = OBJECTIVES["shortcut-f2d2"](network, DistillConfig(), None)
    torch.manual_seed(0)
    network.gates.bias.data[4:8] = 1e-3  # the gain of the noise that a black pixel would have had
    ratios = {}
    for time in (0.5, 1.0):
        black = torch.rand(4, 1, 8, 8) / 128 - 1
        t = torch.full((4,), time)
        v, d = objective.own_diagonal(interpolate(black, torch.randn_like(black), t), t)
        ratios[time] = (d.square().mean() / v.square().mean()).sqrt().item()
    assert ratios[1.0] > 100 > 20 * ratios[0.5], ratios


class ExactShards:
    """Trajectories of the exact flow, at four times."""

    TIMES = (1.0, 0.7, 0.2, 0.0)

    def __init__(self, exact):
        self.exact = exact

    def draw(self, n: int) -> dict[str, torch.Tensor]:
        y = self.exact.data(n)
        columns = []
        for time in self.TIMES:
            t, s = torch.ones(n), torch.full((n,), time)
            u, d = self.exact(y, t, s)
            x = y + (time - 1) * u
            v, rate = self.exact(x, s, s)
            columns.append([value.detach() for value in (x, (time - 1) * d, v, rate)])
        x, integral, velocity, divergence = (torch.stack(column, 1) for column in zip(*columns, strict=True))
        times = torch.tensor(self.TIMES)
        return {"t": times, "x": x, "integral": integral, "velocity": velocity, "divergence": divergence}


def regression(density: str, velocity_error: float = 0.0, divergence_error: float = 0.0, **settings):
    torch.manual_seed(0)
    student = DENSITIES[density]()
    student.velocity_error, student.divergence_error = velocity_error, divergence_error
    shards = ExactShards(DENSITIES[density]())
    objective = OBJECTIVES["trajectory-regression"](student, DistillConfig(**settings), shards)
    return {key: value.item() for key, value in objective(64).items()}


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("direction", ["scoring", "sampling", "both"])
def test_trajectory_regression_is_zero_at_the_exact_map_and_nowhere_else(density, direction):
    exact = regression(density, direction=direction)
    assert all(value < 1e-4 for value in exact.values()), exact
    for bad in (0.1, float("nan")):
        perturbed = regression(density, velocity_error=bad, direction=direction)
        assert not perturbed["velocity"] < 10 * exact["velocity"] + 1e-4
        perturbed = regression(density, divergence_error=bad, direction=direction)
        assert not perturbed["sum"] < 10 * exact["sum"] + 1e-4


class ManyTimes(ExactShards):
    """Trajectories kept at all times of schedules of 8 steps, and at others."""

    TIMES = (*clock_grid(8).tolist()[:3], 0.6, *clock_grid(8).tolist()[3:], 0.01)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_so_many_pairs_are_a_step_of_a_schedule(share):
    torch.manual_seed(0)
    exact = GaussianMap()
    objective = OBJECTIVES["trajectory-regression"](exact, DistillConfig(schedule_share=share), ManyTimes(exact))
    _, t, s, _, _ = objective.pairs(4000)
    found = {(round(a, 5), round(b, 5)) for a, b in zip(t.tolist(), s.tolist(), strict=True)}
    steps = set()
    for count in (1, 2, 4, 8):
        grid = [round(time, 5) for time in clock_grid(count).float().tolist()]
        steps |= set(pairwise(grid)) | set(pairwise(grid[::-1]))
    assert len(steps) == 30 and steps <= found
    assert (found == steps) == (share == 1.0)
    among = sum((round(a, 5), round(b, 5)) in steps for a, b in zip(t.tolist(), s.tolist(), strict=True)) / 4000
    # Random pairs of times are steps of a schedule as well, now and then.
    assert share <= among <= share + 0.35 * (1 - share) + 1e-9, among


def test_lengths_count_towards_noise_only():
    exact = regression("gaussian", direction="scoring")["length"]
    assert exact < 1e-6
    for bad in (0.2, float("nan")):
        assert not regression("gaussian", bad, direction="scoring")["length"] < 10 * exact + 1e-6
    once, twice = (regression("gaussian", 0.2, direction="scoring", length_weight=w)["length"] for w in (1.0, 2.0))
    assert twice == pytest.approx(2 * once)
    assert regression("gaussian", 0.2, direction="sampling")["length"] == 0


@pytest.mark.parametrize("name", [*SELF_CONSISTENT, "trajectory-regression"])
def test_cycle_term_is_zero_for_a_map_that_comes_back(name):
    for error, low, high in ((0.0, 0, 1e-6), (0.1, 1e-4, 1)):
        settings = {"cycle_weight": 1.0, "direction": "both", "velocity_error": error}
        found = (
            regression("gaussian", **settings) if name not in SELF_CONSISTENT else losses(name, "gaussian", **settings)
        )
        assert low <= found["cycle"] <= high


def test_flow_matching_is_least_at_the_exact_velocity():
    values = []
    for error in (0.0, 0.3):
        torch.manual_seed(0)
        student = GaussianMap()
        student.velocity_error = error
        values.append(OBJECTIVES["flow-matching"](student, DistillConfig(), student.data)(512)["velocity"].item())
    assert values[0] < values[1]


def test_objective_without_its_teacher_is_refused():
    student = GaussianMap()
    objective = OBJECTIVES["shortcut-distill-f2d2"](student, DistillConfig(), student.data)
    with pytest.raises(ValueError, match="teacher"):
        objective(8)
