"""The table of models/RESULTS.md: ``python -m recipe.table CONFIG`` trains, measures and writes what is missing.

Every row starts from the teacher's weights and sees the same number of images; each (row, seed) is trained, measured
and logged as one JSON file, so that an interrupted run goes on where it was. ``--write`` only writes the table from
the logs that exist.
"""

import argparse
import dataclasses
import json
import sys
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from scipy.stats import spearmanr
from torch import Tensor

from recipe import data, frechet, likelihood, results, stages
from recipe.command import command
from recipe.config import Config, RecipeError, build, check
from recipe.integrate import heun_end
from recipe.likelihood import Map, Score
from recipe.loop import device, load_average, mixed_precision, train
from recipe.objectives import Shards
from recipe.path import clock_grid
from recipe.reference import bits_per_dim, dequantised
from recipe.trajectories import write as write_trajectories

BATCH = 50
SAMPLING_STEPS = 64  # Heun steps of the teacher, for its own samples


@dataclass(frozen=True)
class Row:
    """One line of the table: the tables at its end override the run's configuration."""

    title: str
    kind: str = "trained"  # many-step, euler, onnx, trained
    evaluate: str = "native"  # traced, walked-back, inverted
    ablation: bool = False
    same_as: str = ""  # the row whose trained network this one evaluates in another way
    model: str = ""  # of kind onnx
    distill: dict = field(default_factory=dict)
    network: dict = field(default_factory=dict)
    student: dict = field(default_factory=dict)
    trajectories: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """What is common to all rows; paths are relative to the configuration."""

    teacher: str
    reference: str
    results: str
    images: int
    samples: int
    steps: tuple[int, ...]
    seeds: tuple[int, ...]
    run: Config
    rows: dict


def load(path: Path) -> Table:
    """Reads ``path``; paths in it become absolute."""
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"cannot read configuration {path}: {error}") from error
    table = build(Table, content, str(path))
    rows = {name: build(Row, row, f"{path}: rows: {name}") for name, row in table.rows.items()}
    rows = {n: dataclasses.replace(r, model=r.model and str(path.parent / r.model)) for n, r in rows.items()}
    for name, row in rows.items():
        configuration(table, row, table.seeds[0], name)
    paths = {key: str(path.parent / getattr(table, key)) for key in ("teacher", "reference", "results")}
    return dataclasses.replace(table, rows=rows, **paths)


def configuration(table: Table, row: Row, seed: int, name: str) -> Config:
    """The row's full configuration; unknown keys and values raise RecipeError."""
    parts = {}
    for part in ("distill", "network", "student", "trajectories"):
        base = getattr(table.run, part)
        parts[part] = build(type(base), dataclasses.asdict(base) | getattr(row, part), f"rows: {name}: {part}")
    config = dataclasses.replace(table.run, seed=seed, **parts)
    check(config)
    return config


