"""Files that need no netslim to be read."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import netslim
from netslim.errors import ArchiveError
from netslim.export import WRITERS, faithful, write_module, write_onnx, write_state_dict
from netslim.export.exported import DIFFERS, Trial, written
from netslim.export.runtimes import session
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


class Rows(nn.Module):
    """Takes images of any size, or of the one that its own parameter has."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.conv, self.rows = nn.Conv2d(3, 8, 3, padding=1), nn.Parameter(torch.randn(8, *size))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x) + self.rows))


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.parametrize(("size", "expected"), [((1, 1), ("batch", "height", "width")), ((8, 16), ("batch",))])
def test_sizes_are_open_where_the_network_takes_others_and_the_summary_says_why_not(
    suffix: str, size: tuple[int, int], expected: tuple[str, ...], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    net = netslim.convert(Rows(size), torch.randn(2, 3, 8, 16), prove=False)
    small, path = net.extract(0.5), tmp_path / f"slim{suffix}"
    done = WRITERS[suffix].write(small, net.plan.inputs, path, NOTES)
    assert done.open == expected
    assert ("at odd sizes" in done.compared) is ("height" in expected)
    assert "at other batches" in done.compared
    run = session(path) if suffix == ".onnx" else torch.export.load(path).module()
    assert run is not None
    for count, side in ((5, (8, 16)), (1, (9, 31) if "width" in expected else (8, 16))):
        images = torch.randn(count, 3, *side)
        torch.testing.assert_close(next(iter(tree_leaves(run(images)))), small(images), rtol=1e-4, atol=1e-4)
    if "width" not in expected:
        assert "8 in dimension 2" in done.fixed["height"]
        with pytest.raises(Exception, match=r"(?i)dimension|guard|expected"):
            run(torch.randn(2, 3, 9, 16))


class Halving(nn.Module):
    """Large images are made smaller first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] > 300:
            x = x[..., ::2]
        return self.head(torch.relu(self.conv(x)))


@pytest.mark.parametrize(
    ("suffix", "expected"), [(".pt2", ("batch", "height", "width")), (".onnx", ("batch", "height"))]
)
def test_sizes_that_take_another_way_are_refused_by_the_file_too(
    suffix: str, expected: tuple[str, ...], tmp_path: Path
) -> None:
    """A program asks for them when it runs; ONNX cannot, and keeps to the example's."""
    pytest.importorskip("onnxruntime")
    net = netslim.convert(Halving(), torch.randn(2, 3, 16, 16), prove=False)
    path = tmp_path / f"slim{suffix}"
    done = WRITERS[suffix].write(net.extract(0.5), net.plan.inputs, path, NOTES)
    run = session(path) if suffix == ".onnx" else torch.export.load(path).module()
    assert run is not None
    with pytest.raises(Exception, match=r"(?i)dimension|guard|expected|assert"):
        run(torch.randn(2, 3, 16, 400))
    assert done.open in (expected, ("batch",))


class Alone(nn.Module):
    """What it does with one image alone, it does with several not, or other exporters cannot follow."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.conv, self.head = kind, nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.conv(x))
        if self.kind == "branch":
            h = h * 2 if x.shape[0] == 1 else h
        elif self.kind == "loop":
            h = torch.stack([2 * each for each in h])
        elif self.kind == "rounded":
            h = h * round(x.shape[0] * 1.5)
        return self.head(h)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.parametrize("kind", ["branch", "loop", "rounded"])
def test_a_file_of_a_network_followed_with_one_image_does_what_the_network_does(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    """At any batch both give the same, or both refuse it."""
    pytest.importorskip("onnxruntime")
    net = netslim.convert(Alone(kind), torch.randn(1, 3, 8, 8), prove=False, fixed_size=kind == "loop")
    small, path = net.extract(0.5).eval(), tmp_path / f"slim{suffix}"
    done = WRITERS[suffix].write(small, net.plan.inputs, path, NOTES)
    assert done.compared
    assert done.open is not None
    assert "batch" not in done.open
    run = session(path) if suffix == ".onnx" else torch.export.load(path).module()
    assert run is not None
    ran = 0
    for count in (1, 2, 3):
        images = torch.randn(count, 3, 8, 8)
        try:
            found = next(iter(tree_leaves(run(images))))
        except Exception:  # whatever a runtime refuses with
            continue
        ran += 1
        torch.testing.assert_close(found, small(images), rtol=1e-4, atol=1e-4)
    assert ran == 1


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (lambda x: x.shape[-1] != 16, ("batch",)),
        (lambda x: x.shape[0] == 1, ()),
        (lambda x: x.shape[0] > 2 or x.shape[2] != 16, ()),
        (lambda x: x.shape[0] == 1 and x.shape[2] == 16, ("batch", "height", "width")),
    ],
)
def test_sizes_at_which_a_file_is_another_network_are_not_left_open(
    wrong: Callable[[Tensor], bool], expected: tuple[str, ...], tmp_path: Path
) -> None:
    """Planted: what is read back is wrong at some sizes. The last of these lie at none that is compared."""
    net = netslim.convert(Rows((1, 1)), torch.randn(2, 3, 16, 16), prove=False)
    small, path = net.extract(0.5).eval(), tmp_path / "slim.pt2"

    def saved(trial: Trial, temporary: Path) -> Callable[[Tensor], Tensor]:
        temporary.write_text(" ".join(trial.sizes.names))
        return lambda x: small(x) + float(wrong(x))

    found = written(small, net.plan.inputs, path, saved, "it cannot be", tolerance=1e-4)
    assert (found.open, tuple(path.read_text().split())) == (expected, expected)
    assert {found.fixed[name] for name in {"batch", "height", "width"} - set(expected)} <= {DIFFERS}


def test_what_the_system_refuses_is_not_tried_again(tmp_path: Path) -> None:
    net = netslim.convert(Rows((1, 1)), torch.randn(2, 3, 16, 16), prove=False)
    tried: list[Trial] = []

    def saved(trial: Trial, temporary: Path) -> None:
        tried.append(trial)
        temporary.write_text("a part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ArchiveError, match="No space left"):
        written(net.extract(0.5), net.plan.inputs, tmp_path / "slim.pt2", saved, "it cannot be", tolerance=1e-4)
    assert len(tried) == 1
    assert not list(tmp_path.iterdir())


def test_without_onnxruntime_the_file_is_written_with_the_batch_alone_open_and_the_summary_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    pooled = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    done = write_onnx(pooled, {"x": Input((2, 1, 8, 8))}, tmp_path / "slim.onnx")
    assert (done.compared, done.unchecked) == ("", "onnxruntime is not installed")
    assert done.open == ("batch",)
    assert "nothing shows the file to be right" in done.fixed["height"]
    assert (tmp_path / "slim.onnx").is_file()


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
    WRITERS[suffix].check(tmp_path / f"slim{suffix}")
    path = tmp_path / f"slim{suffix}"
    inputs, notes = {"x": Input((2, 3))}, NOTES
    small = netslim.convert(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.zeros(2, 3)).extract(0.5)
    assert WRITERS[suffix].write(small, inputs, path, notes)
    assert any(KEY.encode() in (path / name).read_bytes() for name in WRITERS[suffix].files)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_that_gives_back_another_network_is_not_written(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: whatever is read back, its weights are not those that were written."""
    if WRITERS[suffix].needs:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    net = netslim.convert(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.zeros(2, 3), prove=False)
    small, seen = net.extract(0.5), faithful.seen

    def other(module: nn.Module, given: Any, mode: bool) -> faithful.Seen:
        found = seen(module, given, mode)
        return faithful.Seen([2 * out for out in found.outputs], {}, {}) if module is small else found

    monkeypatch.setattr(faithful, "seen", other)
    with pytest.raises(ArchiveError, match=r"has other outputs in evaluation mode; nothing was written"):
        WRITERS[suffix].write(small, net.plan.inputs, tmp_path / f"slim{suffix}", NOTES)
    assert not list(tmp_path.iterdir())


NOTES = Notes(0.5, 1, (), True, ((3,),), NONE)


def test_a_module_that_holds_netslims_own_classes_is_not_written(tmp_path: Path) -> None:
    net = netslim.convert(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.zeros(2, 3), prove=False)
    with pytest.raises(ArchiveError, match="which a file for others cannot"):
        WRITERS[".pt"].write(nn.Sequential(net), net.plan.inputs, tmp_path / "slim.pt", NOTES)
    assert not list(tmp_path.iterdir())


def test_python_of_the_models_own_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="keeps Python of its own, which cannot be written out"):
        WRITERS[""].write(Words(), {}, tmp_path / "slim", NOTES)


