"""Names of settings and what they stand for: one table each, so that a name without an implementation is no other."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gradaug import data, regularizers
from gradaug.config import registry
from gradaug.config.settings import TrainConfig
from gradaug.config.subnets import MODES
from gradaug.errors import DataError
from gradaug.regularizers.hooks import Regularizer, Regularizers
from gradaug.subnets import views as transforms
from gradaug.subnets.sampler import draw
from gradaug.subnets.space import Space
from gradaug.training import optim, schedules
from gradaug.training.estimate import IMAGENET, known_images
from netslim.errors import InputError

TABLES: dict[str, Mapping[str, registry.Row]] = {
    "regularizers": registry.REGULARIZERS,
    "views": registry.VIEWS,
    "data": registry.SOURCES,
    "schedule": registry.SCHEDULES,
    "task": registry.TASKS,
}


@pytest.mark.parametrize(("setting", "name"), [(table, name) for table, rows in TABLES.items() for name in rows])
def test_every_name_of_a_table_is_implemented(setting: str, name: str) -> None:
    made = TABLES[setting][name].load()
    assert callable(made)
    assert setting != "regularizers" or issubclass(made, Regularizer)


@pytest.mark.parametrize("setting", TABLES)
def test_no_two_names_are_one_implementation(setting: str) -> None:
    rows = TABLES[setting]
    assert len({row.load() for row in rows.values()}) == len(rows)


@pytest.mark.parametrize("setting", ["views", "data", "schedule"])
def test_a_function_is_called_as_its_row(setting: str) -> None:
    assert [row.load().__name__ for row in TABLES[setting].values()] == [n.replace("-", "_") for n in TABLES[setting]]


def test_every_regularizer_that_is_written_has_a_row() -> None:
    for file in pkgutil.iter_modules(regularizers.__path__):
        importlib.import_module(f"{regularizers.__name__}.{file.name}")
    named = {row.load() for row in registry.REGULARIZERS.values()}
    assert {one for one in kinds_of(Regularizer) if not one.__subclasses__()} == named


def kinds_of(cls: type) -> Iterator[type]:
    for below in cls.__subclasses__():
        if below.__module__.startswith("gradaug."):
            yield below
        yield from kinds_of(below)


@pytest.mark.parametrize("setting", ["regularizers", "views"])
def test_settings_allow_the_names_of_their_table(setting: str) -> None:
    for name in TABLES[setting]:
        assert getattr(TrainConfig(**{setting: (name,)}), setting) == (name,)
    legal = TrainConfig.__dataclass_fields__[setting].metadata["range"]
    assert legal.words == f"a list of {', '.join(TABLES[setting])}"


def test_the_settings_data_lists_every_data_set() -> None:
    (listed,) = re.findall(r"train on: (.*)\.", TrainConfig.__dataclass_fields__["data"].metadata["help"])
    assert [re.split(r"[:\[]", word)[0] for word in listed.split(", ")] == list(registry.SOURCES)


def test_a_published_number_of_images_is_the_data_sets() -> None:
    assert registry.SOURCES["digits"].images == len(data.load("digits", (1, 8, 8)).train)
    assert known_images(TrainConfig(data="cifar100:nowhere")) == 50_000
    assert known_images(TrainConfig(data="cifar100:nowhere", labels=400)) == 400
    assert known_images(TrainConfig(data="folder:nowhere")) == IMAGENET


def test_a_row_is_all_that_a_data_set_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.SOURCES, "numbers", registry.DataRow("gradaug.data.digits:digits", images=12))
    assert len(data.load("numbers", (1, 8, 8)).train) == 1437
    assert known_images(TrainConfig(data="numbers")) == 12
    with pytest.raises(DataError, match="did you mean numbers"):
        data.load("number", (1, 8, 8))


def test_modes_are_those_that_the_setting_lists() -> None:
    words = TrainConfig.__dataclass_fields__["mode"].metadata["range"].words
    assert words == f"one of {', '.join(MODES)}"
    drawn = {mode: draw(Space(mode, alpha=0.3, survival=0.3, blocks=tuple("abcdefgh")), 0, 0) for mode in MODES}
    varied = {
        mode: (any(one.width != 1 for one in made), any(one.skip for one in made)) for mode, made in drawn.items()
    }
    assert varied == MODES


@pytest.mark.parametrize("setting", ["schedule", "task"])
def test_a_setting_of_one_name_allows_the_names_of_its_table(setting: str) -> None:
    legal = TrainConfig.__dataclass_fields__[setting].metadata["range"]
    assert legal.words == f"one of {', '.join(TABLES[setting])}"


def test_every_schedule_that_is_written_has_a_row() -> None:
    written = {one for one in vars(schedules).values() if inspect.isfunction(one)}
    assert {row.load() for row in registry.SCHEDULES.values()} == written


def test_a_row_is_all_that_a_schedule_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "half", lambda share, _epochs, settings: share * settings.warmup / 2, raising=False)
    monkeypatch.setitem(registry.SCHEDULES, "half", registry.ScheduleRow("gradaug.training.schedules:half"))
    config = settings(schedule="half", warmup=1.0, epochs=3)
    plan = optim.schedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), config, 2)
    assert [plan.lr_lambdas[0](step) for step in range(6)] == [0.5, 1.0, 0.0, 0.125, 0.25, 0.375]


def test_what_a_schedule_cannot_do_without_is_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = registry.ScheduleRow("gradaug.training.schedules:constant", needs="clip_norm")
    monkeypatch.setitem(registry.SCHEDULES, "constant", row)
    with pytest.raises(InputError, match="--schedule constant needs --clip-norm, a positive number"):
        TrainConfig(schedule="constant")


def settings(**changed: Any) -> Any:
    """A run's settings that no check has seen."""
    return SimpleNamespace(**(vars(TrainConfig()) | changed))


def test_a_regularizer_that_nobody_has_written_is_no_other() -> None:
    with pytest.raises(KeyError, match="puzzlemix"):
        Regularizers(settings(regularizers=("cutmix", "puzzlemix")), 10)


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
