"""The stages of a run, from training images to a model folder; each takes a configuration and the run's folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from recipe import data, scale, sdk
from recipe import export as write_export
from recipe import package as write_package
from recipe import reference as write_reference
from recipe import report as write_report
from recipe.config import Config, RecipeError, fingerprint
from recipe.loop import check_origin, device, load_average, load_finished, train
from recipe.monitor import Monitor
from recipe.network import FlowMap
from recipe.objectives import OBJECTIVES, FlowMatching, Objective, Shards, TrajectoryRegression
from recipe.teacher import Teacher
from recipe.trajectories import write as write_trajectories

# Of the reference that is passed on where the images of the set may not be.
DRAWN_IMAGES = 32


def new_network(config: Config) -> FlowMap:
    """A freshly initialised network on the training device."""
    torch.manual_seed(config.seed)
    return FlowMap(config.network).to(device(), memory_format=torch.channels_last)


def compiled(config: Config, network: FlowMap) -> Callable:
    """The network's heads, compiled if the configuration asks for it."""
    return torch.compile(network.heads, dynamic=False) if config.compile else network.heads


def training_images(config: Config) -> Tensor:
    """The normal images that are trained on, uint8 [N, C, H, W]."""
    return data.to_tensor(data.split(config).training)


def training_data(config: Config) -> Callable[[int], Tensor]:
    """Draws dequantised training images, [n, C, H, W] in model range."""
    images = training_images(config)
    return lambda n: data.draw_data(images, n, device())


def teacher(config: Config, folder: Path) -> None:
    network = new_network(config)
    objective = FlowMatching(network, config.distill, training_data(config), heads=compiled(config, network))
    train(config, "teacher", config.teacher, network, objective, folder)


def frozen_teacher(config: Config, weights: Path, half: bool = True) -> Teacher:
    """The finished teacher; bf16 where the hardware has it, unless ``half`` is off."""
    network = new_network(config)
    load_finished(weights, config, "teacher", network)
    return Teacher(network, half, compiled(config, network))


def trajectories(config: Config, folder: Path) -> None:
    teacher = frozen_teacher(config, folder / "teacher.safetensors")
    write_trajectories(config, teacher, training_images(config), folder / "trajectories", device())


def new_student(config: Config, weights: Path, fitted: Path) -> FlowMap:
    """A network with the teacher's weights, and the divergence scale, which is set up once and kept in ``fitted``."""
    network = new_network(config)
    load_finished(weights, config, "teacher", network)
    if not fitted.exists():
        torch.manual_seed(config.seed)
        scale.set_up(network.scale, config, lambda: frozen_teacher(config, weights), training_data(config), device())
        fitted.parent.mkdir(parents=True, exist_ok=True)
        save_file(network.scale.state_dict(), fitted, {"config": fingerprint(config, "scale")})
    check_origin(fitted, config, "scale")
    network.scale.load_state_dict(load_file(fitted))
    return network


def objective(config: Config, network: FlowMap, weights: Path, shards: Shards) -> Objective:
    """The objective that the configuration names, for ``network``; ``shards`` are the trajectories, if it needs any."""
    kind, heads = OBJECTIVES[config.distill.objective], compiled(config, network)
    if kind is TrajectoryRegression:
        return TrajectoryRegression(network, config.distill, shards, heads=heads)
    return kind(network, config.distill, training_data(config), frozen_teacher(config, weights), heads)


def distill(config: Config, folder: Path) -> None:
    weights = folder / "teacher.safetensors"
    network = new_student(config, weights, folder / "scale.safetensors")
    if config.distill.start:
        start = folder / config.distill.start
        if not start.exists():
            raise RecipeError(f"distill.start is {start}, which is missing: train that student first")
        load_average(start, network)
    loss = objective(config, network, weights, Shards(config, folder / "trajectories"))
    monitor = None
    if config.monitor.every:
        images = data.to_tensor(data.split(config).monitored)
        monitor = Monitor(config, network, frozen_teacher(config, weights), images, folder)
    train(config, "student", config.student, network, loss, folder, monitor)


def reference(config: Config, folder: Path) -> None:
    test, most = data.split(config).test, config.data.reference_images
    foreign = {source.rpartition("/")[2]: data.prepared(config, source) for source in config.data.foreign}
    teacher = frozen_teacher(config, folder / "teacher.safetensors", half=False)
    score(config, teacher, folder / "reference.npz", test, foreign, min(most, len(test)) // 2)
    if not config.data.redistributable:
        half = min(most, DRAWN_IMAGES) // 2
        drawn = write_reference.drawn(teacher, config, test[:half], 2 * half)
        score(config, teacher, folder / "drawn.npz", drawn, {}, half, drawn=True)


def score(
    config: Config, teacher: Teacher, path: Path, normal: np.ndarray, foreign: dict, half: int, **further
) -> None:
    """The teacher's likelihoods of ``half`` normal images and as many anomalous ones, in the file ``path``."""
    images, kinds = write_reference.test_set(normal, foreign, half, config.seed)
    seed, settings = config.manifest.dequantisation_seed, config.data
    batch, steps = settings.reference_batch, settings.reference_steps
    write_reference.write(teacher, images, kinds, seed, path, batch, steps, **further)


def export(config: Config, folder: Path) -> None:
    network = new_student(config, folder / "teacher.safetensors", folder / "scale.safetensors")
    load_finished(folder / "student.safetensors", config, "student", network)
    write_export.export(config, network, folder / "model.onnx")


def package(config: Config, folder: Path) -> None:
    write_package.package(config, folder, folder / "package")


def report(config: Config, folder: Path) -> None:
    write_report.write(config, folder, folder / "package")


STAGES: dict[str, Callable[[Config, Path], None]] = {
    "teacher": teacher,
    "trajectories": trajectories,
    "distill": distill,
    "export": export,
    "reference": reference,
    "package": package,
    "report": report,
}
# Those that measure or calibrate through the f2d2 command.
NEED_SDK = {"package", "report"}


def run(config: Config, folder: Path, names: list[str]) -> None:
    """Runs the stages ``names`` in order; what would stop a later one is found before the first begins."""
    if NEED_SDK.intersection(names):
        sdk.command()
    config = data.signed(config)
    for name in names:
        STAGES[name](config, folder)
