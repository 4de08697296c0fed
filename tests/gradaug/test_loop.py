"""Whole runs on a few digits."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

import gradaug
import netslim
from gradaug import data
from gradaug.config.settings import AUTOMATIC
from gradaug.errors import CheckpointError, OutputError, TrainingError
from gradaug.tasks.classification import TOP1
from gradaug.training import loop
from gradaug.training.log import Epoch
from gradaug.training.progress import Bar, epoch_line, progress_for
from netslim.errors import InputError

from .interrupt import StopAfter, StopError

if TYPE_CHECKING:
    from pathlib import Path

Run = Callable[..., tuple[netslim.SlimNet, gradaug.Result]]


def weights(net: torch.nn.Module) -> list[Tensor]:
    return [value.clone() for value in net.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def lines(folder: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())


def test_a_run_leaves_its_record(run: Run, short: gradaug.TrainConfig, tmp_path: Path) -> None:
    net, result = run(short, tmp_path / "a")
    folder = tmp_path / "a"
    names = {path.name for path in folder.iterdir()}
    assert names == {"metrics.jsonl", "tensorboard", "checkpoint.pt", "trained.pt", "result.json"}
    assert json.loads((folder / "result.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    epochs = [line for line in lines(folder) if line["event"] == "epoch"]
    assert [line["step"] for line in epochs] == [4, 8]
    assert epochs[-1]["val_top1"] == result.after.top1
    assert result.before.images == 360
    assert result.subnets[0].score == result.after
    assert len(result.subnets) > 1
    assert same(weights(netslim.load(folder / "trained.pt")), weights(net))
    assert not net.training


def test_a_seed_repeats_a_run_bit_for_bit(run: Run, short: gradaug.TrainConfig, tmp_path: Path) -> None:
    first, second, other = (
        weights(run(replace(short, seed=seed), tmp_path / name)[0]) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert same(first, second)
    assert not same(first, other)


@pytest.mark.parametrize("steps", [2, 5], ids=["in the first epoch", "in the second epoch"])
def test_a_resumed_run_ends_like_an_uninterrupted_one(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path, steps: int
) -> None:
    whole, result = run(short, tmp_path / "whole")
    with pytest.raises(StopError):
        run(short, tmp_path / "cut", progress=StopAfter(steps))
    torch.manual_seed(99)
    resumed, again = run(short, tmp_path / "cut", resume=True)
    assert same(weights(resumed), weights(whole))
    assert (again.before, again.after, again.subnets) == (result.before, result.after, result.subnets)
    timeless = [
        [
            {k: v for k, v in line.items() if k not in ("seconds", "images_per_second", "data_wait")}
            for line in lines(tmp_path / name)
        ]
        for name in ("whole", "cut")
    ]
    assert timeless[0] == timeless[1]


def test_modes_see_the_same_images(run: Run, short: gradaug.TrainConfig, tmp_path: Path, monkeypatch: Any) -> None:
    seen: dict[str, list[Tensor]] = {"none": [], "randwidth": []}
    backward = gradaug.GradAug.backward

    def spy(self: gradaug.GradAug, images: Tensor, *rest: Any) -> gradaug.Losses:
        seen[self.space.mode].append(images)
        return backward(self, images, *rest)

    monkeypatch.setattr(gradaug.GradAug, "backward", spy)
    results = {mode: run(replace(short, mode=mode), tmp_path / mode) for mode in seen}
    assert same(seen["none"], seen["randwidth"])
    assert results["none"][1].before == results["randwidth"][1].before
    assert not same(weights(results["none"][0]), weights(results["randwidth"][0]))


def test_a_loss_that_is_not_finite_stops_before_it_reaches_the_weights(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward = gradaug.GradAug.backward

    def poisoned(self: gradaug.GradAug, *arguments: Any) -> gradaug.Losses:
        losses = backward(self, *arguments)
        return replace(losses, full=losses.full * float("nan")) if self.steps == 6 else losses

    monkeypatch.setattr(gradaug.GradAug, "backward", poisoned)
    message = r"full network became nan at step 6 \(epoch 2\); start again with a smaller --lr than 0.05. The last good"
    with pytest.raises(TrainingError, match=message):
        run(short, tmp_path / "a")
    monkeypatch.undo()
    saved = gradaug.training.checkpoint.load(tmp_path / "a" / "checkpoint.pt")
    assert saved.epoch == 1
    assert all(value.isfinite().all() for value in saved.model.values() if value.is_floating_point())


def test_a_hopeless_learning_rate_is_reported(run: Run, short: gradaug.TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"became (nan|inf) at step \d+"):
        run(replace(short, lr=1e30, epochs=4), tmp_path / "a")


def test_another_run_is_not_overwritten_in_silence(run: Run, short: gradaug.TrainConfig, tmp_path: Path) -> None:
    once = replace(short, epochs=1, mode="none")
    run(once, tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(
        OutputError, match="already holds a run; continue it with --resume, replace it with --overwrite"
    ):
        run(once, tmp_path)
    with pytest.raises(OutputError, match="give one of them"):
        run(once, tmp_path, resume=True, overwrite=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    run(replace(once, seed=1), tmp_path, overwrite=True)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_resuming_needs_the_same_run(run: Run, short: gradaug.TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="run without --resume"):
        run(short, tmp_path / "nothing", resume=True)
    run(replace(short, epochs=1, mode="none"), tmp_path)
    with pytest.raises(CheckpointError, match="mode was 'none', now 'randwidth'"):
        run(replace(short, epochs=1), tmp_path, resume=True)
    assert run(replace(short, epochs=1, mode="none", workers=1), tmp_path, resume=True)[1].steps == 4


def test_a_folder_that_cannot_be_made(run: Run, short: gradaug.TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write to .*file"):
        run(short, tmp_path / "file" / "run")


def test_channels_last_trains_to_a_network_like_the_contiguous_one(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path
) -> None:
    nets = [run(replace(short, channels_last=flag, epochs=1), tmp_path / str(flag))[0] for flag in (False, True)]
    for a, b in zip(weights(nets[0]), weights(nets[1]), strict=True):
        torch.testing.assert_close(a, b.contiguous(), rtol=1e-2, atol=1e-3)


def test_an_absent_device_is_a_clear_error() -> None:
    with pytest.raises(InputError, match=r"device 'nowhere' cannot be used .* --device cpu or auto"):
        loop.choose_device("nowhere")


def test_automatic_settings_are_written_down(net: netslim.SlimNet) -> None:
    config = loop.resolve(gradaug.TrainConfig(), net)
    assert None not in [getattr(config, name) for name in AUTOMATIC]
    assert loop.resolve(config, net) == config


def test_reported_widths_end_at_alpha() -> None:
    assert loop.reported_widths(0.8) == [1.0, 0.95, 0.9, 0.85, 0.8]


def test_one_line_per_epoch() -> None:
    line = epoch_line(Epoch(3, 66, 0.5, 0.1, {TOP1: 88.0}, 0.4, {TOP1: 91.25}, 0.01, 5.0, 300.4), 10)
    assert line == "epoch  3/10  loss 0.500  top-1 88.0 %  validation: loss 0.400  top-1 91.25 %  300 images/s"


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines(run: Run, short: gradaug.TrainConfig, tmp_path: Path) -> None:
    for terminal in (True, False):
        screen = io.StringIO()
        progress = progress_for(Console(file=screen, force_terminal=terminal, width=150))
        assert isinstance(progress, Bar) == terminal
        run(replace(short, mode="none"), tmp_path / str(terminal), progress=progress)
        shown = screen.getvalue()
        assert "training 3,226 parameters on 128 images of digits, 2 epochs of 4 steps on cpu; no sub-networks" in shown
        assert "epoch 2/2  loss" in shown
        assert ("8/8" in shown) == terminal
        assert ("\x1b" in shown) == terminal


def test_what_the_data_left_out_is_said(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = data.load

    def load(*given: Any, **named: Any) -> data.DataSource:
        return replace(plain(*given, **named), remarks=("files: boxes without area are left out (2)",))

    monkeypatch.setattr(data, "load", load)
    screen = io.StringIO()
    run(replace(short, mode="none", epochs=1), tmp_path / "run", progress=progress_for(Console(file=screen, width=150)))
    assert "files: boxes without area are left out (2)" in screen.getvalue()


def test_a_batch_in_parts_trains_to_the_same_network(run: Run, short: gradaug.TrainConfig, tmp_path: Path) -> None:
    """As near as batch norm on half a batch allows."""
    whole, parted = (run(replace(short, accumulate=n, epochs=1), tmp_path / str(n)) for n in (1, 2))
    assert parted[1].steps == whole[1].steps == 4
    for one, other in zip(whole[0].parameters(), parted[0].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0.1, atol=0.1)
    assert not same(weights(whole[0]), weights(parted[0]))


@pytest.mark.parametrize(
    "settings",
    [
        {"amp": "bf16"},
        {"amp": "fp16"},
        {"clip_norm": 0.1},
        {"ema": 0.5},
        {"widths": "per-group", "alpha": 0.5},
        {"divergence": "alpha"},
        {"label_smoothing": 0.1, "warmup": 1.0, "decay_norms": False},
        {"schedule": "step", "milestones": (1,)},
        {"subnet_weight": 0.5, "temperature": 2.0},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_every_setting_changes_a_run_and_is_resumed(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path, settings: dict[str, Any]
) -> None:
    plain = weights(run(short, tmp_path / "plain")[0])
    config = replace(short, **settings)
    whole = weights(netslim.load(run(config, tmp_path / "whole")[1].folder / "trained.pt"))
    assert not same(plain, whole)
    with pytest.raises(StopError):
        run(replace(config, checkpoint_every=1), tmp_path / "cut", progress=StopAfter(5))
    _, resumed = run(config, tmp_path / "cut", resume=True)
    assert same(weights(netslim.load(resumed.folder / "trained.pt")), whole)


def test_validation_may_be_rare(run: Run, short: gradaug.TrainConfig, tmp_path: Path) -> None:
    config = replace(short, epochs=5, validate_every=2)
    whole = weights(run(config, tmp_path / "whole")[0])
    validated = [line["epoch"] for line in lines(tmp_path / "whole") if line.get("val_top1") is not None]
    assert validated == [2, 4, 5]
    with pytest.raises(StopError):
        run(config, tmp_path / "cut", progress=StopAfter(14))  # in the fourth epoch
    assert gradaug.training.checkpoint.load(tmp_path / "cut" / "checkpoint.pt").epoch == 2
    assert same(weights(run(config, tmp_path / "cut", resume=True)[0]), whole)
