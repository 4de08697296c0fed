"""Whole runs whose sub-networks see a part of the batch, come in some steps only, or late."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import gradaug
import netslim
from gradaug.pages.curves import panels
from gradaug.training.configured import grad_aug
from gradaug.training.estimate import estimate
from gradaug.training.log import STEP_INTERVAL
from gradaug.training.metrics import TAUGHT, Tally, figure_names
from gradaug.training.record import read
from netslim.errors import InputError
from netslim_cli.train import train

from . import detectors
from .interrupt import StopAfter, StopError

Run = Callable[..., tuple[netslim.SlimNet, gradaug.Result]]
CHEAP = {"subnet_share": 0.5, "subnet_every": 2, "subnet_from": 0.25}


def weights(net: torch.nn.Module) -> list[Tensor]:
    return [value.clone() for value in net.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def lines(folder: Path, event: str) -> list[dict[str, Any]]:
    found = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    timed = ("seconds", "images_per_second", "data_wait")
    return [{k: v for k, v in line.items() if k not in timed} for line in found if line["event"] == event]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[float]]:
    """The sub-networks' losses of every step that has some."""
    backward, found = gradaug.GradAug.backward, dict[int, list[float]]()

    def spy(self: gradaug.GradAug, *given: Any) -> gradaug.Losses:
        step, losses = self.steps, backward(self, *given)
        if losses.subnets:
            found[step] = [float(one) for one in losses.subnets]
        return losses

    monkeypatch.setattr(gradaug.GradAug, "backward", spy)
    return found


@pytest.mark.parametrize(
    ("settings", "having"),
    [
        ({"subnet_from": 0.25}, [2, 3, 4, 5, 6, 7]),
        ({"subnet_from": 0.5}, [4, 5, 6, 7]),
        ({"subnet_every": 2}, [1, 3, 5, 7]),
        ({"subnet_every": 3}, [2, 5]),
        (CHEAP, [3, 5, 7]),
        ({"subnet_every": 2, "mode": "none"}, []),
    ],
)
def test_a_run_has_sub_networks_where_its_settings_say(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path, watched: dict[int, list[float]],
    settings: dict[str, Any], having: list[int],
) -> None:  # fmt: skip
    run(replace(short, **settings), tmp_path / "a")
    assert list(watched) == having


def test_the_record_has_the_mean_over_steps_with_sub_networks(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path, watched: dict[int, list[float]]
) -> None:
    run(replace(short, epochs=3, subnet_from=1 / 3, subnet_every=3), tmp_path / "a")
    first, second, third = lines(tmp_path / "a", "epoch")
    sums = {step: sum(losses) for step, losses in watched.items()}
    assert list(sums) == [6, 9]
    assert first["subnet_loss"] is None
    assert second["subnet_loss"] == pytest.approx(sums[6])
    assert third["subnet_loss"] == pytest.approx(sums[9])
    (step,) = lines(tmp_path / "a", "step")
    assert (step["step"], len(step["widths"])) == (STEP_INTERVAL, 3)
    assert step["subnet_loss"] == pytest.approx(sums[9])
    (loss, *_) = panels([read(tmp_path / "a")])
    assert [curve.places[0] for curve in loss.curves if curve.style == "sub-networks"] == [[2.0, 3.0]]


def test_a_plain_step_has_no_loss_of_sub_networks_in_the_record(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path
) -> None:
    for name, settings in (("late", {"subnet_from": 0.9}), ("none", {"mode": "none"})):
        run(replace(short, epochs=3, **settings), tmp_path / name)
    (late,), (none,) = (lines(tmp_path / name, "step") for name in ("late", "none"))
    assert late["subnet_loss"] is None
    assert "widths" not in late
    assert none["subnet_loss"] == 0.0
    assert [line["subnet_loss"] for line in lines(tmp_path / "none", "epoch")] == [0.0] * 3
    assert read(tmp_path / "late").steps[0].subnet_loss is None


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_a_resumed_run_ends_like_an_uninterrupted_one(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path, steps: int
) -> None:
    config = replace(short, **CHEAP, accumulate=2, checkpoint_every=1)
    whole, _ = run(config, tmp_path / "whole")
    with pytest.raises(StopError):
        run(config, tmp_path / "cut", progress=StopAfter(steps))
    resumed, _ = run(config, tmp_path / "cut", resume=True)
    assert same(weights(resumed), weights(whole))
    assert lines(tmp_path / "cut", "epoch") == lines(tmp_path / "whole", "epoch")
    assert not same(weights(run(short, tmp_path / "other")[0]), weights(whole))


def test_a_semi_supervised_run_too(run: Run, short: gradaug.TrainConfig, tmp_path: Path) -> None:
    config = replace(short, **CHEAP, labels=200, batch_size=20, unlabelled_batch=12, semi="gradaug", checkpoint_every=1)
    whole, _ = run(config, tmp_path / "whole")
    with pytest.raises(StopError):
        run(config, tmp_path / "cut", progress=StopAfter(1))
    assert same(weights(run(config, tmp_path / "cut", resume=True)[0]), weights(whole))


