"""SOURCE in its four forms, and every way in which it can be wrong."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from netslim.errors import MissingError, SourceError
from netslim.source.spec import is_source, load_source

Write = Callable[..., str]

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc = nn.Linear(width, 2)

    def forward(self, x):
        return self.fc(x)
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file and returns its path as a person would type it."""

    def write_it(text: str, name: str = "mymodel.py") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write_it


def message(source: str, **options: object) -> str:
    with pytest.raises(SourceError) as caught:
        load_source(source, **options)  # type: ignore[arg-type]
    return str(caught.value)


# ---- what works


def test_a_file_with_one_class(write: Write) -> None:
    loaded = load_source(write(NET), args={"width": 6})
    assert loaded.model.fc.in_features == 6
    assert loaded.spec.endswith("mymodel.py:Net")
    assert loaded.shapes is None


def test_a_file_may_say_its_input_shape(write: Write) -> None:
    assert load_source(write(NET + "\nINPUT_SHAPE = (1, 32, 32)")).shapes == ((1, 32, 32),)


def test_a_file_may_import_its_neighbours_and_leaves_the_path_as_it_was(write: Write) -> None:
    write(NET, "the_neighbour.py")
    before = list(sys.path)
    source = write("import the_neighbour\n\ndef build():\n    return the_neighbour.Net(3)")
    assert load_source(source).model.fc.in_features == 3
    assert sys.path == before
    del sys.modules["the_neighbour"]


def test_a_model_from_a_file_can_be_pickled(write: Write) -> None:
    model = load_source(write(NET)).model
    assert type(pickle.loads(pickle.dumps(model))) is type(model)


def test_an_importable_callable() -> None:
    loaded = load_source("torch.nn:Linear", args={"in_features": 2, "out_features": 3})
    assert loaded.model.weight.shape == (3, 2)


def test_torchvision_and_timm_without_weights() -> None:
    loaded = load_source("torchvision:resnet18", args={"num_classes": 7})
    assert loaded.model.fc.out_features == 7
    assert loaded.shapes == ((3, 224, 224),)
    pytest.importorskip("timm")
    assert load_source("timm:resnet10t").shapes == ((3, 176, 176),)


def test_shapes_of_torchvision_models_that_are_not_usual() -> None:
    assert load_source("torchvision:inception_v3").shapes == ((3, 299, 299),)
    assert load_source("torchvision:r3d_18").shapes == ((3, 16, 112, 112),)


def test_what_is_a_source_and_what_is_an_archive(tmp_path: Path) -> None:
    assert is_source("mymodel.py")
    assert is_source("timm:resnet50")
    assert not is_source("converted.pt")


# ---- what does not


def test_no_such_file() -> None:
    assert message("nowhere/mymodel.py") == "there is no file nowhere/mymodel.py."


def test_a_folder(tmp_path: Path) -> None:
    assert message(str(tmp_path)) == f"{tmp_path} is a folder; name the Python file that holds the model."


def test_another_kind_of_file(write: Write) -> None:
    assert "is not a Python file" in message(write("", "model.txt"))


def test_a_bare_word() -> None:
    assert message("resnet50") == (
        "'resnet50' is neither a Python file nor a name; "
        "write mymodel.py, package.module:callable, torchvision:NAME or timm:NAME."
    )


def test_a_syntax_error_says_where(write: Write) -> None:
    assert "mymodel.py:2 has a syntax error: " in message(write("x = 1\ndef f(:\n"))


def test_a_missing_package_says_who_imports_it(write: Write) -> None:
    text = message(write("import torch\nimport surely_not_installed\n"))
    assert text.endswith("mymodel.py:2 imports 'surely_not_installed', which is not installed.")


def test_an_error_while_importing_says_where(write: Write) -> None:
    text = message(write("import torch\n\ntorch.zeros(2).view(3)\n"))
    assert "mymodel.py:3 raises RuntimeError: " in text


def test_a_script_that_exits(write: Write) -> None:
    assert "put its script part under `if __name__ == '__main__':`" in message(write("import sys\nsys.exit(0)\n"))


def test_a_failed_import_leaves_no_module_behind(write: Write) -> None:
    before = set(sys.modules)
    message(write("1 / 0"))
    assert not {name for name in set(sys.modules) - before if "mymodel" in name}


def test_an_entry_that_is_not_there(write: Write) -> None:
    assert message(write(NET), entry="Nett").endswith("mymodel.py has no 'Nett'; it defines: Net.")


def test_an_entry_that_is_no_model(write: Write) -> None:
    source = write(NET + "\nsize = 3\ndef shape():\n    return (1, 2)")
    assert "size is a int; a model, a class or a function that makes one is needed" in message(source, entry="size")
    assert "shape returned a tuple, not an nn.Module." in message(source, entry="shape")


def test_arguments_that_are_missing_or_too_many(write: Write) -> None:
    source = write(NET.replace("width=4", "width, depth"))
    assert message(source).endswith(
        "mymodel.py:Net needs arguments width, depth: add --arg width=VALUE --arg depth=VALUE."
    )
    assert message(write(NET), entry="Net", args={"size": 3}).endswith("Net has no argument size; it takes: width.")


def test_arguments_for_an_instance(write: Write) -> None:
    source = write(NET + "\nnet = Net()")
    assert message(source, args={"width": 3}).endswith("net is a model already, so --arg width=... has nothing to set.")


def test_a_constructor_that_raises_says_where(write: Write) -> None:
    source = write(NET.replace("super().__init__()", "raise ValueError('the width must be even')"))
    assert message(source).endswith("mymodel.py:6 raises ValueError: the width must be even.")


def test_names_that_a_module_or_library_does_not_have() -> None:
    assert message("no_such_package.models:net").startswith("there is no module 'no_such_package' to import 'net' from")
    assert message("torch.nn:Linera").startswith("torch.nn has no 'Linera'; did you mean Linear")
    assert message("torchvision:resnet5O").startswith("torchvision has no model 'resnet5O'; did you mean resnet50")


def test_a_timm_model_that_does_not_exist() -> None:
    pytest.importorskip("timm")
    assert message("timm:resnet5O").startswith("timm has no model 'resnet5O'; did you mean resnet50")


def test_timm_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingError, match="timm's models need timm, which is not installed; run: pip install timm "):
        load_source("timm:resnet50")


def test_an_entry_without_a_file() -> None:
    assert message("torchvision:resnet18", entry="fc").startswith("--entry picks a name in a Python file")