class Measurement:
    """Scores and samples of one map against the teacher's many-step reference."""

    def __init__(self, table: Table, folder: Path):
        self.table = table
        reference = np.load(table.reference)
        normal = reference["kind"] == "normal"
        # Anomalous images come by kind: take them evenly.
        spread = np.flatnonzero(~normal)
        spread = spread[np.linspace(0, len(spread) - 1, min(table.images, len(spread))).round().astype(int)]
        keep = np.concatenate([np.flatnonzero(normal)[: table.images], spread])
        self.normal = normal[keep]
        self.reference = {key: reference[key][keep] for key in ("bpd_reference", "prior_nats", "divergence_nats")}
        images = reference["images"][keep]
        images = images if images.ndim == 4 else images[..., None]
        self.x = dequantised(images, table.run.manifest.dequantisation_seed).to(device())
        self.dimensions = self.x[0].numel()
        pixels = data.to_tensor(data.fashion_mnist("train"))
        labels = torch.from_numpy(data.fashion_mnist_labels("train"))
        self.classifier = frechet.trained(folder / "classifier.safetensors", pixels, labels)
        self.real = frechet.features(self.classifier, data.to_tensor(data.fashion_mnist("test")))
        self.floor = frechet.distance(frechet.features(self.classifier, pixels[: table.samples]), self.real)

    def of(self, score, draw, times: Tensor) -> dict:
        """Figures for one schedule; ``score(x, times)`` and ``draw(z, times)``, or None for a map that cannot draw."""
        parts = [score(x, times) for x in self.x.split(BATCH)]
        found = Score(
            torch.cat([p.z for p in parts]), torch.cat([p.log_det for p in parts]), max(p.residual for p in parts)
        )
        figures = self.compare(found.prior(), -found.log_det) | {"residual": found.residual}
        if draw:
            back = torch.cat([draw(z, times.flip(0)).z for z in found.z.split(BATCH)])
            figures["round_trip"] = (back - self.x)[self.normal].square().mean().sqrt().item()
            figures["frechet"] = self.frechet(lambda z: draw(z, times.flip(0)).z)
        return {"steps": len(times) - 1} | figures

    def frechet(self, draw) -> float:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(self.table.samples, *self.x.shape[1:], generator=generator)
        with torch.no_grad(), mixed_precision(device()):
            drawn = torch.cat([draw(z.to(self.x.device)) for z in noise.split(100)]).cpu()
        if not torch.isfinite(drawn).all():
            return float("nan")
        return frechet.distance(frechet.features(self.classifier, data.to_pixels(drawn)), self.real)

    def compare(self, prior: Tensor, divergence: Tensor) -> dict:
        """Figures of ``-log N(z)`` and ``-log_det``, nats [images], against the reference's."""
        prior, divergence = prior.cpu(), divergence.cpu()
        nats = self.dimensions * np.log(2)
        bpd = bits_per_dim(prior, divergence, self.dimensions).numpy()
        wanted, mask = self.reference["bpd_reference"], self.normal
        if not np.isfinite(bpd).all():
            return {"failed": "scores are not finite"}
        return {
            "bpd": bpd[mask].mean().item(),
            "bias": (bpd - wanted)[mask].mean().item(),
            "mae": np.abs(bpd - wanted)[mask].mean().item(),
            "mae_anomalous": np.abs(bpd - wanted)[~mask].mean().item(),
            "spearman": float(spearmanr(bpd[mask], wanted[mask]).statistic),
            "spearman_anomalous": float(spearmanr(bpd[~mask], wanted[~mask]).statistic),
            "prior_bias": ((prior.numpy() - self.reference["prior_nats"]) / nats)[mask].mean().item(),
            "divergence_bias": ((divergence.numpy() - self.reference["divergence_nats"]) / nats)[mask].mean().item(),
            "latent_norm": float((2 * prior.numpy()[mask] / self.dimensions - np.log(2 * np.pi)).mean()),
        }


def measure(table: Table, row: Row, config: Config, measurement: Measurement, network: Map | None) -> list[dict]:
    """The figures of one row at every number of steps."""
    teacher = stages.frozen_teacher(table.run, Path(table.teacher), half=False)
    if row.kind == "many-step":
        times = clock_grid(SAMPLING_STEPS).flip(0)
        prior, divergence = (torch.from_numpy(measurement.reference[f"{k}_nats"]) for k in ("prior", "divergence"))
        quality = measurement.frechet(lambda z: heun_end(teacher, z, times))
        return [{"steps": 128} | measurement.compare(prior, divergence) | {"frechet": quality}]
    if row.kind == "euler":
        network = likelihood.traced(lambda x, t, s: teacher.evaluate(x, t))
        plain = velocity_only(lambda x, t, s: teacher.velocity(x, t))
    elif row.evaluate == "traced":
        plain, field = velocity_only(network), network
        network = likelihood.traced(lambda x, t, s: field(x, t, s)[0])
    else:
        plain = network
    scored = {"walked-back": likelihood.walked_back, "inverted": likelihood.inverted}.get(
        row.evaluate, likelihood.native
    )
    samples = config.distill.direction != "scoring"
    draw = (lambda z, times: likelihood.native(plain, z, times)) if samples else None
    rows = []
    for steps in table.steps:
        torch.manual_seed(steps)  # of the probes
        times = uniform_grid(steps) if row.evaluate == "walked-back" else clock_grid(steps)
        with torch.no_grad():
            rows.append(measurement.of(lambda x, times: scored(network, x, times), draw, times))
    return rows


def uniform_grid(steps: int) -> Tensor:
    """The schedule of the reference implementation: from 1 to 0, uniform in t."""
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


