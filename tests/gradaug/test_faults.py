"""Runs that are killed, stopped or lose a process end with the weights of an undisturbed one, bit for bit."""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import torch as tensor_files
from torch import Tensor

import gradaug
import netslim
from gradaug.errors import Stopped
from gradaug.training.progress import Silent
from netslim_cli.main import gradaug as command

from .interrupt import StopAfter, StopError

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = gradaug.TrainConfig(
    "both", epochs=2, batch_size=48, round_to=1, resolutions=(8, 6), ema=0.9, checkpoint_every=2, alpha=0.5
)
# A server that has imported torch forks the runs: a run starts, and can be killed, within a fraction of a second.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["gradaug.training.loop", "sklearn.datasets", "torch.utils.tensorboard"])


def run(model: Path, out: Path, config: gradaug.TrainConfig = CONFIG) -> None:
    """Trains, or goes on where a checkpoint is."""
    torch.set_num_threads(1)
    gradaug.train(netslim.load(model), config, out, resume=(out / "checkpoint.pt").exists())


def process(*arguments: object) -> multiprocessing.process.BaseProcess:
    started = FORK.Process(target=run, args=arguments)
    started.start()
    return started


def weights(folder: Path) -> dict[str, Tensor]:
    """Of the running mean and, from the last checkpoint, of the network itself."""
    checkpoint = gradaug.training.checkpoint.load(folder / "checkpoint.pt")
    return netslim.load(folder / "trained.pt").state_dict() | {f"net {k}": v for k, v in checkpoint.model.items()}


def assert_same(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert recorded(first) == recorded(second)


def recorded(folder: Path) -> list[dict[str, object]]:
    """metrics.jsonl without times and how the run was started."""
    timed = ("seconds", "images_per_second", "data_wait")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = (line for line in lines if line["event"] != "start")
    return [{name: value for name, value in line.items() if name not in timed} for line in kept]


def steps(folder: Path) -> int:
    """How far a run has come, as its checkpoint has it."""
    try:
        return gradaug.training.checkpoint.load(folder / "checkpoint.pt").step
    except gradaug.CheckpointError:
        return -1


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    process(model, out).join()
    return out


class Deadly(Silent):
    """Kills its own process at the `left`-th of the moments that matter: steps, and what writing a file consists of."""

    def __init__(self, left: int) -> None:
        self.left = left
        for owner, name in ((os, "fsync"), (os, "replace"), (os, "rename")):
            setattr(owner, name, self.watched(getattr(owner, name)))

    def watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` with a moment before it and one after it."""

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            self.moment()
            result = function(*arguments, **options)
            self.moment()
            return result

        return call

    def step(self, *figures: object) -> None:
        self.moment()

    def moment(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def run_until(model: Path, out: Path, moment: int) -> None:
    """As `run`, in a process that is killed."""
    torch.set_num_threads(1)
    resume = (out / "checkpoint.pt").exists()
    gradaug.train(netslim.load(model), CONFIG, out, resume=resume, overwrite=not resume, progress=Deadly(moment))


def test_a_run_killed_at_twelve_moments_loses_nothing(model: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Twelve moments one after another, so that some lie between steps and some within the writing of a checkpoint."""
    out, reached = tmp_path / "run", []
    for moment in range(10, 22):
        killed = FORK.Process(target=run_until, args=(model, out, moment))
        killed.start()
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
        reached.append(steps(out))
    assert reached == sorted(reached)
    assert len(set(reached)) > 5
    process(model, out).join()
    assert_same(out, undisturbed)
    assert not list(out.glob(".checkpoint-*"))


class Terminated(Silent):
    """Sends its own process SIGTERM at a step."""

    def __init__(self, step: int) -> None:
        self.left = step

    def step(self, *figures: object) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGTERM)


def terminated(model: Path, out: Path, said: Path) -> None:
    """The command, stopped at the tenth step; what it says on stderr goes to `said`."""
    torch.set_num_threads(1)
    gradaug.training.progress.progress_for = lambda _: Terminated(10)
    settings = "--mode both --epochs 2 --batch-size 48 --round-to 1 --resolutions 8,6 --ema 0.9 --alpha 0.5"
    with said.open("w") as sys.stderr:
        command(["train", "--model", str(model), "--out", str(out), *settings.split()])


def test_sigterm_writes_a_checkpoint_and_ends(model: Path, undisturbed: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "run", tmp_path / "said"
    stopped = FORK.Process(target=terminated, args=(model, out, said))
    stopped.start()
    stopped.join()
    assert stopped.exitcode == 128 + signal.SIGTERM
    step = steps(out)
    assert f"stopped by SIGTERM after step {step}; go on with --resume" in " ".join(said.read_text().split())
    assert 10 <= step <= 12
    run(model, out)
    assert_same(out, undisturbed)


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = tensor_files.save_file, []

    def fills(*arguments: object, **options: object) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        save(*arguments, **options)

    monkeypatch.setattr(tensor_files, "save_file", fills)
    with pytest.raises(gradaug.OutputError, match=r"No space left on device.*earlier checkpoint there is intact"):
        run(model, tmp_path / "run")
    assert steps(tmp_path / "run") == 4
    monkeypatch.undo()
    run(model, tmp_path / "run")


def test_the_former_signal_handler_comes_back(model: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run(model, tmp_path / "run", replace(CONFIG, epochs=1))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_sigterm_ends_at_once() -> None:
    with gradaug.distributed.signals.stop_requests() as asked:
        assert not asked()
        signal.raise_signal(signal.SIGTERM)
        assert asked()
        with contextlib.suppress(Stopped), pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("semi", ["gradaug", "mean-teacher"])
def test_semi_supervised_runs_go_on_where_they_were(model: Path, tmp_path: Path, semi: str) -> None:
    config = replace(CONFIG, mode="randwidth", labels=100, batch_size=20, unlabelled_batch=30, semi=semi, epochs=3)
    run(model, tmp_path / "whole", config)
    plain = replace(config, semi="none")
    run(model, tmp_path / "plain", plain)
    with pytest.raises(StopError):
        gradaug.train(netslim.load(model), config, tmp_path / "cut", progress=StopAfter(8))
    assert steps(tmp_path / "cut") == 8
    run(model, tmp_path / "cut", config)
    assert_same(tmp_path / "cut", tmp_path / "whole")
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "plain")
    assert not all(torch.equal(one[name], other[name]) for name in one)
