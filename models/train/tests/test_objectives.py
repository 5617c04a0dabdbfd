"""Every objective on densities with exact flow maps: zero at the exact map, above zero at any other."""

from itertools import pairwise

import pytest
import torch

from recipe.config import DistillConfig
from recipe.network import FlowMap, NetworkConfig
from recipe.objectives import OBJECTIVES, eulerian, lagrangian, semigroup
from recipe.objectives.base import bounded
from recipe.path import CLOCK_RANGE, clock, clock_grid, interpolate, per_image
from recipe.teacher import Teacher
from tests.exact import GaussianMap, MixtureMap

SELF_CONSISTENT = ["shortcut", "shortcut-f2d2", "shortcut-distill-f2d2", "meanflow", "meanflow-f2d2", "lsd-f2d2"]
WITH_DIVERGENCE = [name for name in SELF_CONSISTENT if name.endswith("f2d2")]
DENSITIES = {"gaussian": GaussianMap, "mixture": MixtureMap}


PERTURBATIONS = ("velocity_error", "divergence_error", "off_diagonal", "scalar")


def perturbed_map(density: str, settings: dict):
    """The exact map of ``density`` with the attributes of :class:`ExactMap` that are taken from ``settings``."""
    student = DENSITIES[density]()
    for key in PERTURBATIONS:
        setattr(student, key, settings.pop(key, getattr(student, key)))
    return student


def losses(name: str, density: str, **settings):
    """The objective's losses with the exact teacher on the diagonal, for a perturbed map."""
    torch.manual_seed(0)
    student = perturbed_map(density, settings)
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


def blinded(monkeypatch) -> None:
    """Makes every objective take the student's own answer as its target off the diagonal."""
    for module in (eulerian, lagrangian):
        monkeypatch.setattr(module, "bounded", lambda t, s: torch.zeros_like(t))
    monkeypatch.setattr(semigroup, "middle", lambda t, s: torch.ones_like(t))


@pytest.mark.parametrize("name", [*SELF_CONSISTENT, "trajectory-regression"])
@pytest.mark.parametrize("direction", ["scoring", "sampling", "both"])
def test_errors_that_vanish_on_the_diagonal_are_seen_and_by_a_blind_objective_are_not(name, direction, monkeypatch):
    def found(blind: bool, **error) -> dict:
        settings = {"direction": direction, "off_diagonal": True, **error}
        return (
            losses(name, "gaussian", **settings)
            if name in SELF_CONSISTENT
            else regression("gaussian", blind, **settings)
        )

    wrong = {"velocity_error": "velocity", "divergence_error": "sum"}
    wrong = {error: loss for error, loss in wrong.items() if loss in found(False)}
    assert len(wrong) == (1 if name in ("shortcut", "meanflow") else 2)
    for error, loss in wrong.items():
        assert found(False, **{error: 0.3})[loss] > 1e-3
    blinded(monkeypatch)
    for error, loss in wrong.items():
        assert found(True, **{error: 0.3})[loss] < 1e-4


@pytest.mark.parametrize("name", [*WITH_DIVERGENCE, "trajectory-regression"])
def test_scalar_head_learns_the_sum_over_the_pixels(name):
    of = losses if name in SELF_CONSISTENT else lambda name, density, **settings: regression(density, **settings)
    exact = of(name, "gaussian", scalar=True)
    assert exact["sum"] < 1e-4 and "pixels" not in exact
    for bad in (0.1, float("nan")):
        assert not of(name, "gaussian", scalar=True, divergence_error=bad)["sum"] < 10 * exact["sum"] + 1e-4


@pytest.mark.parametrize("name", ["meanflow", "shortcut"])
def test_meanflow_weighs_each_image_by_its_own_error(name):
    student = GaussianMap()
    objective = OBJECTIVES[name](student, DistillConfig(), student.data)
    error = torch.stack([torch.full((1, 2, 2), size) for size in (0.1, 3.0)]).requires_grad_(True)
    each = torch.tensor([0.01, 9.0])
    weight = (each + 1e-3) ** -0.75 if name == "meanflow" else torch.ones(2)
    loss = objective.velocity_loss(error)
    assert loss.item() == pytest.approx((weight * each).mean().item(), rel=1e-5)
    loss.backward()
    # The weight is a constant: the gradient is that of the squares, 2 e / 4 values / 2 images.
    assert error.grad[:, 0, 0, 0].tolist() == pytest.approx((weight * error[:, 0, 0, 0] / 4).tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("direction", "starts", "ends"), [("scoring", 1.0, 0.0), ("sampling", 0.0, 1.0), ("both", 1.0, 0.0)]
)
def test_pairs_of_times_are_ordered_as_the_direction_wants_them(direction, starts, ends):
    torch.manual_seed(0)
    student = GaussianMap()
    objective = OBJECTIVES["shortcut"](student, DistillConfig(direction=direction), student.data)
    t, s = objective.draw_pairs(20_000)
    rising, falling = ((order).double().mean().item() for order in (t < s, t > s))
    assert (rising > 0.1) == (direction != "scoring") and (falling > 0.1) == (direction != "sampling")
    assert (rising == 0) == (direction == "scoring") and (falling == 0) == (direction == "sampling")
    # from_data_share is 0.35; one in 32 of the other times is 1 anyway.
    assert 0.34 < (t == starts).double().mean() < 0.42
    assert 0.14 < ((t == starts) & (s == ends)).double().mean() < 0.17
    from_noise = ((t == 0) & (s == 1)).double().mean()
    assert 0.04 < from_noise < 0.17 if direction != "scoring" else from_noise == 0


def test_bounded_holds_the_derivative_in_time_next_to_data():
    ends = torch.tensor([0.0, 0.3, 0.9, 0.999, 1.0])
    for time in (0.5, 0.99, 0.9999, 1.0):
        t = torch.full_like(ends, time).requires_grad_(True)
        (slope,) = torch.autograd.grad((clock(t) * CLOCK_RANGE).sum(), t)
        product = ((ends - t) * slope).abs()
        assert (bounded(t, ends) * product <= 1 + 1e-5).all()
        assert (bounded(t, ends) > 0).all() and (bounded(t, t) == 1).all()
    assert product.max() > 900  # without it, at t = 1


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


def regression(density: str, blind: bool = False, **settings):
    """The losses of trajectory regression; ``blind``: with the student's own answers as targets off the diagonal."""
    torch.manual_seed(0)
    student = perturbed_map(density, settings)
    objective = OBJECTIVES["trajectory-regression"](
        student, DistillConfig(**settings), ExactShards(DENSITIES[density]())
    )
    if blind:
        see = objective.pairs

        def pairs(n: int):
            x, t, s, *wanted = see(n)
            own = objective.answer(x, t, s)
            return x, t, s, *(torch.where(per_image(t == s), a, b) for a, b in zip(wanted, own, strict=True))

        objective.pairs = pairs
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
        wrong = regression("gaussian", velocity_error=bad, direction="scoring")["length"]
        assert not wrong < 10 * exact + 1e-6
    once, twice = (
        regression("gaussian", velocity_error=0.2, direction="scoring", length_weight=weight)["length"]
        for weight in (1.0, 2.0)
    )
    assert twice == pytest.approx(2 * once)
    assert regression("gaussian", velocity_error=0.2, direction="sampling")["length"] == 0


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
