"""Writes models/RESULTS.md and its plots from the logs of :mod:`recipe.table`."""

import json
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from recipe.config import load_config

# arXiv 2512.02636, CIFAR-10: bits per dimension and FID at 8, 4, 2, 1 steps; the teacher has 3.12 and 2.60.
PAPER_TEACHER = (3.12, 2.60)
PAPER = {
    "Flow matching": ((-9.93, 20.63), (-24.01, 64.27), (-52.85, 146.24), (-111.19, 313.54)),
    "Shortcut": ((-12.07, 7.10), (-28.03, 9.63), (-60.01, 16.04), (-124.15, 27.28)),
    "Shortcut-Distill": ((-11.42, 5.01), (-26.82, 5.41), (-57.72, 7.13), (-119.42, 12.75)),
    "MeanFlow": ((-9.00, 4.34), (-21.26, 5.14), (-46.63, 2.84), (-97.59, 2.80)),
    "Shortcut-F2D2": ((3.07, 8.78), (3.26, 10.21), (2.73, 15.58), (0.20, 27.35)),
    "Shortcut-Distill-F2D2": ((3.12, 5.68), (2.87, 5.96), (2.38, 7.35), (1.62, 13.76)),
    "MeanFlow-F2D2": ((2.38, 3.78), (1.34, 4.37), (1.63, 2.59), (3.51, 3.02)),
}
COLUMNS = {
    "bpd": ("BPD", "{:.3f}"),
    "bias": ("bias", "{:+.3f}"),
    "mae": ("mean abs. difference", "{:.3f}"),
    "spearman": ("Spearman, normal", "{:.4f}"),
    "spearman_anomalous": ("anomalous", "{:.4f}"),
    "prior_bias": ("bias of the prior", "{:+.3f}"),
    "divergence_bias": ("of the divergence", "{:+.3f}"),
    "latent_norm": ("‖z‖²/d", "{:.3f}"),
    "round_trip": ("round trip", "{:.3f}"),
    "frechet": ("Fréchet", "{:.2f}"),
}
COLOURS = (*matplotlib.colormaps["tab10"].colors, "black")
# Largest residual of an inverted step that the SDK accepts, of sdk/src/flow/inversion.rs.
CONVERGED = 1e-4
HEAD = """# Results

Written by `python -m recipe.table config/{config}` in models/train from the logs in models/results; do not edit.

Fashion-MNIST, 28x28, every row from one teacher (models/fashion-mnist/teacher.safetensors), whose weights are also
where each student starts. Budget per trained row: **{images:,} training points** in batches of {batch}, the same
optimiser and schedule for all, {share} of what the shipped model saw: the rows show how fast an objective learns from
a given teacher, not where it ends. What a training point costs differs between objectives and is given as CPU time
below; our row also needs {trajectories:,} trajectories of the teacher ({evaluations:,} evaluations with one probe
each), once for all seeds and rows. A fifth of those towards noise start at altered training images (mixed, faded to a
grey, inverted or noised): our row has seen something like some of the anomalous kinds, the others learn on data alone.

Every trained row has both directions, the per-pixel head, the standardised divergence and native evaluation, so that
only the objective differs. Rows without a divergence head (Euler, Shortcut, MeanFlow) take one Hutchinson probe of
their velocity at each step, as the paper does. Shortcut-F2D2 and MeanFlow-F2D2 take the divergence of the diagonal from
the network in training, as published. Both diverge here: next to t = 1 an error that the velocity's loss cannot see is
one of the divergence that is hundreds of times as large, and that becomes the target. Anchored on where it starts: the
frozen network from which the student starts takes that place; all else is as published.

{scored} normal test images and {scored} anomalous ones (MNIST and eight corruptions), the same for all rows; bits per
dimension; differences are per image, from 128 Heun steps of the teacher. Round trip: root mean square of x - X(Z(x)) in
model range [-1, 1). Fréchet: distance on {features} features of a small classifier that the recipe trains, {samples:,}
samples against the 10,000 test images. It is not Inception FID and comparable within this table only; {samples:,} real
training images have {floor:.2f}. Figures with ± are mean and standard deviation over seeds; a row without ± has one.
"""


