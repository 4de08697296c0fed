"""Networks whose forward cannot be followed as a whole: their parts are, and the Python around them keeps running."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import netslim
from netslim.errors import ArchiveError, TraceError
from netslim.net.runtime import runtime
from netslim.proof.masked import tensors_of
from tests.archive.nets import opened, signed


class Picky(nn.Module):
    """Reads a value, wants targets in training mode, and uses a literal size of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 12, 1))
        self.fixed, self.loose, self.head = nn.Conv2d(12, 6, 1), nn.Conv2d(12, 10, 1), nn.Linear(16, 4)
        self.order = [self.loose, self.fixed]  # modules that Python holds beside the tree

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Any:
        if self.training and targets is None:
            raise ValueError("training needs targets")
        x = self.stem(x)
        if float(x.detach().mean()) > 1e6:
            x = x * 0
        x = x + self.body(x)
        loose, fixed = self.order
        assert loose is self.loose
        fixed = fixed(x).mean((2, 3)).view(-1, 6)
        logits = self.head(torch.cat([loose(x).mean((2, 3)), fixed], 1))
        return {"loss": (logits - targets).square().mean()} if self.training else {"logits": logits}


IMAGES = torch.randn(2, 3, 8, 8)


@pytest.fixture(scope="module")
def model() -> Picky:
    torch.manual_seed(0)
    return Picky().eval()


@pytest.fixture(scope="module")
def net(model: Picky) -> netslim.SlimNet:
    return netslim.convert(model, IMAGES)


def test_its_parts_are_followed(net: netslim.SlimNet) -> None:
    assert set(net.plan.regions) == {"stem", "body"}
    assert "training needs targets" in net.plan.refusal
    assert [g.name for g in net.groups] == ["stem.0", "body.0", "loose"]
    assert net.proof is not None
    assert net.proof.passed
    assert not net.proof.idle


def test_a_literal_size_in_python_stays_whole(net: netslim.SlimNet) -> None:
    why = str(net.why("fixed.weight"))
    assert "Python that cannot be followed" in why
    assert "test_regions.py" in why


