"""One TOML file per model, loaded into frozen dataclasses; an unknown key is an error."""

import dataclasses
import json
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path

from recipe.network import NetworkConfig


class RecipeError(Exception):
    """Something the user can mend: a configuration, a data set or a checkpoint."""


@dataclass(frozen=True)
class DataConfig:
    """Normal images: ``dataset`` as :func:`recipe.data.load` takes it; ``holdout`` of them are never trained on.

    A ``holdout`` below 1 is a share of the images. Without a set to ``test`` on, a third of those held out is kept for
    that, and the others calibrate. Relative paths are looked up in ``root``, which ``--data`` sets; ``digest`` is what
    :func:`recipe.data.signed` sets.
    """

    root: str = ""
    digest: str = ""  # of the training images
    shuffled: bool = True  # whether those held out are drawn at random, by the seed, or the last of the set
    redistributable: bool = True  # whether the model folder may hold images of the set
    dataset: str = "fashion-mnist:train"
    holdout: float = 10000
    test: str = "fashion-mnist:test"
    foreign: tuple[str, ...] = ("mnist:test",)
    reference_images: int = 1000
    reference_batch: int = 50
    reference_steps: int = 128


@dataclass(frozen=True)
class StageConfig:
    """One training stage: ``images`` seen in all, cosine decay from ``learning_rate``."""

    images: int = 800_000
    batch: int = 128
    learning_rate: float = 2e-3
    ema: float = 0.999
    warmup: int = 200
    checkpoint_every: int = 200


@dataclass(frozen=True)
class TrajectoryConfig:
    """Teacher trajectories to distil: ``shards`` files of ``per_shard`` trajectories with ``knots`` times each."""

    shards: int = 40
    per_shard: int = 512
    knots: int = 13
    steps: int = 48
    batch: int = 128
    fade_to: str = "grey"  # what a quarter of the altered starts fade to: grey (a random one) or black


@dataclass(frozen=True)
class DistillConfig:
    """Distillation: the objective, which directions, and the shares of the batch."""

    objective: str = "trajectory-regression"  # a key of recipe.objectives.OBJECTIVES
    start: str = ""  # student.safetensors of another run, relative to this one's folder; empty: the teacher
    direction: str = "both"  # scoring (data to noise), sampling (noise to data), both
    from_data_share: float = 0.35  # pairs that start at t = 1, where scoring starts
    schedule_share: float = 0.5  # pairs that are a step of 1, 2, 4 or 8 equal ones, for trajectory-regression
    sum_weight: float = 0.5  # weight of the divergence summed over pixels beside its pixels
    velocity: str = ""  # on the diagonal: data or teacher; empty: as the objective's paper has it
    anchor: str = ""  # divergence on the diagonal: teacher or self; empty: as the objective's paper has it
    cycle_weight: float = 0.0  # of the round trip t to s to t
    length_weight: float = 4.0  # of the length of where the map leads, for trajectory-regression
    scaling: str = "standardised"  # of the divergence: standardised, per-dimension, or constant
    constant: float = 5e-5  # what a constant scaling multiplies the divergence of the whole image with
    scaling_images: int = 128  # per time, from which the standardised scaling is fitted


@dataclass(frozen=True)
class MonitorConfig:
    """Early stopping on the mean error per image (:mod:`recipe.monitor`), every so many steps (0: never)."""

    every: int = 0
    patience: int = 5  # measurements without a better one until training stops
    images: int = 64  # cut from the training images, so that calibration and test know nothing of the choice
    steps: int = 2  # few-step schedule that is measured
    reference_steps: int = 64


@dataclass(frozen=True)
class ManifestConfig:
    """What the exported manifest says beside the network's own shape."""

    display_name: str = ""
    licence: str = ""
    provenance: str = ""
    steps: tuple[int, ...] = (1, 2, 4, 8)
    noise_floors: tuple[float, ...] = (1.0, 0.97, 0.9, 0.7)
    dequantisation_seed: int = 2512
    default_steps: int = 2


@dataclass(frozen=True)
class CalibrationConfig:
    """Tolerated share of false alarms, and the risk that a calibration does not keep it; see ``f2d2 calibrate``."""

    alpha: float = 0.01
    delta: float = 0.05


