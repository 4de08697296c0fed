"""Checkpoints: whole, plain data, and clear when they cannot be used."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import torch as tensor_files

from gradaug.config.settings import TrainConfig
from gradaug.errors import CheckpointError, OutputError
from gradaug.scopes import random_state, set_random_state
from gradaug.tasks.classification import Score
from gradaug.training import checkpoint as ck
from gradaug.training import resuming
from tests.archive.nets import opened, signed

if TYPE_CHECKING:
    from pathlib import Path


NET = torch.nn.Linear(2, 2)


@pytest.fixture
def saved() -> ck.Checkpoint:
    optimizer = torch.optim.SGD(NET.parameters(), lr=0.1, momentum=0.9)
    NET(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return ck.Checkpoint(
        config=TrainConfig(round_to=8).to_dict(),
        epoch=1,
        step=4,
        model=NET.state_dict(),
        optimizer=optimizer.state_dict(),
        schedule=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step).state_dict(),
        scaler=torch.amp.GradScaler("cpu").state_dict(),
        averages={"ema": {"weight": torch.ones(2), "again": torch.zeros(0)}},
        tally=None,
        random=[random_state()],
        before={"top1": 10.0, "loss": 2.3, "images": 360, "top5": None, "calibration_error": None},
        seconds=1.5,
    )


def document(saved: ck.Checkpoint, folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    ck.save(saved, folder / "checkpoint.pt")
    return opened(folder / "checkpoint.pt")


def test_round_trip(saved: ck.Checkpoint, tmp_path: Path) -> None:
    ck.save(saved, tmp_path / "checkpoint.pt")
    loaded = ck.load(tmp_path / "checkpoint.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    for before, after in ((saved.model, loaded.model), (saved.averages["ema"], loaded.averages["ema"])):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert (loaded.config, loaded.step, loaded.before) == (saved.config, 4, saved.before)
    assert (loaded.schedule, loaded.scaler) == (saved.schedule, saved.scaler)
    assert loaded.random[0].python == saved.random[0].python
    other = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=1.0, momentum=0.9)
    resuming.load_optimizer(loaded, other, tmp_path)
    momentum = saved.optimizer["state"][0]["momentum_buffer"]
    assert torch.equal(other.state_dict()["state"][0]["momentum_buffer"], momentum)
    assert other.param_groups[0]["lr"] == 0.1


def test_a_tensor_of_two_names_is_one_again(saved: ck.Checkpoint, tmp_path: Path) -> None:
    tied = {"a": torch.ones(2), "b": torch.ones(2)}
    tied["c"] = tied["a"].detach()
    ck.save(replace(saved, model=tied), tmp_path / "checkpoint.pt")
    loaded = ck.load(tmp_path / "checkpoint.pt").model
    assert loaded["c"] is loaded["a"]
    assert loaded["b"] is not loaded["a"]


def test_random_states_continue_where_they_were() -> None:
    state = random_state()
    expected = (torch.rand(3).tolist(), random.random())
    set_random_state(state)
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


def test_foreign_and_newer(saved: ck.Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="is damaged or is not a checkpoint"):
        ck.load(path)
    held, tensors = document(saved, tmp_path)
    signed(path, held, tensors, kind="netslim")
    with pytest.raises(CheckpointError, match="is not a gradaug checkpoint"):
        ck.load(path)
    signed(path, held, tensors, version=99, kind=ck.FORMAT)
    with pytest.raises(CheckpointError, match="has format version 99 and this gradaug reads version 3"):
        ck.load(path)


WRONG = {
    "a field less": lambda d, _t: d.pop("epoch"),
    "a field more": lambda d, _t: d.update(more=1),
    "an epoch that is a text": lambda d, _t: d.update(epoch="1"),
    "an epoch below zero": lambda d, _t: d.update(epoch=-1),
    "a step that is half": lambda d, _t: d.update(step=1.5),
    "seconds that run backwards": lambda d, _t: d.update(seconds=-1.0),
    "settings of settings": lambda d, _t: d["config"].update(lr={"a": 1}),
    "a generator that is none": lambda d, _t: d["random"][0][1].pop(),
    "a generator of torch's that is none": lambda _d, t: t.update({"random/0/torch": torch.zeros(3)}),
    "a generator less": lambda _d, t: t.pop("random/0/torch"),
    "a name for nothing": lambda d, _t: d["same"].update({"model/x": "model/nothing"}),
    "a number below zero": lambda _d, t: t.update({"optimizer/-1/momentum_buffer": torch.zeros(3)}),
    "a number written otherwise": lambda _d, t: t.update({"optimizer/00/momentum_buffer": torch.zeros(3)}),
    "a tensor that is there already": lambda d, _t: d["same"].update({"model/weight": "model/bias"}),
    "a number that is none": lambda _d, t: t.update({"optimizer/x/momentum_buffer": torch.zeros(3)}),
}


@pytest.mark.parametrize("what", WRONG)
def test_contents_that_are_no_state_of_a_run(what: str, saved: ck.Checkpoint, tmp_path: Path) -> None:
    held, tensors = document(saved, tmp_path)
    WRONG[what](held, tensors)
    signed(tmp_path / "checkpoint.pt", held, tensors, ck.VERSION, ck.FORMAT)
    with pytest.raises(CheckpointError, match="damaged"):
        ck.load(tmp_path / "checkpoint.pt")


def test_a_flipped_bit_is_noticed(saved: ck.Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    ck.save(saved, path)
    raw = path.read_bytes()
    for at in range(0, len(raw), max(1, len(raw) // 100)):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :])
        with pytest.raises(CheckpointError):
            ck.load(path)


def test_a_place_that_is_none_of_the_run(saved: ck.Checkpoint, tmp_path: Path) -> None:
    sums = {"images": 3.0}
    for epoch, step, tally in ((1, 4, None), (0, 3, sums), (0, 4, sums), (3, 12, None)):
        resuming.require_place(replace(saved, epoch=epoch, step=step, tally=tally), 3, 4, tmp_path)
    for epoch, step, tally in ((1, 5, None), (0, 4, None), (0, 5, sums), (1, 4, sums), (4, 16, None)):
        with pytest.raises(CheckpointError, match="this run has 3 epochs of 4 steps"):
            resuming.require_place(replace(saved, epoch=epoch, step=step, tally=tally), 3, 4, tmp_path)


def test_states_of_other_things_are_refused(saved: ck.Checkpoint, tmp_path: Path) -> None:
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 3).parameters(), lr=0.1, momentum=0.9)
    with pytest.raises(CheckpointError, match="other parameters"):
        resuming.load_optimizer(saved, optimizer, tmp_path)
    with pytest.raises(CheckpointError, match="another optimizer"):
        resuming.load_optimizer(saved, torch.optim.Adam(NET.parameters()), tmp_path)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    with pytest.raises(CheckpointError, match="its schedule is none"):
        resuming.load_state(
            replace(saved, schedule={**saved.schedule, "last_epoch": "3"}), "schedule", schedule, tmp_path
        )
    with pytest.raises(CheckpointError, match="its score is none"):
        resuming.score(replace(saved, before={"top1": "x"}), tmp_path, Score)


def test_a_full_disk_leaves_the_old_checkpoint(
    saved: ck.Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    ck.save(saved, path)

    def full(*arguments: object, **keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_files, "save_file", full)
    with pytest.raises(OutputError, match="No space left on device"):
        ck.save(replace(saved, epoch=2), path)
    assert ck.load(path).epoch == 1
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_automatic_choices_stay_as_the_run_made_them(saved: ck.Checkpoint, tmp_path: Path) -> None:
    assert resuming.merge(saved, TrainConfig(workers=3), tmp_path) == TrainConfig(round_to=8, workers=3)


def test_other_settings_are_another_run(saved: ck.Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"other settings \(lr was 0.1, now 0.2\)"):
        resuming.merge(saved, TrainConfig(lr=0.2), tmp_path)


def test_weights_of_another_network(saved: ck.Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"another network .*; give the --model of that run"):
        resuming.load_weights(saved.model, torch.nn.Linear(2, 3), tmp_path)
