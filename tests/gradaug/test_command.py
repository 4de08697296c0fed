"""gradaug train and gradaug eval, as a person calls them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

import netslim
from gradaug.config.settings import TrainConfig
from netslim.errors import NetslimError
from netslim_cli.evaluate import evaluate
from netslim_cli.train import train

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("few_digits")
QUICK = ["--epochs", "1", "--batch-size", "32", "--round-to", "1"]


@pytest.fixture
def model(make_net: Callable[..., netslim.SlimNet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    netslim.save(make_net(), "converted.pt")
    return "converted.pt"


def call(command: object, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, catch_exceptions=False)  # type: ignore[arg-type]


def test_train_writes_to_the_modes_folder_and_ends_with_a_table(model: str) -> None:
    result = call(train, "--model", model, *QUICK)
    assert result.exit_code == 0
    assert Path("runs/randwidth/trained.pt").is_file()
    for text in ("full, before training", "full, after training", "width 0.8", "validation top-1"):
        assert text in result.stdout
    assert "3 sub-networks a step (randwidth), widths from 0.8 in steps of 1 channels" in result.stderr
    assert "epoch 1/1" in result.stderr


def test_json_is_all_that_goes_to_stdout(model: str) -> None:
    result = call(train, "--model", model, *QUICK, "--mode", "none", "--json")
    values = json.loads(result.stdout)
    assert values["mode"] == "none"
    assert values == json.loads(Path("runs/none/result.json").read_text())


def test_resume_takes_the_settings_of_the_run(model: str) -> None:
    call(train, "--model", model, *QUICK, "--out", "here", "--lr", "0.02")
    again = call(train, "--model", model, "--out", "here", "--resume", "--json")
    assert json.loads(again.stdout)["config"]["lr"] == 0.02
    with pytest.raises(NetslimError, match=r"lr was 0.02, now 0.5"):
        call(train, "--model", model, "--out", "here", "--resume", "--lr", "0.5")


def test_eval_scores_every_width(model: str) -> None:
    result = call(evaluate, "--model", model, "--widths", "1.0,0.75,0.5", "--json")
    scores = json.loads(result.stdout)["scores"]
    assert [score["width"] for score in scores] == [1.0, 0.75, 0.5]
    assert scores[0]["images"] == 360
    shown = call(evaluate, "--model", model, "--widths", "0.5").stdout
    assert "width 0.5 *" in shown
    assert "* batch norm recalibrated on training images" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "-1"], "--lr must be a positive number"),
        (["--resolutions", "32,x"], "not a comma-separated list of numbers"),
        (["--mode", "width"], "'width' is not one of"),
        ([], "say what to train: --model FILE"),
    ],
)
def test_bad_usage_is_exit_code_two(arguments: list[str], message: str) -> None:
    result = call(train, *(["--model", "x.pt", *arguments] if arguments else []))
    assert result.exit_code == 2
    assert message in result.stderr


def test_widths_out_of_range(model: str) -> None:
    result = call(evaluate, "--model", model, "--widths", "1.5")
    assert result.exit_code == 2
    assert "a width is a ratio in (0, 1]" in result.stderr


def test_users_mistakes_are_netslims_errors(model: str) -> None:
    with pytest.raises(NetslimError, match=r"missing\.pt"):
        call(train, "--model", "missing.pt")
    with pytest.raises(NetslimError, match="unknown data 'digts'; did you mean digits"):
        call(train, "--model", model, "--data", "digts")


def test_every_setting_is_an_option() -> None:
    assert {field.name for field in dataclasses.fields(TrainConfig)} < {option.name for option in train.params}
