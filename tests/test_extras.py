"""What is said where an optional package is missing: what, for what, and what to type. Never a traceback."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import gradaug
import netslim
from netslim.errors import MissingError, NetslimError
from netslim.extras import CORE, EXTRAS, explained, needed
from netslim_cli import main

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = PROJECT["optional-dependencies"]


def names(requirements: list[str]) -> set[str]:
    """The packages of a list of requirements."""
    return {re.split(r"[\[<>=~!]", requirement)[0].strip() for requirement in requirements}


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes modules, and all inside them, impossible to import."""

    def block(*modules: str) -> None:
        for module in modules:
            for name in [n for n in sys.modules if n.startswith(f"{module}.")]:
                monkeypatch.setitem(sys.modules, name, None)
            monkeypatch.setitem(sys.modules, module, None)
        for ours in ("gradaug.recipes.reading", "gradaug.data.decode"):  # those that import one for all they do
            monkeypatch.delitem(sys.modules, ours, raising=False)

    return block


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> str:
    body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    path = tmp_path_factory.mktemp("net") / "converted.pt"
    netslim.save(netslim.convert(body, torch.randn(2, 1, 8, 8), prove=False), path)
    return str(path)


def call(line: str, converted: str) -> Result:
    group, *arguments = line.replace("FILE", converted).split()
    return CliRunner().invoke(getattr(main, group), arguments)


MISSING = [
    ("gradaug recipes", "pyyaml", "recipes"),
    ("gradaug train --model FILE --recipe mixup", "pyyaml", "recipes"),
    ("gradaug train --model FILE", "scikit-learn", "the digits"),
    ("gradaug eval --model FILE", "scikit-learn", "the digits"),
    ("netslim extract FILE --width 0.5 -o slim.pt --data digits", "scikit-learn", "the digits"),
    ("gradaug eval --model FILE", "torchmetrics", "calibration errors"),
    ("gradaug eval --model FILE --plot scores.png", "matplotlib", "pictures"),
    ("gradaug train --model FILE --trackers tensorboard", "tensorboard", "runs with --trackers tensorboard"),
    ("gradaug train --model FILE --trackers wandb", "wandb", "runs with --trackers wandb"),
    ("gradaug train --model FILE --trackers mlflow", "mlflow", "runs with --trackers mlflow"),
    ("netslim inspect FILE --plot groups.png", "matplotlib", "pictures"),
    ("gradaug eval --model FILE --corruptions", "imagecorruptions-imaug", "corrupted images"),
    ("netslim convert timm:resnet18", "timm", "timm's models"),
    ("netslim extract FILE --width 0.5 -o slim.onnx", "onnx", "ONNX files"),
    ("netslim extract FILE --width 0.5 -o slim.onnx", "onnxscript", "ONNX files"),
]


