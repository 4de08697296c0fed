"""Packages that only some commands need: the one place that says how a missing one is installed.

with needed("pyyaml", "recipes"):
    import yaml
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from netslim.errors import MissingError

EXTRAS = {
    "scikit-learn": ("sklearn", "train"),
    "tensorboard": ("tensorboard", "train"),
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow"),
    "pillow": ("PIL", "train"),
    "torchmetrics": ("torchmetrics", "train"),
    "pyyaml": ("yaml", "train"),
    "pycocotools": ("pycocotools", "detection"),
    "imagecorruptions-imaug": ("imagecorruptions", "corruptions"),
    "datasets": ("datasets", "hf"),
    "timm": ("timm", "timm"),
    "lightning": ("lightning", "lightning"),
    "transformers": ("transformers", "transformers"),
    "accelerate": ("accelerate", "accelerate"),
    "ultralytics": ("ultralytics", "ultralytics"),
    "matplotlib": ("matplotlib", "plot"),
    "onnx": ("onnx", "onnx"),
    "onnxscript": ("onnxscript", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
}
"""Package, as pip knows it -> its module, and the extra that it belongs to (a test compares with pyproject.toml)."""

CORE = ("torch", "torchvision", "networkx", "msgspec", "safetensors", "numpy", "rich", "click")
"""Packages that come with netslim-gradaug, whose modules have their names."""


@contextmanager
def needed(package: str, purpose: str) -> Iterator[None]:
    """Around the imports that `purpose` ("recipes", in the plural) needs `package` for.

    Raises:
        MissingError: one of them failed; says what is missing, for what, and what to type.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingError(f"{purpose} need {package}, which is not installed; {remedy(package)}.") from error
    except ImportError as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise MissingError(
            f"{purpose} need {package}, which is installed but cannot be imported ({reason}); {remedy(package)}."
        ) from error


def require(package: str, purpose: str) -> None:
    """MissingError at once, rather than after the work that comes before `package` is needed."""
    with needed(package, purpose):
        importlib.import_module(EXTRAS[package][0])


def explained(error: BaseException) -> MissingError | None:
    """What to do about a package that netslim or gradaug names and that some library did not find; None otherwise."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    module = (error.name or "").partition(".")[0]
    known = {name: name for name in CORE} | {name: package for package, (name, _) in EXTRAS.items()}
    if module not in known:
        return None
    return MissingError(f"this needs {known[module]}, which is not installed; {remedy(known[module])}.")


def remedy(package: str) -> str:
    """What to type. The distribution netslim-gradaug is on no index, so its extras need a clone."""
    extra = f"[{EXTRAS[package][1]}]" if package in EXTRAS else ""
    return f"run: pip install {package} (or, in a clone of the repository, pip install '.{extra}')"
