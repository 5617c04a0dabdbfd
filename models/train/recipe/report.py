"""What a finished run is worth: writes the card of the model folder, its training curve, and an HTML report.

The card holds figures alone; the report shows images of the set, and stays in the run's folder.
"""

import json
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from safetensors import safe_open

from recipe import data, detection, fidelity
from recipe.config import Config

IMAGES = 1000  # per set, at most
TITLES = {
    "velocity": "velocity",
    "sum": "divergence, summed",
    "pixels": "divergence, pixels",
    "length": "length",
    "cycle": "cycle",
}


def write(config: Config, run: Path, target: Path) -> None:
    """Measures the packaged model on images that nothing was trained or calibrated on; ``target`` is its folder."""
    plot(config, run, target / "training.png")
    normal = data.split(config).test
    foreign = {detection.set_name(source): data.prepared(config, source) for source in config.data.foreign}
    sets = detection.image_sets(normal, foreign, IMAGES)
    normal = normal[:IMAGES]
    model, report = target / "model.onnx", run / "report.html"
    figures = detection.measure(model, target / "calibration.json", normal, sets, "--report", report)
    rows = fidelity.table(model, run / "reference.npz", list(config.manifest.steps))
    text = [
        *head(config, target),
        "\n## Few steps against the teacher's many, image by image\n",
        "Bits per dimension. Errors of the prior and of the divergence term are given apart, since a right sum can",
        "hide two wrong parts.\n",
        *fidelity.lines(rows, fidelity.of_reference(run / "reference.npz")),
        "\n## Detection\n",
        f"K = {figures['steps']}, calibrated score, {len(normal)} normal test images against each set. Flagged: the",
        "share called anomalous at the calibrated threshold. The last column is what the best of three statistics",
        "reaches that need no model: mean brightness, standard deviation, mean gradient. The corruptions are made from",
        "test images, too.\n",
        *detection.lines(figures, normal, sets),
        "\n## False alarms\n",
        promise(figures["calibration"], len(normal)),
        "\n## Training\n",
        "![losses over the images seen](training.png)",
    ]
    if (target / "drawn.png").exists():
        text += ["\n`drawn.png`: images that the model draws.\n", "![drawn images](drawn.png)"]
    (target / "CARD.md").write_text("\n".join(text) + "\n")
    print(f"{target}: model folder\n{report}: report with images and heat maps")


def head(config: Config, target: Path) -> list[str]:
    """What was trained, and on what."""
    network, made, settings = config.network, config.trajectories, config.calibration
    with safe_open(target / "teacher.safetensors", "pt") as file:
        parameters = sum(int(np.prod(file.get_slice(key).get_shape())) for key in file.keys())  # noqa: SIM118
    shape = f"{network.height}x{network.width}x{network.channels}"
    directions = {"both": "scoring and sampling", "scoring": "scoring only", "sampling": "sampling only"}
    images = data.split(config)
    command = f"config/{config.name}.toml" + (" --data FOLDER" if config.data.root else "")
    text = [
        f"# {config.manifest.display_name or config.name}\n",
        "| | |",
        "|---|---|",
        f"| data | {config.manifest.provenance or f'{len(images.training)} normal images'} |",
        f"| licence | {config.manifest.licence or 'not stated'} |",
        f"| network | {shape}, {parameters / 1e6:.2f} M parameters, {directions[config.distill.direction]} |",
        f"| recipe | `python -m recipe all {command}` in models/train, seed {config.seed} |",
        f"| training | teacher {config.teacher.images:,} images, "
        f"{made.shards * made.per_shard:,} teacher trajectories, student {config.student.images:,} pairs of times |",
        f"| calibration | {len(images.calibration)} images, alpha = {settings.alpha:g}, delta = {settings.delta:g} |",
    ]
    if not config.data.redistributable:
        text.append("| not in this folder | images of the set |")
        if (target / "reference.npz").exists():
            text.append(
                "| `reference.npz` | the teacher's likelihoods of images that it drew, and of altered ones; "
                f"`python -m recipe reference {command}` makes the one of real images that the table below is from |"
            )
    return text


def promise(found: dict, images: int) -> str:
    """The false-alarm rate that was promised, and the one on the normal test images."""
    low, high = found["band"]
    alpha, rate = found["alpha"], found["false_alarm_rate"]
    return (
        f"{rate:.4f} of the {images} normal test images are flagged. The calibration gave {low:.4f} to {high:.4f} as\n"
        f"the central 95 % interval of the true rate, at alpha = {alpha:g}; from {images} images a rate of alpha is\n"
        f"measured with a standard error of {(alpha * (1 - alpha) / images) ** 0.5:.4f}."
    )


def plot(config: Config, run: Path, path: Path) -> None:
    """Losses of both stages, and the error of single held-out images if the run was monitored."""
    stages = (("teacher", config.teacher.batch), ("student", config.student.batch))
    # A run that starts from a finished teacher has no log of it.
    logs = [(stage, batch, log) for stage, batch in stages if (log := records(run / f"{stage}.log.jsonl"))]
    figure, axes = plt.subplots(1, max(1, len(logs)), figsize=(11, 4), layout="constrained", squeeze=False)
    for axis, (stage, batch, log) in zip(axes[0], logs, strict=False):
        for key in (key for key in TITLES if key in log[0]):
            axis.plot([row["step"] * batch for row in log], [row[key] for row in log], label=TITLES[key])
        axis.set(title=stage, xlabel="images" if stage == "teacher" else "pairs of times", ylabel="loss", yscale="log")
    monitored = records(run / "monitor.jsonl")
    if monitored:
        steps = [row["step"] * config.student.batch for row in monitored]
        axes[0, -1].plot(steps, [row["mae"] for row in monitored], "k.-", label="mean |ΔBPD|, held-out images")
    for axis in axes[0]:
        if axis.lines:
            axis.legend(fontsize=8)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
