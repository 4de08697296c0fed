"""Settings: ranges, JSON, what a resume may change."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from gradaug.config import kinds
from gradaug.config.registry import TASKS
from gradaug.config.settings import TrainConfig, differences, flag
from netslim.errors import InputError
from netslim_cli.main import gradaug as command


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mode", "width", "--mode must be one of randwidth, randdepth, both, none, not 'width'"),
        ("epochs", 0, "--epochs must be at least 1, not 0"),
        ("batch_size", 0, "--batch-size must be at least 1"),
        ("lr", 0.0, "--lr must be a positive number"),
        ("lr", float("nan"), "--lr must be a positive number"),
        ("momentum", 1.0, r"--momentum must be in \[0, 1\)"),
        ("weight_decay", -1.0, "--wd must be zero or a positive number"),
        ("alpha", 1.5, r"--alpha must be in \(0, 1\]"),
        ("survival", 0.0, r"--survival must be in \(0, 1\]"),
        ("num_subnets", 0, "--num-subnets must be at least 1 .--mode none"),
        ("resolutions", (), "--resolutions must be a list of image sides"),
        ("regularizers", ("mixup", "mixup"), "--regularizers must be a list of cutout, "),
        ("resolutions", (32, 0), "--resolutions must be a list of image sides"),
        ("round_to", 0, "--round-to must be at least 1 channel"),
        ("seed", -1, "--seed must be zero or a positive integer"),
        ("workers", -1, "--workers must be zero or a positive integer"),
    ],
)
def test_a_bad_value_names_its_flag_and_range(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(**{name: value})


WRONG: dict[str, tuple[Any, ...]] = {
    "epochs": (None, 1.5, 3.0, "3", True, [3], 2**70, 10**5000, np.float64(3), torch.tensor([3]), torch.tensor(True)),
    "batch_size": (64.5, None, float("nan"), 1j),
    "alpha": (True, "0.5", None, np.datetime64("2020-01-01")),
    "lr": ("fast", [0.1], float("nan"), None, 10**400, torch.tensor(float("nan")), dt.date(2020, 1, 1)),
    "resolutions": (32, "32", [32.5], [True], [[32]], {32: 28}, np.array([32.0])),
    "milestones": ([1, "2"], 150, [None]),
    "views": (None, "cutmix", {"cutmix"}, [5]),
    "regularizers": ("cutmix", 5, None, [["cutmix"]]),
    "mode": (["randwidth"], None, b"both", 1),
    "data": (None, 5, b"digits", ["digits"]),
    "amp": (None, 16, False),
    "decay_norms": ("no", 1.5, 1, None),
    "channels_last": ("auto", 1),
    "labels": (40.0, "40", False),
    "ema": ("0.9", True),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_of_another_type_is_one_sentence_that_names_the_setting(name: str) -> None:
    for value in WRONG[name]:
        for build in (lambda given: TrainConfig(**given), TrainConfig.from_dict):
            with pytest.raises(InputError, match=f"^{flag(name)} must be ") as caught:
                build({name: value})
            assert "\n" not in str(caught.value)
            assert len(str(caught.value)) < 250


def test_numbers_of_every_library_become_plain_ones() -> None:
    config = TrainConfig(
        mode=np.str_("both"), epochs=np.int64(3), batch_size=torch.tensor(8), lr=np.float32(0.5), alpha=1,
        decay_norms=np.bool_(False), resolutions=np.array([32, 28]), milestones=[torch.tensor(1), 2],
    )  # type: ignore[arg-type]  # fmt: skip
    assert config == TrainConfig(
        "both", epochs=3, batch_size=8, lr=0.5, alpha=1.0, decay_norms=False, resolutions=(32, 28), milestones=(1, 2)
    )
    assert {type(value) for value in vars(config).values()} <= {str, int, float, bool, tuple, type(None)}
    assert type(config.alpha) is float
    assert json.loads(json.dumps(config.to_dict()))["epochs"] == 3


@pytest.mark.parametrize("settings", [None, 5, "epochs", [("epochs", 3)]])
def test_settings_are_a_mapping(settings: Any) -> None:
    with pytest.raises(InputError, match="settings are names with a value each"):
        TrainConfig.from_dict(settings)


def test_every_annotation_is_a_type_that_is_checked() -> None:
    assert set(kinds.of_fields(TrainConfig)) == {field.name for field in dataclasses.fields(TrainConfig)}
    with pytest.raises(KeyError):
        kinds.kind(complex)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "step"}, "--schedule step needs --milestones, a list of epochs, such as 150,225"),
        ({"epochs": 5, "warmup": 5.0}, "leaves none of the 5 epochs"),
        ({"batch_size": 4, "accumulate": 8}, "parts without images"),
        ({"mode": "none", "semi": "gradaug"}, "--semi gradaug needs sub-networks"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(**settings)


def test_settings_survive_json() -> None:
    config = TrainConfig(resolutions=(32, 24), round_to=8)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_setting_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown setting num_subnet: .*; did you mean num_subnets\?"):
        TrainConfig.from_dict({"num_subnet": 3})


def test_only_what_changes_the_result_differs() -> None:
    config = TrainConfig()
    assert differences(config, dataclasses.replace(config, device="cuda", workers=4)) == {}
    assert differences(config, dataclasses.replace(config, lr=0.2)) == {"lr": (0.1, 0.2)}


def test_every_setting_has_a_help_text() -> None:
    assert all(field.metadata["help"].endswith((".", "]")) for field in dataclasses.fields(TrainConfig))


def test_reading_the_settings_does_not_import_torch() -> None:
    code = (
        "import gradaug.config.settings, gradaug.errors, gradaug.subnets.sampler, sys; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def of_a_task(name: str, **given: object) -> TrainConfig:
    return TrainConfig(task=name, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_its_settings_begin_with_however_they_are_built(name: str) -> None:
    usual = TASKS[name].usual
    by_position = [getattr(TrainConfig(), field.name) for field in dataclasses.fields(TrainConfig)]
    by_position = [*by_position[: [*TrainConfig.__dataclass_fields__].index("task")], name]
    for config in (of_a_task(name), TrainConfig.from_dict({"task": name}), TrainConfig(*by_position)):
        for field in dataclasses.fields(TrainConfig):
            if field.name != "task":
                assert getattr(config, field.name) == usual.get(field.name, field.default), field.name


def test_what_is_said_stands_whatever_the_task_begins_with() -> None:
    default = TrainConfig()
    assert default.lr != TASKS["detection"].usual["lr"]
    config = of_a_task("detection", lr=default.lr, clip_norm=None)
    assert (config.lr, config.clip_norm) == (default.lr, None)
    assert config.epochs == TASKS["detection"].usual["epochs"]
    for copy in (
        TrainConfig.from_dict(config.to_dict()),
        dataclasses.replace(config),
        pickle.loads(pickle.dumps(config)),
    ):
        assert copy == config
    assert dataclasses.replace(default, task="detection").lr == default.lr


def test_the_command_line_begins_where_python_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: list[TrainConfig] = []
    monkeypatch.setattr("netslim_cli.train._network", lambda *_: None)
    monkeypatch.setattr("netslim_cli.train._show_estimate", lambda _, config, *__: built.append(config))
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("about: mine\nsettings: {task: detection, lr: 0.5}\n", encoding="utf-8")
    for more in (["--task", "detection"], ["--task", "detection", "--epochs", "3"], [], ["--recipe", str(recipe)]):
        CliRunner().invoke(command, ["train", "--model", "n.pt", "--dry-run", *more], catch_exceptions=False)
    wanted: list[dict[str, Any]] = [
        {"task": "detection"}, {"task": "detection", "epochs": 3}, {}, {"task": "detection", "lr": 0.5},
    ]  # fmt: skip
    assert built == [TrainConfig(**settings) for settings in wanted]


@pytest.mark.parametrize("task", [None, 5, ["detection"], {"detection"}, "detecting"])
def test_a_task_that_is_none_is_refused_as_any_setting_is(task: Any) -> None:
    with pytest.raises(InputError, match=r"^--task must be "):
        TrainConfig(task=task)