@dataclass(frozen=True)
class Config:
    """Everything that determines a model."""

    name: str
    seed: int = 0
    threads: int = 0  # 0: all cores
    compile: bool = True
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    teacher: StageConfig = field(default_factory=StageConfig)
    trajectories: TrajectoryConfig = field(default_factory=TrajectoryConfig)
    student: StageConfig = field(default_factory=lambda: StageConfig(learning_rate=1e-3))
    distill: DistillConfig = field(default_factory=DistillConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    manifest: ManifestConfig = field(default_factory=ManifestConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)


def load_config(path: Path, smoke: bool = False) -> Config:
    """Reads ``path``; ``smoke`` shrinks every stage to seconds and touches nothing else."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"cannot read configuration {path}: {error}") from error
    config = build(Config, table, str(path))
    check(config)
    return shrink(config) if smoke else config


CHOICES = {
    ("trajectories", "fade_to"): ("grey", "black"),
    ("distill", "direction"): ("scoring", "sampling", "both"),
    ("distill", "objective"): (
        "trajectory-regression",
        "shortcut",
        "shortcut-f2d2",
        "shortcut-distill-f2d2",
        "meanflow",
        "meanflow-f2d2",
        "lsd-f2d2",
    ),
    ("distill", "velocity"): ("", "data", "teacher"),
    ("distill", "anchor"): ("", "self", "teacher"),
    ("distill", "scaling"): ("standardised", "per-dimension", "constant"),
    ("network", "divergence_head"): ("per_pixel", "scalar"),
}


def check(config: Config) -> None:
    """Raises :class:`RecipeError` where a value is none of those that are known."""
    for (part, key), known in CHOICES.items():
        value = getattr(getattr(config, part), key)
        if value not in known:
            raise RecipeError(f"{part}.{key} is {value!r}, need {', '.join(filter(None, known))}")
    if config.distill.cycle_weight and config.distill.direction != "both":
        raise RecipeError(
            f"distill.cycle_weight needs both directions, distill.direction is {config.distill.direction!r}"
        )
    if config.monitor.every and config.distill.direction == "sampling":
        raise RecipeError("monitor.every needs a student that scores, distill.direction is 'sampling'")


def build(kind: type, table: dict, where: str):
    """``table`` as the dataclass ``kind``, recursively; unknown or missing keys raise :class:`RecipeError`."""
    types = typing.get_type_hints(kind)
    unknown = sorted(set(table) - set(types))
    if unknown:
        raise RecipeError(f"{where}: unknown key {unknown[0]!r}, known are {', '.join(types)}")
    values = {}
    for key, value in table.items():
        if dataclasses.is_dataclass(types[key]):
            value = build(types[key], value, f"{where}: {key}")
        values[key] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**values)
    except TypeError as error:
        raise RecipeError(f"{where}: {error}") from error


def shrink(config: Config) -> Config:
    """The same model and stages with a few dozen images each: proves that everything runs."""
    replace = dataclasses.replace
    stage = {"images": 64, "batch": 8, "checkpoint_every": 4}
    return replace(
        config,
        name=f"{config.name}-smoke",
        compile=False,
        teacher=replace(config.teacher, **stage),
        student=replace(config.student, **stage),
        trajectories=replace(config.trajectories, shards=2, per_shard=8, steps=12, knots=7, batch=8),
        distill=replace(config.distill, scaling_images=8, start=""),
        data=replace(
            config.data,
            holdout=min(config.data.holdout, 700),
            foreign=(),
            reference_images=16,
            reference_batch=16,
            reference_steps=4,
        ),
        monitor=replace(config.monitor, every=min(config.monitor.every, 4), images=4, reference_steps=4),
    )


def fingerprint(config: Config, stage: str) -> str:
    """Canonical JSON of all that the files of ``stage`` depend on; those of anything else are refused."""
    table, of = dataclasses.asdict(config), config.distill
    depends = {part: table[part] for part in ("network", "teacher")}
    depends["images"] = config.data.digest
    if stage == "scale":
        depends["scale"] = [of.scaling, of.scaling_images, of.constant]
        return json.dumps(depends, sort_keys=True)
    depends["seed"] = config.seed
    if stage == "trajectories":
        one_shard = {key: value for key, value in table["trajectories"].items() if key != "shards"}
        depends |= {"trajectories": one_shard, "direction": of.direction}
    if stage == "student":
        depends |= {part: table[part] for part in ("trajectories", "student", "distill")}
    return json.dumps(depends, sort_keys=True)
