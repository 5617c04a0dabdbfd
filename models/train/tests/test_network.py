import pytest
import torch

from recipe.config import Config, DistillConfig
from recipe.network import DivergenceScale, FlowMap, NetworkConfig
from recipe.objectives import TrajectoryRegression
from recipe.scale import fit_poles, values
from tests.gaussian import exact_map

SMALL = NetworkConfig(height=8, width=8, base=8, middle=16, embedding=16, head=8)


def test_scale_average_is_the_integral_of_its_poles():
    scale = DivergenceScale()
    for t, s in ((1.0, 0.0), (0.0, 1.0), (0.97, 1.0), (0.5, 0.5), (0.5, 0.501), (0.3, 0.9)):
        grid = torch.linspace(t, s, 200_001, dtype=torch.float64)
        exact = (1 / (1 - grid[:, None] + scale.poles.double())).mean(0) if t != s else None
        found = scale.basis(torch.tensor([t]), torch.tensor([s]))[0].double()
        expected = exact if exact is not None else 1 / (1 - t + scale.poles.double())
        assert ((found - expected) / expected).abs().max() < 2e-3, (t, s)


def test_poles_fit_a_pole_and_stay_positive():
    scale = DivergenceScale()
    times = torch.linspace(0, 1, 33)
    target = 2.0 / (1 - times + 0.05)
    fitted = fit_poles(scale, times, target, positive=True)
    curve = values(scale, times) @ fitted.numpy()
    assert abs(curve / target.numpy() - 1).max() < 0.05
    assert (curve > 0).all()


def test_fresh_network_moves_nothing_and_reports_the_mean_divergence():
    network = FlowMap(SMALL)
    x, t, s = torch.randn(2, 1, 8, 8), torch.tensor([1.0, 0.4]), torch.tensor([0.0, 0.9])
    u, d = network(x, t, s)
    assert u.shape == x.shape and d.shape == (2, 1, 8, 8)
    assert u.abs().max() == 0 and d.abs().max() == 0


class ExactShards:
    """Trajectories of the exact Gaussian flow."""

    TIMES = (1.0, 0.7, 0.2, 0.0)

    def draw(self, n: int) -> dict[str, torch.Tensor]:
        start = torch.randn(n, 1, 8, 8)
        states, integrals = zip(*(exact_map(start, 1.0, t) for t in self.TIMES), strict=True)
        ones = torch.ones(n, 1, 8, 8)
        return {
            "t": torch.tensor(self.TIMES),
            "x": torch.stack(states, 1),
            "integral": torch.stack([value * ones for value in integrals], 1),
            "velocity": torch.zeros(n, 4, 1, 8, 8, dtype=torch.half),
            "divergence": torch.zeros(n, 4, 1, 8, 8, dtype=torch.half),
        }


@pytest.mark.parametrize("direction", ["scoring", "sampling", "both"])
def test_targets_are_the_exact_average_velocity_and_divergence(direction):
    torch.manual_seed(0)
    config = Config(name="test", network=SMALL, distill=DistillConfig(direction=direction))
    objective = TrajectoryRegression(FlowMap(SMALL), config.distill, ExactShards())
    x, t, s, u, d = objective.pairs(64)
    directions = set()
    for i in range(64):
        if t[i] == s[i]:
            continue
        directions.add("scoring" if s[i] < t[i] else "sampling")
        moved, log_det = exact_map(x[i], float(t[i]), float(s[i]))
        assert torch.allclose(x[i] + (s[i] - t[i]) * u[i], moved, atol=1e-4)
        assert torch.allclose((s[i] - t[i]) * d[i], torch.full((1, 8, 8), log_det), atol=1e-4)
    assert directions == ({"scoring", "sampling"} if direction == "both" else {direction})