class Single(nn.Module):
    """Its batch norm cannot train on the one value that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).reshape(1, 8))


def test_a_network_that_trains_on_no_random_input_is_compared_in_evaluation(tmp_path: Path) -> None:
    net = netslim.convert(Single().eval(), torch.zeros(1, 3, 1, 1), prove=False)
    said = WRITERS[".pt"].write(net.extract(0.5), net.plan.inputs, tmp_path / "slim.pt", NOTES)
    assert said.compared == "outputs, gradients and buffers in evaluation mode"


LAYERS = {
    "transposed": lambda: nn.ConvTranspose2d(8, 8, 3, stride=2, output_padding=1, padding_mode="zeros"),
    "same": lambda: nn.Conv2d(8, 8, 3, padding="same", padding_mode="circular"),
    "affine": lambda: nn.BatchNorm2d(8, eps=0.1, momentum=None, affine=False),
    "untracked": lambda: nn.BatchNorm2d(8, track_running_stats=False),
    "groups": lambda: nn.Sequential(nn.GroupNorm(2, 8), nn.PReLU(8), nn.Hardtanh(-2, 2), nn.GELU("tanh")),
    "layer norm": lambda: nn.LayerNorm([8, 4, 4], bias=False),
    "resized": lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d((None, 3)), nn.Softmax(1)),
    "half": lambda: nn.Conv2d(8, 8, 1).double(),
    "unbiased": lambda: nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.Identity(), nn.Dropout(0.2, inplace=True)),
    "changed": lambda: _with(nn.LeakyReLU(0.1), negative_slope=0.5),
    "momentum": lambda: _with(nn.BatchNorm2d(8), momentum=0.5, eps=0.25),
}


def _with(layer: nn.Module, **settings: Any) -> nn.Module:
    for name, value in settings.items():
        setattr(layer, name, value)
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_built_as_they_are(name: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), LAYERS[name](), nn.Flatten(2))
    if name == "half":
        model = model.double()
    net = netslim.convert(model, torch.randn(2, 3, 4, 4, dtype=next(model.parameters()).dtype), prove=False)
    for width in (1.0, 0.5):
        assert WRITERS[""].write(net.extract(width), net.plan.inputs, tmp_path / "slim", NOTES)
        assert "netslim." not in (tmp_path / "slim" / "model.py").read_text()
