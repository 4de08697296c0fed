"""Children, parameters, inputs and values may be called anything that Python allows: none of it reaches the source."""

from __future__ import annotations

import builtins
import io
import keyword
import linecache
import tokenize
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.export.folder import write_folder
from netslim.net.runtime import runtime

IMAGES = torch.randn(2, 3, 8, 8)
NAMES = (
    "class", "lambda", "import", "None", "__x", "__class__", "\uff43onv", "\ufb01", "größe", "特徴", "self", "torch",
    "take", "words", "sizes", "input", "eval", "v0", "with space", "a-b", "0", "origin", "forward", "append", "graph",
    "code",
)  # fmt: skip


class Called(nn.Module):
    """A layer, and within it a parameter, of a given name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.outer = name, nn.Module()
        self.outer._modules[name] = nn.Conv2d(3, 8, 3, padding=1)
        self._modules[name] = nn.Module()
        self._modules[name]._parameters[name] = nn.Parameter(torch.randn(8, 1, 1))
        self.head = nn.Linear(8, 4)

    def forward(self, slice: Tensor) -> Any:  # noqa: A002
        x = self.outer._modules[self.name](slice) * self._modules[self.name]._parameters[self.name]
        return self.head(x.float().relu().mean((2, 3)))


def source(net: netslim.SlimNet) -> str:
    run = runtime(net).run
    assert run is not None
    return "".join(linecache.getlines(run[False].__code__.co_filename))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_changes_nothing(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Called(name).eval()
    net = netslim.convert(model, IMAGES).eval()
    assert [group.size for group in net.groups] == [8]
    assert list(net.state_dict()) == list(model.state_dict())
    netslim.save(net, tmp_path / "net.pt")
    loaded = netslim.load(tmp_path / "net.pt")
    with torch.no_grad():
        for other in (net, loaded, net.extract()):
            assert torch.equal(other(IMAGES), model(IMAGES))
        with net.sub(0.5):
            narrow = net(IMAGES)
        assert torch.allclose(loaded.extract(0.5)(IMAGES), narrow, atol=1e-6)
    assert write_folder(loaded.extract(0.5), loaded.plan.inputs, tmp_path / "slim")


@pytest.mark.parametrize("name", NAMES)
def test_only_plain_names_stand_in_the_source(name: str) -> None:
    text = source(netslim.convert(Called(name), IMAGES, prove=False))
    ours = {"self", "torch", "take", "words", "sizes", "forward"}
    unsafe = keyword.iskeyword(name) or hasattr(builtins, name) or name.startswith("__") or not name.isascii()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and token.string not in {*ours, "None"}:
            assert token.string.isascii()
            assert token.string != name or not unsafe