def load(folder: Path) -> dict[str, list[dict]]:
    """The logs by row, seeds in order."""
    logs: dict[str, list[dict]] = {}
    for path in sorted(folder.glob("*-[0-9]*.json")):
        log = json.loads(path.read_text())
        logs.setdefault(log["row"], []).append(log)
    return logs


def values(logs: list[dict], steps: int, key: str) -> list[float]:
    """The finite figures ``key`` of all seeds at ``steps`` steps."""
    found = [f[key] for log in logs for f in log.get("figures", ()) if f["steps"] == steps and key in f]
    return [value for value in found if np.isfinite(value)]


def cell(logs: list[dict], steps: int, key: str) -> str:
    """Mean, and spread if there are several seeds; a dash where a row has no such figure."""
    found, form = values(logs, steps, key), COLUMNS[key][1]
    if not found:
        return "-"
    mean = form.format(np.mean(found))
    return f"{mean} ± {form.replace('+', '').format(np.std(found, ddof=1))}" if len(found) > 1 else mean


def lines(table, logs: dict, ablation: bool) -> list[str]:
    """One Markdown table per number of steps; ablations that were not run are only named."""
    rows = {name: row for name, row in table.rows.items() if row.ablation == ablation}
    missing = [row.title for name, row in rows.items() if ablation and name not in logs]
    rows = {name: row for name, row in rows.items() if not ablation or name in logs}
    text = []
    for steps in table.steps if rows else ():
        text += [f"\n### K = {steps}\n", "| row | seeds | " + " | ".join(name for name, _ in COLUMNS.values()) + " |"]
        text.append("|---|---|" + "---|" * len(COLUMNS))
        for name, row in rows.items():
            done = [log for log in logs.get(name, []) if "figures" in log]
            at = 128 if row.kind == "many-step" else steps
            if done:
                cells = " | ".join(cell(done, at, key) for key in COLUMNS)
                text.append(f"| {row.title}{note(done, at)} | {len(done)} | {cells} |")
            else:
                text.append(f"| {row.title} | {failure(logs.get(name, []))} |" + " - |" * len(COLUMNS))
    return [*text, "\nNot run: " + "; ".join(missing) + "."] if missing else text


def note(logs: list[dict], steps: int) -> str:
    """What has to be said of figures whose inversion left a residual: they are of no solution."""
    residuals = [f["residual"] for log in logs for f in log["figures"] if f["steps"] == steps and "residual" in f]
    worst = max(residuals, default=0.0)
    if worst <= CONVERGED:
        return ""
    return f"; **did not converge: residual {worst:.3g}**, the SDK refuses this network at K = {steps}"


def failure(logs: list[dict]) -> str:
    return logs[0]["failed"] if logs else "not run"


def costs(table, logs: dict) -> list[str]:
    text = ["\n## Cost of training\n", "| row | seeds | CPU seconds of one thread, mean |", "|---|---|---|"]
    for name, row in table.rows.items():
        seconds = [log["cpu_seconds"] for log in logs.get(name, ()) if log.get("cpu_seconds")]
        if seconds and not row.same_as:
            text.append(f"| {row.title} | {len(seconds)} | {np.mean(seconds):.0f} |")
    return text


def paper() -> list[str]:
    text = [
        "\n## The paper's figures\n",
        "CIFAR-10, from arXiv 2512.02636: bits per dimension minus the teacher's 3.12, and FID. The figure that",
        "compares is the bias to the teacher; the paper gives no error per image and no rank correlation.\n",
        "| row | K = 1 | 2 | 4 | 8 |",
        "|---|---|---|---|---|",
    ]
    for name, figures in PAPER.items():
        cells = [f"{bpd - PAPER_TEACHER[0]:+.2f} / {fid:.2f}" for bpd, fid in reversed(figures)]
        text.append(f"| {name} | " + " | ".join(cells) + " |")
    return text


