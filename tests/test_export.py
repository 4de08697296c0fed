"""Files that need no netslim to be read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import netslim
from netslim.errors import ArchiveError
from netslim.export import WRITERS, write_module, write_onnx, write_state_dict
from netslim.ir.inputs import Input
from netslim.notes import KEY, NONE, Notes


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

    write_onnx(model, {"x": Input((2, 1, 8, 8))}, tmp_path / "slim.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["slim.onnx"]
    program = onnx.load(tmp_path / "slim.onnx")
    images = torch.randn(5, 1, 8, 8)
    (found,) = ReferenceEvaluator(program).run(None, {program.graph.input[0].name: images.numpy()})
    assert torch.allclose(torch.from_numpy(found), model(images), atol=1e-5)


class Words(nn.Module):
    """Counts in, images beside them in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.body, self.head = nn.Embedding(10, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, words: Tensor, more: list[Tensor] | None = None) -> Tensor:
        h = torch.relu(self.body(self.table(words))).mean(1)
        return self.head(h if more is None else h * more[0] + more[1])


@pytest.mark.parametrize("nested", [False, True])
def test_onnx_of_a_network_whose_inputs_count(nested: bool, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from onnx.reference import ReferenceEvaluator

    inputs: dict[str, Any] = {"words": torch.randint(0, 10, (2, 5))}
    if nested:
        inputs["more"] = [torch.randn(2, 1), torch.randn(2, 1)]
    net = netslim.convert(Words(), inputs).eval()
    small = net.extract(0.5)
    level = logging.getLogger("torch.onnx").level
    write_onnx(small, net.plan.inputs, tmp_path / "slim.onnx")
    assert logging.getLogger("torch.onnx").level == level
    program = onnx.load(tmp_path / "slim.onnx")
    names = [i.name for i in program.graph.input]
    given = dict(zip(names, (t.numpy() for t in tree_leaves(inputs)), strict=True))
    (found,) = ReferenceEvaluator(program).run(None, given)
    assert torch.allclose(torch.from_numpy(found), small(*inputs.values()), atol=1e-5)


def test_a_network_that_onnx_cannot_hold_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")

    class Deciding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else 2 * x

    with pytest.raises(ArchiveError, match=r"torch cannot write this network as ONNX \(.+\); write it as .pt"):
        write_onnx(Deciding(), {"x": Input((2, 3))}, tmp_path / "slim.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_form_is_written(suffix: str, tmp_path: Path) -> None:
    if WRITERS[suffix].needs:
        for package in ("onnx", "onnxscript"):
            pytest.importorskip(package)
    WRITERS[suffix].check()
    path = tmp_path / f"slim{suffix}"
    WRITERS[suffix].write(nn.Linear(3, 2), {"x": Input((2, 3))}, path, Notes(0.5, 1, (), True, ((3,),), NONE))
    assert path.stat().st_size
    assert KEY.encode() in path.read_bytes()
