"""Training passes run compiled: what they give is the same, in as many graphs as were told, and never in silence."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import netslim
from gradaug import GradAug
from gradaug.subnets.sampler import Draw, draw
from gradaug.training import compilation
from gradaug.training.compilation import Compilation, example, passes
from gradaug.training.progress import Silent
from netslim.errors import InputError
from netslim.net.runtime import runtime
from netslim.versions import COMPILES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gradaug import TrainConfig

pytestmark = [
    pytest.mark.skipif(not COMPILES, reason="this torch does not compile converted networks"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),  # dynamo looks at it
]

LABELS = torch.tensor([1, 0, 9, 4, 4, 7])
FOLLOWED, DIFFERENTIATED = "eager", "aot_eager"
"""Parts of torch.compile: what follows a piece, and that with its backward too. Kernels take seconds each to make."""


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        y += x
        return self.act(y)


class Blocks(nn.Module):
    """Blocks with batch norm, then one with what ConvNeXt has; everything in place that can be."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 16, 3, padding=1), nn.Sequential(Block(16), Block(16))
        self.depthwise, self.norm = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.LayerNorm(16)
        self.up, self.down, self.scale = nn.Linear(16, 24), nn.Linear(24, 16), nn.Parameter(torch.ones(16) / 2)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1) * 1.5)
        y = self.down(torch.nn.functional.gelu(self.up(y) + 1.0)) * self.scale
        return self.fc((x + y.permute(0, 3, 1, 2)).mean((2, 3)))


@pytest.fixture
def made() -> netslim.SlimNet:
    torch.manual_seed(0)
    return netslim.convert(Blocks(), torch.randn(2, 3, 12, 12), prove=False).double().train()