def guidance(folder: Path) -> list[str]:
    """The log of :mod:`recipe.guidance`, if there is one."""
    path = folder / "guidance.json"
    if not path.exists():
        return ["\n## Self-guidance\n", "Not run."]
    log = json.loads(path.read_text())
    text = [
        "\n## Self-guidance\n",
        f"`python -m recipe.guidance` on models/fashion-mnist: {log['images']} samples in {log['steps']} steps",
        f"from the same noise, scored as 8-bit images by {log['reference_steps']} Heun steps of the teacher. Guided:",
        "one Adam step of that size on the noise. Shrunk: the plain noise, scaled to the norm that guidance left.",
        "Change: paired, against plain. A likelier image is not always a better one: this says nothing of quality.\n",
        "| noise | its mean square | BPD under the teacher | change | standard error |",
        "|---|---|---|---|---|",
    ]
    for row in log["rows"]:
        figures = f"{row['bpd']:.4f} | {row['change']:+.4f} | {row['standard_error']:.4f}"
        text.append(f"| {row['noise']} | {row['noise_norm']:.4f} | {figures} |")
    return text


def starts(folder: Path) -> list[str]:
    """The log of :mod:`recipe.start`, if there is one."""
    path = folder / "start.json"
    if not path.exists():
        return []
    log = json.loads(path.read_text())
    text = [
        "\n## Where the reference starts\n",
        f"`python -m recipe.start` with the teacher of models/fashion-mnist: latents of {log['images']} normal images",
        "by Heun's steps; 1 for an ideal model. The recommended start is t = 1 with uniform dequantisation, which the",
        "teacher is trained with: finer steps change little, and inputs of another distribution make it wrong. What",
        "makes it right is the noise of saturated pixels among the network's inputs (ARCHITECTURE.md).\n",
        "| start | ‖z‖²/d | standard error |",
        "|---|---|---|",
    ]
    rows = [f"| {r['start']} | {r['latent_norm']:.4f} | {r['standard_error']:.4f} |" for r in log["rows"]]
    return text + rows


def speed(folder: Path) -> list[str]:
    """The logs of ``f2d2 bench --against 1024 --json``, if there are any."""
    logs = [json.loads(path.read_text()) for path in sorted((folder / "speed").glob("*.json"))]
    if not logs:
        return []
    text = [
        "\n## Few steps against 1,024, through the SDK\n",
        "`f2d2 bench models/fashion-mnist/model.onnx --engine cpu --batch 1 --threads 1 --steps K --against 1024`:",
        "whole inspections from four noise floors, both in one run.\n",
        "| K | times fewer evaluations | times the speed |",
        "|---|---|---|",
    ]
    ratios = [(log["steps"], log["against"]) for log in sorted(logs, key=lambda log: log["steps"])]
    return text + [f"| {k} | {r['evaluations_ratio']:.0f} | {r['time_ratio']:.0f} |" for k, r in ratios]


