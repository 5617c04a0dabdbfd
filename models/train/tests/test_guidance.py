import torch

from recipe.guidance import compare, guided, with_norm_of
from recipe.likelihood import native
from recipe.path import clock_grid
from tests.exact import MixtureMap


def test_guidance_is_one_step_of_adam_on_the_likelihood():
    torch.manual_seed(0)
    density = MixtureMap().requires_grad_(False)
    noise = torch.randn(16, 2, 1, 1)
    x = noise.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([x], 0.03)
    score = native(density, x, torch.tensor([0.0, 1.0]))
    # log p of the sample is log N of its noise minus the log-determinant of the way there.
    (0.5 * x.double().square().sum() + score.log_det.sum()).backward()
    optimizer.step()
    assert (guided(density, noise, 0.03) - x).abs().max() < 1e-5
    assert not (guided(density, noise, 0.04) - x).abs().max() < 1e-5


def test_guided_samples_of_an_exact_map_are_likelier_also_at_the_norm_of_their_noise():
    torch.manual_seed(0)
    density = MixtureMap().requires_grad_(False)
    noise = torch.randn(256, 2, 1, 1)

    def log_density(start):
        return density.log_density(native(density, start, clock_grid(2).flip(0)).z).mean()

    plain, moved = log_density(noise), guided(density, noise, 0.05)
    assert log_density(moved) > plain
    same_norm = with_norm_of(moved, noise)
    assert torch.allclose(same_norm.flatten(1).norm(dim=1), noise.flatten(1).norm(dim=1))
    assert (noise - moved).abs().max() < 0.0501


def test_comparison_is_paired_with_the_plain_noise():
    density = MixtureMap().requires_grad_(False)
    rows = compare(density, lambda x: -density.log_density(x), torch.randn(32, 2, 1, 1), 1)
    assert rows[0]["noise"] == "plain" and rows[0]["change"] == 0
    assert len(rows) == 10
    assert all(row["change"] < 0 for row in rows if row["noise"].startswith("guided 0.1"))
    # Guided and shrunk noise have the same norms.
    assert abs(rows[1]["noise_norm"] - rows[2]["noise_norm"]) < 1e-6
