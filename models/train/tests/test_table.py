"""The table: configurations that are refused, rows that were not run, figures from logs."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from recipe import data, fidelity, frechet, results, table
from recipe.config import RecipeError

CONFIG = Path(__file__).parent.parent / "config" / "table.toml"
SHIPPED = Path(__file__).parents[2] / "results" / "shipped"


def changed(tmp_path, old: str, new: str) -> Path:
    text = CONFIG.read_text()
    assert old in text
    path = tmp_path / "table.toml"
    path.write_text(text.replace(old, new).replace("../../results", "results"))
    return path


def test_every_row_has_a_complete_configuration():
    loaded = table.load(CONFIG)
    assert len(loaded.rows) > 15
    for name, row in loaded.rows.items():
        config = table.configuration(loaded, row, 2, name)
        assert config.seed == 2
        assert config.student.images == (4 if name.endswith("-long") else 1) * loaded.run.student.images


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Shortcut"', 'titel = "Shortcut"', "titel"),
        ('objective = "lsd-f2d2"', 'objective = "lsd"', "lsd"),
        ('divergence_head = "scalar"', 'divergence_heat = "scalar"', "divergence_heat"),
        ("cycle_weight = 1.0", 'cycle_weight = 1.0, direction = "scoring"', "both directions"),
    ],
)
def test_bad_rows_are_refused(tmp_path, old, new, message):
    with pytest.raises(RecipeError, match=message):
        table.load(changed(tmp_path, old, new))


def test_table_shows_seeds_failures_and_rows_that_were_not_run(tmp_path):
    loaded = table.load(changed(tmp_path, "seeds = [1, 2, 3]", "seeds = [1, 2]"))
    logs = tmp_path / "results"
    logs.mkdir()
    figures = {key: 0.5 for key in results.COLUMNS} | {"steps": 1}
    for seed, mae in ((1, 0.1), (2, 0.3)):
        log = {
            "row": "ours",
            "seed": seed,
            "frechet_floor": 1.5,
            "cpu_seconds": 60,
            "figures": [figures | {"mae": mae}],
        }
        (logs / f"ours-{seed}.json").write_text(json.dumps(log))
    failed = {"row": "meanflow", "seed": 1, "frechet_floor": 1.5, "failed": "student: loss is nan at step 7"}
    (logs / "meanflow-1.json").write_text(json.dumps(failed))
    normal = {key: 0.25 for key in ("mae", "bias", "spearman", "prior_bias", "divergence_bias", "latent_norm")}
    shipped = {
        "model": "casting",
        "reference": {"normal": {"images": 7, "bpd": 4.5, "latent_norm": 1.02}},
        "rows": [{"steps": 2, "normal": normal, "anomalous": {"spearman": 0.5}}],
    }
    (logs / "shipped").mkdir()
    (logs / "shipped" / "casting.json").write_text(json.dumps(shipped))
    results.write(loaded, CONFIG)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| casting | teacher, 256 evaluations | 7 | 4.500 |" in text
    assert "| | 2 | | 4.750 | +0.250 |" in text
    assert "0.200 ± 0.141" in text
    assert "| LSD-F2D2 | not run |" in text
    assert "| MeanFlow | student: loss is nan at step 7 |" in text
    assert (logs / "table.png").exists()


def test_inversion_that_did_not_converge_is_marked_with_its_residual(tmp_path):
    loaded = table.load(changed(tmp_path, "seeds = [1, 2, 3]", "seeds = [1]"))
    logs = tmp_path / "results"
    logs.mkdir()
    figures = [{"steps": k, "mae": 0.1, "residual": r} for k, r in ((1, 8.4984), (2, 1e-5), (4, 0.886), (8, math.inf))]
    for name in ("as-published-inverted", "ours-cycle"):
        rows = figures if name == "as-published-inverted" else [row | {"residual": 0.0} for row in figures]
        log = {"row": name, "seed": 1, "frechet_floor": 1.5, "figures": rows}
        (logs / f"{name}-1.json").write_text(json.dumps(log))
    results.write(loaded, CONFIG)
    text = (tmp_path / "RESULTS.md").read_text()
    found = re.findall(r"\| ([^|]*); \*\*did not converge: residual (\S+)\*\*, the SDK refuses .* K = (\d)", text)
    title = loaded.rows["as-published-inverted"].title
    assert found == [(title, "8.5", "1"), (title, "0.886", "4"), (title, "inf", "8")]


def test_every_row_of_the_plot_has_its_own_colour(tmp_path, monkeypatch):
    loaded = table.load(CONFIG)
    monkeypatch.setattr(results.plt, "close", lambda figure: None)
    results.plot(loaded, results.load(Path(loaded.results)), tmp_path / "table.png")
    colours = [line.get_color() for line in results.plt.gcf().axes[0].lines]
    monkeypatch.undo()
    results.plt.close()
    assert len(set(colours)) == len(colours) >= 11


@pytest.mark.parametrize("log", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_figures_of_shipped_models_are_of_the_files_that_lie_there(log):
    of, folder = json.loads(log.read_text())["sha256"], SHIPPED.parent.parent / log.stem
    assert of["model"] == fidelity.digest(folder / "model.onnx")
    # Where images stay behind, the figures are of a reference that stayed behind as well.
    own = of.get("reference") == fidelity.digest(folder / "reference.npz")
    assert own == ("drawn" not in np.load(folder / "reference.npz"))


def test_samples_are_drawn_where_the_noise_is():
    x, t = torch.empty(3, 1, 4, 4, device="meta"), torch.empty(3, device="meta")
    for field in (lambda x, t, s: x, lambda x, t, s: (x, s)):
        u, d = table.velocity_only(field)(x, t, t)
        assert u.device.type == d.device.type == "meta" and d.shape == (3,)


def test_every_shipped_model_has_figures():
    folders = {path.parent.name for path in SHIPPED.parent.parent.glob("*/model.onnx")}
    assert folders == {path.stem for path in SHIPPED.glob("*.json")}
    assert len(folders) == 4


def test_frechet_distance_of_gaussians():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20_000, 3))
    shifted = frechet.distance(a, 2 * a + np.array([3.0, 0.0, 0.0]))
    assert abs(shifted - (9 + 3 * (2 - 1) ** 2)) < 0.2
    assert frechet.distance(a, a) < 1e-6


def test_pixels_are_the_bins_that_values_fall_into():
    values = torch.tensor([-2.0, -1.0, (100 + 0.99) / 128 - 1, 0.999, 3.0])
    assert data.to_pixels(values).tolist() == [0, 0, 100, 255, 255]
