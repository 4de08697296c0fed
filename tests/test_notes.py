"""What an extracted file says about itself, and which networks have running statistics that do not fit."""

from __future__ import annotations

import importlib
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netslim
from netslim.errors import ArchiveError
from netslim.export import read_module, write_module
from netslim.ir.inputs import described
from netslim.notes import FULL, NONE, OWN, RECALIBRATED, Notes, notes_from, notes_of, statistics
from netslim.source.userfile import importing_from

NOTES = Notes(0.5, 2, ("layer1.0",), True, ((1, 8, 8),), RECALIBRATED, "16 batches of digits")


class Functional(nn.Module):
    """Batch norm without a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, 3)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(self.conv(x), self.mean, self.var, training=self.training)
        return self.head(x.relu().mean((2, 3)))


def chain(*norms: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3), *norms, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (chain(nn.BatchNorm2d(8)), FULL),
        (chain(nn.BatchNorm2d(8, affine=False)), FULL),
        (chain(nn.InstanceNorm2d(8, track_running_stats=True)), FULL),
        (Functional(), FULL),
        (chain(nn.BatchNorm2d(8, track_running_stats=False)), NONE),
        (chain(nn.InstanceNorm2d(8)), NONE),
        (chain(nn.GroupNorm(2, 8)), NONE),
        (chain(), NONE),
    ],
    ids=lambda value: type(value[1]).__name__ if isinstance(value, nn.Sequential) else None,
)
def test_a_cut_network_with_running_statistics_is_known_as_one(model: nn.Module, found: str) -> None:
    net = netslim.convert(model, torch.randn(2, 1, 8, 8), prove=False).eval()
    assert statistics(net, 0.5, {}, 1) == found
    assert statistics(net, 1.0, {}, 1) == (OWN if found == FULL else NONE)
    assert statistics(net, 0.99, {}, 1) == statistics(net, 1.0, {}, 1)


def test_a_network_without_some_of_its_blocks_is_cut() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, 3)
            self.body, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.head(self.norm(x + self.body(x)).mean((2, 3)))

    net = netslim.convert(Residual(), torch.randn(2, 1, 8, 8), prove=False).eval()
    (block,) = net.blocks
    assert statistics(net, 1.0, {block.name: False}, 1) == FULL


def test_notes_are_read_without_opening_the_pickle(tmp_path: Path) -> None:
    write_module(nn.Linear(2, 2), tmp_path / "slim.pt", NOTES)
    assert notes_of(tmp_path / "slim.pt") == NOTES
    assert notes_from(NOTES.to_json()) == NOTES
    assert isinstance(torch.load(tmp_path / "slim.pt", weights_only=False), nn.Linear)
    model, notes = read_module(tmp_path / "slim.pt")
    assert isinstance(model, nn.Linear)
    assert notes == NOTES


def test_the_networks_own_python_is_found_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "ownlayers.py").write_text("from torch import nn\n\nclass Own(nn.Linear):\n    pass\n")
    with importing_from(home):
        own = importlib.import_module("ownlayers").Own(2, 2)
    write_module(own, tmp_path / "slim.pt", NOTES)
    monkeypatch.delitem(sys.modules, "ownlayers")
    assert type(read_module(tmp_path / "slim.pt")[0]).__name__ == "Own"
    monkeypatch.delitem(sys.modules, "ownlayers")
    (home / "ownlayers.py").unlink()
    importlib.invalidate_caches()
    with pytest.raises(ArchiveError, match=r"needs the model's own code, .*'ownlayers'.* put it beside the file"):
        read_module(tmp_path / "slim.pt")


def test_inputs_are_kept_as_forward_takes_them() -> None:
    example = {"images": [torch.zeros(3, 4, 5)], "ids": torch.tensor([[2, 7]]), "scale": 0.5, "mask": None}
    notes = replace(NOTES, inputs=described(example), code=("/home/me",))
    assert notes_from(notes.to_json()) == notes
    assert notes.to_dict().keys() == NOTES.to_dict().keys() == {*asdict(NOTES), "warning"} - {"inputs", "code"}
    damaged = notes.to_json().replace("float32", "float33")
    assert (notes_from(damaged), notes_from(NOTES.to_json().replace('"inputs": null', '"inputs": 3'))) == (None, None)


def test_other_files_have_no_notes(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("netslim.json")
    for name in ("weights.pt", "text.pt", "missing.pt"):
        assert notes_of(tmp_path / name) is None
        with pytest.raises(ArchiveError, match="is no extracted network; write one with"):
            read_module(tmp_path / name)
    assert [notes_from(text) for text in ("", "[]", "null", '{"width": 1}', '{"shapes": 3}')] == [None] * 5


def test_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "slim.pt"
    write_module(nn.Linear(64, 64), path, NOTES)
    content = bytearray(path.read_bytes())
    start = content.index(b"torch.nn")
    content[start : start + 5] = b"\xff" * 5
    path.write_bytes(bytes(content))
    with pytest.raises(ArchiveError, match=r"slim\.pt cannot be opened .*; extract it again"):
        read_module(path)
    torch.save([1, 2], path)
    from netslim.notes import attach

    attach(path, NOTES)
    with pytest.raises(ArchiveError, match="holds a list and no network"):
        read_module(path)
