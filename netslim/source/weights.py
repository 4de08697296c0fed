"""Weights from a checkpoint into a model of which only the code is at hand."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from netslim.errors import SourceError

_NESTED = ("state_dict", "model", "model_state_dict")
_SHOWN = 3


def load_weights(model: nn.Module, path: Path) -> None:
    """Loads a state_dict, plain or inside a training checkpoint, into `model`; SourceError if it does not fit."""
    state = state_dict_in(path)
    problems = mismatches(model.state_dict(), state)
    if problems:
        raise SourceError(f"{path} does not fit the model: {'; '.join(problems)}.")
    model.load_state_dict(state)


def state_dict_in(path: Path) -> dict[str, Tensor]:
    """The state_dict in a file of torch.save, plain or inside a training checkpoint, or in one of safetensors.

    Nothing that the file brings is run. SourceError where it cannot be read or holds none.
    """
    return _without_prefix(_state_dict(_read(path), path))


def is_of_torch(path: Path) -> bool:
    """Whether a file begins as those of torch.save do: a zip archive, or a pickle."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4)[:2] in (b"PK", b"\x80\x02")


def _read(path: Path) -> object:
    if not path.is_file():
        raise SourceError(f"there is no weights file {path}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise SourceError(
            f"{path} cannot be read as a file of safetensors; it is damaged or another format."
        ) from error
    except pickle.UnpicklingError as error:
        raise SourceError(
            f"{path} is not a file of plain tensors; in the program that wrote it, save model.state_dict() instead."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise SourceError(f"{path} cannot be read as a PyTorch checkpoint; it is damaged or another format.") from error


def _state_dict(found: object, path: Path) -> dict[str, Tensor]:
    if isinstance(found, Mapping):
        if found and all(isinstance(value, Tensor) for value in found.values()):
            return {str(key): value for key, value in found.items()}
        for key in _NESTED:
            if isinstance(found.get(key), Mapping):
                return _state_dict(found[key], path)
        keys = ", ".join(map(str, list(found)[:_SHOWN])) or "nothing"
        raise SourceError(
            f"{path} holds no state_dict: looked at its top and under {', '.join(_NESTED)}, found {keys}."
        )
    raise SourceError(f"{path} holds a {type(found).__name__}, not a state_dict.")


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """DataParallel puts `module.` before every key."""
    prefix = "module."
    if state and all(key.startswith(prefix) for key in state):
        return {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def mismatches(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    """In what a state_dict is another than a model's: names, and shapes."""
    shapes = [
        f"{key} is {tuple(theirs[key].shape)} there and {tuple(value.shape)} in the model"
        for key, value in ours.items()
        if key in theirs and theirs[key].shape != value.shape
    ]
    return [
        *_some("it lacks", [key for key in ours if key not in theirs]),
        *_some("the model has no", [key for key in theirs if key not in ours]),
        *_some("", shapes),
    ]


def _some(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{what} {', '.join(names[:_SHOWN])}{more}".strip()]
