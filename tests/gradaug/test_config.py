"""Settings: ranges, JSON, what a resume may change."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from gradaug.config import TrainConfig, differences
from netslim.errors import InputError


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
        ("regularizers", ("mixup", "mixup"), "--regularizers must be a list of cutout, mixup"),
        ("resolutions", (32, 0), "--resolutions must be a list of image sides"),
        ("round_to", 0, "--round-to must be at least 1 channel"),
        ("seed", -1, "--seed must be zero or a positive integer"),
        ("workers", -1, "--workers must be zero or a positive integer"),
    ],
)
def test_a_bad_value_names_its_flag_and_range(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "step"}, "--schedule step needs --milestones"),
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
    code = "import gradaug.config, gradaug.errors, gradaug.sampler, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
