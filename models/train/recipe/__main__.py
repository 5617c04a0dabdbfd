"""The recipe's command line: ``python -m recipe STAGE CONFIG``."""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from recipe import data, scale
from recipe import export as write_export
from recipe import package as write_package
from recipe import reference as write_reference
from recipe.config import Config, RecipeError, load_config
from recipe.distill import Shards, TrajectoryDistillation
from recipe.loop import device, load_average, train
from recipe.network import FlowMap
from recipe.teacher import FlowMatching, Teacher
from recipe.trajectories import write as write_trajectories

RUNS = Path(__file__).parent.parent / "runs"


def new_network(config: Config) -> FlowMap:
    """A freshly initialised network on the training device."""
    torch.manual_seed(config.seed)
    return FlowMap(config.network).to(device(), memory_format=torch.channels_last)


def compiled(config: Config, network: FlowMap):
    """The network's heads, compiled if the configuration asks for it."""
    return torch.compile(network.heads, dynamic=False) if config.compile else network.heads


def training_images(config: Config) -> torch.Tensor:
    """The normal images that are trained on, uint8 [N, C, H, W]."""
    images = data.to_tensor(data.split(config)[0])
    shape = (config.network.channels, config.network.height, config.network.width)
    if tuple(images.shape[1:]) != shape:
        raise RecipeError(f"{config.data.dataset} holds images {tuple(images.shape[1:])}, the network takes {shape}")
    return images


def teacher(config: Config, folder: Path) -> None:
    network = new_network(config)
    objective = FlowMatching(network, training_images(config), compiled(config, network))
    train(config, "teacher", config.teacher, network, objective, folder)


def frozen_teacher(config: Config, folder: Path, half: bool = True) -> Teacher:
    """The finished teacher."""
    network = new_network(config)
    load_average(folder / "teacher.safetensors", network)
    return Teacher(network, half, compiled(config, network))


def trajectories(config: Config, folder: Path) -> None:
    images = training_images(config)
    write_trajectories(config, frozen_teacher(config, folder), images, folder / "trajectories", device())


def distill(config: Config, folder: Path) -> None:
    network = new_network(config)
    load_average(folder / "teacher.safetensors", network)
    fit_scale(config, network, folder)
    objective = TrajectoryDistillation(network, Shards(folder / "trajectories"), config, compiled(config, network))
    train(config, "student", config.student, network, objective, folder)


def fit_scale(config: Config, network: FlowMap, folder: Path) -> None:
    """Fits the divergence scale to the teacher once per run, and loads it from the run's folder afterwards."""
    path = folder / "scale.safetensors"
    if not path.exists():
        torch.manual_seed(config.seed)
        teacher = frozen_teacher(config, folder)
        measured = scale.measure(teacher, training_images(config), device())
        scale.fit(network.scale, *measured, pixels=config.network.height * config.network.width)
        save_file(network.scale.state_dict(), path)
    network.scale.load_state_dict(load_file(path))


def reference(config: Config, folder: Path) -> None:
    test = data.load(config.data.test, config.network.channels)
    foreign = {source.partition(":")[0]: data.load(source, config.network.channels) for source in config.data.foreign}
    half = config.data.reference_images // 2
    images, kinds = write_reference.test_set(test, foreign, half, config.seed)
    teacher = frozen_teacher(config, folder, half=False)
    seed = config.manifest.dequantisation_seed
    write_reference.write(teacher, images, kinds, seed, folder / "reference.npz", config.data.reference_batch)


def export(config: Config, folder: Path) -> None:
    network = new_network(config)
    load_average(folder / "student.safetensors", network)
    fit_scale(config, network, folder)
    write_export.export(config, network, folder / "model.onnx")


def package(config: Config, folder: Path) -> None:
    write_package.package(config, folder, folder / "package")


STAGES = {
    "teacher": teacher,
    "trajectories": trajectories,
    "distill": distill,
    "export": export,
    "reference": reference,
    "package": package,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="recipe", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("config", type=Path)
    parser.add_argument("--runs", type=Path, default=RUNS, help="where runs are kept (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="a few dozen images per stage: does everything run?")
    args = parser.parse_args()
    try:
        config = load_config(args.config, args.smoke)
        torch.set_num_threads(config.threads or torch.get_num_threads())
        STAGES[args.stage](config, args.runs / config.name)
    except RecipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
