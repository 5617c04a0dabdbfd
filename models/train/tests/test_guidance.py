import numpy as np
import pytest
import torch
from PIL import Image

from recipe import data, export, noise, sdk
from recipe.config import Config
from recipe.guidance import compare, guided, with_norm_of
from recipe.likelihood import native
from recipe.network import FlowMap, NetworkConfig
from recipe.path import clock_grid
from tests.exact import MixtureMap
from tests.test_foreign import f2d2_is_built


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


def test_noise_is_guided_where_it_is():
    density = MixtureMap().to("meta")
    density.field = lambda x, t: (x * t[:, None], (x * t[:, None]).sum(1))  # without the centres, which are constants
    assert guided(density, torch.empty(4, 2, 1, 1, device="meta"), 0.1).device.type == "meta"


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


@pytest.mark.skipif(not f2d2_is_built(), reason="the f2d2 command is not built")
def test_the_sdk_draws_the_same_guided_samples(tmp_path):
    torch.manual_seed(0)
    config = Config(name="x", network=NetworkConfig(height=8, width=8, base=8, middle=16, embedding=16, head=8))
    network = FlowMap(config.network)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    network.scale.spread.fill_(0.5)
    network.eval().requires_grad_(False)
    export.export(config, network, tmp_path / "model.onnx")
    start = np.stack([noise.normal(5, noise.SAMPLE + i, 64).reshape(1, 8, 8) for i in range(4)])
    start = torch.from_numpy(start)
    levels = {}
    for name, moved in (("plain", start), ("guided", guided(network, start, 0.5))):
        drawn = native(network, moved, clock_grid(2).flip(0)).z
        levels[name] = data.to_pixels(drawn)[:, 0].numpy().astype(int)
    assert np.abs(levels["guided"] - levels["plain"]).max() > 10  # there is something to compare
    for name, options in (("plain", []), ("guided", ["--guidance", 0.5])):
        out = tmp_path / "grid.png"
        sdk.run("sample", tmp_path / "model.onnx", "--out", out, "-n", 4, "--steps", 2, "--seed", 5, *options)
        sheet = np.asarray(Image.open(out).convert("RGB"))[..., 0].astype(int)
        factor = sheet.shape[0] // 17  # two rows of eight pixels, and one between them
        small = sheet[factor // 2 :: factor, factor // 2 :: factor]
        found = np.stack([small[9 * i : 9 * i + 8, 9 * j : 9 * j + 8] for i in range(2) for j in range(2)])
        # A value next to the border between two grey levels may fall on either side.
        assert np.abs(found - levels[name]).max() <= 1
        assert not np.abs(found - levels[{"plain": "guided", "guided": "plain"}[name]]).max() <= 1
