"""Trackers: each gets the figures of metrics.jsonl under the same names, none is needed, refusals are sentences."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from gradaug.config.registry import TRACKERS
from gradaug.errors import OutputError
from gradaug.training.log import RunLog
from netslim.extras import EXTRAS

FIGURES = {"step/loss": 0.5, "step/subnet_loss": 0.1, "step/lr": 0.2}


class Recorder:
    """Stands for wandb and mlflow, with the functions that are called of them."""

    def __init__(self) -> None:
        self.begun: dict[str, Any] = {}
        self.logged: list[tuple[dict[str, float], int]] = []
        self.params: dict[str, str] = {}
        self.ended = 0

    def init(self, **settings: Any) -> Recorder:
        self.begun = settings
        return self

    def start_run(self, run_name: str) -> None:
        self.begun = {"name": run_name}

    def log_params(self, params: dict[str, str]) -> None:
        self.params = params

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((values, step))

    log_metrics = log

    def finish(self) -> None:
        self.ended += 1

    end_run = finish


@pytest.fixture
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, recorder)
    for name in ("torch.utils.tensorboard", "tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    return recorder


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_gets_the_figures_and_the_end(name: str, module: Recorder, tmp_path: Path) -> None:
    with RunLog(tmp_path, 0, [name], {"lr": 0.2}) as log:
        for step in (5, 10, 20):
            log.step(step, 1, 0.5, 0.1, 0.2)
    assert module.begun["name"] == tmp_path.name
    assert (module.params or {key: str(value) for key, value in module.begun["config"].items()}) == {"lr": "0.2"}
    assert module.logged == [(FIGURES, 10), (FIGURES, 20)]
    assert module.ended == 1


def test_it_ends_with_a_run_that_fails(module: Recorder, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunLog(tmp_path, 0, ["wandb", "mlflow"], {}):
        raise ZeroDivisionError
    assert module.ended == 2


def test_what_it_refuses_is_one_sentence(module: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no API key\nand more")

    monkeypatch.setattr(module, "log", refuse)
    said = r"wandb cannot take this run \(no API key\); set it up, or leave it out of --trackers"
    with pytest.raises(OutputError, match=said), RunLog(tmp_path, 0, ["wandb"], {}) as log:
        log.step(10, 1, 0.5, 0.1, 0.2)
    monkeypatch.setattr(module, "init", refuse)
    with pytest.raises(OutputError, match=said):
        RunLog(tmp_path, 0, ["wandb"], {})


def test_tensorboard_is_used_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    with RunLog(tmp_path) as log:
        log.step(10, 1, 0.5, 0.1, 0.2)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_every_tracker_names_a_package_of_an_extra() -> None:
    for row in TRACKERS.values():
        assert row.load().package in EXTRAS
