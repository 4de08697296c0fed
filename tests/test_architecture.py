"""The import direction: lower layers know nothing of higher ones, and third-party packages stay where they belong."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Folders are floors, lowest first; a file that lies beside them is a floor of its own. A file imports from the floors
# before its own in this list, and from its own folder, there without circles.
FLOORS = {
    "netslim": (
        "errors extras versions", "files", "layouts", "ir", "ops", "source", "trace", "analysis", "net", "cost",
        "choosing", "proof", "archive", "notes", "export", "conversion", "pictures report", "__init__", "__main__",
    ),
    "gradaug": (
        "errors", "config", "scopes inputs", "data distributed regularizers recipes models", "subnets", "tasks",
        "arguments losses transforms", "step", "evaluation", "training",
        "lightning transformers ultralytics", "report plots", "pages", "__init__", "__main__",
    ),
}  # fmt: skip
RANKS = {
    package: {name: rank for rank, names in enumerate(floors) for name in names.split()}
    for package, floors in FLOORS.items()
}
MOST_AT_THE_TOP = 12

# Who may import whom among our own packages.
PACKAGES = {"netslim": {"netslim"}, "gradaug": {"netslim", "gradaug"}, "cli": {"netslim", "gradaug"}}

EVERYWHERE = {"torch"} | set(sys.stdlib_module_names)
THIRD_PARTY = {
    "rich": "netslim/report.py gradaug/report.py gradaug/training/progress.py cli/*.py",
    "networkx": "netslim/net/graph.py netslim/net/slimnet.py",
    "torchvision": "netslim/source/spec.py netslim/ops/*.py netslim/archive/modules.py netslim/ir/program.py "
    "gradaug/data/*.py gradaug/regularizers/*.py gradaug/subnets/views.py gradaug/tasks/*.py",
    "timm": "netslim/source/spec.py",
    "transformers": "gradaug/transformers/*.py",
    "ultralytics": "gradaug/ultralytics/*.py",
    "wandb": "gradaug/training/trackers.py",
    "mlflow": "gradaug/training/trackers.py",
    "msgspec": "netslim/archive/*.py gradaug/training/checkpoint.py gradaug/training/resuming.py gradaug/data/*.py "
    "gradaug/evaluation/swept.py gradaug/evaluation/written.py gradaug/training/record.py",
    "safetensors": "netslim/archive/container.py netslim/export/folder.py netslim/export/reading.py "
    "netslim/source/weights.py",
    "matplotlib": "netslim/pictures/lanes.py gradaug/plots.py gradaug/pages/curves.py",
    "torchmetrics": "gradaug/tasks/*.py",
    "imagecorruptions": "gradaug/evaluation/robustness.py",
    "numba": "gradaug/evaluation/robustness.py",
    "yaml": "gradaug/recipes/reading.py",
    "onnx": "netslim/export/onnx.py",
    "onnxruntime": "netslim/export/runtimes.py",
    "click": "cli/*.py",
    "numpy": "gradaug/*/*.py netslim/trace/randomness.py",
    "PIL": "gradaug/data/decode.py",
    "sklearn": "gradaug/data/digits.py gradaug/data/digit_masks.py gradaug/data/scenes.py",
    "datasets": "gradaug/data/hugging_face.py",
    "pycocotools": "gradaug/data/outlines.py",
}

FILES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """Absolute dotted names of everything a file imports, also inside functions and under TYPE_CHECKING."""
    package = path.parent.parts
    for node in ast.walk(ast.parse((ROOT / path).read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            names = [*base, *(node.module or "").split(".")] if node.module else base
            yield from (".".join([*names, alias.name]) for alias in node.names)


def floor(path: Path) -> str:
    """The folder of a package that a file is in, or the file's own name where it lies beside the folders."""
    return path.parts[1] if len(path.parts) > 2 else path.stem


