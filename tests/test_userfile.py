"""Which of the names in a file is the model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import netslim
from netslim.errors import SourceError
from netslim.source.spec import load_source

BLOCK = """
import torch
from torch import nn
from torch.nn import Linear

class Block(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        return self.fc(x)
"""
NET = (
    BLOCK
    + """
class Net(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.block, self.head = Block(), nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.block(x))
"""
)
SAME = "\ndef build():\n    return Net()\n"
TRAINS = """
def main():
    raise AssertionError("a script was run")

def train_model():
    net = Net()
    return net
"""


def taken(tmp_path: Path, text: str, **options: object) -> str:
    path = tmp_path / "mymodel.py"
    path.write_text(text)
    return load_source(str(path), **options).spec.rpartition(":")[2]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param(NET, "Net", id="a class, not the block it uses"),
        pytest.param(NET.replace("classes=2", "classes=2, block=Block"), "Net", id="a block that is a default"),
        pytest.param(NET + SAME, "build", id="a factory of the same network"),
        pytest.param(
            NET.replace("classes=2", "classes") + "\ndef small():\n    return Net(3)", "small", id="a factory"
        ),
        pytest.param(NET + "\nmodel = Net()\nloss = nn.CrossEntropyLoss()", "model", id="an instance, not the loss"),
        pytest.param(NET + "\nbody = Block()\nnet = nn.Sequential(body)\nalias = net", "net", id="not a part, once"),
        pytest.param(NET + TRAINS, "Net", id="functions that do things are not called"),
        pytest.param(
            BLOCK + "\ndef make():\n    net = nn.Sequential(Block())\n    return net", "make", id="a local name"
        ),
        pytest.param(BLOCK + "\ndef make() -> nn.Module:\n    return [Block()][0]", "make", id="by annotation"),
        pytest.param(
            "import torchvision\n\ndef build():\n    model = torchvision.models.resnet18()\n    return model",
            "build",
            id="a library's factory",
        ),
        pytest.param(
            NET.replace(
                "super().__init__()\n        self.block",
                "super().__init__(); torch.zeros(1).item()\n        self.block",
            ),
            "Net",
            id="a constructor that computes",
        ),
    ],
)
def test_the_only_candidate_is_taken(tmp_path: Path, text: str, name: str) -> None:
    assert taken(tmp_path, text) == name


def test_arguments_choose_between_candidates(tmp_path: Path) -> None:
    other = BLOCK.replace("Block", "Other").replace("width", "size")
    assert taken(tmp_path, NET + other, args={"classes": 3}) == "Net"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("x = 1\n", "defines no model: no nn.Module instance or subclass", id="none"),
        pytest.param("from torch.nn import Linear\nfc = Linear\n", "defines no model", id="only imported"),
        pytest.param(
            NET + NET.replace("Net", "Wide").replace("4, classes", "4, 9"),
            "has 2 candidates: Net, Wide; choose one with --entry NAME.",
            id="two classes",
        ),
        pytest.param(
            NET + "\ndef small():\n    return Net(3)\n\ndef large():\n    return Net(30)\n",
            "has 3 candidates: Net, small, large; choose one with --entry NAME.",
            id="factories of different networks",
        ),
        pytest.param(NET + "\na = Net()\nb = Net()", "has 2 candidates: a, b; choose", id="two instances"),
        pytest.param(
            NET.replace("classes=2", "classes") + NET.replace("Net", "Wide").replace("classes=2", "classes, size"),
            "needs arguments: Net(classes), Wide(classes, size); give --entry NAME --arg NAME=VALUE.",
            id="two that need arguments",
        ),
    ],
)
def test_what_cannot_be_decided_is_said(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SourceError) as caught:
        taken(tmp_path, text)
    assert sentence in str(caught.value)


def test_the_example_has_one_candidate() -> None:
    loaded = load_source(str(Path(__file__).parent.parent / "examples" / "mymodel.py"))
    assert loaded.spec.endswith("mymodel.py:DigitNet")
    assert 300_000 < sum(p.numel() for p in loaded.model.parameters()) < 600_000


PICKS = """
import torch
from torch import nn

INPUT_SHAPE = (3, 8, 8)


class Picks(nn.Module):
    \"\"\"Decides by its values.\"\"\"

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))

    def forward(self, x):
        h = self.body(x)
        return h * 2 if float(h.mean()) > 0 else h
"""


@pytest.mark.parametrize("place", ["where it was", "beside the file"])
def test_a_trusted_file_finds_the_models_code(place: str, tmp_path: Path) -> None:
    def python(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=os.environ
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    code, file = tmp_path / "code" / "picks_by_value.py", tmp_path / "net" / "net.pt"
    code.parent.mkdir()
    file.parent.mkdir()
    code.write_text(PICKS)
    loaded = load_source(str(code))
    netslim.save(netslim.convert(loaded.model, torch.randn(2, 3, 8, 8), prove=False), file)
    if place == "beside the file":
        code.rename(file.with_name(code.name))
    again = file.with_name("again.pt")  # what was loaded is saved anew, as a training run does
    python(f"import netslim; netslim.save(netslim.load({str(file)!r}, trust=True), {str(again)!r})")
    told = python(f"import netslim; print(len(netslim.load({str(again)!r}, trust=True).groups))")
    assert told.strip() == "1"