@pytest.mark.parametrize("target", ["truth", "full"])
def test_a_detectors_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    monkeypatch.setattr(importlib.import_module("gradaug.data.scenes"), "scenes", detectors.source)
    config = gradaug.TrainConfig(
        task="detection", data="scenes", epochs=2, batch_size=4, round_to=1, alpha=0.5, lr=0.02, resolutions=(36,),
        calibration_batches=1, subnet_target=target, subnet_share=0.25, subnet_every=2, checkpoint_every=1,
    )  # fmt: skip
    whole, cut, again = (detectors.converted("retina").float() for _ in range(3))
    gradaug.train(whole, config, tmp_path / "whole")
    with pytest.raises(StopError):
        gradaug.train(cut, config, tmp_path / "cut", progress=StopAfter(2))
    gradaug.train(again, config, tmp_path / "cut", resume=True)
    assert same(weights(again), weights(whole))
    assert all(line["subnet_loss"] > 0 for line in lines(tmp_path / "cut", "epoch"))


@pytest.mark.parametrize(("stopped", "first"), [(6, 4), (3, 8)], ids=["begun", "not begun"])
def test_more_epochs_go_on_with_sub_networks_that_had_begun(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path, watched: dict[int, list[float]], stopped: int, first: int
) -> None:
    """Of 8 steps from the fifth on; then of 16, in two pieces."""
    config = replace(short, subnet_from=0.5, checkpoint_every=1)
    longer = replace(config, epochs=4)
    with pytest.raises(StopError):
        run(config, tmp_path / "a", progress=StopAfter(stopped))
    for progress in (StopAfter(1), None):
        with pytest.raises(StopError) if progress else contextlib.nullcontext():
            run(longer, tmp_path / "a", resume=True, progress=progress)
    assert list(watched) == list(range(first, 16))


@pytest.mark.parametrize(
    "settings",
    [{"subnet_from": 0.99}, {"subnet_every": 9}, {"subnet_from": 0.5, "subnet_every": 5}],
)
def test_a_run_without_any_sub_network_is_refused_before_it_begins(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path, settings: dict[str, Any]
) -> None:
    sentence = r"--subnet-from .* and --subnet-every \d leave none of the run's 8 steps to sub-networks: lower them"
    with pytest.raises(InputError, match=sentence):
        run(replace(short, **settings), tmp_path / "a")
    assert not (tmp_path / "a" / "checkpoint.pt").exists()


def test_a_tally_of_before_goes_on() -> None:
    """A checkpoint in mid-epoch that a version without these settings wrote."""
    task = gradaug.Classification()
    tally = Tally(task, 0, 2, 0.1, Path("x"), {"full": 2.0, "subnets": 8.0, "images": 4.0})
    vector = dict.fromkeys(figure_names(task), 0.0) | {"full": 2.0, "subnets": 4.0, "images": 4.0}
    tally.add(list(vector.values()))
    assert tally.epoch(None, 0.1, tally.speed()).subnet_loss == pytest.approx(1.5)
    assert TAUGHT in tally.state()


@pytest.mark.parametrize("settings", [{"subnet_share": 0.5}, {"subnet_every": 2}, {"subnet_from": 0.5}, CHEAP])
def test_flops_are_those_that_torch_counts_for_a_run(net: netslim.SlimNet, settings: dict[str, Any]) -> None:
    common = {"batch_size": 8, "round_to": 1, "resolutions": (12,), "alpha": 1.0, "epochs": 1}
    config = gradaug.TrainConfig(**common, **settings)  # type: ignore[arg-type]
    found = estimate(net, config, grad_aug(net, config).space, images=64)
    ga = grad_aug(net.train(), config)
    ga.space = replace(ga.space, subnet_from=round(8 * config.subnet_from))
    with FlopCounterMode(display=False) as counted:
        for _ in range(8):
            ga.backward(torch.randn(8, 1, 12, 12), torch.zeros(8, dtype=torch.long))
    assert found.steps * found.step_flops == pytest.approx(counted.get_total_flops(), rel=0.05)
    assert found.ratio < 3


def call(*arguments: object) -> Any:
    return CliRunner().invoke(train, [str(one) for one in arguments])


def test_the_command_line_has_them_and_says_what_a_run_will_do(model: Path, tmp_path: Path) -> None:
    common = ("--model", model, "--epochs", 1, "--batch-size", 479, "--out", tmp_path / "a")
    said = ("--subnet-share", 0.25, "--subnet-every", 2, "--subnet-from", 0.3)
    shown = call(*common, *said)
    assert shown.exit_code == 0, shown.output
    assert "3 sub-networks every 2 steps from step 3 on (randwidth)" in shown.stderr
    assert "each on 0.25 of the images" in shown.stderr
    ratios = [json.loads(call(*common, *more, "--dry-run", "--json").stdout)["ratio"] for more in ((), said)]
    assert 1 < ratios[1] < 1.4 < ratios[0]
    config = json.loads((tmp_path / "a" / "result.json").read_text())["config"]
    assert (config["subnet_share"], config["subnet_every"], config["subnet_from"]) == (0.25, 2, 0.3)
    other = call("--resume", tmp_path / "a", "--subnet-every", 1)
    assert "settings (subnet_every was 2, now 1)" in str(other.exception)


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("--subnet-share", "0", "--subnet-share must be in (0, 1], not 0.0"),
        ("--subnet-share", "nan", "--subnet-share must be in (0, 1], not nan"),
        ("--subnet-every", "0", "--subnet-every must be at least 1, not 0"),
        ("--subnet-from", "1", "--subnet-from must be in [0, 1), not 1.0"),
        ("--subnet-from", "800", "--subnet-from must be in [0, 1), not 800.0"),
    ],
)
def test_bad_usage_is_a_sentence(model: Path, flag: str, value: str, sentence: str) -> None:
    result = call("--model", model, flag, value)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