def velocity_only(field) -> Map:
    """A map without divergence, for sampling."""

    def network(x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            u = field(x, t, s)
        return u[0] if isinstance(u, tuple) else u, x.new_zeros(len(x))

    return network


def from_onnx(path: str) -> Map:
    """A model file as a map, run by onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def network(x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        found = session.run(["u", "d"], {name: value.cpu().numpy() for name, value in (("x", x), ("t", t), ("s", s))})
        return tuple(torch.from_numpy(value).to(x.device) for value in found)

    return network


def trained(table: Table, name: str, config: Config, folder: Path) -> tuple[Map, dict]:
    """The row's network, trained as far as it is not yet, and what that cost."""
    weights, run = Path(table.teacher), folder / f"{name}-{config.seed}"
    scaling = f"scale-{config.distill.scaling}-{config.distill.constant:g}-{config.network.divergence_head}.safetensors"
    network = stages.new_student(config, weights, folder / scaling)
    loss = stages.objective(config, network, weights, Shards(of_shards(config, table), shards(config, folder)))
    whole = not (run / "student.safetensors").exists()
    began = time.process_time()
    train(config, "student", config.student, network, loss, run)
    cost = {"cpu_seconds": round(time.process_time() - began)} if whole else {}
    load_average(run / "student.safetensors", network)
    return network.requires_grad_(False).eval(), cost


def run(table: Table, folder: Path, names: list[str], seeds: list[int]) -> None:
    """Trains and measures what has no log yet, seed by seed, rows in the table's order."""
    logs = Path(table.results)
    logs.mkdir(parents=True, exist_ok=True)
    table = dataclasses.replace(table, run=data.signed(table.run))
    measurement = None
    for seed in seeds:
        for name in names:
            row, path = table.rows[name], logs / f"{name}-{seed}.json"
            if path.exists() or (row.kind != "trained" and seed != table.seeds[0]):
                continue
            measurement = measurement or Measurement(table, folder)
            config = configuration(table, row, seed, name)
            log = {"row": name, "seed": seed, "distill": dataclasses.asdict(config.distill)}
            log |= {"images": config.student.images if row.kind == "trained" else 0}
            log |= {"scored": table.images, "samples": table.samples, "frechet_floor": measurement.floor}
            try:
                network = None
                if row.kind == "trained":
                    if config.distill.objective == "trajectory-regression":
                        write_shards(config, table, shards(config, folder))
                    network, cost = trained(table, row.same_as or name, config, folder)
                    log |= cost
                elif row.kind == "onnx":
                    network = from_onnx(row.model)
                log["figures"] = measure(table, row, config, measurement, network)
            except RecipeError as error:
                log["failed"] = str(error)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(log, indent=1) + "\n")
            partial.replace(path)
            print(path, flush=True)


def shards(config: Config, folder: Path) -> Path:
    """Where the teacher's trajectories are, once for all rows and seeds that want the same."""
    return folder / f"trajectories-{config.trajectories.fade_to}"


def write_shards(config: Config, table: Table, folder: Path) -> None:
    """The teacher's trajectories, as far as they are not there."""
    teacher = stages.frozen_teacher(table.run, Path(table.teacher))
    write_trajectories(of_shards(config, table), teacher, stages.training_images(table.run), folder, device())


def of_shards(config: Config, table: Table) -> Config:
    """The configuration of the trajectories of a row's ``config``: with the seed and the directions of the table."""
    return dataclasses.replace(table.run, trajectories=config.trajectories)


@command
def main() -> int:
    parser = argparse.ArgumentParser(prog="recipe.table", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--rows", nargs="+", help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: those of the configuration")
    parser.add_argument("--runs", type=Path, default=Path(__file__).parent.parent / "runs")
    parser.add_argument("--write", action="store_true", help="only write the table from the logs")
    args = parser.parse_args()
    table = load(args.config)
    unknown = set(args.rows or ()) - set(table.rows)
    if unknown:
        raise RecipeError(f"there is no row {unknown.pop()!r}, only {', '.join(table.rows)}")
    torch.set_num_threads(table.run.threads or torch.get_num_threads())
    if not args.write:
        run(table, args.runs / table.run.name, args.rows or list(table.rows), args.seeds or list(table.seeds))
    results.write(table, args.config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