def images(count: int = 6, side: int = 12) -> Tensor:
    return torch.randn(count, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def step_of(net: netslim.SlimNet, **settings: object) -> GradAug:
    return GradAug(net, "both", alpha=0.5, round_to=2, resolutions=(12, 10, 9), survival=0.5, **settings)  # type: ignore[arg-type]


def after(net: netslim.SlimNet, take: GradAug, count: int = 6) -> list[Tensor]:
    """Gradients and statistics after a step with sub-networks of all kinds."""
    first, second = (block.name for block in net.blocks[:2])
    draws = (Draw(0.9, (), 12, 2), Draw(0.7, (first,), 10, 2), Draw(0.5, (first, second), 9, 2))
    net.zero_grad()
    take.backward(images(count), LABELS[:count], draws)
    return [*(parameter.grad for parameter in net.parameters() if parameter.grad is not None), *net.buffers()]


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces as there, with batch norm in them."""
    monkeypatch.setattr(compilation, "device_of", lambda _: torch.device("meta"))


@pytest.mark.parametrize("track", [False, True])
def test_a_compiled_step_has_the_gradients_and_statistics_of_any_other(
    track: bool, made: netslim.SlimNet, on_a_gpu: None
) -> None:
    other = copy.deepcopy(made)
    compiled = Compilation(made, backend=DIFFERENTIATED)
    wanted = after(other, step_of(other, track_stats=track))
    torch.testing.assert_close(after(made, step_of(made, track_stats=track)), wanted, rtol=1e-9, atol=1e-11)
    assert compiled.graphs
    assert not compiled.failed


def test_scattered_channels_get_their_statistics_back(made: netslim.SlimNet, on_a_gpu: None) -> None:
    other = copy.deepcopy(made)
    Compilation(made, backend=FOLLOWED)
    ranking = {group.name: list(range(0, group.size, 2)) + list(range(1, group.size, 2)) for group in made.groups}
    for net in (made, other):
        with net.sub(0.5, ranking=ranking, track_running_stats=True):
            net(images()).sum().backward()
    for mine, its in zip(made.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, its)


def test_the_warm_up_compiles_what_steps_need(made: netslim.SlimNet) -> None:
    """At any width, depth and resolution, and at another number of images."""
    take, compiled, shown = step_of(made), Compilation(made, backend=FOLLOWED), list[tuple[int, int]]()
    told = compiled.warm_up(images(3), take.space, shown=lambda done, of: shown.append((done, of)))
    assert told.startswith(f"compiled {compiled.graphs} graphs of {len(compiled.pieces.known)} pieces")
    assert [done for done, _ in shown] == list(range(shown[-1][1] + 1))
    before = compiled.graphs
    for number in range(4):
        take.backward(images(6 - number), LABELS[: 6 - number], draw(take.space, 0, number))
    assert compiled.graphs == before
    assert compiled.news() == []


def test_the_same_steps_are_compiled_once(made: netslim.SlimNet, on_a_gpu: None) -> None:
    compiled = Compilation(made, backend=FOLLOWED)
    runtime(made).run  # noqa: B018 - printed
    steps = [piece.steps for piece in compiled.pieces.known.values()]
    assert steps.count("BatchNorm2d, ReLU") == 1, steps  # of two blocks


def test_the_warm_up_changes_nothing(made: netslim.SlimNet, on_a_gpu: None) -> None:
    before, random = [buffer.clone() for buffer in made.buffers()], torch.get_rng_state()
    limit, symbols = torch._dynamo.config.recompile_limit, torch.fx.experimental._config.use_duck_shape
    made.eval()
    Compilation(made, backend=FOLLOWED).warm_up(images(), step_of(made).space, track=True)
    for mine, its in zip(made.buffers(), before, strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in made.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module.training for module in made.modules())
    assert (torch._dynamo.config.recompile_limit, torch.fx.experimental._config.use_duck_shape) == (limit, symbols)


def test_what_has_too_many_graphs_runs_uncompiled_and_says_so(
    made: netslim.SlimNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "LIMIT", 1)
    other = copy.deepcopy(made)
    compiled = Compilation(made, backend=FOLLOWED)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = [after(made, step_of(made)) for _ in range(2)][-1]
    said = [str(warning.message) for warning in caught if "run as it is" in str(warning.message)]
    assert len(said) == len(compiled.failed) > 0  # once each
    assert any(steps in said[0] for steps in compiled.failed)
    after(other, step_of(other))
    torch.testing.assert_close(found, after(other, step_of(other)), rtol=1e-9, atol=1e-11)


def test_a_machine_that_compiles_nothing_is_one_sentence(
    made: netslim.SlimNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = Compilation(made, backend=FOLLOWED)

    def broken(*_: object) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(compiled, "_backend", broken)
    with (
        pytest.warns(UserWarning, match="not compiled, and run as it is from here on: "),
        pytest.raises(InputError, match=r"no C\+\+ compiler.*leave --compile out"),
    ):
        compiled.warm_up(images(), step_of(made).space)


def test_evaluation_and_copies_run_as_they_are(made: netslim.SlimNet) -> None:
    compiled = Compilation(made, backend=FOLLOWED)
    other = copy.deepcopy(made)
    with torch.no_grad():
        torch.testing.assert_close(made(images()), other(images()), rtol=0, atol=0)
    made.eval()(images()).sum().backward()
    other(images()).sum().backward()
    made.train()
    with FlopCounterMode(display=False) as counter:  # torch.compile runs under no such mode
        made(images()).sum().backward()
    assert counter.get_total_flops()
    assert compiled.graphs == 0


def test_a_run_compiles_before_its_first_step_and_says_so(
    run: Callable[..., tuple[Any, Any]], short: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Compilation.__init__, "__kwdefaults__", {"synchronised": False, "backend": FOLLOWED})
    monkeypatch.setattr("netslim.net.piecing.LEAST", 1)  # as this network is small

    class Shown(Silent):
        lines: ClassVar[list[str]] = []
        bar: ClassVar[list[int]] = []

        def note(self, text: str) -> None:
            self.lines.append(text)

        def compiling(self, done: int, of: int) -> None:
            self.bar.append(done)

        def start(self, *_: int) -> None:
            self.lines.append("start")

    results = [run(replace(short, compile=on), tmp_path / str(on), progress=Shown())[1] for on in (False, True)]
    said = [line.startswith("compiled") for line in Shown.lines]
    assert sum(said) == 1
    assert Shown.lines[said.index(True) + 1] == "start"
    assert Shown.bar
    assert results[0].after.loss == pytest.approx(results[1].after.loss, rel=1e-3)


def test_images_to_warm_up_on_are_few_on_a_cpu(made: netslim.SlimNet) -> None:
    assert example(made, 3, None).shape == (3, 3, 12, 12)
    assert example(made, 64, True).shape == (8, 3, 12, 12)
    assert example(made, 64, True).is_contiguous(memory_format=torch.channels_last)


def test_the_plain_step_warms_up_in_one_pass(made: netslim.SlimNet) -> None:
    assert passes(GradAug(made, "none").space) == [Draw()]
