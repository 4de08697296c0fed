"""Packages that only some commands need: the one place that says how a missing one is installed.

with needed("pyyaml", "recipes"):
    import yaml
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from netslim.errors import MissingError

EXTRAS = {
    "scikit-learn": "train",
    "tensorboard": "train",
    "pillow": "train",
    "torchmetrics": "train",
    "pyyaml": "train",
    "imagecorruptions-imaug": "corruptions",
    "timm": "timm",
    "lightning": "lightning",
    "matplotlib": "plot",
    "onnx": "onnx",
    "onnxscript": "onnx",
}
"""Package, as pip knows it -> the extra of netslim-gradaug that it belongs to (a test holds this to pyproject.toml)."""


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


def remedy(package: str) -> str:
    """What to type; the distribution netslim-gradaug is on no index, so its extras need a clone."""
    return f"run: pip install {package} (or, in a clone of the repository, pip install '.[{EXTRAS[package]}]')"
