"""--weights: plain state_dicts, training checkpoints, and files that do not fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from netslim.errors import SourceError
from netslim.source.weights import load_weights


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    def save(value: Any) -> Path:
        torch.save(value, tmp_path / "weights.pt")
        return tmp_path / "weights.pt"

    return save


@pytest.mark.parametrize("key", ["", "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_wherever_it_is(saved: Any, key: str, prefix: str) -> None:
    source, model = nn.Linear(2, 3), nn.Linear(2, 3)
    state = {prefix + name: value for name, value in source.state_dict().items()}
    load_weights(model, saved({key: state, "epoch": 3} if key else state))
    assert torch.equal(model.weight, source.weight)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"weight": torch.zeros(3, 2)}, "does not fit the model: it lacks bias."),
        (nn.Linear(2, 3).state_dict() | {"extra": torch.zeros(1)}, "the model has no extra."),
        (nn.Linear(4, 3).state_dict(), "weight is (3, 4) there and (3, 2) in the model."),
        ({str(n): torch.zeros(1) for n in range(5)}, "the model has no 0, 1, 2 and 2 more."),
        ({"epoch": 3}, "looked at its top and under state_dict, model, model_state_dict, found epoch."),
        ([1, 2], "holds a list, not a state_dict."),
    ],
)
def test_what_does_not_fit_is_named(saved: Any, content: Any, sentence: str) -> None:
    with pytest.raises(SourceError, match=re.escape(sentence)):
        load_weights(nn.Linear(2, 3), saved(content))


def test_files_that_are_no_checkpoints(saved: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no weights file"):
        load_weights(nn.Linear(2, 3), tmp_path / "nowhere.pt")
    with pytest.raises(SourceError, match=r"save model\.state_dict\(\) instead"):
        load_weights(nn.Linear(2, 3), saved(nn.Linear(2, 3)))
    (tmp_path / "damaged.pt").write_bytes(saved({"weight": torch.zeros(99)}).read_bytes()[:200])
    with pytest.raises(SourceError, match=r"damaged or another format|not a file of plain tensors"):
        load_weights(nn.Linear(2, 3), tmp_path / "damaged.pt")


def test_safetensors_are_read(tmp_path: Path) -> None:
    source, model = nn.Linear(2, 3), nn.Linear(2, 3)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    load_weights(model, tmp_path / "weights.safetensors")
    assert torch.equal(model.weight, source.weight)
