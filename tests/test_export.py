"""Files that need no netslim to be read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from netslim.export import write_module, write_onnx, write_state_dict


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2)).eval()


def test_weights_come_back(model: nn.Module, tmp_path: Path) -> None:
    write_state_dict(model.state_dict(), tmp_path / "weights.pt")
    found = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


def test_a_module_comes_back(model: nn.Module, tmp_path: Path) -> None:
    write_module(model, tmp_path / "slim.pt")
    image = torch.randn(1, 1, 8, 8)
    assert torch.equal(torch.load(tmp_path / "slim.pt", weights_only=False)(image), model(image))


def test_onnx_computes_the_same_at_any_batch(model: nn.Module, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from onnx.reference import ReferenceEvaluator

    write_onnx(model, ((2, 1, 8, 8),), tmp_path / "slim.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["slim.onnx"]
    program = onnx.load(tmp_path / "slim.onnx")
    images = torch.randn(5, 1, 8, 8)
    (found,) = ReferenceEvaluator(program).run(None, {program.graph.input[0].name: images.numpy()})
    assert torch.allclose(torch.from_numpy(found), model(images), atol=1e-5)
