"""The import direction: lower layers know nothing of higher ones, and third-party packages stay where they belong."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Lowest first. A file imports from layers below its own, and from its own where the layer is one subject.
LAYERS = (
    "errors",
    "files axes program inputs contexts extras",
    "functions",
    "printing kept plan engine fit build flow blocks depth graph",
    "ops sizes weights definitions",
    "tracer",
    "state",
    "trace skeleton",
    "groups userfile subnet tree lively recording program_checks",
    "checks",
    "runner",
    "rewrite overrides",
    "analysis slimnet extract",
    "masked cost source notes",
    "export",
    "bench",
    "proof",
    "archive conversion",
    "report",
    "__init__ __main__",
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names.split()}

# Who may import whom among our own packages.
PACKAGES = {"netslim": {"netslim"}, "gradaug": {"netslim", "gradaug"}, "cli": {"netslim", "gradaug"}}

EVERYWHERE = {"torch"} | set(sys.stdlib_module_names)
THIRD_PARTY = {
    "rich": "netslim/report.py gradaug/report.py gradaug/training/log.py cli/*.py",
    "networkx": "netslim/net/graph.py netslim/net/slimnet.py netslim/report.py",
    "torchvision": "netslim/source/spec.py netslim/ops/*.py netslim/archive/modules.py netslim/ir/program.py "
    "gradaug/data/*.py gradaug/regularizers/blocks.py gradaug/regularizers/mixing.py gradaug/subnets/views.py",
    "timm": "netslim/source/spec.py",
    "msgspec": "netslim/archive/*.py gradaug/training/checkpoint.py",
    "safetensors": "netslim/archive/container.py",
    "matplotlib": "netslim/report.py gradaug/plots.py",
    "torchmetrics": "gradaug/evaluation/score.py",
    "imagecorruptions": "gradaug/evaluation/robustness.py",
    "numba": "gradaug/evaluation/robustness.py",
    "yaml": "gradaug/recipes/reading.py",
    "onnx": "netslim/export.py",
    "click": "cli/*.py",
    "numpy": "gradaug/*.py gradaug/data/in_memory.py gradaug/data/pickles.py gradaug/data/decode.py netslim/trace/contexts.py",
    "PIL": "gradaug/data/decode.py",
    "sklearn": "gradaug/data/digits.py",
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


def for_running(path: Path) -> Iterator[str]:
    """Imports that happen: those under `if TYPE_CHECKING` do not."""
    tree = ast.parse((ROOT / path).read_bytes())
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in typing_only and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.Import) and id(node) not in typing_only:
            yield from (alias.name for alias in node.names)


def layer(dotted: str) -> str | None:
    """netslim.ops.conv -> ops; None for the package itself and for other packages."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "netslim" and len(parts) > 1 else None


def own_layer(path: Path) -> str:
    return path.parts[1] if len(path.parts) > 2 else path.stem


@pytest.mark.parametrize("path", FILES, ids=str)
def test_packages_import_only_the_packages_below_them(path: Path) -> None:
    ours = {name.split(".")[0] for name in imports(path)} & {"netslim", "gradaug", "netslim_cli", "cli"}
    assert ours <= PACKAGES[path.parts[0]] | ({"cli"} if path.parts[0] == "cli" else set())


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "netslim"], ids=str)
def test_netslim_imports_only_lower_layers(path: Path) -> None:
    mine = own_layer(path)
    assert mine in RANK, f"{path} belongs to no layer: add it to LAYERS"
    for name in for_running(path):
        other = layer(name)
        if other is not None and other != mine:
            assert RANK[other] <= RANK[mine], f"{path} imports {name}, which is a layer above it"


def test_layers_have_no_cycles() -> None:
    edges = {
        own_layer(path): {layer(name) for name in for_running(path)} - {None, own_layer(path)}
        for path in FILES
        if path.parts[0] == "netslim" and "__" not in path.stem
    }
    while edges:
        free = [name for name, needs in edges.items() if not needs & edges.keys()]
        assert free, f"these import each other: {sorted(edges)}"
        for name in free:
            del edges[name]


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
    "netslim/layouts/axes.py": 420,
    "netslim/trace/tracer.py": 320,
    "netslim/ops/join.py": 345,
    "netslim/ops/norm.py": 330,
}
"""Files that are one subject and longer for it."""
