"""The exported file: complete, equal to PyTorch, and not written at all if it is not."""

import dataclasses
import json

import onnx
import pytest
import torch

from recipe import export
from recipe.config import Config, RecipeError
from recipe.network import FlowMap, NetworkConfig

SMALL = NetworkConfig(height=8, width=8, base=8, middle=16, embedding=16, head=8)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = FlowMap(SMALL)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    network.scale.mean.fill_(-0.01)
    network.scale.spread.fill_(0.01)
    return network


def test_exported_file_holds_manifest_and_golden_vectors(network, tmp_path):
    config = Config(name="x", network=SMALL)
    export.export(config, network, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    manifest = json.loads(model.metadata_props[0].value)
    assert manifest["preprocess"]["shape"] == {"channels": 1, "height": 8, "width": 8}
    assert manifest["directions"] == {"scoring": True, "sampling": True}
    assert [len(golden["samples"]) for golden in manifest["golden"]] == [32, 32]
    assert len(manifest["golden_gradient"]["samples"]) == 32
    assert [output.name for output in model.graph.output] == ["u", "d", "grad_d"]
    assert not model.graph.value_info
    content = (tmp_path / "model.onnx").read_bytes()
    assert export.deviation(network, content) <= export.PARITY
    with torch.no_grad():
        network.gates.bias += 0.01
        assert not export.deviation(network, content) <= export.PARITY
        network.gates.bias -= 0.01


@pytest.mark.parametrize("worst", [1.0, float("nan")])
def test_file_that_differs_from_pytorch_is_not_written(worst, network, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_text("older")
    monkeypatch.setattr(export, "deviation", lambda *arguments: worst)
    with pytest.raises(RecipeError, match="deviates"):
        export.export(Config(name="x", network=SMALL), network, path)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_weights_are_read_back_and_those_of_another_network_refused(network, tmp_path):
    path = tmp_path / "model.onnx"
    export.export(Config(name="x", network=SMALL), network, path)
    again = FlowMap(SMALL)
    export.read_weights(path, again)
    assert torch.equal(again.down1.norm1.weight, network.down1.norm1.weight)
    with pytest.raises(RecipeError, match="another network"):
        export.read_weights(path, FlowMap(NetworkConfig(height=8, width=8, base=16, middle=16, embedding=16, head=8)))


def test_gradient_is_added_to_a_file_and_changes_nothing_else_in_it(network, tmp_path):
    path, config = tmp_path / "model.onnx", Config(name="x", network=SMALL)
    scoring = dataclasses.replace(config, distill=dataclasses.replace(config.distill, direction="scoring"))
    export.export(scoring, network, path)
    before = onnx.load(path)
    assert [output.name for output in before.graph.output] == ["u", "d"]
    export.add_gradient(config, path)
    after = onnx.load(path)
    for part in ("node", "initializer", "output"):
        old, new = getattr(before.graph, part), getattr(after.graph, part)
        assert list(new[: len(old)]) == list(old) and len(new) > len(old)
    manifests = [json.loads(model.metadata_props[0].value) for model in (before, after)]
    assert manifests[1].pop("golden_gradient")["samples"] and manifests[0] == manifests[1]
    export.read_weights(path, FlowMap(SMALL))
    with pytest.raises(RecipeError, match="already"):
        export.add_gradient(config, path)
