"""Early stopping on single images; constant scales; heads of another shape."""

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from recipe import scale
from recipe.config import Config, DistillConfig, MonitorConfig, RecipeError, StageConfig
from recipe.loop import load_average, train
from recipe.monitor import Monitor
from recipe.network import DivergenceScale, FlowMap, NetworkConfig
from recipe.teacher import Teacher
from tests.exact import GaussianMap

SMALL = NetworkConfig(height=8, width=8, base=8, middle=16, embedding=16, head=8)


def monitored(tmp_path, patience: int = 2):
    config = Config(name="x", monitor=MonitorConfig(every=1, patience=patience, images=8, reference_steps=48))
    images = torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8)
    network = GaussianMap()
    return config, network, Monitor(config, network, Teacher(GaussianMap(), half=False), images, tmp_path)


def test_monitor_measures_single_images_and_stops_when_they_get_worse(tmp_path):
    _, network, monitor = monitored(tmp_path)
    exact = {"weight": torch.ones(1)}
    assert not monitor.measure(1, exact)
    assert monitor.errors[1] < 0.02
    # An error that is as often positive as negative leaves the mean and must not go unseen.
    network.divergence_error = 2.0
    assert not monitor.measure(2, exact)
    assert monitor.errors[2] > 0.1
    assert monitor.measure(3, exact)
    _, _, later = monitored(tmp_path)
    assert later.errors == monitor.errors


def test_training_ends_where_the_monitor_says(tmp_path):
    config, network, monitor = monitored(tmp_path, patience=3)
    network.divergence_error = 2.0  # never gets better
    settings = StageConfig(images=64, batch=4, learning_rate=0.0, warmup=1)
    train(config, "student", settings, network, lambda n: {"loss": network.weight.square().sum()}, tmp_path, monitor)
    assert max(monitor.errors) < 16
    assert (tmp_path / "student.safetensors").exists()


@pytest.mark.parametrize(("scaling", "size"), [("constant", 20_000.0), ("per-dimension", 64.0)])
def test_constant_scales_have_one_size_at_all_times(scaling, size):
    config = Config(name="x", network=SMALL, distill=DistillConfig(scaling=scaling))
    poles = DivergenceScale()
    scale.set_up(poles, config, pytest.fail, pytest.fail, torch.device("cpu"))
    t, s = torch.tensor([1.0, 0.5, 0.0, 0.3]), torch.tensor([0.0, 0.5, 1.0, 0.9])
    mean, spread, whole = poles(t, s)
    assert (mean == 0).all()
    assert (whole / size - 1).abs().max() < 1e-3
    assert (spread * 64 / size - 1).abs().max() < 1e-3


def test_scalar_head_gives_one_number_per_image_and_keeps_the_teachers_trunk(tmp_path):
    teacher = FlowMap(SMALL)
    torch.nn.init.normal_(teacher.gates.weight)
    path = tmp_path / "teacher.safetensors"
    save_file(dict(teacher.named_parameters()), path)
    scalar = FlowMap(dataclasses.replace(SMALL, divergence_head="scalar"))
    load_average(path, scalar)
    assert torch.equal(scalar.gates.weight, teacher.gates.weight)
    scale.set_constant(scalar.scale, 64.0, 64)
    torch.nn.init.ones_(scalar.head_out.bias)
    x, t, s = torch.randn(3, 1, 8, 8), torch.rand(3), torch.rand(3)
    u, d = scalar(x, t, s)
    assert u.shape == x.shape and d.shape == (3,)
    assert (d / 64 - 1).abs().max() < 1e-3
    with pytest.raises(RecipeError, match="another network"):
        load_average(path, FlowMap(dataclasses.replace(SMALL, base=16)))
