"""Checkpoints: whole, plain data, and clear when they cannot be used."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gradaug import checkpoint as ck
from gradaug.config import TrainConfig
from gradaug.errors import CheckpointError, OutputError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def saved() -> ck.Checkpoint:
    return ck.Checkpoint(
        config=TrainConfig(round_to=8).to_dict(),
        epoch=1,
        step=4,
        model={"weight": torch.ones(2)},
        optimizer={},
        schedule={},
        scaler=None,
        averages={},
        tally=None,
        random=[ck.random_state()],
        before={"top1": 10.0, "loss": 2.3, "images": 360},
        seconds=1.5,
    )


def test_round_trip(saved: ck.Checkpoint, tmp_path: Path) -> None:
    ck.save(saved, tmp_path / "checkpoint.pt")
    loaded = ck.load(tmp_path / "checkpoint.pt")
    assert torch.equal(loaded.model["weight"], torch.ones(2))
    assert (loaded.config, loaded.step, loaded.before) == (saved.config, 4, saved.before)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_random_states_continue_where_they_were() -> None:
    state = ck.random_state()
    expected = (torch.rand(3).tolist(), random.random())
    ck.set_random_state(state)
    assert (torch.rand(3).tolist(), random.random()) == expected


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint .* run without --resume"):
        ck.load(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("cut", [0, 10, 0.5, 0.99])
def test_truncated(saved: ck.Checkpoint, tmp_path: Path, cut: float) -> None:
    path = tmp_path / "checkpoint.pt"
    ck.save(saved, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content)) if cut < 1 else int(cut)])
    with pytest.raises(CheckpointError, match="is damaged or is not a checkpoint"):
        ck.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.ones(2)}, "is not a gradaug checkpoint"),
        ([1, 2], "is not a gradaug checkpoint"),
        ({"format": ck.FORMAT, "version": 99}, "has format version 99 and this gradaug reads version 2"),
        ({"format": ck.FORMAT, "version": 2, "epoch": 3}, "is damaged: it lacks config, step, model"),
    ],
)
def test_foreign_and_newer(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=message):
        ck.load(tmp_path / "checkpoint.pt")


def test_a_full_disk_leaves_the_old_checkpoint(
    saved: ck.Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    ck.save(saved, path)

    def full(*arguments: object, **keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="No space left on device"):
        ck.save(replace(saved, epoch=2), path)
    assert ck.load(path).epoch == 1
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_automatic_choices_stay_as_the_run_made_them(saved: ck.Checkpoint, tmp_path: Path) -> None:
    assert ck.merge(saved, TrainConfig(workers=3), tmp_path) == TrainConfig(round_to=8, workers=3)


def test_other_settings_are_another_run(saved: ck.Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"other settings \(lr was 0.1, now 0.2\)"):
        ck.merge(saved, TrainConfig(lr=0.2), tmp_path)


def test_weights_of_another_network(saved: ck.Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"another network .*; give the --model of that run"):
        ck.load_weights(saved, torch.nn.Linear(2, 2), tmp_path)