def own(path: Path) -> Iterator[tuple[str, str]]:
    """What a file imports of its own package: the floor, and the dotted name below it."""
    for name in imports(path):
        package, _, rest = name.partition(".")
        head, _, tail = rest.partition(".")
        if package == path.parts[0] and head in RANKS.get(package, {}):
            yield head, tail


IN_FLOORS = [path for path in FILES if path.parts[0] in FLOORS]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_packages_import_only_the_packages_below_them(path: Path) -> None:
    ours = {name.split(".")[0] for name in imports(path)} & {"netslim", "gradaug", "netslim_cli", "cli"}
    assert ours <= PACKAGES[path.parts[0]] | ({"cli"} if path.parts[0] == "cli" else set())


def above(path: Path) -> list[str]:
    """What a file imports from floors above its own."""
    rank = RANKS[path.parts[0]]
    assert floor(path) in rank, f"{path} is on no floor: add it to FLOORS"
    return [f"{head}.{tail}" for head, tail in own(path) if rank[head] > rank[floor(path)]]


@pytest.mark.parametrize("path", IN_FLOORS, ids=str)
def test_imports_run_down_between_folders(path: Path) -> None:
    assert not above(path)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("netslim/ir/planted.py", "from netslim.net.slimnet import SlimNet"),
        ("netslim/analysis/planted.py", "import netslim.proof.equivalence"),
        ("gradaug/data/planted.py", "from gradaug.training import run"),
        ("gradaug/tasks/planted.py", "from gradaug.step import GradAug"),
    ],
)
def test_an_import_upwards_is_noticed_also_for_types_alone(
    file: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(f"from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    {line}\n")
    assert above(Path(file))


@pytest.mark.parametrize("package", FLOORS)
def test_files_of_a_folder_have_no_circles(package: str) -> None:
    edges = {}
    for path in FILES:
        if path.parts[0] == package and len(path.parts) > 2 and path.stem != "__init__":
            mine = ".".join(path.with_suffix("").parts[1:])
            needs = {f"{head}.{tail}".removesuffix(".") for head, tail in own(path) if head == floor(path)}
            edges[mine] = {other for other in needs if other != mine}
    while edges:
        free = [name for name, needs in edges.items() if not needs & edges.keys()]
        assert free, f"these import each other: {sorted(edges)}"
        for name in free:
            del edges[name]


@pytest.mark.parametrize("package", FLOORS)
def test_a_package_reads_from_its_folders(package: str) -> None:
    top = [path for path in FILES if path.parts[0] == package and len(path.parts) == 2]
    assert len(top) <= MOST_AT_THE_TOP
    for folder in {path.parent for path in FILES if path.parts[0] == package and len(path.parts) > 2}:
        assert ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text())), (
            f"{folder} does not say what it is"
        )


@pytest.mark.parametrize("path", FILES, ids=str)
def test_third_party_packages_stay_in_their_files(path: Path) -> None:
    for name in {name.split(".")[0] for name in imports(path)} - EVERYWHERE - {"netslim", "gradaug", "cli"}:
        allowed = THIRD_PARTY.get(name, "").split()
        assert any(path.full_match(glob) if hasattr(path, "full_match") else path.match(glob) for glob in allowed), (
            f"{path} imports {name}, which only {allowed or 'nobody'} may"
        )


def test_every_package_folder_is_installed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {path.parent for path in FILES if path.parts[0] != "cli"}
    assert listed == {".".join(folder.parts) for folder in folders} | {"netslim_cli"}


def test_no_module_called_cli_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "cli" not in settings["packages"]
    assert settings["package-dir"] == {"netslim_cli": "cli"}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_file_is_longer_than_a_few_screens(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= LONGEST.get(str(path), 300)


LONGEST = {
    "netslim/trace/tracer.py": 320,
    "netslim/ops/join.py": 345,
    "netslim/ops/norm.py": 330,
}
"""Files that are one subject and longer for it."""
