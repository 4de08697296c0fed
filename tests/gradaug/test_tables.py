"""Names of settings and what they stand for: one table each, so that a name without an implementation is no other."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import netslim
from gradaug import data
from gradaug.config import settings as config
from gradaug.config.settings import TrainConfig
from gradaug.errors import DataError
from gradaug.regularizers import blocks as droppers
from gradaug.regularizers import mixing
from gradaug.subnets import views as transforms
from gradaug.training import optim

from .processes import Blocks


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (config.MIXERS, mixing.IMPLEMENTED),
        (config.DROPPERS, droppers.IMPLEMENTED),
        (config.VIEWS, transforms.IMPLEMENTED),
    ],
)
def test_every_name_is_implemented_and_every_implementation_named(names: tuple[str, ...], table: Any) -> None:
    assert sorted(names) == sorted(table)


def test_schedules_are_those_that_the_setting_lists() -> None:
    words = TrainConfig.__dataclass_fields__["schedule"].metadata["range"].words
    assert words == f"one of {', '.join(optim.SCHEDULES)}"


def settings(**changed: Any) -> Any:
    """A run's settings that no check has seen."""
    return SimpleNamespace(**(vars(TrainConfig()) | changed))


def test_a_listed_dropper_that_nobody_has_written_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(droppers, "DROPPERS", (*config.DROPPERS, "scheduled-droppath"))
    net = netslim.convert(Blocks(), torch.randn(2, 1, 12, 12))
    with pytest.raises(KeyError, match="scheduled-droppath"):
        droppers.placed(net, settings(regularizers=("scheduled-droppath",)))


def test_a_listed_mixer_that_nobody_has_written_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "MIXERS", (*config.MIXERS, "puzzlemix"))
    with pytest.raises(KeyError, match="puzzlemix"):
        mixing.mixer(settings(regularizers=("puzzlemix",)), 10)


def test_a_listed_view_or_schedule_that_nobody_has_written_is_no_other() -> None:
    with pytest.raises(KeyError, match="perspective"):
        transforms.views(settings(views=("perspective",)), (0.0,), (1.0,))
    with pytest.raises(KeyError, match="linear"):
        optim.schedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]), settings(schedule="linear"), 4)


@pytest.mark.parametrize("name", ["digits", "folder", "cifar10"])
def test_an_unknown_augmentation_is_no_other(name: str, sources: Mapping[str, str]) -> None:
    shape = (3, 32, 32)
    with pytest.raises(DataError, match=r"--augment mild is unknown; .* has standard"):
        data.load(sources[name], shape, augment="mild")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Specifications of small data sets."""
    from . import formats

    root = tmp_path_factory.mktemp("sources")
    return {
        "digits": "digits",
        "folder": f"folder:{formats.image_folder(root / 'folder')}",
        "cifar10": f"cifar10:{formats.cifar10(root)}",
    }
