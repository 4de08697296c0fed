"""Runs that are killed, stopped or lose a process end with the weights of an undisturbed one, bit for bit."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import torch as tensor_files
from torch import Tensor

import gradaug
import netslim
from gradaug.errors import Stopped

from .interrupt import StopAfter, StopError

CONFIG = gradaug.TrainConfig(
    "both", epochs=2, batch_size=48, round_to=1, resolutions=(8, 6), ema=0.9, checkpoint_every=2, alpha=0.5
)
GRADAUG = [sys.executable, "-m", "gradaug", "train"]
# A server that has imported torch forks the runs: a run starts, and can be killed, within a fraction of a second.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["gradaug.loop", "sklearn.datasets", "torch.utils.tensorboard"])


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
    checkpoint = gradaug.checkpoint.load(folder / "checkpoint.pt")
    return netslim.load(folder / "trained.pt").state_dict() | {f"net {k}": v for k, v in checkpoint.model.items()}


def assert_same(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert recorded(first) == recorded(second)


def recorded(folder: Path) -> list[dict[str, object]]:
    """metrics.jsonl without times."""
    timed = ("seconds", "images_per_second", "data_wait")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in timed} for line in lines]


def steps(folder: Path) -> int:
    """How far a run has come, as its checkpoint has it."""
    try:
        return gradaug.checkpoint.load(folder / "checkpoint.pt").step
    except gradaug.CheckpointError:
        return -1


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    process(model, out).join()
    return out


def test_a_run_killed_at_ten_random_moments_loses_nothing(model: Path, undisturbed: Path, tmp_path: Path) -> None:
    out, chance = tmp_path / "run", random.Random(7)
    kills, reached = 0, []
    while kills < 10:
        killed = process(model, out)
        before = steps(out)
        while killed.is_alive() and steps(out) <= before:  # let it come further than the one before
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.08))
        if not killed.is_alive():
            break
        os.kill(killed.pid or 0, signal.SIGKILL)
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
        kills += 1
        reached.append(steps(out))
    assert kills == 10
    assert len(set(reached)) > 5
    process(model, out).join()
    assert_same(out, undisturbed)
    assert not list(out.glob(".checkpoint-*"))


def test_sigterm_writes_a_checkpoint_and_ends(model: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = "--mode both --epochs 2 --batch-size 48 --round-to 1 --resolutions 8,6 --ema 0.9 --alpha 0.5"
    command = [*GRADAUG, "--model", str(model), "--out", str(out), *settings.split()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        while steps(out) < 0:
            time.sleep(0.01)
        started.send_signal(signal.SIGTERM)
        _, said = started.communicate()
    assert started.returncode == 128 + signal.SIGTERM
    step = steps(out)
    assert f"stopped by SIGTERM after step {step}; go on with --resume" in " ".join(said.split())
    assert 0 < step < 2 * 29
    assert step % 29  # in mid-epoch
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
    with gradaug.signals.stop_requests() as asked:
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