@pytest.mark.parametrize(("line", "package", "purpose"), MISSING)
def test_a_missing_package_is_one_sentence(
    line: str, package: str, purpose: str, converted: str, without: Callable[..., None],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    module, extra = EXTRAS[package]
    without(module)
    result = call(line, converted)
    assert result.exit_code == 1, result.output
    assert result.stderr.splitlines()[-1] == (
        f"error: {purpose} need {package}, which is not installed; run: pip install {package} "
        f"(or, in a clone of the repository, pip install '.[{extra}]')."
    )
    assert not list(tmp_path.glob("*.p*")) + list(tmp_path.glob("*.onnx"))


def test_image_files_need_pillow(without: Callable[..., None]) -> None:
    without("PIL")
    with pytest.raises(MissingError, match="image files need pillow, which is not installed; run: pip install pillow"):
        importlib.import_module("gradaug.data.decode")


def test_masks_need_pycocotools(without: Callable[..., None]) -> None:
    from gradaug import data

    without("pycocotools")
    said = r"masks need pycocotools, which is not installed; run: pip install pycocotools .*'\.\[detection\]'\)\."
    with pytest.raises(MissingError, match=said):
        data.load("scenes:1", (3, 32, 32))


def test_training_goes_on_without_tensorboard(tmp_path: Path, without: Callable[..., None]) -> None:
    from gradaug.training.log import RunLog

    without("torch.utils.tensorboard", "tensorboard")
    with RunLog(tmp_path) as log:
        log.step(10, 1, 0.5, 0.1, 0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_the_mixin_for_lightning_does_not_need_it_to_be_imported(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without("lightning")
    monkeypatch.delitem(sys.modules, "gradaug.lightning", raising=False)
    importlib.import_module("gradaug.lightning")


def test_a_package_that_does_not_load_is_told_from_one_that_is_missing() -> None:
    with pytest.raises(MissingError, match=r"matplotlib, which is installed but cannot be imported \(no libfoo\.so\)"):  # noqa: SIM117
        with needed("matplotlib", "pictures"):
            raise ImportError("no libfoo.so")


def test_what_a_library_misses_is_said_too() -> None:
    assert "this needs pillow, which is not installed; run: pip install pillow" in str(
        explained(ModuleNotFoundError("No module named 'PIL'", name="PIL.Image"))
    )
    assert "run: pip install torchvision (or, in a clone of the repository, pip install '.')" in str(
        explained(ModuleNotFoundError("No module named 'torchvision'", name="torchvision"))
    )
    assert explained(ModuleNotFoundError("No module named 'netslim.nothing'", name="netslim.nothing")) is None
    assert explained(ImportError("cannot import name")) is None
    assert isinstance(MissingError(""), NetslimError)


def test_a_library_without_its_own_needs_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: object) -> None:
        raise ModuleNotFoundError("No module named 'PIL'", name="PIL")

    monkeypatch.setattr(main.Entry, "load", load)
    result = CliRunner().invoke(main.gradaug, ["eval"])
    assert (result.exit_code, result.stderr.split(";")[0]) == (1, "error: this needs pillow, which is not installed")


def test_the_table_is_that_of_pyproject() -> None:
    for package, (_, extra) in EXTRAS.items():
        assert package in names(OPTIONAL[extra]), package
    assert set(CORE) == names(PROJECT["dependencies"])
    tools = {"netslim-gradaug", "jupyterlab", "ipykernel"}
    apart = "test", "all", "browser", "thirdparty"  # no command needs the last: what the benchmark converts
    assert {n for extra in OPTIONAL if extra not in apart for n in names(OPTIONAL[extra])} - tools == set(EXTRAS)


def sources() -> Iterator[Path]:
    for package in ("netslim", "gradaug", "cli"):
        yield from (ROOT / package).rglob("*.py")


def test_nobody_else_says_how_packages_are_installed() -> None:
    assert [path.name for path in sources() if "pip install" in path.read_text()] == ["extras.py"]


CORE_ALONE = """
import sys
for name in BLOCKED:
    sys.modules[name] = None
from netslim_cli.main import gradaug, netslim

def run(command, line):
    try:
        command(line.split())
    except SystemExit as end:
        print("exit code", end.code)

run(netslim, "convert mymodel.py --input-shape 1,8,8")
run(gradaug, "--help")
run(gradaug, "recipes mixup")
run(gradaug, "recipes")
run(gradaug, "train --model converted.pt --data synthetic:10x64 --epochs 1 --round-to 1 --resolutions 8")
"""


def test_the_core_alone_converts_and_trains(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "mymodel.py").write_text(
        "from torch import nn\n"
        "end = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)\n"
        "model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), *end)\n"
    )
    # torchvision brings pillow
    blocked = [name for name, _ in EXTRAS.values() if name != "PIL"] + ["numba", "torch.utils.tensorboard"]
    program = CORE_ALONE.replace("BLOCKED", repr(blocked))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert re.findall(r"exit code (\d)", done.stdout) == ["0", "0", "0", "1", "0"], done.stderr
    assert "recipes need pyyaml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("package", [netslim, gradaug])
def test_the_version_is_that_of_the_distribution(package: object) -> None:
    assert package.__version__ == PROJECT["version"]  # type: ignore[attr-defined]
    assert CliRunner().invoke(main.netslim, ["--version"]).stdout == f"netslim-gradaug {PROJECT['version']}\n"
