"""converted.pt is data: it round-trips, loads anywhere, and nothing that it brings is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import netslim
from netslim.errors import ArchiveError
from tests.archive.nets import edited

IMAGES = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.again = self.conv
        self.norm = nn.BatchNorm2d(8)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.register_buffer("shift", torch.zeros(8, 1, 1), persistent=False)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.norm(self.again(x)) * self.scale + self.shift
        return {"logits": self.head(x.mean(dim=(-2, -1))), "features": x.detach()[:, :0]}


@pytest.fixture
def net() -> netslim.SlimNet:
    return netslim.convert(Net(), IMAGES).eval()


@pytest.fixture
def path(net: netslim.SlimNet, tmp_path: Path) -> Path:
    netslim.save(net, tmp_path / "converted.pt")
    return tmp_path / "converted.pt"


def test_a_loaded_network_is_the_saved_one(net: netslim.SlimNet, path: Path) -> None:
    loaded = netslim.load(path)
    assert loaded.plan == net.plan
    assert loaded.proof == net.proof
    assert list(loaded.state_dict()) == list(net.state_dict())
    for width in (1.0, 0.5):
        with net.sub(width), loaded.sub(width):
            assert torch.equal(loaded(IMAGES)["logits"], net(IMAGES)["logits"])


def test_a_file_that_knows_no_ties_tells_groups_without_chains(tmp_path: Path) -> None:
    def of_before(document: Any) -> None:
        plan = document["plan"]
        del plan["ties"]
        named = [place for dims in plan["layouts"].values() for place in dims] + [place for place, _ in plan["sizes"]]
        named += [place for ints in plan["ints"].values() for place in ints.values()]
        del plan["distinct"][max(named) + 1 :]  # those that the ties alone have are the last

    loaded = netslim.load(edited(tmp_path, of_before))
    assert netslim.verify(loaded).passed
    (part,) = [part for part in loaded.why("stem.weight.0").parts if part.group]
    group = next(group for group in loaded.groups if group.name == part.group)
    assert {(chain.last.param, chain.last.dim) for chain in part.ties} == set(group.slots) - {("stem.weight", 0)}
    assert not any(chain.steps for chain in part.ties)
    assert str(loaded.why("head.bias")) == "head.bias dim 0 (5): frozen: model output"


def test_sharing_and_buffers_survive(path: Path) -> None:
    loaded = netslim.load(path)
    assert loaded.conv is loaded.again
    assert "shift" in dict(loaded.named_buffers())


def test_any_reader_of_safetensors_opens_it(net: netslim.SlimNet, path: Path) -> None:
    weights = load_file(path)
    assert weights.keys() - net.state_dict().keys() == {"shift"}
    assert torch.equal(weights["conv.weight"], net.conv.weight)


def test_weights_keep_their_bits_and_a_scalar_its_shape(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
            self.register_buffer("steps", torch.tensor(7))
            self.register_buffer("empty", torch.zeros(0, 4))
            self.register_buffer("turned", torch.arange(6.0).view(2, 3).t())
            self.register_buffer("nothing", None)
            with torch.no_grad():
                self.head.bias.copy_(torch.tensor([float("nan"), float("-inf"), -0.0, 1e-45]))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).mean((2, 3)))

    model = Odd()
    netslim.save(netslim.convert(model, IMAGES, prove=False), tmp_path / "odd.pt")
    loaded = netslim.load(tmp_path / "odd.pt").state_dict()
    for name, tensor in model.state_dict().items():
        assert loaded[name].shape == tensor.shape
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].contiguous().numpy().tobytes() == tensor.contiguous().numpy().tobytes()


def test_two_tensors_in_one_memory_are_said(net: netslim.SlimNet, tmp_path: Path) -> None:
    net.shift.data = net.scale.data[2:6]
    with pytest.raises(ArchiveError, match="share memory"):
        netslim.save(net, tmp_path / "net.pt")


def test_parts_of_one_memory_that_do_not_meet_are_stored_apart(net: netslim.SlimNet, tmp_path: Path) -> None:
    whole = torch.randn(16)
    net.norm.weight.data, net.norm.bias.data = whole[:8], whole[8:]
    netslim.save(net, tmp_path / "net.pt")
    loaded = netslim.load(tmp_path / "net.pt")
    assert torch.equal(torch.cat([loaded.norm.weight, loaded.norm.bias]), whole)
    assert loaded.norm.weight.untyped_storage().nbytes() == 32


def test_it_runs_where_the_model_does_not_exist(path: Path) -> None:
    code = f"import netslim, torch; print(netslim.load({str(path)!r})(torch.zeros(1, 3, 12, 12))['logits'].shape[1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=path.parent, check=False)
    assert done.stdout.strip() == "4", done.stderr


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="does not exist"):
        netslim.load(tmp_path / "none.pt")


@pytest.mark.parametrize("length", [0, 7, 8, 9, 2000, -1, -10])
def test_a_truncated_file_is_said(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ArchiveError, match=r"converted\.pt"):
        netslim.load(path)


def test_a_longer_file_is_said(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ArchiveError, match="damaged"):
        netslim.load(path)


def test_a_foreign_file_is_said(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(ArchiveError, match="is no converted network"):
        netslim.load(tmp_path / "other.pt")


def test_a_place_that_cannot_be_written_is_said(net: netslim.SlimNet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match=r"converted\.pt"):
        netslim.save(net, tmp_path / "file" / "converted.pt")
