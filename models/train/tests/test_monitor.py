"""Early stopping on single images; constant scales; heads of another shape."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from recipe import data, scale, stages
from recipe.config import Config, DistillConfig, MonitorConfig, RecipeError, StageConfig, load_config
from recipe.loop import load_average, train
from recipe.monitor import Monitor
from recipe.network import DivergenceScale, FlowMap
from recipe.teacher import Teacher
from tests.exact import GaussianMap
from tests.own import SMALL, own_images


def monitored(tmp_path, patience: int = 2):
    config = Config(name="x", monitor=MonitorConfig(every=1, patience=patience, reference_steps=48))
    images = torch.randint(0, 256, (8, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network = GaussianMap()
    return config, network, Monitor(config, network, Teacher(GaussianMap(), half=False), images, tmp_path)


def measured(tmp_path) -> dict[int, float]:
    """The errors that were logged, by step."""
    rows = map(json.loads, (tmp_path / "monitor.jsonl").read_text().splitlines())
    return {row["step"]: row["mae"] for row in rows}


def test_monitor_measures_single_images_and_stops_when_they_get_worse(tmp_path):
    _, network, monitor = monitored(tmp_path)
    exact = {"weight": torch.ones(1)}
    assert not monitor.measure(1, exact)
    # An error that is as often positive as negative leaves the mean and must not go unseen.
    network.divergence_error = 2.0
    assert not monitor.measure(2, exact)
    assert monitor.measure(3, exact)
    errors = measured(tmp_path)
    assert errors[1] < 0.02 < 0.1 < errors[2]
    network.divergence_error = float("nan")
    with pytest.raises(RecipeError, match="nan after 4 steps"):
        monitor.measure(4, exact)


def test_monitor_remembers_the_best_of_its_student_and_forgets_that_of_one_that_is_gone(tmp_path):
    _, _, monitor = monitored(tmp_path)
    monitor.measure(7, {"weight": torch.ones(1)})
    (tmp_path / "student.safetensors").touch()
    _, _, later = monitored(tmp_path)
    assert (later.best_step, later.best_error) == (7, monitor.best_error)
    assert later.best()["weight"].item() == 1
    (tmp_path / "student.safetensors").unlink()
    _, _, anew = monitored(tmp_path)
    assert (anew.best_step, anew.best_error) == (0, float("inf"))
    assert not (tmp_path / "monitor.jsonl").exists()


def test_monitor_measures_where_the_network_is(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "item", lambda self: 0.5)
    config, _, _ = monitored(tmp_path)
    network, pixels = GaussianMap().to("meta"), torch.zeros(8, 1, 4, 4, dtype=torch.uint8)
    monitor = Monitor(config, network, Teacher(GaussianMap().to("meta"), half=False), pixels, tmp_path)
    assert monitor.error(dict(network.named_parameters())) == 0.5


def test_training_ends_where_the_monitor_says(tmp_path):
    config, network, monitor = monitored(tmp_path, patience=3)
    network.divergence_error = 2.0  # never gets better
    settings = StageConfig(images=64, batch=4, learning_rate=0.0, warmup=1)
    train(config, "student", settings, network, lambda n: {"loss": network.weight.square().sum()}, tmp_path, monitor)
    assert max(measured(tmp_path)) == 4


def rising(config, network, monitor, tmp_path):
    """Trains a weight that rises through 1, where the map is exact, and on."""
    network.weight.data.fill_(0.9)
    settings = StageConfig(images=64, batch=4, learning_rate=0.04, warmup=1)
    return train(config, "student", settings, network, lambda n: {"loss": -network.weight.sum()}, tmp_path, monitor)


def test_stopped_training_ends_with_the_best_average_and_a_rerun_does_nothing(tmp_path):
    config, network, monitor = monitored(tmp_path, patience=3)
    average, errors = rising(config, network, monitor, tmp_path), measured(tmp_path)
    best = min(errors, key=errors.__getitem__)
    assert 1 < best == max(errors) - 3 < 13
    assert monitor.error(average) == pytest.approx(errors[best]) and errors[best] < 0.5 * errors[max(errors)]
    whole = load_file(tmp_path / "student.safetensors")
    assert whole["ema.weight"] == average["weight"] < whole["model.weight"]
    _, again, fresh = monitored(tmp_path, patience=3)
    rerun = rising(config, again, fresh, tmp_path)
    assert rerun["weight"] == average["weight"] and measured(tmp_path) == errors


def test_training_to_the_end_ends_with_the_best_average_too(tmp_path):
    config, network, monitor = monitored(tmp_path, patience=100)
    average, errors = rising(config, network, monitor, tmp_path), measured(tmp_path)
    assert max(errors) == 16 and min(errors.values()) < 0.5 * errors[16]
    assert monitor.error(average) == pytest.approx(min(errors.values()))


def test_sampling_only_student_cannot_be_monitored(tmp_path):
    path = tmp_path / "config.toml"
    for direction, every in (("sampling", 0), ("scoring", 5), ("both", 5)):
        path.write_text(f'name = "x"\n[distill]\ndirection = "{direction}"\n[monitor]\nevery = {every}\n')
        assert load_config(path).monitor.every == every
    path.write_text('name = "x"\n[distill]\ndirection = "sampling"\n[monitor]\nevery = 5\n')
    with pytest.raises(RecipeError, match=r"monitor\.every.*'sampling'"):
        load_config(path)


def test_distillation_monitors_images_that_neither_train_nor_calibrate(tmp_path, monkeypatch):
    config = own_images(tmp_path, monitor=MonitorConfig(every=4, images=20))
    parts = data.split(config)
    sizes = [len(part) for part in (parts.training, parts.monitored, parts.calibration, parts.test)]
    assert sizes == [250, 20, 120, 60]
    everything = np.concatenate([parts.training, parts.monitored, parts.calibration, parts.test])
    assert len({image.tobytes() for image in everything}) == 450
    with pytest.raises(RecipeError, match=r"monitor\.images is 270"):
        data.split(dataclasses.replace(config, monitor=MonitorConfig(every=4, images=270)))
    seen = []
    monkeypatch.setattr(stages, "Monitor", lambda config, network, teacher, images, folder: seen.append(images))
    for name in ("new_student", "objective", "frozen_teacher", "train"):
        monkeypatch.setattr(stages, name, lambda *arguments: None)
    stages.distill(config, tmp_path)
    assert torch.equal(seen[0], data.to_tensor(parts.monitored))


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
