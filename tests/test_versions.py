"""The versions that pyproject.toml allows, and what is done about those that lack something."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torchvision import tv_tensors, utils

import netslim
from gradaug.data import pictures, versions
from gradaug.errors import DataError
from netslim.errors import InputError
from netslim.versions import CHECKPOINT, EXPORTING

from .commands import ROOT
from .lowest import NEWEST, TOOLS, WITH_THEM, lowest

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = PROJECT["optional-dependencies"]


def test_every_package_that_a_person_installs_has_a_lowest_version() -> None:
    tried = OPTIONAL.keys() - TOOLS - NEWEST
    asked = [*PROJECT["dependencies"], *(line for extra in tried for line in OPTIONAL[extra])]
    assert {re.split("[<>=~[]", line)[0] for line in asked} - {"netslim-gradaug"} == set(lowest())


def test_the_page_has_the_lowest_versions() -> None:
    page = (ROOT / "docs/versions.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) \|", page, re.MULTILINE)
    assert len(rows) > 10
    assert dict(rows) == {name: version for name, version in lowest().items() if name in dict(rows)}
    assert {re.split(">=", line)[0] for line in PROJECT["dependencies"]} <= dict(rows).keys()
    assert all(re.search(rf"\b{re.escape(extra)}\b", page) for extra in WITH_THEM)


def test_what_is_asked_of_torch_is_there() -> None:
    assert callable(getattr(torch.utils.checkpoint, CHECKPOINT))


def exporting(compiler: object) -> bool:
    scope: dict[str, object] = {"torch": SimpleNamespace(compiler=compiler)}
    exec(EXPORTING, scope)
    return scope["exporting"]()  # type: ignore[operator, no-any-return]


def test_printed_source_knows_an_export_under_every_torch() -> None:
    for value in (True, False):
        assert exporting(SimpleNamespace(is_exporting=lambda value=value: value)) is value
        assert exporting(SimpleNamespace(_is_compiling_flag=value)) is value


class Halved(nn.Module):
    """Its program holds for even sizes alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if x.shape[-1] % 2:
            x = x.relu()
        return self.head(x.mean((2, 3)))


def test_an_extracted_network_refuses_sizes_by_a_line_that_every_torch_runs() -> None:
    small = netslim.convert(Halved(), torch.randn(2, 1, 8, 8)).extract(0.5)
    assert small(torch.randn(2, 1, 8, 8)).shape == (2, 2)
    with pytest.raises(ValueError, match="size"):
        small(torch.randn(2, 1, 7, 7))


def test_keypoints_without_a_torchvision_that_moves_them_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tv_tensors, "KeyPoints", raising=False)
    with pytest.raises(DataError, match=r"torchvision 0\.23 and newer; upgrade it, or take --augment none"):
        versions.keypoints(torch.zeros(1, 2, 2), (8, 8))


def test_names_are_drawn_where_they_cannot_have_a_background(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = utils.draw_bounding_boxes

    def older(image: torch.Tensor, boxes: torch.Tensor, labels: Sequence[str], colors: object, width: int,
              label_colors: object) -> torch.Tensor:  # fmt: skip
        known = {"label_colors": label_colors} if "label_colors" in inspect.signature(draw).parameters else {}
        return draw(image, boxes, list(labels), colors, width=width, **known)  # type: ignore[arg-type]

    monkeypatch.setattr(utils, "draw_bounding_boxes", older)
    objects = {"boxes": torch.tensor([[10.0, 10, 30, 30]]), "labels": torch.tensor([3])}
    images = [torch.zeros(1, 40, 40)]
    assert not torch.equal(*(pictures.draw(images, [objects], names) for names in ((), ["", "", "", "tree"])))


def test_the_command_says_its_version_with_any_click() -> None:
    from netslim_cli import main

    assert PROJECT["version"] in CliRunner().invoke(main.netslim, ["--version"]).stdout


def test_compiling_under_an_old_torch_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradaug.training import compilation

    monkeypatch.setattr(compilation, "COMPILES", False)
    with pytest.raises(InputError, match="--compile needs a newer torch than"):
        compilation.Compilation(netslim.convert(nn.Linear(2, 2), torch.zeros(1, 2), prove=False))