def test_it_is_the_original_at_full_width(model: Picky, net: netslim.SlimNet) -> None:
    assert list(net.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        assert torch.equal(net(IMAGES)["logits"], model(IMAGES)["logits"])


def test_it_trains_a_sub_network_with_its_own_training_forward(net: netslim.SlimNet) -> None:
    trained = copy.deepcopy(net).train()
    with trained.sub(0.5):
        trained(IMAGES, targets=torch.randn(2, 4))["loss"].backward()
    grad = trained.get_parameter("body.0.weight").grad
    assert grad is not None
    assert grad[:8].abs().sum() > 0
    assert grad[8:].abs().sum() == 0


def outputs(net: nn.Module) -> list[Tensor]:
    with torch.no_grad():
        return tensors_of(net.eval()(IMAGES))


def test_a_copy_and_an_extracted_network_equal_the_sub_network(net: netslim.SlimNet) -> None:
    with net.sub(0.5):
        wanted = outputs(net)
    copied, small = copy.deepcopy(net), net.extract(0.5)
    with copied.sub(0.5):
        assert all(map(torch.equal, wanted, outputs(copied)))
    assert all(map(torch.equal, wanted, outputs(net.extract(0.5))))
    assert isinstance(small, Picky)
    assert small.get_parameter("body.0.weight").shape == (8, 6, 3, 3)
    assert not [name for name, module in small.named_modules() if "netslim" in type(module).__module__]


def test_a_copied_part_runs_at_the_width_that_it_was_copied_at(net: netslim.SlimNet) -> None:
    path = next(iter(runtime(net).regions))
    with torch.no_grad():
        for width in (1.0, 0.5):
            with net.sub(width):
                part, seen = net.get_submodule(path), list[Any]()
                hook = part.register_forward_pre_hook(lambda _module, args, seen=seen: seen.append(args))
                net.eval()(IMAGES)
                hook.remove()
                wanted, copies = tensors_of(part(*seen[0])), (copy.deepcopy(part), pickle.loads(pickle.dumps(part)))
            with net.sub(0.25):
                for copied in copies:
                    assert all(map(torch.equal, tensors_of(copied(*seen[0])), wanted))


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_it_can_be_pickled(net: netslim.SlimNet, width: float) -> None:
    with net.sub(width):
        other = pickle.loads(pickle.dumps(net))
    assert all(map(torch.equal, outputs(net), outputs(other)))
    with net.sub(0.5), other.sub(0.5):
        assert all(map(torch.equal, outputs(net), outputs(other)))


def test_it_is_loaded_only_when_trusted(net: netslim.SlimNet, tmp_path: Path) -> None:
    netslim.save(net, tmp_path / "net.pt")
    with pytest.raises(ArchiveError, match=r"needs code of its model \(.*Picky\).*--trust"):
        netslim.load(tmp_path / "net.pt")
    loaded = netslim.load(tmp_path / "net.pt", trust=True)
    with net.sub(0.5), loaded.sub(0.5):
        assert all(map(torch.equal, outputs(net), outputs(loaded)))


def test_a_file_without_its_code_runs_nothing(net: netslim.SlimNet, tmp_path: Path) -> None:
    netslim.save(net, tmp_path / "net.pt")
    document, tensors = opened(tmp_path / "net.pt")
    del tensors[document["python"][1]]
    document["python"] = None
    with pytest.raises(ArchiveError, match="neither a program of the whole network nor Python"):
        netslim.load(signed(tmp_path / "net.pt", document, tensors))


def test_python_that_cannot_be_pickled_is_said(tmp_path: Path) -> None:
    class Local(Picky):
        pass

    net = netslim.convert(Local().eval(), IMAGES, prove=False)
    with pytest.raises(ArchiveError, match="cannot be stored"):
        netslim.save(net, tmp_path / "net.pt")


def test_weights_on_meta_cannot_be_run_for_real() -> None:
    with torch.device("meta"), pytest.raises(TraceError, match="training needs targets"):
        netslim.convert(Picky().eval(), torch.empty(2, 3, 8, 8))


def test_a_region_that_takes_a_list_is_followed() -> None:
    class Neck(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Conv2d(12, 10, 1)

        def forward(self, maps: dict[str, list[Tensor]]) -> list[Tensor]:
            small, large = maps["maps"]
            return [self.mix(torch.cat([nn.functional.interpolate(small, size=large.shape[-2:]), large], 1)), small]

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.large, self.small, self.neck = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 4, 2, 2), Neck()
            self.head = nn.Conv2d(10, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            if x.detach().sum().item() == 0.5:
                raise ValueError
            mixed, _ = self.neck({"maps": [self.small(x), self.large(x)]})
            return self.head(mixed)

    net = netslim.convert(Two().eval(), IMAGES)
    assert set(net.plan.regions) == {"neck"}
    assert sorted(g.name for g in net.groups) == ["large", "neck.mix", "small"]
    with net.sub(0.5):
        wanted = outputs(net)
    assert all(map(torch.equal, wanted, outputs(net.extract(0.5))))


class Decided(nn.Module):
    """Python that decides by values calls a layer."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Conv2d(3, 8, 3, padding=1), layer, nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        h = 2 * h if h.mean() > 1e9 else h
        if isinstance(self.layer, nn.RNNBase):
            return self.head(self.layer(h.flatten(2).mT)[0].mean(1))
        return self.head(self.layer(h).mean((2, 3)))


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def doubled(layer: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", Doubled())


def shifted(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
    return (given[0] + 1,)


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_pre_hook(shifted)
    return layer


LAYERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "LSTM": (lambda: nn.LSTM(8, 12, batch_first=True), 12),
    "LSTM with a projection": (lambda: nn.LSTM(8, 12, batch_first=True, proj_size=6), 6),
    "GRU in both directions": (lambda: nn.GRU(8, 6, num_layers=2, batch_first=True, bidirectional=True), 12),
    "LSTM with a weight norm": (
        lambda: parametrizations.weight_norm(nn.LSTM(8, 12, batch_first=True), "weight_hh_l0"), 12
    ),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Conv2d(8, 12, 3)), 12),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Conv2d(8, 12, 3)), 12),
    "a parametrization of one's own": (lambda: doubled(nn.Conv2d(8, 12, 3)), 12),
    "old spectral norm": (lambda: nn.utils.spectral_norm(nn.Conv2d(8, 12, 3)), 12),
    "old norms inside": (lambda: nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(8, 12, 3)), nn.ReLU()), 12),
    "a hook": (lambda: hooked(nn.Conv2d(8, 12, 3)), 12),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch's own, on the CPU
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_that_computes_its_weights_is_kept_in_the_file_of_a_network_with_python(
    name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    layer, width = LAYERS[name]
    model = Decided(layer(), width).eval()
    net = netslim.convert(model, IMAGES).eval()
    assert net.plan.refusal
    assert bool(net.groups) == (name not in ("old spectral norm", "a hook"))
    netslim.save(net, tmp_path / "net.pt")
    loaded = netslim.load(tmp_path / "net.pt", trust=True)
    for either in (net, loaded):
        assert torch.equal(either(IMAGES), model(IMAGES))
    with torch.no_grad(), net.sub(0.5), loaded.sub(0.5):
        assert torch.equal(net(IMAGES), loaded(IMAGES))
    loaded.train()(IMAGES).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in loaded.parameters())


class Hooked(nn.Module):
    """Its first forward installs a hook, which keeps what a later line reads."""

    ready, seen = False, torch.zeros(1)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def keep(self, _module: nn.Module, _args: object, out: Tensor) -> None:
        self.seen = out

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            self.conv.register_forward_hook(self.keep)
            self.ready = True
        return self.head(self.conv(x).mean((2, 3))) + self.seen.mean()


def test_a_hook_that_forward_installs_works_in_every_call_and_is_not_left_on_the_model() -> None:
    model, images = Hooked().eval(), torch.randn(2, 3, 8, 8)
    net = netslim.convert(model, images).eval()
    assert not model.conv._forward_hooks
    assert not model.ready
    for given in (images, 2 * images):
        torch.testing.assert_close(net(given), copy.deepcopy(model)(given))
