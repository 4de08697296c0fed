"""converted.pt is data: it round-trips, loads anywhere, and nothing that it brings is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.errors import ArchiveError

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


def test_a_file_of_format_1_still_loads(net: netslim.SlimNet, tmp_path: Path) -> None:
    """Its steps do not say whether autocast may choose their dtypes."""
    netslim.save(net, tmp_path / "new.pt")
    data = torch.load(tmp_path / "new.pt", weights_only=True)
    for _, _, *programs in data["plan"]["regions"]:
        for program in programs:
            for node in program[0]:
                node.pop()
    torch.save(data | {"version": 1}, tmp_path / "old.pt")
    with torch.no_grad():
        assert torch.equal(netslim.load(tmp_path / "old.pt")(IMAGES)["logits"], net(IMAGES)["logits"])


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


def test_sharing_and_buffers_survive(path: Path) -> None:
    loaded = netslim.load(path)
    assert loaded.conv is loaded.again
    assert "shift" in dict(loaded.named_buffers())


def test_torch_opens_it_as_plain_data(path: Path) -> None:
    assert torch.load(path, weights_only=True)["format"] == "netslim"


def test_it_runs_where_the_model_does_not_exist(path: Path) -> None:
    code = f"import netslim, torch; print(netslim.load({str(path)!r})(torch.zeros(1, 3, 12, 12))['logits'].shape[1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=path.parent, check=False)
    assert done.stdout.strip() == "4", done.stderr


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="does not exist"):
        netslim.load(tmp_path / "none.pt")


@pytest.mark.parametrize("length", [0, 10, 2000, -10])
def test_a_truncated_file_is_said(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ArchiveError, match=r"converted\.pt"):
        netslim.load(path)


def test_a_foreign_file_is_said(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(ArchiveError, match="is no converted network"):
        netslim.load(tmp_path / "other.pt")


def tampered(path: Path, change: Any) -> Path:
    data = torch.load(path, weights_only=True)
    change(data)
    torch.save(data, path)
    return path


def first(data: Any, op: str) -> list[Any]:
    return next(node for node in data["plan"]["regions"][0][2][0] if node[1] == op)


def first_call(data: Any) -> list[Any]:
    return first(data, "call")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=99), "newer netslim"),
        (lambda d: first_call(d).__setitem__(2, "os.system"), "not a function that netslim runs"),
        (lambda d: first_call(d).__setitem__(0, "self"), "no plain identifier"),
        (lambda d: first_call(d).__setitem__(0, "x; import os"), "no plain identifier"),
        (lambda d: first_call(d).__setitem__(1, "exec"), "a step of kind 'exec'"),
        (lambda d: first(d, "module").__setitem__(2, "__class__"), "does not hold"),
        (lambda d: d["modules"][1].__setitem__(1, "os.system"), "not one that netslim builds"),
        (lambda d: d["plan"].pop("groups"), "do not fit together"),
        (lambda d: d["plan"]["regions"][0][2][0].pop(), "does not end in its one output"),
    ],
)  # fmt: skip
def test_a_tampered_file_runs_nothing(path: Path, change: Any, message: str) -> None:
    with pytest.raises(ArchiveError, match=message):
        netslim.load(tampered(path, change))


def test_a_place_that_cannot_be_written_is_said(net: netslim.SlimNet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match=r"converted\.pt"):
        netslim.save(net, tmp_path / "file" / "converted.pt")


# ------------------------------------------------------------------------- what a file must not be able to bring along


def code_for_a_number(data: Any) -> None:
    """The cut that a parameter is read with is an index, printed into the source."""
    first(data, "param")[3] = ["tuple", [["value", "print('run') or 0"]]]


def attributes_for_a_path(data: Any) -> None:
    """A parameter whose path leads through Python's attributes rather than through modules."""
    plain = {"origin": "", "training": False}
    data["modules"].append(["conv.forward", "Tree", "", plain, [], []])
    data["modules"].append(["conv.forward.__func__", "Tree", "", plain, [["__globals__", "scale", True]], []])
    first(data, "param")[2:4] = ["conv.forward.__func__.__globals__", ["tuple", []]]


def a_name_of_python(data: Any) -> None:
    """A value that no step of the program has made."""
    first(data, "output")[3] = ["tuple", [["ref", "eval"]]]


def a_hook(data: Any) -> None:
    next(m for m in data["modules"] if m[0] == "conv")[3]["_forward_hooks"] = {}


def a_module_path(data: Any) -> None:
    first(data, "module")[2] = "conv.__class__"


def a_new_line_in_a_comment(data: Any) -> None:
    first(data, "call")[5] = "net.py:3\n    raise SystemExit"


def a_name_for_a_keyword(data: Any) -> None:
    first(data, "call")[4] = ["dict", [["a=eval('1'), b", ["value", 1]]]]


CHANGES = [a_hook, a_module_path, a_name_for_a_keyword, code_for_a_number, attributes_for_a_path, a_name_of_python]


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_brings_no_code(path: Path, change: Any) -> None:
    with pytest.raises(ArchiveError):
        netslim.load(tampered(path, change))


def test_a_comment_stays_a_comment(path: Path) -> None:
    assert netslim.load(tampered(path, a_new_line_in_a_comment))(IMAGES)["logits"].shape == (2, 4)
