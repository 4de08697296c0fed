"""A network whose children are called what a converted network calls its own: nothing that reads it mistakes them."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import netslim
from gradaug.config.sections import RegularizerSettings
from gradaug.evaluation.score import subnetworks
from gradaug.regularizers.hooks import Regularizers
from gradaug.subnets.space import Space
from gradaug.training.estimate import saved_bytes
from netslim.net.runtime import runtime
from netslim.notes import FULL, is_cut, notes_of, statistics
from netslim.report import conversion, conversion_dict, inspection, inspection_dict
from netslim_cli.main import netslim as command

OURS = sorted(n for n in {*vars(netslim.SlimNet)} - set(dir(nn.Module)) if not n.startswith("_"))
NAMES = [*OURS, "state", "width", "leaves", "run", "eval", "parameters", "state_dict"]
PARTS = ("groups", "blocks", "frozen")


class Called(nn.Module):
    """A residual network: the body's children, and others at the root, have the given names in turn."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self.stem, self.norm, self.head = nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.Linear(12, 10)
        for name, ours in zip(names, NAMES, strict=True):
            self._modules[name] = nn.Conv2d(12, 12, 1) if ours in ("plan", "proof") else Inner()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        for name in self.names:
            layer = self._modules[name]
            assert layer is not None
            x = (x + layer(x)).relu()
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


class Inner(nn.Module):
    """Its children have the names of what a plan holds."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.groups = nn.Conv2d(12, 8, 1), nn.Conv2d(8, 12, 1)
        self.blocks = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.groups(self.blocks(self.inputs(x)).relu())  # type: ignore[no-any-return]


def converted(names: list[str]) -> netslim.SlimNet:
    torch.manual_seed(0)
    return netslim.convert(Called(names), torch.randn(2, 1, 12, 12)).eval()


@pytest.fixture(scope="module")
def pair() -> tuple[netslim.SlimNet, netslim.SlimNet]:
    """The same network with children of such names, and of others."""
    return converted(NAMES), converted([f"layer{i}" for i in range(len(NAMES))])


def renamed(value: object) -> Any:
    """What was found, with the other network's names."""
    text = json.dumps(value, default=str)
    for i, name in reversed(list(enumerate(NAMES))):
        text = text.replace(f"layer{i}.", f"{name}.").replace(f'"layer{i}"', f'"{name}"')
    return json.loads(text)


@pytest.fixture(autouse=True)
def _is_odd(pair: tuple[netslim.SlimNet, netslim.SlimNet]) -> None:
    """Every name is taken, and a plain layer has an attribute of its own called `groups`."""
    assert NAMES[-1] in pair[0]._modules
    assert isinstance(pair[0]._modules["plan"], nn.Conv2d)


def test_it_is_reported_as_under_other_names(pair: tuple[netslim.SlimNet, netslim.SlimNet]) -> None:
    odd, other = pair
    assert conversion(odd, "odd")
    assert inspection(odd, PARTS)
    for tell in (conversion_dict, lambda net: inspection_dict(net, PARTS)):
        found, wanted = tell(odd), renamed(tell(other))
        for told in (found, wanted):
            told.pop("frozen")
            told.pop("proof", None)
        assert json.loads(json.dumps(found)) == wanted
    assert runtime(odd).proof is not None
    assert netslim.verify(odd).passed
    assert (
        odd.plan.groups == tuple(odd.groups) == runtime(odd).plan.groups
    )  # a layer's own attribute does not stand before it


def test_it_is_noted_scored_and_estimated(pair: tuple[netslim.SlimNet, netslim.SlimNet]) -> None:
    odd, other = pair
    assert is_cut(odd, 0.5, {}, 1)
    assert not is_cut(odd, 1.0, {}, 1)
    assert statistics(odd, 0.5, {}, 1) == FULL
    batches = [(torch.randn(4, 1, 12, 12), torch.arange(4))] * 2
    rows, wanted = (subnetworks(net, [0.5], batches, batches, skips=[2]) for net in pair)
    assert [(r.params, r.flops, r.skipped) for r in rows] == [(r.params, r.flops, r.skipped) for r in wanted]
    assert saved_bytes(odd) == saved_bytes(other)
    space = Space.for_network(odd)
    assert len(space.blocks) == len(runtime(other).plan.blocks) > 0
    space.require_of(odd)


@pytest.mark.parametrize("name", ["droppath", "dropblock", "shakedrop"])
def test_its_blocks_take_regularizers(pair: tuple[netslim.SlimNet, netslim.SlimNet], name: str) -> None:
    settings = RegularizerSettings(regularizers=(name,))
    on, wanted = (Regularizers(settings, 10).on_blocks(net) for net in pair)
    assert len(on) == len(wanted) > 0


def test_it_is_stored_and_extracted(pair: tuple[netslim.SlimNet, netslim.SlimNet], tmp_path: Path) -> None:
    odd, images = pair[0], torch.randn(2, 1, 12, 12)
    path, small = tmp_path / "converted.pt", tmp_path / "small.pt"
    netslim.save(odd, path)
    read = netslim.load(path)
    assert runtime(read).plan == runtime(odd).plan
    assert runtime(read).proof == runtime(odd).proof
    for arguments in ("inspect", "verify", f"extract --width 0.5 -o {small}"):
        found = CliRunner().invoke(command, [*arguments.split(), str(path)])
        assert found.exit_code == 0, found.output
    notes = notes_of(small)
    assert notes is not None
    assert notes.shapes == ((1, 12, 12),)
    with odd.sub(0.5):
        wanted = odd(images)
    torch.testing.assert_close(torch.load(small, weights_only=False)(images), wanted)


class Keeping(nn.Module):
    """A layer of the model's own that keeps something, under the word that slim layers have for what they keep."""

    kept = 1.5

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.kept if float(x.detach().mean()) < 1e6 else x  # type: ignore[no-any-return]


def test_a_layer_of_the_models_own_may_keep_something() -> None:
    torch.manual_seed(0)
    model, images = (
        nn.Sequential(nn.Conv2d(3, 8, 1), Keeping(), nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())).eval(),
        torch.randn(2, 3, 4, 4),
    )
    net = netslim.convert(model, images).eval()
    assert runtime(net).plan.whole is None
    assert torch.equal(net(images), model(images))
    assert set(runtime(net).layers) == {"0", "1.conv", "2.0"}
    assert isinstance(net.get_submodule("1"), Keeping)
    assert net.get_submodule("1").kept == 1.5


MEMBERS = {name for name, value in vars(netslim.SlimNet).items() if isinstance(value, property)}
ROOT = Path(__file__).parent.parent


def reads(text: str) -> list[str]:
    """Reads of what a child may stand before: a property of a converted network, from something called a network."""
    found = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Attribute) and n.attr in MEMBERS]
    return [ast.unparse(n) for n in found if ast.unparse(n.value).rpartition(".")[2].removesuffix("()") in _NETWORKS]


_NETWORKS = {"net", "slim_net", "tested", "copied", "result", "network"}


@pytest.mark.parametrize("package", ["netslim", "gradaug", "cli"])
def test_the_packages_read_networks_through_their_runtime(package: str) -> None:
    assert reads("a = bench.net.plan") == ["bench.net.plan"]
    for path in (ROOT / package).rglob("*.py"):
        assert not reads(path.read_text()), f"{path}: a child may have this name; ask runtime(net)"