def shipped_models(folder: Path) -> list[str]:
    """The logs of :mod:`recipe.fidelity` for the models that are shipped."""
    text = [
        "\n## The shipped models\n",
        "`python -m recipe.fidelity MODEL.onnx REFERENCE.npz --json ../results/shipped/NAME.json`: through the SDK,",
        "from 8-bit images; normal images but for the last column. Few steps are held against 128 Heun steps of the",
        "model's own teacher, the row above them; all are of real images, also where those and their reference are not",
        "shipped. The cards say what the models were trained on, and how much.\n",
        "| model | K | images | BPD | bias | mean abs. difference | Spearman, normal | bias of the prior "
        "| of the divergence | ‖z‖²/d | Spearman, anomalous |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    logs = [json.loads(path.read_text()) for path in sorted((folder / "shipped").glob("*.json"))]
    for log in logs:
        about = log["reference"]["normal"]
        figures = f"{about['images']} | {about['bpd']:.3f} | - | - | - | - | - | {about['latent_norm']:.3f} | -"
        text.append(f"| {log['model']} | teacher, 256 evaluations | {figures} |")
        for row in log["rows"]:
            r, spearman = row["normal"], row["anomalous"]["spearman"]
            text.append(
                f"| | {row['steps']} | | {about['bpd'] + r['bias']:.3f} | {r['bias']:+.3f} | {r['mae']:.3f} "
                f"| {r['spearman']:.4f} | {r['prior_bias']:+.3f} | {r['divergence_bias']:+.3f} "
                f"| {r['latent_norm']:.3f} | {spearman:.4f} |"
            )
    return text if logs else []


def checkerboard(folder: Path) -> list[str]:
    if not (folder / "checkerboard.png").exists():
        return []
    return [
        "\n## In the plane\n",
        "`python -m recipe.checkerboard`: log-density and samples of four objectives beside the teacher's many",
        "steps, 400,000 training points each; the error is that of log p on held-out points, in nats.\n",
        "![densities and samples on a checkerboard](results/checkerboard.png)",
    ]


def plot(table, logs: dict, path: Path) -> None:
    """Mean absolute difference and both rank correlations over the number of steps, one line per row.

    Rows that diverged lie outside the axes.
    """
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.8), layout="constrained")
    keys = ("mae", "spearman", "spearman_anomalous")
    titles = ("mean |ΔBPD|, normal images", "Spearman, normal images", "Spearman, anomalous images")
    for axis, key, title in zip(axes, keys, titles, strict=True):
        axis.set_prop_cycle(color=COLOURS)
        for name, row in table.rows.items():
            curve = [np.mean(values(logs.get(name, ()), steps, key) or [np.nan]) for steps in table.steps]
            if row.ablation or row.kind == "many-step" or not np.isfinite(curve).any():
                continue
            axis.plot(table.steps, curve, "-" if "ours" in name else "--", marker="o", label=row.title)
        axis.set(title=title, xlabel="steps K", xscale="log", xticks=table.steps, xticklabels=table.steps)
        axis.minorticks_off()
        if key == "mae":
            axis.set(yscale="log", ylim=(0.02, 300))
        else:
            axis.set_ylim(0.6, 1.01)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def write(table, config: Path) -> None:
    """Writes ``RESULTS.md`` beside the folder of the logs, and the plot into it."""
    folder = Path(table.results)
    logs = load(folder)
    student, shards = table.run.student, table.run.trajectories
    trajectories = shards.shards * shards.per_shard
    floors = [log["frechet_floor"] for found in logs.values() for log in found]
    shipped = [load_config(config.parent / f"fashion-mnist{part}.toml").student.images for part in ("-first", "")]
    text = HEAD.format(
        config=config.name,
        images=student.images,
        batch=student.batch,
        share=f"{student.images / sum(shipped):.1%}",
        trajectories=trajectories,
        evaluations=trajectories * (shards.steps + 1),
        scored=table.images,
        samples=table.samples,
        features=64,
        floor=floors[0] if floors else float("nan"),
    ).splitlines()
    text += ["\n## Rows", *lines(table, logs, ablation=False)]
    if any("figures" in log for found in logs.values() for log in found):
        plot(table, logs, folder / "table.png")
        text.append(
            "\nRows that diverged lie outside the axes.\n\n"
            "![error and rank correlation over the number of steps](results/table.png)"
        )
    text += ["\n## Ablations", "\nOne change of our row each, and the published form."]
    text += [*lines(table, logs, ablation=True), *costs(table, logs)]
    text += [*shipped_models(folder), *paper(), *guidance(folder), *starts(folder), *speed(folder)]
    text += checkerboard(folder)
    (folder.parent / "RESULTS.md").write_text("\n".join(text) + "\n")
