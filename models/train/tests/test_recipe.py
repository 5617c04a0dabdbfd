"""Configurations, data, checkpoints: what is refused; an interrupted run continues as if it had not been."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from recipe import data, detection, fidelity, reference, report, sdk, stages, table, trajectories
from recipe.config import (
    CalibrationConfig,
    Config,
    DistillConfig,
    RecipeError,
    StageConfig,
    TrajectoryConfig,
    fingerprint,
    load_config,
)
from recipe.corruptions import CORRUPTIONS
from recipe.integrate import Point
from recipe.loop import train
from recipe.network import FlowMap
from recipe.objectives import FlowMatching, Shards, regression
from recipe.teacher import Teacher
from tests.gaussian import DEVIATION, MEAN, ExactNetwork
from tests.own import SMALL, own_images

CONFIGS = Path(__file__).parent.parent / "config"


def test_unknown_keys_and_directions_are_refused(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('name = "x"\n[teacher]\nimagse = 3\n')
    with pytest.raises(RecipeError, match="imagse"):
        load_config(path)
    path.write_text('name = "x"\n[distill]\ndirection = "sideways"\n')
    with pytest.raises(RecipeError, match="sideways"):
        load_config(path)


def test_data_sources(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 8, 8), dtype=np.uint8)
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    assert (data.load(str(tmp_path))[..., 0] == images).all()
    np.savez(tmp_path / "set.npz", a=images)
    assert (data.load(f"{tmp_path}/set.npz:a")[..., 0] == images).all()
    for bad in (f"{tmp_path}/set.npz:b", "fashion-mnist:valid", str(tmp_path / "none")):
        with pytest.raises(RecipeError):
            data.load(bad)
    np.save(tmp_path / "float.npy", images.astype(np.float32))
    with pytest.raises(RecipeError, match="float32"):
        data.load(f"{tmp_path}/float.npy")


def test_deep_images_are_rounded_as_the_sdk_rounds_them(tmp_path):
    values = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], np.uint16)
    rounded = [0, 0, 1, 1, 128, 254, 255, 255]
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(values).save(tmp_path / name)
        for channels in (0, 1, 3):
            pixels = data.read(tmp_path / name, channels)
            assert pixels.dtype == np.uint8 and pixels.shape == (1, 8, channels or 1)
            assert (pixels == np.array(rounded)[:, None]).all()
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(RecipeError, match=r"float.tif.*32 bits"):
        data.read(tmp_path / "float.tif", 1)


def test_file_that_is_no_image_is_named(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for bad in (b"no image", content[: len(content) // 2], content[:400] + b"\xff" * 9 + content[409:]):
        (tmp_path / "b.png").write_bytes(bad)
        for source in (str(tmp_path), f"{tmp_path}/b.png:8"):
            with pytest.raises(RecipeError, match=r"b.png is no image"):
                data.load(source, 1)


def test_normal_images_are_divided_into_three_without_overlap(tmp_path):
    parts = data.split(own_images(tmp_path))
    parts = (parts.training, parts.calibration, parts.test)
    assert [len(part) for part in parts] == [270, 120, 60]
    assert len({image.tobytes() for part in parts for image in part}) == 450
    np.save(tmp_path / "test.npy", np.zeros((5, 8, 8), np.uint8))
    parts = data.split(own_images(tmp_path, data={"holdout": 180, "test": "test.npy"}))
    assert (len(parts.training), len(parts.calibration), len(parts.test)) == (270, 180, 5)


def test_sorted_images_are_shuffled_by_the_seed_unless_told_otherwise(tmp_path):
    def kinds(part: np.ndarray) -> set[int]:
        return set(part[:, 0, 1, 0].tolist())  # the first 256 images of the set, or the others

    config = own_images(tmp_path)
    parts, again = data.split(config), data.split(config)
    assert all(kinds(part) == {0, 1} for part in (parts.training, parts.calibration, parts.test))
    assert (parts.training == again.training).all()
    assert (data.split(dataclasses.replace(config, seed=1)).training != parts.training).any()
    parts = data.split(own_images(tmp_path, data={"shuffled": False}))
    assert [kinds(part) for part in (parts.training, parts.calibration, parts.test)] == [{0, 1}, {1}, {1}]
    assert (parts.training[:, 0, 0, 0] == np.arange(270) % 256).all()
    # A test set of its own keeps its order.
    np.save(tmp_path / "test.npy", np.arange(5, dtype=np.uint8).repeat(64).reshape(5, 8, 8))
    test = data.split(own_images(tmp_path, data={"test": "test.npy"})).test
    assert test[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_shipped_models_are_of_the_order_that_they_were_trained_on():
    shuffled = {path.stem: load_config(path).data.shuffled for path in CONFIGS.glob("*.toml") if path.stem != "table"}
    shuffled["table"] = table.load(CONFIGS / "table.toml").run.data.shuffled
    assert {name for name, value in shuffled.items() if value} == {"folder", "cifar10"}


def test_too_few_images_are_refused_before_training(tmp_path):
    for n, settings, message in (
        (400, {}, "107 images are left to calibrate with, alpha = 0.05 needs 118"),
        (450, {"holdout": 450}, "450, the set has only 450"),
        (450, {"holdout": 0}, "data.holdout is 0"),
    ):
        with pytest.raises(RecipeError, match=message):
            data.split(own_images(tmp_path, n, data=settings))
    # The SDK's own rule, Calibration::minimum_images.
    assert data.minimum_images(CalibrationConfig(alpha=0.01)) == 598


def test_trivial_statistics_are_those_of_single_images():
    dark, bright = np.zeros((4, 8, 8, 1), np.uint8), np.full((5, 8, 8, 1), 9, np.uint8)
    assert detection.auroc(np.array([1.0, 2.0]), np.array([2.0, 3.0])) == 7 / 8
    assert detection.trivial(dark, bright) == detection.trivial(bright, dark) == "brightness 1.0000"
    assert detection.trivial(dark, dark) == "brightness 0.5000"


def test_report_counts_false_alarms_and_draws_what_was_logged(tmp_path):
    found = {"band": (0.001, 0.06), "alpha": 0.05, "false_alarm_rate": 0.1}
    text = report.promise(found, 100)
    assert text.startswith("0.1000 of the 100 normal test images are flagged") and "error of 0.0218" in text
    run(tmp_path, 64)
    assert report.records(tmp_path / "teacher.log.jsonl")[-1]["step"] == 8
    report.plot(Config(name="x"), tmp_path, tmp_path / "training.png")
    with Image.open(tmp_path / "training.png") as image:
        assert image.size == (1100, 400)


def test_fashion_mnist_is_the_one_in_the_books():
    images = data.load("fashion-mnist:train")
    assert images.shape == (60000, 28, 28, 1)
    assert abs(images.mean() / 255 - 0.2860) < 1e-4


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
@pytest.mark.parametrize(
    ("source", "shape", "mean"),
    [("mnist:test", (10000, 28, 28, 1), 0.1325), ("cifar10:test", (10000, 32, 32, 3), 0.4766)],
)
def test_npm_sets_are_the_ones_in_the_books(source, shape, mean):
    images = data.load(source)
    assert images.shape == shape
    assert abs(images.mean() / 255 - mean) < 2e-3


def test_corruptions_change_images_and_keep_their_form():
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), dtype=np.uint8)
    for name, corrupt in CORRUPTIONS.items():
        changed = corrupt(images, np.random.default_rng(1))
        assert changed.shape == images.shape and changed.dtype == np.uint8, name
        assert (changed != images).any(axis=(1, 2, 3)).all(), name


def run(folder, images: int, interrupt: int = 0):
    config = Config(name="x", seed=3, network=SMALL)
    torch.manual_seed(0)
    network = FlowMap(SMALL)
    pixels = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    objective = FlowMatching(network, DistillConfig(), lambda n: data.draw_data(pixels, n, torch.device("cpu")))
    calls = 0

    def losses(batch):
        nonlocal calls
        calls += 1
        if calls == interrupt:
            raise KeyboardInterrupt
        return objective(batch)

    settings = StageConfig(images=images, batch=8, warmup=2, checkpoint_every=2)
    return train(config, "teacher", settings, network, losses, folder)


def test_interrupted_run_continues_with_the_same_batches(tmp_path):
    whole = run(tmp_path / "whole", 64)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", 64, interrupt=6)
    resumed = run(tmp_path / "parts", 64)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("what", ["loss", "norm of the gradient"])
@pytest.mark.parametrize("bad", [1, 4])
def test_nan_stops_and_keeps_the_last_checkpoint(what, bad, tmp_path):
    config = Config(name="x", network=SMALL)
    network = FlowMap(SMALL)
    weights = next(network.parameters())
    step = 0

    def losses(batch):
        nonlocal step
        step += 1
        if step < bad:
            return {"loss": weights.square().sum()}
        # The square root of zero has no slope: the loss is finite, its gradient is not.
        return {"loss": weights.sum() * float("nan") if what == "loss" else (0 * weights).square().sum().sqrt()}

    path = tmp_path / "teacher.safetensors"
    kept = "no checkpoint was written before it" if bad == 1 else f"the checkpoint before it is {path}"
    with pytest.raises(RecipeError, match=f"teacher: {what} is nan at step {bad - 1}; {re.escape(kept)}"):
        train(config, "teacher", StageConfig(images=64, batch=8, checkpoint_every=2), network, losses, tmp_path)
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())
    assert path.exists() == (bad == 4)
    if path.exists():
        with safe_open(path, "pt") as file:
            assert (file.metadata()["step"], file.metadata()["finished"]) == ("2", "False")
        assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values())


def test_checkpoint_of_another_configuration_is_refused(tmp_path):
    run(tmp_path, 16)
    config = Config(name="x", seed=4, network=SMALL)
    with pytest.raises(RecipeError, match="another configuration"):
        train(config, "teacher", StageConfig(images=16, batch=8), FlowMap(SMALL), lambda n: {}, tmp_path)
    assert dataclasses.asdict(config)["seed"] == 4


def test_what_was_made_from_other_images_is_refused(tmp_path):
    a, b, moved = (own_images(tmp_path / name, value=value) for name, value in (("a", 0), ("b", 1), ("moved", 0)))
    before_export = list(stages.STAGES)[:3]
    stages.run(a, tmp_path / "run", before_export)
    stages.run(moved, tmp_path / "run", before_export)
    for stage in before_export:
        with pytest.raises(RecipeError, match=r"teacher.safetensors was written by .* from other images"):
            stages.run(b, tmp_path / "run", [stage])
    # Also where the teacher is one of weights alone, which says nothing of images.
    save_file(FlowMap(SMALL).state_dict(), tmp_path / "run" / "teacher.safetensors")
    with pytest.raises(RecipeError, match=r"trajectories/0000.safetensors was written by .* from other images"):
        stages.run(b, tmp_path / "run", ["trajectories"])
    with pytest.raises(RecipeError, match=r"scale.safetensors was written by .* from other images"):
        stages.run(b, tmp_path / "run", ["distill"])
    (tmp_path / "run" / "scale.safetensors").unlink()
    (tmp_path / "run" / "student.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"trajectories/000[01].safetensors was written by .* from other images"):
        stages.run(b, tmp_path / "run", ["distill"])


def test_teacher_that_is_not_finished_or_another_is_refused_by_what_follows(tmp_path):
    config, folder = data.signed(own_images(tmp_path)), tmp_path / "run"
    stages.teacher(config, folder)
    later = dict(list(stages.STAGES.items())[1:6])
    others = dataclasses.replace(config, teacher=dataclasses.replace(config.teacher, learning_rate=1e-4))
    for name, stage in later.items():
        with pytest.raises(RecipeError, match="another configuration"):
            stage(others, folder)
        assert not (folder / "package").exists(), name
    path = folder / "teacher.safetensors"
    with safe_open(path, "pt") as file:
        meta = file.metadata() | {"finished": "False", "step": "1"}
    save_file(load_file(path), path, meta)
    for stage in later.values():
        with pytest.raises(RecipeError, match="half-trained, at step 1"):
            stage(config, folder)
    stages.teacher(config, folder)
    stages.trajectories(config, folder)
    stages.distill(config, folder)


def test_missing_command_is_found_before_anything_is_trained(tmp_path, monkeypatch):
    config = own_images(tmp_path)
    monkeypatch.setenv("F2D2", str(tmp_path / "f2d2"))
    with pytest.raises(RecipeError, match=r"F2D2 is .* no command"):
        stages.run(config, tmp_path / "run", list(stages.STAGES))
    assert not (tmp_path / "run").exists()
    stages.run(config, tmp_path / "run", ["teacher"])
    assert (tmp_path / "run" / "teacher.safetensors").exists()
    monkeypatch.delenv("F2D2")
    monkeypatch.setattr(sdk, "REPOSITORY", tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RecipeError, match="not built"):
        stages.run(config, tmp_path / "run", ["report"])


def test_every_shard_is_read_once(tmp_path, monkeypatch):
    config, read = Config(name="x"), []
    tensors = {"t": torch.zeros(1), "x": torch.zeros(4, 1, 1, 1, 1)}
    for shard in range(70):
        meta = {"config": fingerprint(config, "trajectories")}
        save_file(tensors, tmp_path / f"{shard:04}.safetensors", meta)
    monkeypatch.setattr(regression, "load_file", lambda path: read.append(path) or load_file(path))
    shards = Shards(config, tmp_path)
    for _ in range(700):
        shards.draw(2)
    assert len(set(read)) == len(read) > 60


def test_cifar10_fits_the_disk_and_its_checkpoint_the_limit():
    config = load_config(CONFIGS / "cifar10.toml")
    assert not config.data.redistributable
    parameters = sum(p.numel() for p in FlowMap(config.network).parameters())
    assert 50e6 < 16 * parameters < 60e6
    made, colours = config.trajectories, config.network.channels
    pixels = config.network.height * config.network.width
    knot = (4 + 2) * colours * pixels + (4 + 2) * pixels  # state and velocity, integral and divergence
    assert made.per_shard % made.batch == 0
    assert 5e9 < made.shards * made.per_shard * made.knots * knot < 8e9


def test_cifar10_goes_from_images_to_a_model_file(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (900, 32, 32, 3), dtype=np.uint8)
    monkeypatch.setattr(data, "cifar10", lambda part: images)
    config = load_config(CONFIGS / "cifar10.toml", smoke=True)
    stages.run(config, tmp_path, ["teacher", "trajectories", "distill", "export"])
    assert (tmp_path / "model.onnx").stat().st_size > 4 * 3.5e6
    assert len(list((tmp_path / "trajectories").iterdir())) == 2
    assert [row["step"] for row in report.records(tmp_path / "monitor.jsonl")] == [4, 8]


def test_trajectories_and_scale_of_another_configuration_are_refused(tmp_path):
    config = Config(
        name="x",
        compile=False,
        network=SMALL,
        distill=DistillConfig(scaling="constant"),
        trajectories=TrajectoryConfig(shards=1, per_shard=4, batch=4, steps=12, knots=7),
    )
    weights, images = tmp_path / "teacher.safetensors", torch.full((4, 1, 8, 8), 100, dtype=torch.uint8)
    save_file(FlowMap(SMALL).state_dict(), weights)

    def both(changed: dict, more: dict) -> None:
        other = dataclasses.replace(config, distill=dataclasses.replace(config.distill, **changed))
        other = dataclasses.replace(other, trajectories=dataclasses.replace(config.trajectories, **more))
        teacher = stages.frozen_teacher(other, weights)
        trajectories.write(other, teacher, images, tmp_path / "trajectories", torch.device("cpu"))
        stages.new_student(other, weights, tmp_path / "scale.safetensors")

    both({}, {})
    both({}, {"shards": 2})
    assert len(list((tmp_path / "trajectories").iterdir())) == 2
    for changed, more in [({}, {"steps": 16}), ({"direction": "scoring"}, {}), ({"constant": 1e-4}, {})]:
        with pytest.raises(RecipeError, match="another configuration"):
            both(changed, more)


def test_a_student_goes_on_from_another(tmp_path):
    config = Config(
        name="x",
        network=SMALL,
        student=StageConfig(images=0),
        distill=DistillConfig(objective="shortcut", scaling="constant", start="../first/student.safetensors"),
    )
    run = tmp_path / "second"
    run.mkdir()
    save_file(FlowMap(SMALL).state_dict(), run / "teacher.safetensors")
    with pytest.raises(RecipeError, match="train that student first"):
        stages.distill(config, run)
    (tmp_path / "first").mkdir()
    first = FlowMap(SMALL)
    save_file(first.state_dict(), tmp_path / "first" / "student.safetensors")
    begun = {}

    def train(config, stage, settings, network, *rest):
        begun.update(network.named_parameters())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "train", train)
        patch.setattr(stages, "objective", lambda *args: None)
        stages.distill(config, run)
    assert all(torch.equal(begun[name], value) for name, value in first.named_parameters())


def test_trajectories_that_run_away_are_left_out(tmp_path):
    def point(t: float, x: torch.Tensor) -> Point:
        return Point(t, x, x[:, :1], x, x[:, :1])

    start = torch.zeros(4, 1, 2, 2)
    end = start + torch.arange(4.0)[:, None, None, None]
    end[1, 0, 1, 1], end[2, 0, 0, 0] = 1e3, torch.nan
    trajectories.save(tmp_path / "0.safetensors", [[point(1.0, start), point(0.0, end)]], "")
    kept = load_file(tmp_path / "0.safetensors")
    assert kept["x"].shape == (2, 2, 1, 2, 2) and kept["t"].tolist() == [1, 0]
    assert kept["x"][:, 1].flatten(1).amax(1).tolist() == [0, 3]
    end[0] = -torch.inf
    with pytest.raises(RecipeError, match="3 of 4"):
        trajectories.save(tmp_path / "1.safetensors", [[point(1.0, start), point(0.0, end)]], "")
    assert not (tmp_path / "1.safetensors").exists()


def test_altered_images_stay_in_range_and_some_are_plain_in_every_grey():
    torch.manual_seed(0)
    y = 2 * torch.rand(2000, 1, 6, 6) - 1
    out = trajectories.altered(y, "grey")
    assert out.shape == y.shape and out.abs().max() <= 1
    plain = out.flatten(1).std(1) < 0.05
    assert 0.02 < plain.double().mean() < 0.12
    torch.manual_seed(0)
    black = trajectories.altered(y, "black")
    assert (black[black.flatten(1).std(1) < 0.03] < -0.8).all()
    greys = out[plain].flatten(1).mean(1)
    assert greys.min() < -0.8 and greys.max() > 0.8 and not (y.flatten(1).std(1) < 0.05).any()
    assert ((out == -y).flatten(1).all(1)).double().mean() == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("length", [0.25, 0.5])
def test_images_are_drawn_by_the_teacher_from_noise_as_long_as_the_ends_of_normal_ones(length):
    config = Config(name="x", seed=3, network=SMALL)
    # Of Gaussian data, all of whose values are so many standard deviations from the mean.
    level = round((MEAN + length * DEVIATION + 1) * 128)
    normal = np.full((2, SMALL.height, SMALL.width, SMALL.channels), level, np.uint8)
    drawn = reference.drawn(Teacher(ExactNetwork(), half=False), config, normal, 20)
    assert drawn.shape == (20, *normal.shape[1:]) and drawn.dtype == np.uint8
    assert drawn.mean() / 128 - 1 == pytest.approx(MEAN, abs=0.02)
    assert drawn.std() / 128 == pytest.approx(length * DEVIATION, rel=0.1)


def test_images_without_a_reference_are_counted_and_left_out(tmp_path):
    bpd = np.array([3.0, 4.0, 5.0, 1e6, np.nan])
    kind = np.array(["normal", "normal", "noise", "cut_out", "cut_out"])
    norm = np.array([0.9, 1.1, 1.3, 7.0, np.nan])
    np.savez(
        tmp_path / "reference.npz",
        images=np.zeros((5, 1, 2, 2), np.uint8),
        bpd_reference=bpd,
        kind=kind,
        bpd_se=np.where(bpd < 9, 0.5, np.inf),
        prior_nats=2 * (norm + np.log(2 * np.pi)),
    )
    about = fidelity.of_reference(tmp_path / "reference.npz")
    text = "\n".join(fidelity.lines([], about))
    assert "3.5000 bits/dim on 2 normal images, 5.0000 on\n1 anomalous ones; standard error of one image 0.5000" in text
    assert "Left out: 2 images" in text
    assert about["normal"] == {"images": 2, "bpd": 3.5, "latent_norm": pytest.approx(1.0)}
    assert about["anomalous"]["latent_norm"] == pytest.approx(1.3)
